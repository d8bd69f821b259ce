"""Answers held-out prompts greedily: to count exact matches, and to keep a few answers as text.

The prompt is the row's own first tokens, as training saw them. An answer ends with an end token, or EXTRA_TOKENS after
the longest reference of its batch; answer and reference are compared as text, without special tokens and without
space around it. Compared with transformers' own generate in tests/worker/finetune/test_answers.py.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from rankviz.core.runs.events import GreedyAnswer
from rankviz.core.runs.held_out_answers import readable
from rankviz.core.runs.timing.sweep_time import SHOWN_TOKENS
from rankviz.worker.finetune.data import Question, ShownQuestion
from rankviz.worker.finetune.evaluation import MAX_LOGIT_BYTES, inference
from rankviz.worker.stages import Progress, silent

EXTRA_TOKENS = 8
MAX_CACHED_TOKENS = 2048
"""Keys and values of so many tokens are kept at once: half a gigabyte for a base of 8 billion parameters in fp32."""


def exact_matches(
    model: Any,
    tokenizer: Any,
    questions: Mapping[int, Question],
    *,
    examples: int,
    autocast: str | None = None,
    cached: bool = True,
    progress: Progress = silent,
) -> tuple[int | None, ...]:
    """1 or 0 of each held-out example, None of those that are no question.

    Args:
        questions: By place among the held-out examples.
        examples: How many there are.
        autocast: As for the loss.
        cached: Keep keys and values from token to token. Without, each token reads its whole row again, which is the
            very pass that the loss comes from: Unsloth's kernels for CUDA keep keys and values in their own way.
        progress: Told the tokens that have been written, of those that may be.
    """
    ends = end_tokens(model, tokenizer, questions.values())
    matches: list[int | None] = [None] * examples
    for place, answer in _answers(model, tokenizer, questions, ends, autocast, cached=cached, progress=progress):
        pair = (_text(tokens, tokenizer, ends) for tokens in (questions[place].reference, answer))
        matches[place] = int(len(set(pair)) == 1)
    return tuple(matches)


def shown_answers(
    model: Any,
    tokenizer: Any,
    shown: Mapping[int, ShownQuestion],
    *,
    autocast: str | None = None,
    cached: bool = True,
    seconds: float,
    progress: Progress = silent,
) -> tuple[GreedyAnswer, ...]:
    """The answers as text, by place; of at most SHOWN_TOKENS tokens each. The rest as for exact_matches.

    seconds: for all of them together. Each batch has an equal share of what is left, and at least one token.
    """
    questions = {place: each.question for place, each in shown.items()}
    ends = end_tokens(model, tokenizer, questions.values())
    answers = {
        place: GreedyAnswer(
            place=place,
            prompt=shown[place].prompt,
            reference=shown[place].reference,
            text=readable(_text(tokens, tokenizer, ends)),
            ended=any(token in ends for token in tokens),
        )
        for place, tokens in _answers(
            model,
            tokenizer,
            questions,
            ends,
            autocast,
            cached=cached,
            progress=progress,
            most=SHOWN_TOKENS,
            until=time.monotonic() + seconds,
        )
    }
    return tuple(answers[place] for place in sorted(answers))


def _answers(
    model: Any,
    tokenizer: Any,
    questions: Mapping[int, Question],
    ends: Collection[int],
    autocast: str | None,
    *,
    cached: bool,
    progress: Progress,
    most: int | None = None,
    until: float | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """(place, tokens of the answer), a batch at a time. most: tokens of an answer. until: when all must be written, as
    time.monotonic tells it."""
    continued = _with_cache if cached else _without_cache
    batches = _batches(questions, model.config.get_text_config().vocab_size, cached=cached)
    limits = [min(most or limit, limit) for limit in (_limit(questions, batch) for batch in batches)]
    with inference(model, autocast):
        for number, places in enumerate(batches):
            left = len(batches) - number
            deadline = None if until is None else time.monotonic() + max(0.0, until - time.monotonic()) / left
            before = sum(limits[:number])

            def goes_on(written: int, before: int = before, deadline: float | None = deadline) -> bool:
                progress(before + written, sum(limits), "tokens")
                return deadline is None or time.monotonic() < deadline

            prompts = [questions[place].prompt for place in places]
            rows = continued(model, prompts, limits[number], ends, tokenizer.pad_token_id, goes_on)
            yield from zip(places, rows, strict=True)


def _limit(questions: Mapping[int, Question], places: Sequence[int]) -> int:
    return max(len(questions[place].reference) for place in places) + EXTRA_TOKENS


def end_tokens(model: Any, tokenizer: Any, questions: Collection[Question]) -> set[int]:
    """Tokenizer's and model's own, and special tokens in the references, such as the end of a turn."""
    own = model.generation_config.eos_token_id
    special = {token for token, text in tokenizer.added_tokens_decoder.items() if text.special}
    learned = {token for question in questions for token in question.reference}
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    return ends | (special & learned)


def _text(tokens: Sequence[int], tokenizer: Any, ends: Collection[int]) -> str:
    """Up to the first end token."""
    end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokenizer.decode(tokens[:end], skip_special_tokens=True).strip()


def _batches(questions: Mapping[int, Question], vocabulary: int, *, cached: bool) -> list[list[int]]:
    """Places, answers of like length together; the same batches every time."""
    batches: list[list[int]] = []
    for place in sorted(questions, key=lambda place: (len(questions[place].reference), place)):
        together = [*(batches[-1] if batches else ()), place]
        longest = max(len(questions[i].prompt) for i in together) + len(questions[place].reference) + EXTRA_TOKENS
        tokens = len(together) * longest
        if batches and (tokens <= MAX_CACHED_TOKENS if cached else 4 * vocabulary * tokens <= MAX_LOGIT_BYTES):
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def _always(written: int) -> bool:
    return True


def _with_cache(
    model: Any,
    prompts: Sequence[list[int]],
    most: int,
    ends: Collection[int],
    pad_token_id: int,
    goes_on: Callable[[int], bool] = _always,
) -> list[list[int]]:
    """The most likely next tokens of each prompt. Padding stands before the prompts, masked and without a position.
    goes_on: given the tokens written so far, whether another one may be."""
    import torch

    device = next(model.parameters()).device
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + row for row in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)
    cache, answers, ended = None, [], torch.zeros(len(prompts), dtype=torch.bool, device=device)
    while len(answers) < most and not ended.all():
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        step = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            # As an index, which makes a copy. With the number 1 the head reads a strided slice: in bf16 on a CPU, the
            # first pass over 64 prompts took 8.1 s instead of 0.7 s (SmolLM2-135M, torch 2.13).
            logits_to_keep=torch.tensor([ids.shape[1] - 1], device=device),
        )
        cache, ids = step.past_key_values, step.logits[:, -1:].argmax(-1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        ended |= torch.isin(ids[:, 0], torch.tensor(sorted(ends), device=device))
        answers.append(ids)
        if not goes_on(len(answers)):
            break
    return torch.cat(answers, dim=1).tolist()


def _without_cache(
    model: Any,
    prompts: Sequence[list[int]],
    most: int,
    ends: Collection[int],
    pad_token_id: int,
    goes_on: Callable[[int], bool] = _always,
) -> list[list[int]]:
    """The same. Padding stands behind the rows, where no token looks."""
    import torch

    device = next(model.parameters()).device
    rows, answers = [list(row) for row in prompts], [[] for _ in prompts]
    for written in range(1, most + 1):
        width = max(map(len, rows))
        ids = torch.tensor([row + [pad_token_id] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        for row, answer, token in zip(
            rows, answers, logits[torch.arange(len(rows), device=device), last].argmax(-1).tolist(), strict=True
        ):
            row.append(token)
            answer.append(token)
        if all(any(token in ends for token in answer) for answer in answers) or not goes_on(written):
            break
    return answers
