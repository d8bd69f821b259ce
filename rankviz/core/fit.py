"""Decides from estimates what fits a GPU, what each change of a setting costs, and which GPU to choose."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import Literal, TypedDict

from rankviz.core.bounds import number
from rankviz.core.cost.duration import price_of, usd_of
from rankviz.core.cost.estimate import (
    Estimate,
    Fit,
    RankEstimate,
    any_rank,
    estimate,
    fit,
    spare,
    tight_meaning,
    usable_memory,
)
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.notes import image_notes, truncation
from rankviz.core.cost.predict import full_finetuning
from rankviz.core.cost.question import MAX_USD_PER_HOUR, Question, plan_on
from rankviz.core.cost.setup import MAX_BATCH, MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP, Gpu, Grpo, TrainingSetup, card
from rankviz.core.cost.stack import OFFLOAD_MIN_LENGTH, overflows_in_fp16
from rankviz.core.from_json import as_answer, shape
from rankviz.core.images import seen_by
from rankviz.core.lora.config import MAX_RANK, QUANTIZED
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Assumptions, Range, brief
from rankviz.errors import InvalidSettingError
from rankviz.units import duration, memory_size, usd

Change = Mapping[str, str | int | float | bool]
"""New values of options, by their names on the command line: {"batch": 1, "accum": 8}."""
FITTING = ("fits", "tight")
Labelled = tuple[str, Change, bool]
"""(label of a change, the change, True where the training result stays the same, or nearly)."""
TRAINING = {
    "framework": "framework",
    "precision": "precision",
    "batch": "per_device_train_batch_size",
    "accum": "gradient_accumulation_steps",
    "max_length": "max_length",
    "optim": "optim",
    "checkpointing": "gradient_checkpointing",
    "loss_path": "loss_path",
    **{name: name for name in ("gpus", "strategy", "offload", "image_size")},
}
"""Field of TrainingSetup by the name of its option."""
GRPO = {each.name for each in fields(Grpo)}
"""Options of GRPO, by the names of its fields."""


def with_change(start: Estimate, change: Change) -> tuple[TrainingSetup, RankEstimate]:
    """Return set-up and estimate after a change, without notes; raise InvalidSettingError where the change makes the
    question invalid, or the checkpoint cannot be loaded so. start: Estimate of one rank, as in all functions here."""
    after = any_rank(start.model, changed(start.question, change), start.gpu, start.assumptions)
    if change.get("precision", precision := after.question.training.precision) != precision:
        raise InvalidSettingError(f"{start.question.model_id} trains in {precision}.")
    return after.question.training, after.at(after.question.ranks[0])


def setting(model: ModelSpec, question: Question, gpu: Gpu | None, assumptions: Assumptions) -> Estimate:
    """Estimate a question with one rank; raise InvalidSettingError for several ranks or an invalid setting."""
    if len(question.ranks) != 1:
        raise InvalidSettingError("What fits is worked out for one rank. Give exactly one.")
    return estimate(model, question, gpu, assumptions)


def seconds_for(tokens: int, setup: TrainingSetup, row: RankEstimate) -> float | None:
    """Return the expected seconds of loading and of training on this many tokens, or on the same examples where the
    length is the data's epochs; None for a GPU of unknown speed. A part of a step counts as a fraction, so that
    settings can be compared."""
    if row.duration is None:
        return None
    steps = tokens / setup.tokens_per_step
    if setup.data_steps is not None:  # the same examples, however many of their tokens a shorter length keeps
        steps = setup.data.num_train_epochs * setup.data.examples / setup.examples_per_step
    elif setup.images is not None and setup.max_steps is not None:  # smaller images leave the examples as many
        steps = setup.max_steps
    return row.duration.load.expected + row.duration.step.expected * steps


def changed(question: Question, change: Change) -> Question:
    """Return the question with these options changed. Steps replace a number of tokens, and tokens one of steps."""
    training = {TRAINING[name]: value for name, value in change.items() if name in TRAINING}
    if of_grpo := {name: value for name, value in change.items() if name in GRPO}:
        if of_grpo.get("vllm_mode", "colocate") != "colocate":  # without the settings of colocated vLLM
            of_grpo |= {"vllm_enable_sleep_mode": False, "vllm_gpu_memory_utilization": None}
        training["grpo"] = replace(question.training.grpo, **of_grpo)
    for name, given, other in (("steps", "max_steps", "tokens"), ("tokens", "tokens", "max_steps")):
        if name in change:
            training |= {given: change[name], other: None}
    after = replace(question, training=replace(question.training, **training))
    if "r" in change:
        after = replace(after, ranks=(change["r"],))
    targets = change.get("targets")
    return replace(after, lora=replace(after.lora, target_modules=targets)) if targets else after


def keeping_tokens(question: Question, change: Change) -> Change:
    """Return the change; if it changes tokens per step, with new steps or tokens that keep the trained tokens equal."""
    before, after = question.training, changed(question, change).training
    if before.max_steps is None or after.tokens_per_step == before.tokens_per_step:
        return change
    tokens = before.trained_tokens
    steps, rest = divmod(tokens, after.tokens_per_step)
    return {**change, **({"tokens": tokens} if rest else {"steps": steps})}


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
"""Label of each value of an option."""
MLX_LABELS = LABELS | {"nf4-dq": "4-bit base", "hf": "checkpointing (grad_checkpoint)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """One possible change of a setting, with its effect on memory, time and cost."""

    label: str
    change: Change
    same_result: bool
    device_bytes: int
    """Expected change of the peak bytes on the GPU, over loading and training; negative for less."""
    seconds: float | None
    """Expected change in seconds, loading included, for the same training; None for a GPU of unknown speed."""
    usd: float | None
    fit: Fit | None
    margin_bytes: Range | None
    """Bytes left free on the GPU after the change; negative where memory is short."""
    peak: str
    """Text on the parts of the peak before and after the change."""
    refused: str
    """Why vLLM does not start, or refuses the adapter, after the change (GRPO); else empty."""


PARTS = {"weights and optimizer states": "static", "activations": "activations", "logits": "logits", "scratch": "other"}


def _peak(before: MemoryEstimate, after: MemoryEstimate) -> str:
    """Return a text on the parts that change by 1 % of the peak or more: "Peak: logits 264 MiB → 0 MiB"."""
    sizes = {name: (getattr(before, part), getattr(after, part)) for name, part in PARTS.items()}
    least = 0.01 * max(before.allocated, after.allocated)
    moved = [f"{name} {memory_size(a)} → {memory_size(b)}" for name, (a, b) in sizes.items() if abs(b - a) >= least]
    return f"Peak: {', '.join(moved) or 'no part changes'}"


def knobs(start: Estimate) -> tuple[Knob, ...]:
    """Return every change that is possible from this setting, with its effect."""
    return tuple(_priced(start, _changes(start)))


def _priced(start: Estimate, changes: Iterable[Labelled]) -> Iterator[Knob]:
    """Yield the effects of those changes after which the question is valid."""
    training, paid = start.question.training, start.price
    tokens, before = training.trained_tokens, seconds_for(training.trained_tokens, training, start.row)
    for label, change, same_result in changes:
        change = keeping_tokens(start.question, change)
        try:
            setup, after = with_change(start, change)
        except InvalidSettingError:
            continue
        seconds = seconds_for(tokens, setup, after)
        more, price = None if before is None or seconds is None else seconds - before, paid and paid.usd_per_hour
        yield Knob(
            label=label,
            change=change,
            same_result=same_result,
            device_bytes=after.memory.fullest - start.row.memory.fullest,
            seconds=more,
            usd=None if None in (more, price) else (setup.gpus * seconds - training.gpus * before) / 3600 * price,
            fit=after.fit,
            margin_bytes=after.spare,
            peak=_peak(start.row.memory, after.memory),
            refused=after.refused,
        )


def _changes(start: Estimate) -> Iterator[Labelled]:
    training, r = start.question.training, start.row.r
    batch, accum = training.per_device_train_batch_size, training.gradient_accumulation_steps
    length = training.fitted_length
    for step in (2 ** r.bit_length(), 2 ** ((r - 1).bit_length() - 1) if r > 1 else 0):  # powers of two next to r
        if 1 <= step <= MAX_RANK:
            yield f"r = {step}", {"r": step}, False
    if target_change := _target_change(start):
        yield target_change
    if grpo := training.grpo:
        most = grpo.max_completion_length
        yield f"twice the completion, {2 * most:,} tokens", {"max_completion_length": 2 * most}, False
        if most > 1:
            yield f"half the completion, {most // 2:,} tokens", {"max_completion_length": most // 2}, False
        if grpo.vllm_mode == "colocate" and not grpo.vllm_enable_sleep_mode:
            yield "vLLM that sleeps during updates", {"vllm_enable_sleep_mode": True}, True
        if grpo.vllm_mode != "none":
            yield "transformers instead of vLLM", {"vllm_mode": "none"}, True
    elif training.data is None or training.data.truncates(training.max_length):  # otherwise no example is that long
        yield f"twice the length, {2 * length:,} tokens per example", {"max_length": 2 * length}, False
    if length // 2 > training.image_tokens and not grpo:
        yield f"half the length, {length // 2:,} tokens per example", {"max_length": length // 2}, False
    if training.images is not None and start.model.image_processor["rule"] in ("multiple", "ratio", "rows", "canvas"):
        image = seen_by(start.model, training.image_size, unsloth=training.framework == "unsloth")
        half = f"{max(1, image.width // 2)}x{max(1, image.height // 2)}"
        yield f"images of {half} pixels", {"image_size": half}, False
    if accum % 2 == 0:
        yield _batch(2 * batch, accum // 2)
    if batch % 2 == 0:
        yield _batch(batch // 2, 2 * accum)
    mlx = training.framework == "mlx"  # without other optimizers and losses
    labels = MLX_LABELS if mlx else LABELS
    other = "adamw_8bit" if training.optim in ("adamw_torch", "sgd") else "adamw_torch"
    if not mlx:
        yield labels[other], {"optim": other}, training.optim != "sgd"
    own, now = training.framework == "unsloth", training.gradient_checkpointing
    now = "hf" if now == "unsloth" and not own else now  # as which it counts outside Unsloth
    for kind in ("unsloth", "hf", "none") if own else ("hf", "none"):
        if kind != now:
            yield labels[kind], {"checkpointing": kind}, True
    if training.loss_path != "fused" and not mlx:
        yield "fused loss", {"loss_path": "fused"}, True
    if not own and start.attention_kernel == "math":
        yield "Unsloth, which holds no attention matrix", {"framework": "unsloth"}, True
    precision = sixteen_bit(start) if training.precision in QUANTIZED else "nf4-dq"
    if precision:
        yield labels[precision], {"precision": precision}, False
    if training.gpus == 1:
        return
    if not training.sharded:
        yield "base divided, FSDP", {"strategy": "fsdp"}, True
    elif not training.offload:
        yield "offload to host memory", {"offload": True}, True
    for n in (n for n in NUMBERS if n > training.gpus):
        each, rest = divmod(accum * training.gpus, n)
        yield f"{n} GPUs", {"gpus": n, **({} if rest else {"accum": each})}, not rest


def _batch(batch: int, accum: int) -> Labelled:
    return f"batch {batch}, accumulation {accum}", {"batch": batch, "accum": accum}, True


def sixteen_bit(start: Estimate) -> str | None:
    """Return "bf16", or "fp16" on a card without bf16; None for a model that overflows in fp16 without Unsloth."""
    if card(start.gpu).has_bf16:
        return "bf16"
    prevented = start.question.training.framework == "unsloth"
    return "fp16" if prevented or not overflows_in_fp16(start.model.model_type) else None


def _target_change(start: Estimate) -> Labelled | None:
    """Return the change to attention modules alone, or from these to attention and MLP; None for neither."""
    now, question = start.plan, start.question
    narrower = any(layer.part != "attention" for layer in now.layers)
    preset, label = ("attention", "attention targets only") if narrower else ("unsloth", "add MLP targets")
    try:
        plan = plan_on(start.model, replace(question.lora, target_modules=preset), question.training, card(None))
    except InvalidSettingError:
        return None
    paths, after = ({layer.path for layer in each.layers} for each in (now, plan))
    fewer = after < paths and plan.parameters(start.row.r) < start.row.adapter_parameters
    return (label, {"targets": preset}, False) if (fewer if narrower else paths < after) else None


LENGTH_STEP = 64
"""Step in tokens between longer lengths that are tried, since estimates are not exact to a token."""
LIMIT_LABELS = {
    "r": "r = {:,}",
    "batch": "a batch of {:,}",
    "max_length": "a length of at most {:,} tokens",
    "max_completion_length": "completions of at most {:,} tokens",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Largest value of one setting that fits. None means that not even 1 fits; `note` says why."""

    option: str
    surely: int | None
    expected: int | None
    ceiling: int
    note: str


