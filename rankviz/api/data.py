"""Data files: number, length and format of their examples, read once per file in a child process."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz import dataset, installed, units
from rankviz.api.workspace import Cache, Operations
from rankviz.catalog.hardware import load_assumptions
from rankviz.core.cost.setup import LENGTH_SHARES, TrainingData
from rankviz.core.quantity import Assumptions, Range
from rankviz.dataset import Example, Sample
from rankviz.errors import BadDataError
from rankviz.paths import existing

if TYPE_CHECKING:
    from rankviz.api import Api

SAMPLED = 2_000
"""Most examples whose characters are counted by kind; of all other examples only the length is used."""
REMEMBERED = 16
"""Number of files whose contents are cached."""
SHOWN_ROWS, SHOWN_CHARACTERS = 3, 20_000
"""SHOWN_ROWS: number of rows in a preview. SHOWN_CHARACTERS: most characters of each text in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredData:
    """Numbers of a data file or sample. Tokens are estimated from characters: no tokenizer is loaded."""

    title: str
    training: TrainingData
    """Input of an estimate: the expected mean length, and the upper end of the longest example's length, so that memory
    suffices and no example is truncated."""
    mean_tokens: Range
    """Mean tokens per example, including the chat template."""
    notes: tuple[str, ...] = ()
    """Notes on values that were converted while reading, as sentences."""
    first: tuple[tuple[str, str], ...] = ()
    """The first rows as (prompt, completion)."""
    mean_characters: float
    longest_characters: int
    has_prompts: bool
    """True where a row has a prompt to answer."""

    def require_prompts(self) -> None:
        """Raise BadDataError where no row has a prompt to answer."""
        if not self.has_prompts:
            raise BadDataError(
                f"Exact match needs prompts, and no row of {self.title} has one. Set exact match to 0, or give rows of "
                "prompt and completion, instruction and output, or messages."
            )

    @property
    def in_words(self) -> str:
        """The data's numbers as a few sentences."""
        data = self.training
        low, mean, high = map(round, (self.mean_tokens.low, self.mean_tokens.expected, self.mean_tokens.high))
        about = f"{self.title}: {units.counted(data.examples, 'example')} ({data.form}), about {mean:,} tokens each "
        about += f"({low:,} to {high:,}, by their characters), the longest up to {data.longest_tokens:,}."
        return " ".join((about, *self.notes))


