"""Estimates how long training takes and what it costs, from the work of one micro-step."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from rankviz.core.cost.setup import Gpu, Price, TrainingSetup
from rankviz.core.cost.shapes import BlockKind, ModelShape, attention_of, heaviest
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range

BLOCK = {
    (2, True): (368, 43, 12.7),
    (2, False): (290, 31, 9.3),
    (4, True): (368, 86, 25.3),
    (4, False): (300, 62, 18.7),
}
"""By bytes of an activation and checkpointing: bytes a token for each unit of H, of 2Q + 2K, and of 3M."""
ADAPTER = {
    "autocast": {True: (42, 24), False: (30, 14)},
    "copies": {True: (24, 68), False: (18, 44)},
    2: {True: (6, 24), False: (6, 14)},
    4: {True: (12, 48), False: (12, 28)},
}
"""By how the adapter gets its input (core.cost.memory_parts) and checkpointing: bytes a token for in and out features.
Unsloth's kernels copy no input, and are taken like an adapter in the activations' own dtype."""
LOGIT_BYTES = {2: 45, 4: 34}
EAGER_BYTES = {2: 84, 4: 68}
"""For each element of the attention matrix, with checkpointing; two thirds without."""
MATH_BYTES = 87
"""The same of torch's math kernel, in fp32 whatever the queries are: 59 on a CPU, and 14 more in each forward pass on
CUDA, which runs _safe_softmax operator by operator."""


class Work(NamedTuple):
    """Operations and bytes of one micro-step."""

    operations: float
    """In 16 bit."""
    operations_fp32: float
    bytes_moved: float
    operations_per_rank: float
    """More for each unit of rank, in 16 bit."""
    operations_fp32_per_rank: float


def work_of(model: ModelSpec, shape: ModelShape, stack: Stack, *, weight_gradients: bool = False) -> Work:
    """weight_gradients: whether the base trains too, which takes 2P + 2HV operations a token more."""
    setup, habits = stack.setup, stack.habits
    tokens, checkpointed = setup.tokens_per_micro_step, setup.gradient_checkpointing != "none"
    passes, adapter_passes, attention_passes = (6, 8, 4.5) if checkpointed else (4, 6, 3.5)
    head = (6 if weight_gradients else 4) * model.hidden_size * model.vocab_size
    weights = (passes + 2 * weight_gradients) * shape.active_weights
    attention = attention_passes * _attention_operations(model, shape, stack)
    adapter = adapter_passes * float(shape.active_adapter_parameters)
    attends = heaviest(model, shape, stack)
    plain_fp32 = stack.computes_fp32
    raised_head = plain_fp32 or (habits.raised == "all" and not habits.autocast)
    in_fp32 = {
        "weights": plain_fp32,
        "head": raised_head,
        "attention": stack.attention_bytes == 4 or (attends is not None and attends.kernel == "math"),
        "adapter": habits.adapter_bytes == 4 and not habits.autocast,
    }
    parts = {"weights": weights, "head": head, "attention": attention}
    return Work(
        operations=tokens * sum(value for name, value in parts.items() if not in_fp32[name]),
        operations_fp32=tokens * sum(value for name, value in parts.items() if in_fp32[name]),
        bytes_moved=_bytes_moved(model, shape, stack),
        operations_per_rank=0.0 if in_fp32["adapter"] else tokens * adapter,
        operations_fp32_per_rank=tokens * adapter if in_fp32["adapter"] else 0.0,
    )


def _attention_operations(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """A token's, forward."""
    length = stack.setup.max_length
    return sum(
        4
        * kind.count
        * kind.attention_width
        * (length if attention_of(kind, model, stack).holds_matrix else _keys_per_query(model, length, kind.sliding))
        for kind in shape.kinds
    )


def _keys_per_query(model: ModelSpec, length: int, sliding: bool) -> float:
    window = model.sliding_window
    if sliding and window and window < length:
        return window * (1 - window / (2 * length))
    return length / 2


