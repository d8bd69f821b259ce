"""Computes the effect of each setting: the estimate again with one setting changed.

Time is for the same tokens: a longer row or a larger batch makes fewer steps of them. "Same result" is what leaves the
model that is learned as it is, or as good as: loss path, checkpointing, rows moved from batch to accumulation, 8-bit
optimizer states.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rankviz.core.cost.adapter import plan_on
from rankviz.core.cost.device import card
from rankviz.core.cost.estimate import Fit
from rankviz.core.cost.question import Question
from rankviz.core.cost.unsloth import overflows_in_fp16
from rankviz.core.fit.peak import peak_words
from rankviz.core.fit.setting import Change, Setting, keeping_tokens, seconds_for
from rankviz.core.lora.config import MAX_RANK, QUANTIZED
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

WIDER = ("unsloth", "all-linear")
"""Presets to widen to, smallest first."""
PRECISION_LABELS = {"nf4-dq": "4-bit base (NF4)", "bf16": "16-bit base (bf16)", "fp16": "16-bit base (fp16)"}
CHECKPOINTING_LABELS = {
    "unsloth": "Unsloth's checkpointing",
    "hf": "Hugging Face checkpointing",
    "none": "no checkpointing",
}
OPTIM_LABELS = {"adamw_8bit": "8-bit AdamW", "adamw_torch": "AdamW with full states (adamw_torch)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """One change and its price."""

    label: str
    change: Change
    same_result: bool
    device_bytes: int
    """More on the card at the fullest moment of loading and training, expected; negative is less."""
    seconds: float | None
    """More for the same tokens, expected; None where the speed is not known."""
    usd: float | None
    fit: Fit | None
    spare: Range | None
    """Bytes left on the card after the change."""
    peak: str
    """Which part of a step sets the peak before and after it, in words."""

    @property
    def of_tokens_at_once(self) -> bool:
        """Whether it changes how many tokens are in a micro-step."""
        return bool({"max_length", "batch"} & set(self.change))

    @property
    def makes_it_fit(self) -> bool:
        return self.fit in ("fits", "tight")


def price(start: Setting, label: str, change: Change, *, same_result: bool) -> Knob | None:
    """None where the changed question can't be asked."""
    change = keeping_tokens(start.question, change)
    try:
        after = start.with_change(change)
    except InvalidSettingError:
        return None
    before, seconds = start.seconds, seconds_for(after.row, after.question.training, start.tokens)
    more = None if before is None or seconds is None else seconds - before
    paid = start.answer.price
    return Knob(
        label=label,
        change=change,
        same_result=same_result,
        device_bytes=after.row.memory.fullest - start.row.memory.fullest,
        seconds=more,
        usd=None if more is None or paid is None else more / 3600 * paid.usd_per_hour,
        fit=after.row.fit,
        spare=after.spare,
        peak=peak_words(start.row.memory, after.row.memory),
    )


def knobs(start: Setting) -> tuple[Knob, ...]:
    """Every knob that applies, priced."""
    priced = (price(start, label, change, same_result=same) for label, change, same in _changes(start))
    return tuple(knob for knob in priced if knob is not None)