class Data(Operations):
    """Measures data files; the results are cached."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._known = Cache[MeasuredData](REMEMBERED)

    def samples(self) -> Sequence[Sample]:
        """Return the sample data that RankViz ships."""
        return dataset.samples(self._workspace.assets)

    def file(self, data: str) -> Path | None:
        """Return the file that a text names, of a data set on the Hub its download; None for a sample."""
        reference = self._workspace.references.data(data)
        if reference.kind == "hub":
            return self._workspace.hub.fetch("data", reference.text, max_bytes=dataset.MAX_FILE_BYTES)
        return reference.path

    def measure(self, data: str, columns: str = "", *, prompts: bool = False) -> MeasuredData:
        """Return first rows, number, lengths and format of the examples in a shipped sample or a JSONL, JSON, CSV or
        Parquet file of the current visitor. BadDataError names the first row that cannot be used.
        columns: Those to read (dataset.rows.columns_of); empty for those that the file's names tell. prompts: True for
        rows of prompts (dataset.read)."""
        reference, assets = self._workspace.references.data(data), self._workspace.assets
        data = str(self.file(data)) if reference.kind == "hub" else reference.text
        path = existing(data)
        status = path.stat() if path else None
        key = (data, columns, prompts, status and (status.st_mtime_ns, status.st_size, status.st_ino))
        if dataset.is_sample(data, assets):
            return self._known.get(key, lambda: measured(data, assets, prompts=prompts))
        if data.lower().endswith(".parquet"):
            installed.require("pyarrow", "Parquet")  # here, since a child does not know who asks
        children, request = self._workspace.children, {"data": data, "assets": str(assets), "columns": columns}
        request |= {"prompts": prompts}

        def read() -> MeasuredData:
            about = Path(data).name[:80]
            reply = children.ask("data", request, about=about, error=BadDataError, key=repr(key))
            if "unknown" in reply:
                raise dataset.rows.unknown_columns(reply["message"], reply["unknown"])
            return measured_from(reply)

        return self._known.get(key, read, lambda: children.turn(repr(key)))


def measured(data: str, assets: Path, columns: str = "", *, prompts: bool = False) -> MeasuredData:
    """Return first rows and numbers of a sample or file, read in this process."""
    read, assume = dataset.read(data, assets, columns, prompts=prompts), load_assumptions(assets)
    examples, pairs = read.examples, [example.as_pair() for example in read.examples]
    lengths = [sum(map(len, _texts(example))) for example in examples]
    step = max(1, len(examples) // SAMPLED)
    sampled = examples[::step]
    share = sum(lengths) / len(lengths) / (sum(lengths[::step]) / len(sampled))
    longest = examples[max(range(len(examples)), key=lengths.__getitem__)]
    characters = [len(prompt) + len(answer) for prompt, answer in pairs]
    mean_tokens = token_range(sampled, assume).times(share)
    ordered, tokens_per_character = sorted(lengths), mean_tokens.expected / (sum(lengths) / len(lengths))
    return MeasuredData(
        title=read.title,
        training=TrainingData(
            examples=len(examples),
            mean_tokens=max(1, round(mean_tokens.expected)),
            longest_tokens=max(1, round(token_range((longest,), assume).high)),
            form=read.format,
            traits=read.traits,
            file_name=None if dataset.is_sample(data, assets) else read.title,
            columns=read.columns,
            longest_is_upper=True,
            lengths=tuple(
                round(ordered[round(each * (len(ordered) - 1))] * tokens_per_character) for each in LENGTH_SHARES
            ),
        ),
        mean_tokens=mean_tokens,
        notes=read.notes,
        first=tuple((prompt[:SHOWN_CHARACTERS], answer[:SHOWN_CHARACTERS]) for prompt, answer in pairs[:SHOWN_ROWS]),
        mean_characters=sum(characters) / len(pairs),
        longest_characters=max(characters),
        has_prompts=any(example.has_prompt for example in examples),
    )


CHARACTERS = {
    "letter": re.compile(r"[a-z]+"),
    "capital": re.compile(r"[A-Z]+"),
    "digit": re.compile(r"[0-9]+"),
    "symbol": re.compile(r"[!-/:-@\[-`{-~]+"),
    "east-asian": re.compile(r"[\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
    "other": re.compile(r"[^\x00-\x7f\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
}
"""Pattern of each kind of character, without white space."""
ASCII_SHARE = 0.95
"""Share of ASCII characters from which a text counts as English, code or numbers."""


def token_range(examples: Sequence[Example], assume: Assumptions) -> Range:
    """Estimate the mean tokens of examples, from the kinds of their characters, with the chat template."""
    text, number = "\n".join(text for example in examples for text in _texts(example)), len(examples)
    counts = {kind: sum(map(len, pattern.findall(text))) / number for kind, pattern in CHARACTERS.items()}
    messages = sum(len(example.messages) for example in examples) / number
    expected = sum(count * assume.value(f"tokens-per-{kind}") for kind, count in counts.items())
    foreign = counts["east-asian"] + counts["other"]
    script = "ascii" if foreign <= (1 - ASCII_SHARE) * len(text) / number else "other-scripts"
    tokens = assume.range(f"tokens-from-characters-{script}").times(expected)
    tokens = tokens.plus(assume.range("tokens-per-chat").times(min(1.0, messages)))
    return tokens.plus(assume.range("tokens-per-message").times(messages))


def _texts(example: Example) -> Sequence[str]:
    return [content for _, content in example.messages] or [example.prompt, example.completion]


def measured_from(row: Mapping[str, Any]) -> MeasuredData:
    """Make the numbers that a child process has measured from their JSON."""
    lists = {name: tuple(row["training"][name]) for name in ("traits", "lengths")}
    made = {"training": TrainingData(**{**row["training"], **lists}), "mean_tokens": Range(**row["mean_tokens"])}
    return MeasuredData(**{**row, **made, "notes": tuple(row["notes"]), "first": tuple(map(tuple, row["first"]))})
