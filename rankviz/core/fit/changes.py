"""The effect of each setting, the largest rank, batch and length that fit, and the smallest change that fits."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

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
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError
from rankviz.units import memory_size

Change = Mapping[str, str | int | float | bool]
"""Changed options by the names of the command line: {"batch": 1, "accum": 8}."""
Labelled = tuple[str, Change, bool]
"""(label of a change, the change, True where the training result stays the same)."""
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
"""Field of TrainingSetup by option."""
LORA = {"targets": "target_modules", "dora": "use_dora"}
"""Field of LoraConfig by option."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One model at one rank on one card, with its estimate."""

    model: ModelSpec
    question: Question
    gpu: Gpu | None
    assumptions: Assumptions
    answer: Estimate

    @classmethod
    def of(cls, answer: Estimate, r: int, assumptions: Assumptions) -> "Setting":
        """Return the setting of one rank of an estimate."""
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
        """Number of tokens trained, which a change of batch or length keeps."""
        return trained_tokens(self.question.training)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence where examples are truncated, else nothing."""
        return tuple(filter(None, [truncation(self.question.training)]))

    def seconds_for(self, tokens: int) -> float | None:
        """Return the expected seconds of loading and training this many tokens; None where the card's speed is not
        known. Fractions of a step count, so that two settings can be compared."""
        setup, duration = self.question.training, self.row.duration
        if duration is None:
            return None
        steps = tokens / setup.tokens_per_step
        if setup.data_steps is not None:  # the same examples, however many of their tokens a shorter length keeps
            steps = setup.data.epochs * setup.data.examples / setup.rows_per_step
        return duration.load.expected + duration.step.expected * steps

    def with_change(self, change: Change) -> "Setting":
        """Return the setting after a change; raise InvalidSettingError where the changed question is not valid."""
        return setting(self.model, changed(self.question, change), self.gpu, self.assumptions)


def setting(model: ModelSpec, question: Question, gpu: Gpu | None, assumptions: Assumptions) -> Setting:
    """Estimate a question with one rank; raise InvalidSettingError for several ranks or an invalid setting."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("What fits is worked out for one rank. Give exactly one.")
    answer = estimate(model, question, gpu, assumptions)
    return Setting(model=model, question=answer.question, gpu=gpu, assumptions=assumptions, answer=answer)


def changed(question: Question, change: Change) -> Question:
    """Return the question with these options changed. Steps replace tokens, and tokens steps."""
    training = {TRAINING[name]: value for name, value in change.items() if name in TRAINING}
    for name, field, other in (("steps", "max_steps", "tokens"), ("tokens", "tokens", "max_steps")):
        if name in change:
            training |= {field: change[name], other: None}
    after = replace(question, training=replace(question.training, **training))
    if "r" in change:
        after = replace(after, ranks=(change["r"],))
    lora = {field: change[name] for name, field in LORA.items() if name in change}
    return replace(after, lora=replace(after.lora, **lora)) if lora else after


def keeping_tokens(question: Question, change: Change) -> Change:
    """Return the change, plus the steps or tokens that keep the tokens trained where tokens per step change."""
    before, after = question.training, changed(question, change).training
    if before.max_steps is None or after.tokens_per_step == before.tokens_per_step:
        return change
    tokens = trained_tokens(before)
    steps, rest = divmod(tokens, after.tokens_per_step)
    return {**change, **({"tokens": tokens} if rest else {"steps": steps})}


def trained_tokens(setup: TrainingSetup) -> int:
    """Return the tokens of the whole training, or of one step if it has no length; padding counts only without
    data."""
    return setup.tokens if setup.tokens is not None else setup.total_steps * setup.tokens_per_step


PARTS = {"weights and optimizer states": "static", "activations": "activations", "logits": "logits", "scratch": "other"}
"""Property of MemoryEstimate by the name shown to a reader. The parts add up to the allocated memory."""
SHOWN_FROM = 0.01
"""Share of the peak from which on a change of a part is written."""


def peak_words(before: MemoryEstimate, after: MemoryEstimate) -> str:
    """Return the parts of the peak that change, as "Peak: logits 264 MiB → 0 MiB, activations 56 MiB → 416 MiB"."""
    sizes = {name: (getattr(before, field), getattr(after, field)) for name, field in PARTS.items()}
    shown_from = SHOWN_FROM * max(map(sum, zip(*sizes.values(), strict=True)))
    moved = (
        f"{name} {memory_size(was)} → {memory_size(now)}"
        for name, (was, now) in sizes.items()
        if abs(now - was) >= shown_from
    )
    return f"Peak: {', '.join(moved) or 'no part changes'}"


