"""Measures a model on the held-out rows: loss in nats, token accuracy, exact matches, and answers as text."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rankviz.core.runs.events import Evaluated
from rankviz.worker.finetune.data import IGNORED, HeldOutQuestion, Tokens

MAX_LOGIT_BYTES = 64 * 2**20  # bytes of fp32 logits up to which rows are batched; a single row may have more
EXTRA_TOKENS = 8  # number of tokens that an answer may be longer than its reference
MAX_CACHED_TOKENS = 2048
"""Tokens of a batch whose keys and values are cached: half a gigabyte for a base of 8 billion parameters in fp32."""


def evaluate(
    model: Any,
    held_out: Sequence[Tokens],
    *,
    when: str,
    pad_token_id: int,
    autocast: str | None = None,
    progress: Callable[[int, int | None, str], None] = lambda done, total, unit: None,
) -> Evaluated:
    """Return cross-entropy and accuracy over the held-out rows (no dropout, no gradient). loss = Σ over target tokens
    of -log p(token | preceding tokens) / number of target tokens; only completions are targets where rows have
    prompts. A token is correct where it has the highest logit after the true tokens before it. The forward pass runs
    in `autocast` (a torch dtype's name) as in training; the loss is computed in fp32.
    tests/worker/finetune/test_data.py compares both with transformers' own loss and logits."""
    import torch

    started = time.monotonic()
    sums, counts = [0.0] * len(held_out), [tokens.targets for tokens in held_out]
    correct = [0] * len(held_out)
    device = next(model.parameters()).device
    vocabulary = model.config.get_text_config().vocab_size
    lengths = {i: len(tokens.input_ids) for i, tokens in enumerate(held_out)}
    done = 0
    with inference(model, autocast):
        for batch in _batches(lengths, MAX_LOGIT_BYTES // (4 * vocabulary)):
            longest = lengths[batch[-1]]
            input_ids = torch.full((len(batch), longest), pad_token_id, device=device)
            labels = torch.full((len(batch), longest), IGNORED, device=device)
            mask = torch.zeros((len(batch), longest), dtype=torch.long, device=device)
            for row, i in enumerate(batch):
                input_ids[row, : lengths[i]] = torch.tensor(held_out[i].input_ids)
                labels[row, : lengths[i]] = torch.tensor(held_out[i].labels)
                mask[row, : lengths[i]] = 1
            logits = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
            # Only target positions: fp32 logits of all of them would cost more than the loss itself.
            row_of_target, position = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
            logits, targets = logits[row_of_target, position].float(), labels[row_of_target, position + 1]
            losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            totals = torch.zeros(len(batch), device=device).index_add_(0, row_of_target, losses)
            hits = torch.bincount(row_of_target[logits.argmax(-1) == targets], minlength=len(batch))
            for i, total, hit in zip(batch, totals.tolist(), hits.tolist(), strict=True):
                sums[i], correct[i] = total, hit
            done += len(batch)
            progress(done, len(held_out), "examples")
    return Evaluated(
        time=time.time(),
        when=when,
        loss=sum(sums) / sum(counts),
        tokens=sum(counts),
        examples=len(held_out),
        seconds=time.monotonic() - started,
        example_losses=tuple(total / count for total, count in zip(sums, counts, strict=True)),
        correct_tokens=sum(correct),
        example_tokens=tuple(counts),
        example_correct_tokens=tuple(correct),
    )


@contextmanager
def inference(model: Any, autocast: str | None) -> Iterator[None]:
    """Run the block without dropout and gradients, and with autocast to this torch dtype; None for no autocast."""
    import torch

    was_training = model.training
    model.eval()
    dtype = getattr(torch, autocast) if autocast else None
    kind = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
        yield
    model.train(was_training)


def _batches(lengths: Mapping[int, int], most: int) -> list[list[int]]:
    """Return batches of keys, rows of similar length together, each of at most `most` tokens with padding, or a single
    row. The batches are the same every time, because padding changes the last digits."""
    batches: list[list[int]] = []
    for i in sorted(lengths, key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= most:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def answers(
    model: Any,
    tokenizer: Any,
    questions: Mapping[int, HeldOutQuestion],
    *,
    autocast: str | None = None,
    cuda: bool = False,
    most: float = math.inf,
    seconds: float = math.inf,
) -> dict[int, tuple[str, bool]]:
    """Return the greedy answer to each question, by index: (text, True where the model ended it). cuda: Unsloth's CUDA
    backend. most: tokens per answer. seconds: limit for all; each batch gets a token."""
    import torch
    from transformers import GenerationConfig

    ends, until = end_tokens(model, tokenizer, questions.values()), time.monotonic() + seconds
    device = next(model.parameters()).device
    lengths = {i: len(each.prompt) + len(each.reference) + EXTRA_TOKENS for i, each in questions.items()}

    # The last position as an index, which makes a copy. With the number 1 the head reads a strided slice: in bf16 on a
    # CPU, the first pass over 64 prompts took 8.1 s instead of 0.7 s (SmolLM2-135M, torch 2.13).
    more = {} if cuda else {"logits_to_keep": torch.tensor([-1], device=device)}
    written: dict[int, tuple[str, bool]] = {}
    for places in _batches(lengths, MAX_CACHED_TOKENS):
        prompts = [questions[place].prompt for place in places]
        longest = max(len(questions[place].reference) for place in places)
        width = max(map(len, prompts))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)
        greedy = GenerationConfig(
            max_new_tokens=min(most, longest + EXTRA_TOKENS),
            do_sample=False,
            repetition_penalty=1.0,  # a checkpoint's own generation_config may have another
            disable_compile=True,  # for a few short answers
            eos_token_id=sorted(ends) or None,
            pad_token_id=tokenizer.pad_token_id,
            max_time=until - time.monotonic(),  # looked at after each token
        )
        with inference(model, autocast):
            rows = model.generate(input_ids=ids, attention_mask=mask, generation_config=greedy, **more)
        for place, tokens in zip(places, rows[:, width:].tolist(), strict=True):
            written[place] = text_of(tokens, tokenizer, ends), any(token in ends for token in tokens)
    return written


def exact_matches(
    model: Any, tokenizer: Any, questions: Mapping[int, HeldOutQuestion], *, examples: int, **options: Any
) -> tuple[int | None, ...]:
    """Return 1 for each held-out example where the answer's text equals the reference's, else 0; None for an example
    that no question was made of. options: Further arguments of `answers`."""
    ends = end_tokens(model, tokenizer, questions.values())
    matches: list[int | None] = [None] * examples
    for place, (text, _) in answers(model, tokenizer, questions, **options).items():
        matches[place] = int(text_of(questions[place].reference, tokenizer, ends) == text)
    return tuple(matches)


def end_tokens(model: Any, tokenizer: Any, questions: Collection[HeldOutQuestion]) -> set[int]:
    """Return the end tokens of tokenizer and model, and special tokens in reference answers, such as an end of turn."""
    own = model.generation_config.eos_token_id
    special = {token for token, text in tokenizer.added_tokens_decoder.items() if text.special}
    learned = {token for question in questions for token in question.reference}
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    return ends | (special & learned)


def text_of(tokens: Sequence[int], tokenizer: Any, ends: Collection[int]) -> str:
    """Return the text before the first end token."""
    end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokenizer.decode(tokens[:end], skip_special_tokens=True).strip()
