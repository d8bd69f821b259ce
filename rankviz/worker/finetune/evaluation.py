"""Computes the held-out loss in nats and the token accuracy, over all target tokens and of each example."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rankviz.core.runs.events import Evaluated
from rankviz.worker.finetune.data import IGNORED, Tokens
from rankviz.worker.stages import Progress, silent

MAX_LOGIT_BYTES = 64 * 2**20
"""Rows are batched until their fp32 logits would be larger than this; one row alone may be."""


def evaluate(
    model: Any,
    held_out: Sequence[Tokens],
    *,
    when: str,
    pad_token_id: int,
    autocast: str | None = None,
    progress: Progress = silent,
) -> Evaluated:
    """Cross-entropy of each target token under the model, over the held-out rows as they are (no dropout, no gradient).

    loss = Σ over target tokens of -log p(token | what stands before it) / number of target tokens, completions only
    where rows have prompts. A token is correct where it has the highest logit after the true tokens before it. The
    forward pass runs in `autocast` (a torch dtype's name) as training does; the loss is taken in fp32.
    Compared with transformers' own loss and logits in tests/worker/finetune/test_data.py.
    """
    import torch

    started = time.monotonic()
    sums, counts = [0.0] * len(held_out), [tokens.targets for tokens in held_out]
    correct = [0] * len(held_out)
    device = next(model.parameters()).device
    done = 0
    with inference(model, autocast):
        for batch in _batches(held_out, vocabulary=model.config.get_text_config().vocab_size):
            longest = max(len(held_out[i].input_ids) for i in batch)
            input_ids = torch.full((len(batch), longest), pad_token_id, device=device)
            labels = torch.full((len(batch), longest), IGNORED, device=device)
            mask = torch.zeros((len(batch), longest), dtype=torch.long, device=device)
            for row, i in enumerate(batch):
                length = len(held_out[i].input_ids)
                input_ids[row, :length] = torch.tensor(held_out[i].input_ids)
                labels[row, :length] = torch.tensor(held_out[i].labels)
                mask[row, :length] = 1
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
    """No dropout, no gradient, and the forward pass in `autocast` (a torch dtype's name)."""
    import torch

    was_training = model.training
    model.eval()
    dtype = getattr(torch, autocast) if autocast else None
    kind = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
        yield
    model.train(was_training)


def _batches(held_out: Sequence[Tokens], vocabulary: int) -> list[list[int]]:
    """Indices, rows of like length together; the same batches every time, since padding moves the last digits."""
    by_length = sorted(range(len(held_out)), key=lambda i: (len(held_out[i].input_ids), i))
    batches: list[list[int]] = []
    for i in by_length:
        logit_bytes = 4 * vocabulary * len(held_out[i].input_ids)
        if batches and (len(batches[-1]) + 1) * logit_bytes <= MAX_LOGIT_BYTES:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
