"""Estimates how long training takes and what it costs. Letters in formulas are those of core.cost.shapes."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from rankviz.core.cost.setup import Device, Gpu, Price, TrainingSetup
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
"""Bytes moved per token for each unit of H, 2Q + 2K and 3M, by (bytes per activation, True with checkpointing)."""
ADAPTER = {
    "autocast": {True: (42, 24), False: (30, 14)},
    "copies": {True: (24, 68), False: (18, 44)},
    2: {True: (6, 24), False: (6, 14)},
    4: {True: (12, 48), False: (12, 28)},
}
"""Bytes moved per token for each (input, output) feature of adapters, by the input's form (see core.cost.blocks) and by
checkpointing. Unsloth's kernels copy no input, so they count by bytes per activation: 2 or 4."""
LOGIT_BYTES = {2: 45, 4: 34}
EAGER_BYTES = {2: 84, 4: 68}
"""Bytes moved per element of the attention matrix with checkpointing, by the bytes of an element; without
checkpointing, two thirds of this."""
MATH_BYTES = 87
"""Bytes moved per element of the attention matrix by torch's math kernel, always in fp32: 59 on a CPU, and 14 more in
each forward pass on CUDA, which runs _safe_softmax operator by operator."""


class Work(NamedTuple):
    """Operations and bytes moved in one micro-step; operations in 16 bit and in fp32, in total and per unit of rank."""

    operations: float
    operations_fp32: float
    bytes_moved: float
    operations_per_rank: float
    operations_fp32_per_rank: float


def work_of(model: ModelSpec, shape: ModelShape, stack: Stack, *, weight_gradients: bool = False) -> Work:
    """Count the work of one micro-step. weight_gradients: the base trains too, with 2P + 2HV more per token."""
    habits, tokens, length = stack.habits, stack.setup.tokens_per_micro_step, stack.setup.max_length
    passes, adapter_passes, attention_passes = (6, 8, 4.5) if stack.checkpoints else (4, 6, 3.5)
    attention = sum(
        4 * kind.count * kind.attention_width * _keys_per_query(kind, model, stack, length) for kind in shape.kinds
    )
    attends = heaviest(model, shape, stack)
    math_kernel = attends is not None and attends.kernel == "math"
    plain_fp32 = stack.computes_fp32
    raised_head, head = habits.raised == "all" and not habits.autocast, model.hidden_size * model.vocab_size
    parts = (  # operations a token, and whether they are in fp32
        ((passes + 2 * weight_gradients) * shape.active_weights, plain_fp32),
        ((6 if weight_gradients else 4) * head, plain_fp32 or raised_head),
        (attention_passes * attention, stack.attention_bytes == 4 or math_kernel),
    )
    adapter, adapter_fp32 = adapter_passes * float(shape.active_adapter_parameters), habits.adapter_parameter_bytes == 4
    adapter_fp32 = adapter_fp32 and not habits.autocast
    return Work(
        operations=tokens * sum(value for value, fp32 in parts if not fp32),
        operations_fp32=tokens * sum(value for value, fp32 in parts if fp32),
        bytes_moved=_bytes_moved(model, shape, stack),
        operations_per_rank=0.0 if adapter_fp32 else tokens * adapter,
        operations_fp32_per_rank=tokens * adapter if adapter_fp32 else 0.0,
    )


def _keys_per_query(kind: BlockKind, model: ModelSpec, stack: Stack, length: int) -> float:
    window = model.sliding_window
    if "bidirectional" in kind.layer_type:  # a vision tower's
        return min(length, window or length) if "window" in kind.layer_type else length
    if attention_of(kind, model, stack).holds_matrix:
        return length
    return window * (1 - window / (2 * length)) if kind.sliding and window and window < length else length / 2


