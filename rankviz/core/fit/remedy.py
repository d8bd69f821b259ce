"""Finds the smallest single change that makes the training fit.

First what leaves the result as it is: fused loss, checkpointing, rows moved from batch to accumulation, 8-bit
optimizer. Only where none of these is enough what changes what is learned: a lower rank, fewer targets, rows of no less
than half the length, a 4-bit base, LoRA for DoRA. Among changes of one kind the one that adds least time, less time
counting as none added; ties go to the order above. Where none of them is enough, the limits and the other knobs: what
the tables show to fit is a change that makes it fit. "Fits" is the whole band inside usable memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rankviz.core.fit.knobs import (
    CHECKPOINTING_LABELS,
    OPTIM_LABELS,
    PRECISION_LABELS,
    Knob,
    batch_label,
    checkpointing_choices,
    knobs,
    narrower,
    price,
)
from rankviz.core.fit.limits import Limit
from rankviz.core.fit.setting import Change, Setting

RULE = (
    "Order of changes: first those that leave the result unchanged (fused loss, checkpointing, batch moved to "
    "accumulation, 8-bit optimizer), then rank, targets, examples down to half the length, a 4-bit base, no DoRA. "
    "Within each kind, the change that adds the least time. Only where none is enough: examples as long as still fit."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedy:
    """What to change. All None without a GPU, and where it fits already."""

    needed: bool
    smallest: Knob | None
    """Makes it fit by itself."""
    helps_most: Knob | None
    """Where nothing makes it fit by itself: what takes most off the card."""


def remedy(start: Setting, known_limits: Sequence[Limit]) -> Remedy:
    """known_limits: what limits() gave for the same setting."""
    if start.row.fit in (None, "fits", "tight"):
        return Remedy(needed=False, smallest=None, helps_most=None)
    helps = [knob for knob in _lowering(start, known_limits) if knob.device_bytes < 0]
    fitting = [knob for knob in helps if knob.makes_it_fit] or [
        knob for knob in (*_at_limits(start, known_limits), *knobs(start)) if knob.makes_it_fit
    ]
    if fitting:
        # min takes the first of equals, and knobs come in the rule's order.
        smallest = min(fitting, key=lambda knob: (not knob.same_result, max(0.0, knob.seconds or 0.0)))
        return Remedy(needed=True, smallest=smallest, helps_most=None)
    return Remedy(needed=True, smallest=None, helps_most=min(helps, key=lambda knob: knob.device_bytes, default=None))


def _lowering(start: Setting, known_limits: Sequence[Limit]) -> Iterator[Knob]:
    for label, change, same in _changes(start, {limit.option: limit.surely for limit in known_limits}):
        if knob := price(start, label, change, same_result=same):
            yield knob


def _at_limits(start: Setting, known_limits: Sequence[Limit]) -> Iterator[Knob]:
    labels = {"r": "r = {:,}", "batch": "a batch of {:,}", "max_length": "a length of at most {:,} tokens"}
    for limit in known_limits:
        if limit.surely is not None and (
            knob := price(
                start, labels[limit.option].format(limit.surely), {limit.option: limit.surely}, same_result=False
            )
        ):
            yield knob


def _changes(start: Setting, fits: dict[str, int | None]) -> Iterator[tuple[str, Change, bool]]:
    training = start.question.training
    if training.loss_path != "fused":
        yield "a fused loss", {"loss_path": "fused"}, True
    for kind in checkpointing_choices(start.question):
        if kind != "none":
            yield CHECKPOINTING_LABELS[kind], {"checkpointing": kind}, True
    batch, accum = training.per_device_train_batch_size, training.gradient_accumulation_steps
    if batch > 1:
        smaller = _divisor(batch, fits.get("batch") or 1)
        yield (
            batch_label(smaller, accum * batch // smaller),
            {"batch": smaller, "accum": accum * batch // smaller},
            True,
        )
    if training.optim == "adamw_torch":
        yield OPTIM_LABELS["adamw_8bit"], {"optim": "adamw_8bit"}, True
    if start.r > 1:
        r = min(_power_of_two(fits.get("r") or 1), _power_of_two(start.r - 1))
        yield f"r = {r}", {"r": r}, False
    for preset, label in narrower(start):
        yield label, {"targets": preset}, False
    if (longest := training.fitted_length) > 1:
        length = max(longest // 2, min(fits.get("max_length") or 1, longest - 1))
        yield f"{length:,} tokens per example", {"max_length": length}, False
    if training.precision != "nf4-dq":
        label = "double quantization" if training.precision == "nf4" else PRECISION_LABELS["nf4-dq"]
        yield label, {"precision": "nf4-dq"}, False
    if start.question.lora.use_dora:
        yield "LoRA instead of DoRA", {"dora": False}, False


def _divisor(batch: int, at_most: int) -> int:
    """The largest part of the batch, itself left out, that divides it and is known to fit; 1 otherwise."""
    return max((n for n in range(1, min(batch - 1, at_most) + 1) if batch % n == 0), default=1)


def _power_of_two(n: int) -> int:
    return 1 << (n.bit_length() - 1)