def _changes(start: Setting) -> Iterator[tuple[str, Change, bool]]:
    question, training = start.question, start.question.training
    batch, accum, length = (
        training.per_device_train_batch_size,
        training.gradient_accumulation_steps,
        training.fitted_length,
    )
    for r in _rank_steps(start.r):
        yield f"r = {r}", {"r": r}, False
    yield from _target_changes(start)
    if training.data is None or training.data.truncates(training.max_length):  # otherwise no example is that long
        yield f"twice the length, {2 * length:,} tokens per example", {"max_length": 2 * length}, False
    if length > 1:
        yield f"half the length, {length // 2:,} tokens per example", {"max_length": length // 2}, False
    if accum % 2 == 0:
        yield batch_label(2 * batch, accum // 2), {"batch": 2 * batch, "accum": accum // 2}, True
    if batch % 2 == 0:
        yield batch_label(batch // 2, 2 * accum), {"batch": batch // 2, "accum": 2 * accum}, True
    other = "adamw_8bit" if training.optim in ("adamw_torch", "sgd") else "adamw_torch"
    yield OPTIM_LABELS[other], {"optim": other}, training.optim != "sgd"
    for kind in checkpointing_choices(question):
        yield CHECKPOINTING_LABELS[kind], {"checkpointing": kind}, True
    if training.loss_path != "fused":
        yield "fused loss", {"loss_path": "fused"}, True
    if training.framework != "unsloth" and start.answer.attention_kernel == "math":
        yield "Unsloth, which holds no attention matrix", {"framework": "unsloth"}, True
    if precision := other_precision(start):
        yield PRECISION_LABELS[precision], {"precision": precision}, False


def _rank_steps(r: int) -> list[int]:
    """The powers of two next to r."""
    below, above = 2 ** ((r - 1).bit_length() - 1) if r > 1 else 0, 2 ** r.bit_length()
    return [step for step in (above, below) if 1 <= step <= MAX_RANK]


def batch_label(batch: int, accum: int) -> str:
    return f"batch {batch}, accumulation {accum}"


def checkpointing_choices(question: Question) -> list[str]:
    """The other kinds; outside Unsloth its own counts as Hugging Face's."""
    kinds = ["unsloth", "hf", "none"] if question.training.framework == "unsloth" else ["hf", "none"]
    now = question.training.gradient_checkpointing
    if now not in kinds:
        now = "hf"
    return [kind for kind in kinds if kind != now]


def sixteen_bit(start: Setting) -> str | None:
    """bf16, or fp16 on a card without it; None where fp16 overflows in the model and nothing prevents it."""
    if card(start.gpu).has_bf16:
        return "bf16"
    prevented = start.question.training.framework == "unsloth"
    return "fp16" if prevented or not overflows_in_fp16(start.model.model_type) else None


def other_precision(start: Setting) -> str | None:
    return sixteen_bit(start) if start.question.training.precision in QUANTIZED else "nf4-dq"


def _target_changes(start: Setting) -> Iterator[tuple[str, Change, bool]]:
    plan = start.answer.plan
    parts = {layer.part for layer in plan.layers}
    for part, label in (("mlp", "add MLP targets"), ("attention", "add attention targets")):
        if part not in parts and (wider := _wider(start, part)):
            yield label, {"targets": wider}, False
    if parts - {"attention"}:
        for preset, label in narrower(start)[:1]:
            yield label, {"targets": preset}, False


def _wider(start: Setting, part: str) -> str | None:
    """The smallest preset with all that carries an adapter now, and this part of the block too."""
    now = _paths(start.answer.plan)
    for preset in WIDER:
        plan = preset_plan(start, preset)
        if plan and now < _paths(plan) and any(layer.part == part for layer in plan.layers):
            return preset
    return None


def narrower(start: Setting) -> list[tuple[str, str]]:
    """Presets within today's targets, largest first, each with its label."""
    now = start.answer.plan.parameters(start.r)
    presets = []
    for preset, label in (("attention", "attention targets only"), ("qv", "q and v targets only")):
        plan = preset_plan(start, preset)
        if plan and plan.parameters(start.r) < now and _paths(plan) < _paths(start.answer.plan):
            presets.append((preset, label))
    return presets


def preset_plan(start: Setting, preset: str) -> AdapterPlan | None:
    """None where PEFT refuses the preset on this model."""
    question = start.question
    try:
        return plan_on(start.model, replace(question.lora, target_modules=preset), question.training, card(None))
    except InvalidSettingError:
        return None


def _paths(plan: AdapterPlan) -> frozenset[str]:
    return frozenset(layer.path for layer in plan.layers)
