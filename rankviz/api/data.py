"""Data files: number, length and format of their examples, read once per file in a child process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz import dataset, installed, units
from rankviz.api.workspace import Operations
from rankviz.catalog.hardware import load_assumptions
from rankviz.core.cost.setup import TrainingData, Trait, characters, token_range
from rankviz.core.quantity import Range
from rankviz.dataset import Preview
from rankviz.errors import BadDataError
from rankviz.paths import existing

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.core.cost.assumptions import Assumptions
    from rankviz.dataset import Dataset, Example, Format

SAMPLED = 2_000
"""Most examples whose characters are counted by kind; the other examples only count by length."""
REMEMBERED = 16
"""Number of files whose contents are cached."""
SHOWN_CHARACTERS = 20_000
"""Most characters of each text in a preview."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredData:
    """Numbers of a data file or sample. Tokens are estimated from characters: no tokenizer is loaded."""

    title: str
    file_name: str | None = None
    """Name of the file; None for a shipped sample."""
    format: Format
    examples: int
    mean_tokens: Range
    """Mean tokens per example, including the chat template."""
    longest_tokens: Range
    traits: tuple[Trait, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes on values that were converted while reading, as sentences."""

    def training_data(self, epochs: float | None = None) -> TrainingData:
        """Return the input of an estimate: the expected mean length, and the upper end of the longest example's
        length, so that memory suffices and no example is truncated."""
        return TrainingData(
            examples=self.examples,
            mean_tokens=max(1, round(self.mean_tokens.expected)),
            longest_tokens=max(1, round(self.longest_tokens.high)),
            epochs=epochs,
            form=self.format,
            traits=self.traits,
            file_name=self.file_name,
            longest_is_upper=True,
        )

    @property
    def in_words(self) -> str:
        """Numbers of the data in a few sentences."""
        count = units.counted(self.examples, "example")
        return (
            f"{self.title}: {count} ({self.format}), about {_tokens(self.mean_tokens)} each, the longest about "
            f"{_tokens(self.longest_tokens)}. Tokens are estimated from characters. The longest example counts as "
            "its upper estimate." + "".join(f" {note}" for note in self.notes)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "format": self.format,
            "examples": self.examples,
            "mean_tokens": self.mean_tokens.as_json(),
            "longest_tokens": self.longest_tokens.as_json(),
        }


class Look(NamedTuple):
    """The first rows of a sample or file, and the numbers of the whole."""

    preview: Preview
    measured: MeasuredData


class Data(Operations):
    """Contents of data files, cached."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._looks: OrderedDict[tuple, Look] = OrderedDict()

    def measure(self, data: str) -> MeasuredData:
        """Return number, lengths and format of the examples in a shipped sample or a JSONL, JSON, CSV or Parquet file.
        BadDataError names the first row that cannot be used."""
        return self.look(data).measured

    def look(self, data: str) -> Look:
        """Return first rows and numbers of a sample or a file of the current visitor. BadDataError names a bad row."""
        data = self._workspace.references.data(data).text
        path = existing(data)
        status = path.stat() if path else None
        key = (data, status.st_mtime_ns, status.st_size, status.st_ino) if status else (data,)
        if key in self._looks:
            return self._looks[key]
        if dataset.is_sample(data, self._workspace.assets):
            return self._remember(key, look(data, self._workspace.assets))
        if data.lower().endswith(".parquet"):
            installed.require_pyarrow()  # here, since a child does not know who asks
        children = self._workspace.children
        with children.turn(repr(key)):
            if key not in self._looks:  # while this one waited
                request = {"data": data, "assets": str(self._workspace.assets)}
                about = Path(data).name[:80]
                reply = children.ask("data", request, about=about, error=BadDataError, key=repr(key))
                self._remember(key, look_from(reply))
            return self._looks[key]

    def _remember(self, key: tuple, seen: Look) -> Look:
        self._looks[key] = seen
        while len(self._looks) > REMEMBERED:
            self._looks.popitem(last=False)
        return seen


def look(data: str, assets: Path) -> Look:
    """Return first rows and numbers of a sample or file, read in this process."""
    read = dataset.read(data, assets)
    return Look(dataset.preview_of(read), measured(read, is_file=not dataset.is_sample(data, assets), assets=assets))


def measured(read: Dataset, *, is_file: bool, assets: Path) -> MeasuredData:
    """Return the numbers of a data set that was read. is_file: False for a shipped sample."""
    assume, examples = load_assumptions(assets), read.examples
    lengths = [sum(map(len, _texts(example))) for example in examples]
    step = max(1, len(examples) // SAMPLED)
    sampled = examples[::step]
    share = sum(lengths) / len(lengths) / (sum(lengths[::step]) / len(sampled))
    longest = examples[max(range(len(examples)), key=lengths.__getitem__)]
    return MeasuredData(
        title=read.title,
        file_name=read.title if is_file else None,
        format=read.format,
        examples=len(examples),
        mean_tokens=_token_range(sampled, assume).times(share),
        longest_tokens=_token_range((longest,), assume),
        traits=read.traits,
        notes=read.notes,
    )


def _token_range(examples: Sequence[Example], assume: Assumptions) -> Range:
    counts = characters("\n".join(text for example in examples for text in _texts(example)))
    messages = sum(len(example.messages) for example in examples) / len(examples)
    return token_range({kind: count / len(examples) for kind, count in counts.items()}, messages, assume)


def _texts(example: Example) -> Sequence[str]:
    return [content for _, content in example.messages] or [example.prompt, example.completion]


def _tokens(tokens: Range) -> str:
    """Return text such as "400 tokens (320 to 600)"."""
    low, expected, high = (f"{round(value):,}" for value in (tokens.low, tokens.expected, tokens.high))
    return f"{expected} tokens ({low} to {high})"


def look_json(seen: Look) -> dict[str, Any]:
    """Return a Look as JSON; texts are cut at SHOWN_CHARACTERS."""
    row = {"preview": asdict(seen.preview), "measured": asdict(seen.measured)}
    row["preview"]["examples"] = [[text[:SHOWN_CHARACTERS] for text in each] for each in seen.preview.examples]
    return row


def look_from(row: Mapping[str, Any]) -> Look:
    """Return the Look that `look_json` has written."""
    preview, measured = row["preview"], row["measured"]
    tokens = {name: Range(**measured[name]) for name in ("mean_tokens", "longest_tokens")}
    lists = {name: tuple(measured[name]) for name in ("notes", "traits")}
    examples = tuple(map(tuple, preview["examples"]))
    return Look(Preview(**{**preview, "examples": examples}), MeasuredData(**{**measured, **tokens, **lists}))