def _bytes_moved(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    setup = stack.setup
    blocks = sum(kind.count * _block_bytes(kind, model, stack) for kind in shape.kinds)
    fused = stack.assume.value("fused-traffic-share") if stack.time_kind == "fused" else 1.0
    logits = LOGIT_BYTES[stack.activation_bytes] * model.vocab_size * (1.0 if setup.loss_path == "full" else 0.5)
    weights = 0.0
    if setup.quantized:
        read = stack.assume.value(f"weight-bytes-{setup.precision}")
        weights = (3 if stack.checkpoints else 2) * shape.active_weights * (read + 2 * stack.compute_bytes)
    return setup.tokens_per_micro_step * (fused * blocks + logits) + weights


def _block_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    """Bytes moved per token in one block."""
    width, checkpointed = stack.activation_bytes, stack.checkpoints
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
        of_matrix = MATH_BYTES if attention.kernel == "math" else EAGER_BYTES[stack.attention_bytes]
        share = 1.0 if checkpointed else 2 / 3
        moved += share * of_matrix * model.num_attention_heads * stack.setup.max_length
    return moved


@dataclass(frozen=True, kw_only=True, slots=True)
class DurationEstimate:
    """Seconds of one step, of loading, and of the whole training."""

    step: Range
    load: Range
    """Seconds of imports, loading of the base and compilation, before the first step."""
    total: Range
    """Seconds of loading and all steps; of one step alone for a training of unknown length."""


class DurationTerms(NamedTuple):
    """Seconds of one micro-step and of loading, for any rank; `at` adds the part that depends on rank."""

    work: Range
    work_per_rank: Range
    floor: Range
    load: Range
    setup: TrainingSetup
    exchange: Range = Range(0.0, 0.0, 0.0)
    """Seconds in which several GPUs exchange the gradient of one parameter of the adapter."""

    def at(self, r: float, parameters: int = 0) -> DurationEstimate:
        """Return the times at one rank. parameters: Those of the adapter."""
        fixed, slope, more, floor, steps = *self[:2], self.exchange, self.floor, self.setup.gradient_accumulation_steps
        step = Range(
            math.hypot(fixed.low + slope.low * r + more.low * parameters, floor.low) * steps,
            math.hypot(fixed.expected + slope.expected * r + more.expected * parameters, floor.expected) * steps,
            math.hypot(fixed.high + slope.high * r + more.high * parameters, floor.high) * steps,
        )
        training = step.times(self.setup.total_steps)
        total = self.load.plus(training) if self.setup.has_length else training
        return DurationEstimate(step=step, load=self.load, total=total)


def peak_flops_per_second(gpu: Gpu, setup: TrainingSetup, *, fp32: bool = False) -> float | None:
    """Return the card's dense FLOP/s for products with the base; None where unknown. fp16 and bf16 have one rate. 4-bit
    and 8-bit bases are multiplied in 16 bit, with `fp32` in fp32."""
    if fp32 or setup.precision == "fp32":
        return gpu.fp32_flops_per_second
    if setup.precision == "fp16" or not gpu.supports_bf16:
        return gpu.fp16_flops_per_second or gpu.bf16_flops_per_second
    return gpu.bf16_flops_per_second or gpu.fp16_flops_per_second


def duration_terms(
    model: ModelSpec, shape: ModelShape, stack: Stack, device: Device, *, weight_gradients: bool = False
) -> DurationTerms | None:
    """Return the times for any rank; None for a GPU of unknown speed. With data, the low end assumes the fewest tokens
    per example that a step may compute, the high end the most."""
    setup, load = stack.setup, load_seconds(model, stack)
    seconds = _cpu_seconds if not device.cuda else _gpu_seconds
    if setup.data is None or not device.cuda:
        ends = seconds(model, shape, stack, device, weight_gradients)
        return ends and DurationTerms(*ends, load, setup)
    tokens = setup.computed_tokens(model)
    rows = (
        replace(stack, setup=replace(setup, data=None, max_length=max(1, round(length))))
        for length in (tokens.low, tokens.expected, tokens.high)
    )
    ends = [seconds(model, shape, there, device, weight_gradients) for there in rows]
    if None in ends:
        return None
    work, per_rank = (Range(low.low, mean.expected, high.high) for low, mean, high in list(zip(*ends, strict=True))[:2])
    return DurationTerms(work, per_rank, ends[1][2], load, setup)


def _gpu_seconds(
    model: ModelSpec, shape: ModelShape, stack: Stack, device: Device, weight_gradients: bool
) -> tuple[Range, Range, Range] | None:
    """Return seconds of a micro-step's work, of it per unit of rank, and the least; None for an unknown speed."""
    gpu, assume = device.gpu, stack.assume
    peak = gpu and peak_flops_per_second(gpu, stack.setup, fp32=stack.computes_fp32)
    if peak is None or gpu.bandwidth_bytes_per_second is None:
        return None
    work = work_of(model, shape, stack, weight_gradients=weight_gradients)
    rate = peak * assume.value(f"matmul-efficiency-{gpu.utilisation_group}")
    # Where the table has no fp32 rate it counts as the sixteenth of the tensor cores' that it is on an A100.
    rate_fp32 = (gpu.fp32_flops_per_second or peak / 16) * assume.value("matmul-efficiency-fp32")
    moved = work.bytes_moved / (gpu.bandwidth_bytes_per_second * assume.value("bandwidth-efficiency"))
    if stack.computes_fp32:
        rate = rate_fp32
    expected = work.operations / rate + work.operations_fp32 / rate_fp32 + moved
    per_rank = work.operations_per_rank / rate + work.operations_fp32_per_rank / rate_fp32
    seen = stack.time_kind if gpu.utilisation_group in ("turing", "a100") else "unmeasured"  # by measured cards
    spread = math.exp(assume.value(f"time-width-{seen}", "time-width-unmeasured"))
    ends = (Range(value / spread, value, value * spread) for value in (expected, per_rank))
    return *_slowed_by_dora(stack, *ends), assume.range("floor-seconds-per-block").times(shape.blocks)


def _cpu_seconds(
    model: ModelSpec, shape: ModelShape, stack: Stack, device: Device, weight_gradients: bool
) -> tuple[Range, Range, Range]:
    """Return the terms of _gpu_seconds for a CPU, with a wide range for the rate of a core. Where it is not known
    whether the processor has bf16, the range covers both cases."""
    assume = stack.assume
    rate = assume.range("cpu-flops-per-core-second").times(device.cpu_count)
    if stack.setup.precision != "fp32":
        speed_up, without = assume.range("cpu-bf16-speed-up"), assume.range("cpu-bf16-speed-up-without")
        if device.cpu_bf16 is None:
            speed_up = Range(without.low, speed_up.expected, speed_up.high)
        rate = rate.multiplied(without if device.cpu_bf16 is False else speed_up)
    work = work_of(model, shape, stack, weight_gradients=weight_gradients)
    fixed, slope = work.operations + work.operations_fp32, work.operations_per_rank + work.operations_fp32_per_rank
    ends = (Range(value, value, value).over(rate) for value in (fixed, slope))
    return *_slowed_by_dora(stack, *ends), assume.range("cpu-floor-seconds-per-block").times(shape.blocks)


def _slowed_by_dora(stack: Stack, *ends: Range) -> tuple[Range, ...]:
    return tuple(end.multiplied(stack.assume.range("dora-slowdown")) for end in ends) if stack.use_dora else ends


def load_seconds(model: ModelSpec, stack: Stack) -> Range:
    """Seconds of imports, of compilation, and of reading the base's 16-bit checkpoint."""
    size = 2.0 * model.total_parameters
    reading = Range(size, size, size).over(stack.assume.range("checkpoint-bytes-per-second"))
    return stack.assume.range("start-seconds").plus(reading)


def usd_of(duration: DurationEstimate | None, price: Price | None, gpus: int = 1) -> Range | None:
    """Return the cost in US dollars: hours times price times number of GPUs; None where one is not known."""
    return duration.total.times(price.usd_per_hour * gpus / 3600) if duration and price else None


def price_of(gpu: Gpu, usd_per_hour: float | None) -> Price | None:
    """Return the price that the user gave, else the table's; None where neither is known."""
    if usd_per_hour is not None:
        return Price(usd_per_hour=usd_per_hour, provider="your own price", source="given with the question", checked="")
    return gpu.price