WIDER = ("unsloth", "all-linear")
"""Presets to widen to, smallest first."""
NARROWER = {"attention": "attention targets only", "qv": "q and v targets only"}
"""Label by preset to narrow to, largest first."""
LABELS = {
    "nf4-dq": "4-bit base (NF4)",
    "bf16": "16-bit base (bf16)",
    "fp16": "16-bit base (fp16)",
    "unsloth": "Unsloth's checkpointing",
    "hf": "Hugging Face checkpointing",
    "none": "no checkpointing",
    "adamw_8bit": "8-bit AdamW",
    "adamw_torch": "AdamW with full states (adamw_torch)",
}
"""Label by value of an option."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """One change, with its effect on memory, time and cost."""

    label: str
    change: Change
    same_result: bool
    device_bytes: int
    """Expected bytes more on the card at the fullest moment of loading and training; negative is less."""
    seconds: float | None
    """Expected seconds more for the same tokens; None where the speed is not known."""
    usd: float | None
    fit: Fit | None
    margin_bytes: Range | None
    """Bytes left on the card after the change."""
    peak: str
    """Parts of the peak before and after the change, in words."""

    @property
    def makes_it_fit(self) -> bool:
        return self.fit in ("fits", "tight")


def price(start: Setting, labelled: Labelled) -> Knob | None:
    """Return the effect of a change; None where the changed question is not valid."""
    label, change, same_result = labelled
    change = keeping_tokens(start.question, change)
    try:
        after = start.with_change(change)
    except InvalidSettingError:
        return None
    before, seconds = start.seconds_for(start.tokens), after.seconds_for(start.tokens)
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
        margin_bytes=after.row.spare,
        peak=peak_words(start.row.memory, after.row.memory),
    )


def _priced(start: Setting, changes: Iterable[Labelled]) -> list[Knob]:
    return [knob for each in changes if (knob := price(start, each))]


def knobs(start: Setting) -> tuple[Knob, ...]:
    """Return the effect of every change that applies."""
    return tuple(_priced(start, _changes(start)))


def _changes(start: Setting) -> Iterator[Labelled]:
    question, training, r = start.question, start.question.training, start.r
    batch, accum = training.per_device_train_batch_size, training.gradient_accumulation_steps
    length = training.fitted_length
    for step in (2 ** r.bit_length(), 2 ** ((r - 1).bit_length() - 1) if r > 1 else 0):  # powers of two next to r
        if 1 <= step <= MAX_RANK:
            yield f"r = {step}", {"r": step}, False
    yield from _target_changes(start)
    if training.data is None or training.data.truncates(training.max_length):  # otherwise no example is that long
        yield f"twice the length, {2 * length:,} tokens per example", {"max_length": 2 * length}, False
    if length > 1:
        yield f"half the length, {length // 2:,} tokens per example", {"max_length": length // 2}, False
    if accum % 2 == 0:
        yield _batch(2 * batch, accum // 2)
    if batch % 2 == 0:
        yield _batch(batch // 2, 2 * accum)
    other = "adamw_8bit" if training.optim in ("adamw_torch", "sgd") else "adamw_torch"
    yield LABELS[other], {"optim": other}, training.optim != "sgd"
    for kind in _checkpointing_choices(question):
        yield LABELS[kind], {"checkpointing": kind}, True
    if training.loss_path != "fused":
        yield "fused loss", {"loss_path": "fused"}, True
    if training.framework != "unsloth" and start.answer.attention_kernel == "math":
        yield "Unsloth, which holds no attention matrix", {"framework": "unsloth"}, True
    precision = sixteen_bit(start) if training.precision in QUANTIZED else "nf4-dq"
    if precision:
        yield LABELS[precision], {"precision": precision}, False
    if training.precision == "nf4":
        yield "double quantization", {"precision": "nf4-dq"}, False
    if question.lora.use_dora:
        yield "LoRA instead of DoRA", {"dora": False}, False


def _batch(batch: int, accum: int) -> Labelled:
    return f"batch {batch}, accumulation {accum}", {"batch": batch, "accum": accum}, True


def _checkpointing_choices(question: Question) -> list[str]:
    """Return the other kinds of checkpointing; outside Unsloth, "unsloth" counts as "hf"."""
    own, now = question.training.framework == "unsloth", question.training.gradient_checkpointing
    now = "hf" if now == "unsloth" and not own else now
    return [kind for kind in ("unsloth", "hf", "none") if kind != now and (own or kind != "unsloth")]


def sixteen_bit(start: Setting) -> str | None:
    """Return bf16, or fp16 on a card without bf16; None where fp16 overflows in the model and nothing prevents it."""
    if card(start.gpu).has_bf16:
        return "bf16"
    prevented = start.question.training.framework == "unsloth"
    return "fp16" if prevented or not overflows_in_fp16(start.model.model_type) else None


def _target_changes(start: Setting) -> Iterator[Labelled]:
    parts, now = {layer.part for layer in start.answer.plan.layers}, _paths(start.answer.plan)
    for part, label in (("mlp", "add MLP targets"), ("attention", "add attention targets")):
        for preset in WIDER if part not in parts else ():
            plan = _preset_plan(start, preset)
            if plan and now < _paths(plan) and any(layer.part == part for layer in plan.layers):
                yield label, {"targets": preset}, False
                break
    for preset, label in NARROWER.items() if parts - {"attention"} else ():
        plan = _preset_plan(start, preset)
        if plan and plan.parameters(start.r) < start.row.adapter_parameters and _paths(plan) < now:
            yield label, {"targets": preset}, False
            break


def _preset_plan(start: Setting, preset: str) -> AdapterPlan | None:
    question = start.question
    try:
        return plan_on(start.model, replace(question.lora, target_modules=preset), question.training, card(None))
    except InvalidSettingError:
        return None


def _paths(plan: AdapterPlan) -> frozenset[str]:
    return frozenset(layer.path for layer in plan.layers)


LENGTH_STEP = 64
"""Multiple, in tokens, to which longer lengths are rounded down, since the estimate is not exact to a token."""
LIMIT_LABELS = {"r": "r = {:,}", "batch": "a batch of {:,}", "max_length": "a length of at most {:,} tokens"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The largest value of a setting that fits. None is "not even 1"; `note` says why, or that the search ended."""

    option: str
    surely: int | None
    expected: int | None
    ceiling: int
    note: str


