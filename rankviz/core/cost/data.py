"""Describes the training data as far as time and memory depend on them, and estimates tokens from characters."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rankviz.core.bounds import number, one_of, whole
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.lora.config import Framework
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

Form = Literal["messages", "conversations", "prompt-completion", "instruction", "text"]
"""As rankviz.dataset tells them apart."""
Trait = Literal["role", "from", "user", "human", "assistant", "gpt", "uneven", "lists", "json", "numbers", "no-input"]
"""Something that a row of a file has, as rankviz.dataset.rows finds it: keys of messages, names of roles, turns that do
not alternate up to an answer, lists as prompts, lists in a text cell, numbers; or that no row has an input."""
MAX_EXAMPLES = 10**12
MAX_EXAMPLE_TOKENS = 4_194_304
MAX_EPOCHS = 10_000
MAX_FILE_NAME = 200
LENGTH_SHARES = tuple(step / 20 for step in range(21))
"""Shares of the examples, from the shortest on, at which the lengths of a measured file are kept."""
LENGTH_STEP = 64
"""Lengths are rounded up to multiples of it where a setting is made of them."""
ALWAYS_PADDED = ("gemma2", "gpt_oss")
"""Model types that Unsloth pads (unsloth 2026.10.9, trainer.py, PADDING_FREE_BLOCKLIST)."""
RECURRENT = ("linear_attention", "conv", "mamba")
"""Kinds of block whose state would run from one example into the next; Unsloth pads where it has no kernel for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """The data of one training. None is not known."""

    examples: int | None = None
    """Different training examples."""
    mean_tokens: int | None = None
    """Tokens of an example on average, chat template included."""
    longest_tokens: int | None = None
    """Tokens of the longest example."""
    epochs: float | None = None
    """How often each example is seen; None where steps or tokens are given, or no length at all."""
    form: Form | None = None
    """How the rows look, for an export that reads them."""
    traits: tuple[Trait, ...] = ()
    """Of a measured file, what a program with an own reader must know; else empty."""
    file_name: str | None = None
    """Of the file that holds the rows, without folders, for an export that reads it."""
    longest_is_upper: bool = False
    """Whether longest_tokens is the upper end of an estimate."""
    lengths: tuple[int, ...] = ()
    """Estimated tokens of the examples at LENGTH_SHARES; empty where no file was measured."""

    def validate(self) -> None:
        """InvalidSettingError says which value to change, and its limits."""
        for value, name, high in (
            (self.examples, "Examples", MAX_EXAMPLES),
            (self.mean_tokens, "Tokens per example", MAX_EXAMPLE_TOKENS),
            (self.longest_tokens, "Longest example", MAX_EXAMPLE_TOKENS),
        ):
            if value is not None:
                whole(value, name, 1, high)
        if self.form is not None:
            one_of(self.form, "Form of the data", get_args(Form))
        for trait in self.traits:
            one_of(trait, "Trait of the data", get_args(Trait))
        if self.file_name is not None and not is_file_name(self.file_name):
            raise InvalidSettingError("The name of the data's file must be a plain name of at most 200 characters.")
        if self.epochs is not None:
            number(self.epochs, "Epochs", 0, MAX_EPOCHS, above=True)
            if self.examples is None:
                raise InvalidSettingError("Epochs need the number of examples. Give examples, or steps.")
        if self.mean_tokens and self.longest_tokens and self.mean_tokens > self.longest_tokens:
            raise InvalidSettingError(
                f"The longest example has {self.longest_tokens:,} tokens, fewer than the mean of "
                f"{self.mean_tokens:,}. Raise the longest example or lower the tokens per example."
            )

    @property
    def has_length(self) -> bool:
        """Whether examples and epochs say how long the training is."""
        return self.examples is not None and self.epochs is not None

    def steps(self, examples_per_step: int) -> int:
        """Optimizer steps of all epochs, as transformers' Trainer counts them. Examples and epochs must be known."""
        return max(1, math.ceil(self.epochs * math.ceil(self.examples / examples_per_step)))

    def fitted(self, max_length: int) -> int:
        """The maximum length that this data needs: the longest example rounded up, and no more than max_length."""
        if self.longest_tokens is None:
            return max_length
        return min(max_length, LENGTH_STEP * math.ceil(self.longest_tokens / LENGTH_STEP))

    def truncates(self, max_length: int) -> bool:
        """Whether the longest example is known to be longer than max_length. It is no shorter than the mean."""
        return max(self.longest_tokens or 0, self.mean_tokens or 0) > max_length

    def truncated_examples(self, max_length: int) -> Range | None:
        """Share of the examples that are longer than max_length, from 0 to 1; None where too little is known.

        Of a mean m and a longest example L: at least (m − M) / (L − M), at most m / M (Markov's inequality).
        """
        if self.lengths:
            within = [share for share, length in zip(LENGTH_SHARES, self.lengths, strict=True) if length <= max_length]
            return _range(max(0, 1 - within[-1] - LENGTH_SHARES[1]), 1 - within[-1]) if within else _range(1, 1)
        if self.mean_tokens is None or self.longest_tokens is None:
            return None
        above = max(1, self.longest_tokens - max_length)
        return _range(max(0, self.mean_tokens - max_length) / above, min(1, self.mean_tokens / max_length))

    def truncated_tokens(self, max_length: int) -> Range | None:
        """Share of all tokens that is cut off, from 0 to 1; None where too little is known.

        Of a mean m and a longest example L: at least (m − M) / m, at most (L − M) / L, since each example x loses no
        more than x · (L − M) / L.
        """
        if self.lengths:
            cut = [max(0, length - max_length) for length in self.lengths]
            total, steps = sum(self.lengths[1:]) + sum(self.lengths[:-1]), len(self.lengths) - 1
            mean = self.mean_tokens or total / (2 * steps)
            return _range(sum(cut[:-1]) / steps / mean, min(1, sum(cut[1:]) / steps / mean))
        if self.mean_tokens is None:
            return None
        most = max(0, self.longest_tokens - max_length) / self.longest_tokens if self.longest_tokens else 1
        return _range(max(0, self.mean_tokens - max_length) / self.mean_tokens, most)

    def kept_tokens(self, max_length: int) -> int | None:
        """Tokens of an example on average that are trained on, at most; None where the mean is not known."""
        return None if self.mean_tokens is None else min(self.mean_tokens, max_length)

    def computed_tokens(self, batch: int, max_length: int, *, padded: bool) -> Range:
        """Tokens of an example that a step computes, on average.

        padded: whether the trainer pads, or may; the range then covers both. Where the mean is not known, each example
        counts as long as the longest. Truncated examples leave at least the share of the mean that is kept of the
        longest.
        """
        longest = float(min(max_length, self.longest_tokens or max_length))
        kept = self.kept_tokens(max_length)
        if kept is None:
            return Range(longest, longest, longest)
        mean = min(float(kept), longest)
        least = min(mean, self.mean_tokens * longest / self.longest_tokens) if self.longest_tokens else mean
        if not padded:
            return Range(least, mean, mean)
        most = longest * (1 - (1 - mean / longest) ** batch)
        return Range(least, (mean + most) / 2, most)


