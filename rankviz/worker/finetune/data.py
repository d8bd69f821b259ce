"""Splits, orders and tokenizes data with random generators of its own: all runs of a sweep get the same rows."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rankviz.children import processor_time
from rankviz.core.runs.record import readable
from rankviz.dataset import Dataset, Example
from rankviz.dataset.rows import answers_in, with_ends
from rankviz.errors import BadDataError

IGNORED = -100  # label of a token that is not trained on
SPLIT_SEED = 0
LARGEST_HELD_OUT_SHARE = 0.5
CHARACTERS_PER_TOKEN = 64
"""Characters of a row's text per token of max_length. Longer texts are cut before they are tokenized, which takes 250
MB for each MB of text. Prose has 2 to 6 characters per token."""
TEMPLATE_SECONDS = 60.0  # processor seconds that a chat template may take for one row; milliseconds are usual


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenized row."""

    input_ids: list[int]
    labels: list[int]  # equal to input_ids where the token is learned, IGNORED elsewhere

    @property
    def targets(self) -> int:
        """Number of tokens that count in the loss. The first token of a row never does, since no token precedes it."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    """A held-out row as prompt and reference answer, with the same token ids as for training."""

    prompt: list[int]
    reference: list[int]  # tokens after the prompt that are trained on, with the end token
    texts: tuple[str, str] = ("", "")  # prompt and reference as text


def split(examples: Sequence[Example], held_out: int) -> tuple[list[int], list[int]]:
    """Return row numbers (training, held out) of a shuffle with a fixed seed; at most half are held out, and training
    rows that repeat one are left out. BadDataError where no training row is left."""
    order = list(range(len(examples)))
    random.Random(SPLIT_SEED).shuffle(order)
    held_out = min(held_out, int(LARGEST_HELD_OUT_SHARE * len(examples)))
    seen = {examples[i] for i in order[:held_out]}
    training = sorted(i for i in order[held_out:] if examples[i] not in seen)
    if not training:
        raise BadDataError("Nothing is left to train on: every row repeats one that is held out.")
    return training, order[:held_out]


class SweepData:
    """Rows of one data file, split once; each row is tokenized once, when it is first needed."""

    def __init__(self, dataset: Dataset, tokenizer: Any, max_length: int, held_out_examples: int):
        self.dataset, self.tokenizer, self.max_length = dataset, tokenizer, max_length
        self._tokenize = cache(lambda i: tokenize(dataset.examples[i], tokenizer, max_length))
        self.training, held_out = split(dataset.examples, held_out_examples)
        self._held_out_rows = [i for i in held_out if self._tokenize(i).targets]
        self.held_out = [self._tokenize(i) for i in self._held_out_rows]
        if not self.held_out:
            raise self._too_short("held-out row")

    def questions(self, count: int, *, may_be_cut: bool = False) -> dict[int, HeldOutQuestion]:
        """Return the first `count` held-out rows that can be answered, by their index in `held_out`. A row needs a
        prompt within max_length, and an answer within it unless `may_be_cut`. Raise BadDataError if no row has both."""
        questions: dict[int, HeldOutQuestion] = {}
        for place, i in enumerate(self._held_out_rows):
            if len(questions) == count:
                break
            question = ask(self.dataset.examples[i], self.tokenizer, self.max_length, may_be_cut=may_be_cut)
            if question is not None and len(question.prompt) <= self.max_length:
                questions[place] = question
        if count and not questions and not may_be_cut:
            raise BadDataError(
                f"Exact match needs held-out rows with a prompt, and an answer within {self.max_length} tokens; there "
                "is none. Set exact match to 0, raise max_length, or give rows with prompts."
            )
        return questions

    def in_order(self, seed: int, count: int, *, skip: int = 0) -> list[Tokens]:
        """Return `count` training rows in this seed's order after the first `skip`; each epoch is shuffled again."""
        chance, rows = random.Random(seed), []
        while len(rows) < skip + count:
            order, before = list(self.training), len(rows)
            chance.shuffle(order)
            for i in order:
                # A row whose prompt alone fills max_length teaches nothing.
                if len(rows) < skip + count and (tokens := self._tokenize(i)).targets:
                    rows.append(tokens)
            if len(rows) == before:
                raise self._too_short("row")
        return rows[skip:]

    def _too_short(self, what: str) -> BadDataError:
        return BadDataError(f"No {what} has a token to learn within {self.max_length}: raise max_length.")


def ask(example: Example, tokenizer: Any, max_length: int, *, may_be_cut: bool = False) -> HeldOutQuestion | None:
    """Return a row's last learned text with its prompt; None without a prompt, or where it is too long and not cut."""
    whole = _encode(example, tokenizer, max_length, TEMPLATE_SECONDS)
    if not example.has_prompt or (len(whole.input_ids) > max_length and not may_be_cut):
        return None
    learned = [label != IGNORED for label in whole.labels]
    end = max((i + 1 for i, is_learned in enumerate(learned) if is_learned), default=0)
    start = next((i for i in range(end, 0, -1) if not learned[i - 1]), 0)
    if not 0 < start < end:
        return None
    texts = tuple(map(readable, example.as_pair()))
    return HeldOutQuestion(whole.input_ids[:start], whole.input_ids[start:end], texts)


def tokenize(
    example: Example, tokenizer: Any, max_length: int, *, template_seconds: float = TEMPLATE_SECONDS
) -> Tokens:
    """Return token ids cut at max_length, with labels for each answer and the token that ends it
    (rankviz.dataset.rows). BadDataError where the chat template takes more than `template_seconds`."""
    tokens = _encode(example, tokenizer, max_length, template_seconds)
    return Tokens(tokens.input_ids[:max_length], tokens.labels[:max_length])


def _encode(example: Example, tokenizer: Any, max_length: int, template_seconds: float) -> Tokens:
    """Tokenize the first CHARACTERS_PER_TOKEN × max_length characters of a row's text."""
    most = CHARACTERS_PER_TOKEN * max_length
    if example.messages:
        chat = [{"role": role, "content": content} for role, content in example.messages]
        endless = BadDataError(
            f"The chat template of this base took more than {template_seconds:g} s of processor time for one row. "
            "Choose another base, or rows of fewer messages."
        )
        try:
            # A template is a stranger's program, sandboxed by transformers without a time limit.
            with processor_time(template_seconds, endless):
                text, answers = answers_in(chat, tokenizer)
        except ValueError as error:
            raise BadDataError(str(error)) from error
    else:
        text = example.prompt + example.completion
        answers = [(len(example.prompt), len(text))]
    within = [(start, min(end, most)) for start, end in answers if start < most]
    input_ids, mask = with_ends(text[:most], within, tokenizer, bool(example.messages and tokenizer.chat_template))
    return Tokens(input_ids, [token if learned else IGNORED for token, learned in zip(input_ids, mask, strict=True)])