def limits(start: Setting) -> tuple[Limit, ...]:
    """Return the limits of rank, batch and length; empty without a GPU."""
    if start.gpu is None:
        return ()
    training, full_rows = start.question.training, start
    if training.data is not None:  # every example as long as max_length, whatever the data
        question = replace(start.question, training=replace(training, data=None))
        full_rows = setting(start.model, question, start.gpu, start.assumptions)
    batches = min(MAX_BATCH, MAX_TOKENS_PER_MICRO_STEP // training.max_length)
    lengths = min(MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP // training.per_device_train_batch_size)
    return _limit(start, "r", MAX_RANK), _limit(start, "batch", batches), _limit(full_rows, "max_length", lengths)


def _limit(start: Setting, option: str, ceiling: int) -> Limit:
    @cache
    def ask(n: int) -> Setting:
        return start.with_change({option: n})

    def stays(n: int) -> bool:
        """Return True while the embedding is still on the card; where it is moved, larger values fit again."""
        return ask(n).row.memory.base_weights == ask(1).row.memory.base_weights

    def largest_with(end: str) -> int | None:
        def holds(n: int) -> bool:
            return getattr(ask(n).row.spare, end) >= 0

        beyond = largest(lambda n: holds(step + n), ceiling - step)
        return largest(holds, step) if beyond is None else step + beyond

    step, one = largest(stays, ceiling), ask(1)
    surely, expected, note = largest_with("low"), largest_with("expected"), ""
    what, needed = LIMIT_LABELS[option].format(1), memory_size(one.row.memory.fullest)
    if expected is not None and one.row.spare.expected < 0:
        note = (
            f"from {LIMIT_LABELS[option].format(step + 1)} on Unsloth moves the {moved_table(start.answer.model)} to "
            f"host memory; below that, {what} needs {needed}"
        )
    elif expected is None:
        loading = " while loading" if one.row.memory.fuller_while_loading else ""
        usable = memory_size(one.answer.usable_bytes.expected)
        note = f"{what} does not fit: {needed} needed{loading}, {usable} usable"
    elif surely is None:
        note = f"{what} is expected to fit, but the range exceeds the card"
    elif surely == ceiling:
        note = "the most that RankViz estimates; the card has room for more"
    if option == "max_length":
        surely, expected = (n - n % LENGTH_STEP if n and n >= LENGTH_STEP else n for n in (surely, expected))
        note = note or "limit of memory; the model's own limit may be shorter"
    return Limit(option=option, surely=surely, expected=expected, ceiling=ceiling, note=note)


def largest(holds: Callable[[int], bool], ceiling: int) -> int | None:
    """Return the largest n from 1 to ceiling that holds, if all below hold and none above; None if 1 does not."""
    return bisect_left(range(1, ceiling + 1), True, key=lambda n: not holds(n)) or None


RULE = (
    "Of the changes that make it fit, the smallest is one that leaves the training result unchanged, if there is one; "
    "of several, the one that adds the least time."
)


def smallest_change(start: Setting, priced: Sequence[Knob], known_limits: Sequence[Limit]) -> Knob | None:
    """Return the smallest change that makes a setting fit; None where it fits, and where no single change is enough.
    priced: results of knobs() for the setting; known_limits: results of limits()."""
    if start.row.fit in (None, "fits", "tight"):
        return None
    training, more = start.question.training, []
    if training.per_device_train_batch_size > 1:
        more.append(_batch(1, training.rows_per_step))
    for limit in known_limits:
        if (n := limit.surely) and limit.option != "batch":
            n = 1 << (n.bit_length() - 1) if limit.option == "r" else n
            more.append((LIMIT_LABELS[limit.option].format(n), {limit.option: n}, False))
    fitting = (knob for knob in (*_priced(start, more), *priced) if knob.makes_it_fit and knob.device_bytes < 0)
    # min takes the first of equals
    return min(fitting, key=lambda knob: (not knob.same_result, max(0.0, knob.seconds or 0.0)), default=None)