def _range(low: float, high: float) -> Range:
    return Range(min(low, high), (low + high) / 2, high)


def is_file_name(name: str) -> bool:
    """Whether this is a file's plain name: no folders, and nothing that cannot be printed."""
    plain = 0 < len(name) <= MAX_FILE_NAME and name.isprintable()
    return plain and name not in (".", "..") and not set(name) & set("/\\:")


def pads(framework: Framework, model: ModelSpec) -> bool:
    """Whether this trainer pads examples to the longest of a micro-step, or may."""
    plain = not model.is_whole and model.model_type not in ALWAYS_PADDED
    return framework != "unsloth" or not plain or not set(RECURRENT).isdisjoint(model.layer_types)


KINDS = {
    "letter": re.compile(r"[a-z]+"),
    "capital": re.compile(r"[A-Z]+"),
    "digit": re.compile(r"[0-9]+"),
    "symbol": re.compile(r"[!-/:-@\[-`{-~]+"),
    "east-asian": re.compile(r"[\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
    "other": re.compile(r"[^\x00-\x7f\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
}
"""Kinds of character, white space aside."""
ASCII_SHARE = 0.95
"""Text with at least this share of ASCII characters is taken for English, code or numbers."""


def characters(text: str) -> dict[str, int]:
    """Count the characters of a text by kind, and all of them under "all"."""
    counts = {name: sum(map(len, pattern.findall(text))) for name, pattern in KINDS.items()}
    return {**counts, "all": len(text)}


def token_range(counts: Mapping[str, int], messages: float, assume: Assumptions) -> Range:
    """Tokens of a text with these counts of `characters`, and of the template around so many messages."""
    expected = sum(counts[kind] * assume.value(f"tokens-per-{kind}") for kind in KINDS)
    foreign = counts["east-asian"] + counts["other"]
    script = "ascii" if foreign <= (1 - ASCII_SHARE) * counts["all"] else "other-scripts"
    text = assume.range(f"tokens-from-characters-{script}").times(expected)
    chat = assume.range("tokens-per-chat").times(min(1.0, messages))
    return text.plus(chat).plus(assume.range("tokens-per-message").times(messages))
