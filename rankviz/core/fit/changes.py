"""The effect of each setting, the largest rank, batch and length that fit, and the smallest change that fits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.estimate import Estimate, Fit, RankEstimate, estimate
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.notes import truncation
from rankviz.core.cost.question import Question, plan_on
from rankviz.core.cost.setup import MAX_BATCH, MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP, Gpu, TrainingSetup, card
from rankviz.core.cost.stack import moved_table, overflows_in_fp16
from rankviz.core.lora.config import MAX_RANK, QUANTIZED
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Caution, Range
from rankviz.errors import InvalidSettingError
from rankviz.units import memory_size

Change = Mapping[str, Any]
"""What differs, by the names of the command line's options: {"batch": 1, "accum": 8}."""

TRAINING = {
    "framework": "framework",
    "precision": "precision",
    "batch": "per_device_train_batch_size",
    "accum": "gradient_accumulation_steps",
    "max_length": "max_length",
    "optim": "optim",
    "checkpointing": "gradient_checkpointing",
    "loss_path": "loss_path",
}
"""Option to field of TrainingSetup."""
LORA = {"targets": "target_modules", "dora": "use_dora"}
"""Option to field of LoraConfig."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One model, one rank, one card, and its answer."""

    model: ModelSpec
    question: Question
    gpu: Gpu | None
    assumptions: Assumptions
    answer: Estimate

    @classmethod
    def of(cls, answer: Estimate, r: int, assumptions: Assumptions) -> "Setting":
        """One of the ranks that an estimate was made for."""
        (row,) = (rank for rank in answer.ranks if rank.r == r)
        one = replace(answer, ranks=(row,), question=replace(answer.question, ranks=(r,)))
        return cls(model=one.model, question=one.question, gpu=one.gpu, assumptions=assumptions, answer=one)

    @property
    def row(self) -> RankEstimate:
        return self.answer.ranks[0]

    @property
    def r(self) -> int:
        return self.question.ranks[0]

    @property
    def tokens(self) -> int:
        """Tokens trained, which a change of batch or length keeps."""
        return trained_tokens(self.question.training)

    @property
    def seconds(self) -> float | None:
        """Expected time for those tokens. Part steps count in part, so that two settings can be compared."""
        return seconds_for(self.row, self.question.training, self.tokens)

    @property
    def spare(self) -> Range | None:
        """Usable memory less what nvidia-smi would show, in bytes: negative where that is more."""
        return self.row.spare

    @property
    def notes(self) -> tuple[Caution, ...]:
        """That examples are truncated, where they are."""
        return tuple(filter(None, [truncation(self.question.training)]))

    @property
    def with_full_rows(self) -> "Setting":
        """This setting with every example as long as max_length, whatever the data."""
        if self.question.training.data is None:
            return self
        training = replace(self.question.training, data=None)
        return setting(self.model, replace(self.question, training=training), self.gpu, self.assumptions)

    def with_change(self, change: Change) -> "Setting":
        """InvalidSettingError where that can't be asked."""
        return setting(self.model, changed(self.question, change), self.gpu, self.assumptions)


def setting(model: ModelSpec, question: Question, gpu: Gpu | None, assumptions: Assumptions) -> Setting:
    """Ask the question, which has one rank."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("What fits is worked out for one rank. Give exactly one.")
    answer = estimate(model, question, gpu, assumptions)
    return Setting(model=model, question=answer.question, gpu=gpu, assumptions=assumptions, answer=answer)


def changed(question: Question, change: Change) -> Question:
    """The question with these options changed; steps and tokens replace one another."""
    training = {TRAINING[name]: value for name, value in change.items() if name in TRAINING}
    for name, field, other in (("steps", "max_steps", "tokens"), ("tokens", "tokens", "max_steps")):
        if name in change:
            training |= {field: change[name], other: None}
    after = replace(question, training=replace(question.training, **training))
    if "r" in change:
        after = replace(after, ranks=(change["r"],))
    lora = {field: change[name] for name, field in LORA.items() if name in change}
    if lora:
        after = replace(after, lora=replace(after.lora, **lora))
    return after


def keeping_tokens(question: Question, change: Change) -> Change:
    """The change, with steps or tokens added where tokens a step change, so that as much is trained as before."""
    before, after = question.training, changed(question, change).training
    if before.max_steps is None or after.tokens_per_step == before.tokens_per_step:
        return change
    tokens = trained_tokens(before)
    steps, rest = divmod(tokens, after.tokens_per_step)
    return {**change, **({"tokens": tokens} if rest else {"steps": steps})}


def trained_tokens(setup: TrainingSetup) -> int:
    """Tokens of the whole training, or of one optimizer step without a length. With data, padding is not counted."""
    return setup.tokens if setup.tokens is not None else setup.total_steps * setup.tokens_per_step


def seconds_for(row: RankEstimate, setup: TrainingSetup, tokens: int) -> float | None:
    """Loading and so many tokens, expected; None where the card's speed is not known."""
    if row.duration is None:
        return None
    data = setup.data
    if setup.data_steps is not None:  # the same examples, however many of their tokens a shorter length keeps
        steps = data.epochs * data.examples / setup.rows_per_step
    else:
        steps = tokens / setup.tokens_per_step
    return row.duration.load.expected + row.duration.step.expected * steps