def limits(start: Estimate, *, surely: bool = False) -> tuple[Limit, ...]:
    """Return the largest rank, batch and length that fit; empty without a GPU. surely: Without `expected` and notes."""
    if start.gpu is None:
        return ()
    training, full_rows = start.question.training, start
    if training.data is not None:  # every example as long as max_length, whatever the data
        question = replace(start.question, training=replace(training, data=None))
        full_rows = setting(start.model, question, start.gpu, start.assumptions)
    batches = min(MAX_BATCH, MAX_TOKENS_PER_MICRO_STEP // training.longest)
    lengths = min(MAX_LENGTH, MAX_TOKENS_PER_MICRO_STEP // training.per_device_train_batch_size)
    of_length = ("max_length", lengths)
    if training.grpo:
        of_length = ("max_completion_length", max(1, lengths - training.grpo.max_prompt_length))
    asked = (start, "r", MAX_RANK), (start, "batch", batches), (full_rows, *of_length)
    return tuple(_limit(*each, only_surely=surely) for each in asked)


def _limit(start: Estimate, option: str, ceiling: int, *, only_surely: bool) -> Limit:
    grpo, is_length = start.question.training.grpo, option in ("max_length", "max_completion_length")
    unit = 1
    if grpo and option == "batch":  # whole groups of completions, with the same accumulation
        group, accumulation = grpo.num_generations, start.question.training.gradient_accumulation_steps
        unit = group // math.gcd(group, accumulation)

    def place(value: int) -> int:
        """Return the n of the largest value to try up to this one."""
        return value // unit if not is_length or value < LENGTH_STEP else LENGTH_STEP + value // LENGTH_STEP - 1

    def size(n: int) -> int:
        """Return the n-th value to try: each length to LENGTH_STEP, then its multiples."""
        return n * unit if not is_length or n < LENGTH_STEP else (n - LENGTH_STEP + 1) * LENGTH_STEP

    @cache
    def ask(n: int) -> RankEstimate:
        return at(n) if option == "r" else with_change(start, {option: size(n)})[1]

    at = any_rank(start.model, start.question, start.gpu, start.assumptions).at  # its parts are cached

    def largest_with(end: str, known: int = 1) -> int | None:
        def margin(n: int) -> float:
            return -1.0 if ask(n).refused else getattr(ask(n).spare, end)

        for below, last in reversed(list(pairwise(ends))):
            first = max(below + 1, known)
            found = largest(margin, first, last)
            weights = ask(found or first).memory.base_weights
            moves = weights - ask(last).memory.base_weights
            # Larger values may fit again, since the embedding leaves the card, where twice its bytes would be enough.
            if moves > 0 and (near := largest(lambda n, more=2 * moves: margin(n) + more, found or first, last)):
                step = largest(lambda n, most=weights: ask(n).memory.base_weights - most, found or first, near)
                found = largest(margin, step + 1, near) or found
            if found:
                return found
        return None

    # Above this length larger ones may fit again, since inputs of layers leave the card.
    shortest = OFFLOAD_MIN_LENGTH - 1 - (grpo.max_prompt_length if grpo else 0)
    ends = sorted({0, *([place(shortest)] if is_length and 0 < shortest < ceiling else []), place(ceiling)})
    surely, note = largest_with("low"), ""
    expected = None if only_surely else largest_with("expected", surely or 1)
    if expected is None and not only_surely:
        one = ask(1)
        shown = max(unit, start.question.training.image_tokens) if is_length else unit
        memory, usable = one.memory, memory_size(start.usable_bytes.expected)
        needed = f"{memory_size(memory.fullest)} expected{' while loading' if memory.fuller_while_loading else ''}"
        fits = "may not fit" if one.fit == "uncertain" else "does not fit"
        one_in_words = LIMIT_LABELS[option].format(shown).replace("1 tokens", "1 token")
        note = one.refused or f"{one_in_words} {fits}: {needed}, {usable} usable"
    if is_length:
        own = start.model.max_position_embeddings
        own_limit = f"the model itself takes at most {own:,} tokens" if own else "the model's own limit may be shorter"
        note = note or f"limit of memory; {own_limit}"
    surely, expected = (n and size(n) for n in (surely, expected))
    return Limit(option=option, surely=surely, expected=expected, ceiling=ceiling // unit * unit, note=note)


def largest(margin: Callable[[int], float], first: int, last: int) -> int | None:
    """Return the largest n from first to last whose margin is not negative, if margins never rise; None if there is
    none. Most tries are where the parabola through the last three is 0, since memory is nearly linear or quadratic."""
    if first > last or margin(first) < 0:
        return None
    low, high, bend, tries = first, last, 0.0, 0
    if margin(high) >= 0:
        return high
    while (width := high - low) > 1:
        more, less, tries = margin(low), margin(high), tries + 1
        slope = (less - more) / width - bend * width
        if tries % 4 and more:
            tried = low + round(2 * more / (math.sqrt(max(0.0, slope**2 - 4 * bend * more)) - slope))
        else:  # a value that jumps has no such line
            tried = math.isqrt(low * high)
        tried = min(max(tried, low + 1), high - 1)
        left = margin(tried)
        bend = ((left - less) / (high - tried) + (left - more) / (tried - low)) / -width
        low, high = (tried, high) if left >= 0 else (low, tried)
    return low


RULE = (
    "Of the changes that make it fit, the smallest is one that leaves the training result unchanged, if there is one; "
    "of several, the one that adds the least time, and more GPUs only where nothing else is left."
)


def smallest_change(start: Estimate, priced: Sequence[Knob], known_limits: Sequence[Limit]) -> Knob | None:
    """Return the smallest change that makes the setting fit; None if it fits already, or no single change is enough.
    priced: Result of knobs(). known_limits: Result of limits()."""
    if start.row.fit in (None, *FITTING):
        return None
    training, more = start.question.training, []
    rows, batch = training.rows_per_step // training.gpus, training.per_device_train_batch_size
    if batch > 1:
        surely = next((limit.surely for limit in known_limits if limit.option == "batch"), None) or 1
        batch = next(n for n in range(min(surely, batch - 1), 0, -1) if rows % n == 0)
        more.append(_batch(batch, rows // batch))
    for limit in known_limits:
        if (n := limit.surely) and limit.option != "batch":
            n = 1 << (n.bit_length() - 1) if limit.option == "r" else n
            more.append((LIMIT_LABELS[limit.option].format(n), {limit.option: n}, False))

    def lowers(knob: Knob) -> bool:
        return bool(start.row.refused) or knob.device_bytes < 0

    fitting = (knob for knob in (*_priced(start, more), *priced) if knob.fit in FITTING and lowers(knob))
    # min takes the first of equals
    return min(
        fitting,
        key=lambda knob: ("gpus" in knob.change, not knob.same_result, max(0.0, knob.seconds or 0.0)),
        default=None,
    )


FIT_ORDER = {"fits": 0, "tight": 0, "uncertain": 1, "does_not_fit": 2, None: 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class FittingCard:
    """One GPU, or several alike, with estimate and price of this setting. reason: Why it cannot run there."""

    gpu_id: str
    gpu: str
    fit: Fit | None = None
    reason: str = ""
    usable_bytes: Range
    margin_bytes: Range | None = None
    usd_per_hour: float | None
    provider: str | None
    price_checked: str | None
    seconds: Range | None = None
    usd: Range | None = None
    gpus: int = 1
    change: Change = field(default_factory=dict)
    """Changes of the setting with which it runs on several GPUs, by option; empty for the setting as it is."""

    @property
    def label(self) -> str:
        """Name with the number of GPUs and with the changes: "2 x RTX 4090, FSDP with offload (TRL)"."""
        name = f"{self.gpus} x {self.gpu}" if self.gpus > 1 else self.gpu
        return f"{name}, FSDP{' with offload' * self.change['offload']} (TRL)" if self.change else name


def cards(
    start: Estimate, gpus: Sequence[Gpu], prices: Mapping[str, float], change: Change | None = None
) -> tuple[FittingCard, ...]:
    """Return all GPUs with this setting: those that fit first, then by cost. prices: The user's own prices by GPU id,
    USD/hour. change: Changes with which it runs on several GPUs."""
    change = keeping_tokens(start.question, change or {})
    asked = changed(start.question, change)

    def on(gpu: Gpu) -> FittingCard:
        own = prices.get(gpu.id)
        if own is None and start.gpu is not None and gpu.id == start.gpu.id:
            own = start.question.usd_per_hour
        price = price_of(gpu, own)
        card = FittingCard(
            gpu_id=gpu.id,
            gpu=gpu.name,
            usable_bytes=usable_memory(gpu, start.assumptions),
            usd_per_hour=price and price.usd_per_hour,
            provider=price and price.provider,
            price_checked=price and price.checked,
            gpus=asked.training.gpus,
            change=change,
        )
        try:
            row = any_rank(start.model, asked, gpu, start.assumptions).at(start.row.r)
        except InvalidSettingError as error:
            return replace(card, reason=str(error))
        seconds = row.duration and row.duration.total
        paid = usd_of(row.duration, price, card.gpus)
        return replace(card, fit=row.fit, reason=row.refused, margin_bytes=row.spare, seconds=seconds, usd=paid)

    by_size = sorted(gpus, key=lambda gpu: (gpu.memory_bytes, gpu.id))
    by_cost = sorted(map(on, by_size), key=lambda card: card.usd.expected if card.usd else math.inf)
    return tuple(sorted(by_cost, key=lambda card: FIT_ORDER[card.fit]))


NUMBERS = (2, 4, 8)
"""Numbers of GPUs of one machine to try."""


def several(
    start: Estimate, alone: Sequence[FittingCard], gpus: Sequence[Gpu], prices: Mapping[str, float]
) -> tuple[FittingCard, ...]:
    """Return the fewest GPUs of each kind on which this setting fits with FSDP, and fewer with offload, by cost; empty
    where it fits on the chosen GPU. alone: Result of cards(). The batch is the same; where it divides, the accumulation
    shrinks with the number of GPUs, so that a step has the same examples."""
    training = start.question.training
    if start.row.fit in FITTING or training.gpus > 1 or training.grpo:
        return ()
    accumulation = training.gradient_accumulation_steps

    def fitting(among: Collection[str], n: int, *, offload: bool) -> list[FittingCard]:
        change = {"gpus": n, "strategy": "fsdp", "framework": "trl", "offload": offload}
        change |= {"loss_path": "fused"} if training.loss_path == "fused-func" else {}
        change |= {"accum": accumulation // n} if accumulation % n == 0 else {}
        tried = cards(start, [gpu for gpu in gpus if gpu.id in among], prices, change)
        return [card for card in tried if card.fit in FITTING]

    left, found = {card.gpu_id for card in alone if card.fit not in FITTING}, list[FittingCard]()
    left = {card.gpu_id for card in fitting(left, NUMBERS[-1], offload=True)}  # which take the least memory of each
    for offload in (False, True):
        remaining = set(left)
        for n in NUMBERS:
            if offload:
                remaining -= {card.gpu_id for card in found if card.gpus <= n}
            found += (fit_now := fitting(remaining, n, offload=offload))
            remaining -= {card.gpu_id for card in fit_now}
    return tuple(sorted(found, key=lambda card: card.usd.expected if card.usd else math.inf))


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """QLoRA, 16-bit LoRA or full fine-tuning of the same model on the same data."""

    name: Literal["qlora", "lora", "full"]
    label: str
    precision: str
    """Precision of the base; with full fine-tuning also of gradients and optimizer states."""
    chosen: bool
    """True for the method that the question asks for."""
    trained_parameters: int
    saved_bytes: int
    saved_exact: bool
    """True where the saved file is exact to the byte; False for full fine-tuning, whose file headers are left out."""
    device_bytes: Range
    """Bytes that nvidia-smi shows."""
    fit: Fit | None
    margin_bytes: Range | None
    seconds: Range | None
    usd: Range | None
    refused: str
    """Why vLLM does not start, or refuses the adapter (GRPO); else empty."""


def methods(start: Estimate) -> tuple[Method, ...]:
    """Return QLoRA, 16-bit LoRA and full fine-tuning; LoRA only in precisions that are valid and do not overflow. Full
    fine-tuning is not estimated for several GPUs."""
    usable, assume = start.usable_bytes, start.assumptions
    training, rows = start.question.training, []
    if training.gpus == 1 and not training.grpo:  # GRPO needs a reference model and another engine
        full = full_finetuning(start.model, training, start.gpu, usable and usable.expected, assume)
        dtype, memory, duration = full
        left, every = usable and spare(memory.device_band, usable), start.model.total_parameters
        ends = left, left and fit(left, usable, assume), ""
        rows = [("full", "Full fine-tuning", dtype, every, 2 * every, memory, duration, *ends)]  # saved in 16 bit
    for name, label, precision in (("lora", "LoRA, 16-bit base", sixteen_bit(start)), ("qlora", "QLoRA", "nf4-dq")):
        try:
            row = with_change(start, {"precision": precision})[1] if precision else None
        except InvalidSettingError:
            row = None
        if row:
            sizes = row.adapter_parameters, row.adapter_bytes
            rows.insert(0, (name, label, precision, *sizes, row.memory, row.duration, row.spare, row.fit, row.refused))
    return tuple(
        Method(
            name=name,
            label=label,
            precision=precision,
            chosen=name != "full" and precision == training.precision,
            trained_parameters=parameters,
            saved_bytes=size,
            saved_exact=name != "full",
            device_bytes=memory.device_band,
            fit=verdict,
            margin_bytes=left,
            seconds=duration and duration.total,
            usd=usd_of(duration, start.price, training.gpus),
            refused=refused,
        )
        for name, label, precision, parameters, size, memory, duration, left, verdict, refused in rows
    )


def fit_in_words(start: Estimate) -> str:
    """Return a sentence on whether the setting fits, with the expected memory, and on what to change if it may not."""
    row = start.row
    if start.gpu is None or row.fit is None:
        return "No GPU is selected, so it is not known whether the run fits."
    n = start.question.training.gpus
    what = f"r = {start.row.r} {{}} {f'each of {n} x ' * (n > 1)}{start.gpu.name}"
    memory = f"{memory_size(row.memory.fullest)} expected{' while loading' if row.memory.fuller_while_loading else ''}"
    if row.fit in FITTING:
        return f"{what.format('fits' if row.fit == 'fits' else 'barely fits')}: {memory}."
    lead = f"{what.format('does not fit')}: {memory}, {memory_size(start.usable_bytes.expected)} usable."
    if row.fit == "uncertain":
        lead = f"Whether {what.format('fits')} is uncertain: {memory}, and the limit of the card is inside its range."
    known = knobs(start)
    return f"{lead} {_change_in_words(start, known, smallest_change(start, known, limits(start)))}"


def _change_in_words(start: Estimate, known: Sequence[Knob], smallest: Knob | None, elsewhere: str = "") -> str:
    """Return a sentence on the change that makes it fit, or helps most. elsewhere: A clause on other GPUs."""
    if start.row.fit in FITTING:
        tight = f", with {tight_meaning(start.assumptions)}" if start.row.fit == "tight" else ""
        return f"It fits without changes{tight}."
    if smallest:
        return f"Smallest change that makes it fit: {smallest.label} ({_effect(smallest, start)})."
    loading = start.row.memory.fuller_while_loading
    most = "no setting lowers what loading takes" if loading else "no setting is left that lowers it"
    if start.row.refused:
        most = "vLLM does not start, or refuses the adapter, with each"
    elif helps := _lowers_most(known):
        short = memory_size(-helps.margin_bytes.low)
        most = f"{helps.label} helps most ({_effect(helps, start)}), but up to {short} are still missing"
    return f"No single change makes it fit: {most}{elsewhere and '; '}{elsewhere}."


def _effect(change: Knob, start: Estimate) -> str:
    less = f"{memory_size(abs(change.device_bytes))} {'more' if change.device_bytes > 0 else 'less'}"
    if change.seconds is None or not start.question.training.has_length:
        return less
    span = f"{duration(abs(change.seconds))} {'more' if change.seconds > 0 else 'less'}"
    return f"{less}, {'same time' if abs(change.seconds) < 1 else span}"


def _about(card: FittingCard) -> str:
    return f", about {usd(card.usd.expected, card.usd)}" if card.usd else ""


def _lowers_most(known: Sequence[Knob]) -> Knob | None:
    lower = (knob for knob in known if knob.device_bytes < 0)
    return min(lower, key=lambda knob: knob.device_bytes, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class FitAnswer:
    """All decisions about a question with one rank."""

    __repr__ = brief

    setting: Estimate
    """Estimate at this rank alone."""
    limits: tuple[Limit, ...]
    """Largest rank, batch and length that fit; empty without a GPU."""
    knobs: tuple[Knob, ...]
    smallest: Knob | None
    """Smallest change that makes the setting fit; None where it fits already, and where no single change is enough."""
    cards: tuple[FittingCard, ...]
    several: tuple[FittingCard, ...]
    """Several GPUs of one kind on which the setting fits, cheapest first; empty where it fits on the chosen one."""
    methods: tuple[Method, ...]

    @property
    def cheapest(self) -> FittingCard | None:
        """Cheapest GPU that fits, or the first one that fits where no cost is known; None where none fits."""
        return next((card for card in self.cards if card.fit in FITTING), None)

    @property
    def helps_most(self) -> Knob | None:
        """Change that lowers memory most, where no single change makes the setting fit; None otherwise."""
        row = self.setting.row
        needed = row.fit not in (None, *FITTING) and not self.smallest and not row.refused
        return _lowers_most(self.knobs) if needed else None

    @property
    def same_tokens(self) -> str:
        """What each change leaves equal, as words: "tokens", or "tokens but for the image size"."""
        return "tokens" + " but for the image size" * any("image_size" in knob.change for knob in self.knobs)

    @property
    def sentence(self) -> str:
        """Sentence on the change that makes the setting fit; empty if it fits."""
        cheapest, here = self.cheapest, self.setting.gpu
        fitting = [*filter(None, [cheapest]), *self.several]
        best = min(fitting, key=lambda card: card.usd.expected if card.usd else math.inf, default=None)
        own = next((card for card in self.several if here and card.gpu_id == here.id), None)
        elsewhere = f"it fits on {own.label}{_about(own)}; " if own and own is not best else ""
        if best:
            name = f"that fits is {best.label}" if best.gpus > 1 else f"GPU that fits is the {best.gpu}"
            elsewhere += f"the cheapest {name}{_about(best)}"
        if self.setting.question.training.framework == "mlx":
            elsewhere = f"the smallest Mac that fits is the {cheapest.gpu}" if cheapest else ""
        if self.setting.gpu is None:
            return f"No GPU is chosen; {elsewhere}." if elsewhere else "No GPU is chosen, and no GPU of the table fits."
        return _change_in_words(self.setting, self.knobs, self.smallest, elsewhere or "no GPU of the table fits either")


@lru_cache(maxsize=64)  # of the recommended rank, while another is chosen
def instead(
    model: ModelSpec, question: Question, gpu: Gpu | None, gpus: tuple[Gpu, ...], assumptions: Assumptions
) -> tuple[str, FittingCard | None]:
    """Return what fits for certain in place of a question with one rank, each change by itself, with the cheapest GPU
    that fits: "r = 8, a batch of 2 or the A100 (about $3)"; and that GPU. gpus: The table's."""
    start = setting(model, question, gpu, assumptions)
    alike = [each for each in gpus if gpu and each.is_mac == gpu.is_mac]
    card = next((each for each in cards(start, alike, {}) if each.fit in FITTING), None)
    most = {limit.option: limit.surely for limit in limits(start, surely=True) if limit.surely}
    most |= {"r": 1 << (most["r"].bit_length() - 1)} if "r" in most else {}
    ways = [LIMIT_LABELS[option].format(n).replace("at most ", "") for option, n in most.items()]
    if card:
        ways.append(f"the {card.label}" + (f" (about {usd(card.usd.expected, card.usd)})" if card.usd else ""))
    return " or ".join(filter(None, [", ".join(ways[:-1]), *ways[-1:]])), card


def decide(
    model: ModelSpec,
    question: Question,
    gpu: Gpu | None,
    gpus: Sequence[Gpu],
    assumptions: Assumptions,
    prices: Mapping[str, float] | None = None,
) -> FitAnswer:
    """Return all decisions for a question with one rank. gpus: The table's; of a Mac its Macs, else its
    cards are compared. prices: The user's, by GPU id, USD/hour."""
    own = dict(prices or {})
    for each in gpus:
        if each.id in own:
            number(own[each.id], f"The price per hour of the {each.name}", 0, MAX_USD_PER_HOUR)
    if gpu is not None and gpu.id in own:
        question = replace(question, usd_per_hour=own[gpu.id])
    start = setting(model, question, gpu, assumptions)
    gpus = [each for each in gpus if each.is_mac == (gpu is not None and gpu.is_mac)]
    known_limits, priced, alone = limits(start), knobs(start), cards(start, gpus, own)
    return FitAnswer(
        setting=start,
        limits=known_limits,
        knobs=priced,
        smallest=smallest_change(start, priced, known_limits),
        cards=alone,
        several=several(start, alone, gpus, own),
        methods=methods(start),
    )


RangeJSON, KnobJSON = shape(Range), shape(Knob)


class FitJSON(TypedDict):
    """Limits by setting (r, batch, max_length; none without a GPU), the effect of each change (more bytes, seconds and
    US dollars than before), and the GPUs and methods that fit. `several_gpus` names several GPUs of one kind on which
    it fits with FSDP, where it does not fit on the chosen one; `change` has the options for that."""

    model_id: str
    r: int
    gpu: str | None
    gpu_id: str | None
    precision: str
    tokens: int
    usable_bytes: RangeJSON | None
    device_bytes: RangeJSON
    margin_bytes: RangeJSON | None
    fit: Fit | None
    limits: dict[str, shape(Limit)]
    knobs: list[KnobJSON]
    sentence: str
    smallest_change: KnobJSON | None
    helps_most: KnobJSON | None
    rule: str
    cheapest_gpu: str | None
    gpus: list[shape(FittingCard)]
    several_gpus: list[shape(FittingCard)]
    methods: list[shape(Method)]
    notes: list[str]


def as_json(decided: FitAnswer, assumed: str = "") -> FitJSON:
    """Return the decisions as `rankviz fit --json` prints them. assumed: A further note, on the assumed length."""
    start, row = decided.setting, decided.setting.row
    setup = start.question.training
    return as_answer(
        FitJSON,
        row,
        model_id=start.model.id,
        gpu=start.gpu and start.gpu.name,
        gpu_id=start.gpu and start.gpu.id,
        precision=setup.precision,
        tokens=setup.trained_tokens,
        usable_bytes=start.usable_bytes,
        device_bytes=row.memory.device_band,
        margin_bytes=row.spare,
        limits={limit.option: as_answer(shape(Limit), limit) for limit in decided.limits},
        knobs=decided.knobs,
        sentence=decided.sentence,
        smallest_change=decided.smallest,
        helps_most=decided.helps_most,
        rule=RULE,
        cheapest_gpu=decided.cheapest and decided.cheapest.gpu,
        gpus=decided.cards,
        several_gpus=decided.several,
        methods=decided.methods,
        notes=[*filter(None, [assumed, truncation(setup)]), *image_notes(start.model, setup)],
    )