def _bytes_moved(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    setup, width = stack.setup, stack.activation_bytes
    tokens, checkpointed = setup.tokens_per_micro_step, setup.gradient_checkpointing != "none"
    blocks = sum(kind.count * _block_bytes(kind, model, stack) for kind in shape.kinds)
    fused = stack.assume.value("fused-traffic-share") if stack.habits.fuses_operators else 1.0
    logits = LOGIT_BYTES[width] * model.vocab_size * (1.0 if setup.loss_path == "full" else 0.5)
    weights = 0.0
    if setup.quantized:
        read = stack.assume.value(f"weight-bytes-{setup.precision}")
        weights = (3 if checkpointed else 2) * shape.active_weights * (read + 2 * stack.compute_bytes)
    return tokens * (fused * blocks + logits) + weights


def _block_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """A token's."""
    width, checkpointed = stack.activation_bytes, stack.setup.gradient_checkpointing != "none"
    per_hidden, per_attention, per_mlp = BLOCK[width, checkpointed]
    way = ("autocast" if stack.autocasts else "copies") if stack.copies_inputs else width
    per_in, per_out = ADAPTER[way][checkpointed]
    moved = per_hidden * model.hidden_size + per_attention * kind.attention + per_mlp * kind.mlp
    if width == 4 and stack.setup.quantized and not stack.computes_fp32:
        # Every 4-bit layer turns its fp32 input into 16 bit and its output back: 6 bytes each, in each pass.
        moved += 6 * (3 if checkpointed else 2) * (7 * model.hidden_size + kind.attention + kind.mlp)
    moved += per_in * kind.targeted_inputs + per_out * kind.targeted_outputs
    attention = attention_of(kind, model, stack)
    if attention.holds_matrix:
        share = 1.0 if checkpointed else 2 / 3
        of_matrix = MATH_BYTES if attention.kernel == "math" else EAGER_BYTES[stack.attention_bytes]
        moved += share * of_matrix * model.num_attention_heads * stack.setup.max_length
    return moved


MEASURED_GROUPS = ("turing", "a100")
"""Cards that scored timings come from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DurationEstimate:
    """Seconds."""

    step: Range
    """One optimizer step."""
    load: Range
    """Imports, loading the base, compiling: before the first step."""
    total: Range
    """Load and all steps; one step alone where no length of training was given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostEstimate:
    """US dollars: hours times price."""

    usd: Range
    price: Price


class DurationTerms(NamedTuple):
    """Everything that doesn't depend on rank."""

    work_seconds: Range
    """Of one micro-step."""
    work_seconds_per_rank: Range
    """More for each unit of rank."""
    floor_seconds: Range
    """Of one micro-step."""
    micro_steps: int
    steps: int
    load: Range | None
    """None where no length of training was given."""
    load_seconds: Range


def peak_flops_per_second(gpu: Gpu, setup: TrainingSetup, *, fp32: bool = False) -> float | None:
    """Dense rate of the card for the base's products; None where the table has none.

    Tensor cores run both 16-bit formats at one rate, so where one is not listed the other stands for it. 4-bit and
    8-bit bases are multiplied in 16 bit, or in fp32 where asked for.
    """
    if fp32 or setup.precision == "fp32":
        return gpu.fp32_flops_per_second
    listed = (gpu.bf16_flops_per_second, gpu.fp16_flops_per_second)
    first, second = reversed(listed) if setup.precision == "fp16" or not gpu.supports_bf16 else listed
    return first or second


def duration_terms(
    model: ModelSpec, shape: ModelShape, stack: Stack, gpu: Gpu, *, weight_gradients: bool = False
) -> DurationTerms | None:
    """The rank-independent part; None where the card's FLOP/s or bandwidth are not known."""
    return _over_lengths(model, stack, lambda there: _duration_terms(model, shape, there, gpu, weight_gradients))


def _over_lengths(
    model: ModelSpec, stack: Stack, terms: Callable[[Stack], DurationTerms | None]
) -> DurationTerms | None:
    """The terms with examples as long as the data say: the low end for the least tokens that a step may compute, the
    high end for the most. Without data, for rows of max_length.

    terms: those of a stack without data, whose rows all have max_length tokens.
    """
    setup = stack.setup
    if setup.data is None:
        return terms(stack)
    tokens = setup.computed_tokens(model)
    low, expected, high = (
        terms(replace(stack, setup=replace(setup, data=None, max_length=max(1, round(length)))))
        for length in (tokens.low, tokens.expected, tokens.high)
    )
    if low is None or expected is None or high is None:
        return None
    return expected._replace(
        work_seconds=low.work_seconds.joined(expected.work_seconds, high.work_seconds),
        work_seconds_per_rank=low.work_seconds_per_rank.joined(
            expected.work_seconds_per_rank, high.work_seconds_per_rank
        ),
        steps=setup.total_steps,
        load=expected.load_seconds if setup.has_length else None,
    )


def _duration_terms(
    model: ModelSpec, shape: ModelShape, stack: Stack, gpu: Gpu, weight_gradients: bool
) -> DurationTerms | None:
    peak = peak_flops_per_second(gpu, stack.setup, fp32=stack.computes_fp32)
    bandwidth = gpu.bandwidth_bytes_per_second
    if peak is None or bandwidth is None:
        return None
    assume, work = stack.assume, work_of(model, shape, stack, weight_gradients=weight_gradients)
    rate = peak * assume.value(f"matmul-efficiency-{gpu.utilisation_group}")
    # Where the table has no fp32 rate it is taken for the sixteenth of the tensor cores' that it is on an A100.
    rate_fp32 = (gpu.fp32_flops_per_second or peak / 16) * assume.value("matmul-efficiency-fp32")
    moved = work.bytes_moved / (bandwidth * assume.value("bandwidth-efficiency"))
    if stack.computes_fp32:
        rate = rate_fp32
    expected = work.operations / rate + work.operations_fp32 / rate_fp32 + moved
    per_rank = work.operations_per_rank / rate + work.operations_fp32_per_rank / rate_fp32
    seen = stack.time_kind if gpu.utilisation_group in MEASURED_GROUPS else "unmeasured"
    spread = math.exp(assume.first(f"time-width-{seen}", "time-width-unmeasured"))
    floor = assume.range("floor-seconds-per-block").times(shape.blocks)
    return _terms(model, stack, _spread(expected, spread), _spread(per_rank, spread), floor)


def _spread(expected: float, factor: float) -> Range:
    return Range(expected / factor, expected, expected * factor)


def cpu_duration_terms(
    model: ModelSpec, shape: ModelShape, stack: Stack, cpu_count: int, cpu_bf16: bool | None
) -> DurationTerms:
    """The rank-independent part on a CPU: a wide rate for each core, and the floor of a slower launch.

    cpu_bf16: whether the processor is made for bf16; None is not known, and the range covers both.
    """
    rate = stack.assume.range("cpu-flops-per-core-second").times(cpu_count)
    if stack.setup.precision != "fp32":
        rate = rate.multiplied(_bf16_speed_up(stack, cpu_bf16))
    work = work_of(model, shape, stack)
    fixed, slope = work.operations + work.operations_fp32, work.operations_per_rank + work.operations_fp32_per_rank
    floor = stack.assume.range("cpu-floor-seconds-per-block").times(shape.blocks)
    return _terms(model, stack, Range(fixed, fixed, fixed).over(rate), Range(slope, slope, slope).over(rate), floor)


def _bf16_speed_up(stack: Stack, cpu_bf16: bool | None) -> Range:
    made_for_it = stack.assume.range("cpu-bf16-speed-up")
    without = stack.assume.range("cpu-bf16-speed-up-without")
    if cpu_bf16 is None:
        return Range(without.low, made_for_it.expected, made_for_it.high)
    return made_for_it if cpu_bf16 else without


def _terms(model: ModelSpec, stack: Stack, work: Range, per_rank: Range, floor: Range) -> DurationTerms:
    setup, assume = stack.setup, stack.assume
    if stack.use_dora:
        slowdown = assume.range("dora-slowdown")
        work, per_rank = work.multiplied(slowdown), per_rank.multiplied(slowdown)
    load = load_seconds(model, stack)
    return DurationTerms(
        work_seconds=work,
        work_seconds_per_rank=per_rank,
        floor_seconds=floor,
        micro_steps=setup.gradient_accumulation_steps,
        steps=setup.total_steps,
        load=load if setup.has_length else None,
        load_seconds=load,
    )


def load_seconds(model: ModelSpec, stack: Stack) -> Range:
    """Imports and compilation, and reading the base's 16-bit checkpoint."""
    size = 2.0 * model.total_parameters
    reading = Range(size, size, size).over(stack.assume.range("checkpoint-bytes-per-second"))
    return stack.assume.range("start-seconds").plus(reading)


def duration_at(terms: DurationTerms, r: float) -> DurationEstimate:
    """Seconds at one rank."""
    work = terms.work_seconds.plus(terms.work_seconds_per_rank.times(r))
    floor = terms.floor_seconds
    step = Range(
        math.hypot(work.low, floor.low),
        math.hypot(work.expected, floor.expected),
        math.hypot(work.high, floor.high),
    ).times(terms.micro_steps)
    training = step.times(terms.steps)
    total = training if terms.load is None else terms.load.plus(training)
    return DurationEstimate(step=step, load=terms.load_seconds, total=total)


def cost(duration: DurationEstimate, price: Price | None) -> CostEstimate | None:
    """Hours times price; None where there is no price."""
    if price is None:
        return None
    return CostEstimate(usd=duration.total.times(price.usd_per_hour / 3600), price=price)


def price_of(gpu: Gpu, usd_per_hour: float | None) -> Price | None:
    """One's own price, or the table's; None where neither is known."""
    if usd_per_hour is not None:
        return Price(usd_per_hour=usd_per_hour, provider="your own price", source="given with the question", checked="")
    return gpu.price