PARTS = {
    "weights and optimizer states": "static",
    "activations": "activations",
    "logits": "logits",
    "scratch": "other",
}
"""By what a reader sees: properties of MemoryEstimate that add up to what is allocated."""
SHOWN_FROM = 0.01
"""As a share of the peak: a smaller change of a part is not written."""


def peak_words(before: MemoryEstimate, after: MemoryEstimate) -> str:
    """ "Peak: logits 264 MiB → 0 MiB, activations 56 MiB → 416 MiB; 651 MiB of weights and optimizer states stay"."""
    sizes = {name: (getattr(before, field), getattr(after, field)) for name, field in PARTS.items()}
    shown_from = SHOWN_FROM * max(map(sum, zip(*sizes.values(), strict=True)))
    moved = [
        f"{name} {memory_size(was)} → {memory_size(now)}"
        for name, (was, now) in sizes.items()
        if abs(now - was) >= shown_from
    ]
    if not moved:
        return "Peak: no part changes"
    kept = [(now, name) for name, (was, now) in sizes.items() if abs(now - was) < shown_from <= now]
    stays = f"; {memory_size(max(kept)[0])} of {max(kept)[1]} stay" if kept else ""
    return f"Peak: {', '.join(moved)}{stays}"


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


LENGTH_STEP = 64
"""Lengths above it are rounded down to multiples of it: the estimate isn't good to a token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """None is "not even 1", and `note` says why; at the search's own ceiling, `note` says that."""

    option: str
    """r, batch or max_length."""
    surely: int | None
    expected: int | None
    ceiling: int
    note: str


def limits(start: Setting) -> tuple[Limit, ...]:
    """Rank, batch and length; none without a GPU."""
    if start.gpu is None:
        return ()
    training = start.question.training
    batches = min(MAX_BATCH, MAX_TOKENS_PER_MICRO_STEP // training.max_length)
    lengths = min(MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP // training.per_device_train_batch_size)
    return (
        _limit(start, "r", MAX_RANK, "the highest rank that RankViz estimates"),
        _limit(start, "batch", batches, "the largest batch that RankViz estimates"),
        _limit(start.with_full_rows, "max_length", lengths, "the most tokens at once that RankViz estimates"),
    )


def _limit(start: Setting, option: str, ceiling: int, at_ceiling: str) -> Limit:
    known: dict[int, Setting] = {}

    def ask(n: int) -> Setting:
        if n not in known:
            known[n] = start.with_change({option: n})
        return known[n]

    on_card = ask(1).row.memory.base_weights

    def stays(n: int) -> bool:
        return ask(n).row.memory.base_weights == on_card

    step = ceiling if stays(ceiling) else largest(stays, ceiling)
    surely = _largest_beside(step, lambda n: ask(n).spare.low >= 0, ceiling)
    expected = _largest_beside(step, lambda n: ask(n).spare.expected >= 0, ceiling)
    note = ""
    if expected is not None and ask(1).spare.expected < 0:
        note = (
            f"from {_named(option, step + 1)} on Unsloth moves the {moved_table(start.answer.model)} to host memory; "
            f"below that, {_named(option, 1)} needs {units.memory_size(ask(1).row.memory.fullest)}"
        )
    elif surely is None:
        note = _why_not_one(ask(1), option)
    elif surely == ceiling:
        note = f"{at_ceiling}; the card has room for more"
    if option == "max_length":
        surely, expected = _rounded(surely), _rounded(expected)
        if not note:
            note = "limit of memory; the model's own limit may be shorter"
    return Limit(option=option, surely=surely, expected=expected, ceiling=ceiling, note=note)


def largest(holds: Callable[[int], bool], ceiling: int) -> int | None:
    """The largest n from 1 to ceiling that holds, where all below it hold and none above; None where not even 1."""
    if not holds(1):
        return None
    low, high = 1, 2
    while high < ceiling and holds(high):
        low, high = high, 2 * high
    if high >= ceiling:
        if holds(ceiling):
            return ceiling
        high = ceiling
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _largest_beside(step: int, holds: Callable[[int], bool], ceiling: int) -> int | None:
    """The largest from 1 to ceiling that holds, where `holds` may turn true once more after the step."""
    beyond = largest(lambda n: holds(step + n), ceiling - step) if step < ceiling else None
    return largest(holds, step) if beyond is None else step + beyond


def _rounded(length: int | None) -> int | None:
    return length if length is None or length < LENGTH_STEP else length - length % LENGTH_STEP


def _why_not_one(one: Setting, option: str) -> str:
    what = _named(option, 1)
    memory, usable = one.row.memory, one.answer.usable_bytes
    if one.spare.expected >= 0:
        return f"{what} is expected to fit, but the range exceeds the card"
    why = f"the base weights alone take {units.memory_size(memory.base_weights)}"
    if memory.fuller_while_loading:
        why = "no rank, batch or length changes that"
    needed = f"{units.memory_size(memory.fullest)} needed{' while loading' if memory.fuller_while_loading else ''}"
    return f"{what} does not fit: {needed}, {units.memory_size(usable.expected)} usable; {why}"


def _named(option: str, n: int) -> str:
    tokens = "1 token" if n == 1 else f"{n:,} tokens"
    return {"r": f"r = {n}", "batch": f"a batch of {n}", "max_length": f"{tokens} per example"}[option]


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
    for label, change, same in _remedies(start, {limit.option: limit.surely for limit in known_limits}):
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


def _remedies(start: Setting, fits: dict[str, int | None]) -> Iterator[tuple[str, Change, bool]]:
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
