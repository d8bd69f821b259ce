"""Data files: how many examples they hold, how long these are, and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api.workspace import Workspace
from rankviz.catalog.hardware import load_assumptions
from rankviz.core.cost.data import LENGTH_SHARES, TrainingData, Trait, characters, token_range
from rankviz.core.quantity import Range

if TYPE_CHECKING:
    from rankviz.core.cost.assumptions import Assumptions
    from rankviz.dataset import Dataset, Example, Format

SAMPLED = 2_000
"""Examples whose characters are looked at; of the others only the length is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredData:
    """A data file in numbers. Tokens are estimated from characters: no tokenizer is loaded."""

    title: str
    file_name: str | None = None
    """None of a shipped sample."""
    format: Format
    examples: int
    mean_tokens: Range
    """Of an example, chat template included."""
    longest_tokens: Range
    lengths: tuple[int, ...] = ()
    """Expected tokens of the examples at LENGTH_SHARES, from the shortest on."""
    traits: tuple[Trait, ...] = ()
    notes: tuple[str, ...] = ()
    """What is read otherwise than it stands there, as sentences."""

    def training_data(self, epochs: float | None = None) -> TrainingData:
        """As an estimate takes it: the expected mean, and the upper end of the longest example, so that memory is
        enough and nothing is truncated."""
        return TrainingData(
            examples=self.examples,
            mean_tokens=max(1, round(self.mean_tokens.expected)),
            longest_tokens=max(1, round(self.longest_tokens.high)),
            epochs=epochs,
            form=self.format,
            traits=self.traits,
            file_name=self.file_name,
            longest_is_upper=True,
            lengths=self.lengths,
        )

    @property
    def in_words(self) -> str:
        """A few sentences for a person."""
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


class Data:
    """What a data file holds."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def measure(self, data: str) -> MeasuredData:
        """Examples, lengths and form of a shipped sample or of a JSONL, JSON, CSV or Parquet file.

        BadDataError names the first row that cannot be used.
        """
        return self._workspace.data_files.look(self._workspace.references.data(data).text).measured


def measured(read: Dataset, *, is_file: bool, assets: Path) -> MeasuredData:
    """A data set that has been read, in numbers."""
    assume = load_assumptions(assets)
    examples = read.examples
    lengths = [_length(example) for example in examples]
    step = max(1, len(examples) // SAMPLED)
    sampled = examples[::step]
    share = sum(lengths) / len(lengths) / (sum(lengths[::step]) / len(sampled))
    longest = examples[max(range(len(examples)), key=lengths.__getitem__)]
    mean_tokens = _token_range(sampled, assume).times(share)
    ordered, tokens_per_character = sorted(lengths), mean_tokens.expected / (sum(lengths) / len(lengths))
    return MeasuredData(
        title=read.title,
        file_name=read.title if is_file else None,
        format=read.format,
        examples=len(examples),
        mean_tokens=mean_tokens,
        longest_tokens=_token_range((longest,), assume),
        lengths=tuple(
            round(ordered[round(each * (len(ordered) - 1))] * tokens_per_character) for each in LENGTH_SHARES
        ),
        traits=read.traits,
        notes=read.notes,
    )


def _token_range(examples: Sequence[Example], assume: Assumptions) -> Range:
    """Tokens of these examples on average."""
    counts = characters("\n".join(text for example in examples for text in _texts(example)))
    messages = sum(len(example.messages) for example in examples) / len(examples)
    mean = {kind: count / len(examples) for kind, count in counts.items()}
    return token_range(mean, messages, assume)


def _texts(example: Example) -> Sequence[str]:
    return [content for _, content in example.messages] or [example.prompt, example.completion]


def _length(example: Example) -> int:
    return sum(map(len, _texts(example)))


def _tokens(tokens: Range) -> str:
    """ "400 tokens (320 to 600)"."""
    low, expected, high = (f"{round(value):,}" for value in (tokens.low, tokens.expected, tokens.high))
    return f"{expected} tokens ({low} to {high})"
