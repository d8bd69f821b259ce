"""How long training takes and what it costs, as ranges.

Operations per token, with P weights and p adapter parameters that a token is multiplied with (only the active
experts'), att = 4 · keys · Q for each attending block, head = 4HV (forward and the gradient of its input):

    forward 2P + 2p + att, backward 2P + 4p + 2.5 att, recompute 2P + 2p + att (with checkpointing)
    checkpointed 6P + 8p + 4.5 att + head, else 4P + 6p + 3.5 att + head

A frozen base has no weight gradients, which is why this isn't the usual 6N. keys is the mean number of keys a query
sees: S/2, or W(1 - W/2S) in a window W shorter than S.

    micro-step = sqrt(floor² + (T · operations / (utilisation · dense FLOP/s))²)

The floor is what launching kernels takes, block by block. Added this way the two reproduce how published utilisation
falls from 8,192 tokens a micro-step to 256. Left out: optimizer step, data loading, evaluation, several GPUs, the
recurrences of linear attention. Hand-worked in tests/test_duration.py.
"""

from dataclasses import dataclass

from rankviz.core.blocks import ModelShape
from rankviz.core.hardware import Gpu, Price
from rankviz.core.memory_parts import Stack
from rankviz.core.model import ModelSpec
from rankviz.core.ranges import Range
from rankviz.core.training import TrainingSetup


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


@dataclass(frozen=True, kw_only=True, slots=True)
class DurationTerms:
    """Everything that doesn't depend on rank."""

    tokens: int
    operations: float
    """A token's, without the adapter."""
    operations_per_rank: float
    """A token's, for each unit of rank."""
    flops_per_second: Range
    """What the card sustains: utilisation times dense peak."""
    floor_seconds: Range
    """Of one micro-step."""
    micro_steps: int
    steps: int
    load: Range | None
    """None where no length of training was given."""
    load_seconds: Range


def operations_per_token(model: ModelSpec, shape: ModelShape, setup: TrainingSetup) -> tuple[float, float]:
    """Of one micro-step: without the adapter, and for each unit of rank."""
    checkpointed = setup.checkpointing != "none"
    attention = sum(
        4 * kind.count * kind.attention_width * _keys_per_query(model, setup.max_length, kind.sliding)
        for kind in shape.kinds
    )
    head = 4 * model.hidden_size * model.vocab_size
    weights, adapter = shape.active_weights, shape.active_adapter_parameters
    if checkpointed:
        return 6 * weights + 4.5 * attention + head, 8.0 * adapter
    return 4 * weights + 3.5 * attention + head, 6.0 * adapter


def _keys_per_query(model: ModelSpec, length: int, sliding: bool) -> float:
    window = model.sliding_window
    if sliding and window and window < length:
        return window * (1 - window / (2 * length))
    return length / 2


def peak_flops_per_second(gpu: Gpu, setup: TrainingSetup) -> float | None:
    """Dense 16-bit rate of the card; None where the table has none, or in fp32, for which it has no column.

    Tensor cores run both 16-bit formats at one rate, so where one is not listed the other stands for it. 4-bit and
    8-bit bases are multiplied in 16 bit.
    """
    if setup.precision == "fp32":
        return None
    listed = (gpu.bf16_flops_per_second, gpu.fp16_flops_per_second)
    first, second = reversed(listed) if setup.precision == "fp16" or not gpu.supports_bf16 else listed
    return first or second


def duration_terms(model: ModelSpec, shape: ModelShape, stack: Stack, gpu: Gpu) -> DurationTerms | None:
    """The rank-independent part; None where the card's FLOP/s are not known."""
    peak = peak_flops_per_second(gpu, stack.setup)
    if peak is None:
        return None
    kernels = "unsloth" if stack.framework == "unsloth" else "hf"
    bits = "4bit" if stack.setup.quantized else "16bit"
    utilisation = stack.assume.range(f"utilisation-{gpu.utilisation_group}-{bits}-{kernels}")
    return _terms(model, shape, stack, utilisation.times(peak), stack.assume.range("floor-seconds-per-block"))


def cpu_duration_terms(model: ModelSpec, shape: ModelShape, stack: Stack, cpu_count: int) -> DurationTerms:
    """The same on a CPU: a wide rate for each core, and the floor of a slower launch."""
    rate = stack.assume.range("cpu-flops-per-core-second").times(cpu_count)
    if stack.setup.precision != "fp32":
        rate = rate.multiplied(stack.assume.range("cpu-bf16-speed-up"))
    return _terms(model, shape, stack, rate, stack.assume.range("cpu-floor-seconds-per-block"))


def _terms(model: ModelSpec, shape: ModelShape, stack: Stack, rate: Range, floor: Range) -> DurationTerms:
    setup, assume = stack.setup, stack.assume
    fixed, slope = operations_per_token(model, shape, setup)
    if stack.use_dora:
        rate = rate.over(assume.range("dora-slowdown"))
    load = load_seconds(model, stack)
    return DurationTerms(
        tokens=setup.tokens_per_micro_step,
        operations=fixed,
        operations_per_rank=slope,
        flops_per_second=rate,
        floor_seconds=floor.times(shape.blocks),
        micro_steps=setup.gradient_accumulation_steps,
        steps=setup.total_steps,
        load=load if setup.steps is not None or setup.tokens is not None else None,
        load_seconds=load,
    )


def load_seconds(model: ModelSpec, stack: Stack) -> Range:
    """Imports and compilation, and reading the base's 16-bit checkpoint."""
    size = 2.0 * model.total_parameters
    reading = Range(size, size, size).over(stack.assume.range("checkpoint-bytes-per-second"))
    return stack.assume.range("start-seconds").plus(reading)


def duration_at(terms: DurationTerms, r: int) -> DurationEstimate:
    """Seconds at one rank."""
    work = terms.tokens * (terms.operations + r * terms.operations_per_rank)
    rate, floor = terms.flops_per_second, terms.floor_seconds
    step = Range(
        _micro_step(work / rate.high, floor.low),
        _micro_step(work / rate.expected, floor.expected),
        _micro_step(work / rate.low, floor.high),
    ).times(terms.micro_steps)
    training = step.times(terms.steps)
    total = training if terms.load is None else terms.load.plus(training)
    return DurationEstimate(step=step, load=terms.load_seconds, total=total)


def _micro_step(compute: float, floor: float) -> float:
    return (compute * compute + floor * floor) ** 0.5


def cost(duration: DurationEstimate, price: Price | None) -> CostEstimate | None:
    """Hours times price; None where there is no price."""
    if price is None:
        return None
    return CostEstimate(usd=duration.total.times(price.usd_per_hour / 3600), price=price)


def price_of(gpu: Gpu, usd_per_hour: float | None) -> Price | None:
    """One's own price, or the table's first; None where neither is known."""
    if usd_per_hour is not None:
        return Price(usd_per_hour=usd_per_hour, provider="your own price", source="given with the question", checked="")
    return gpu.prices[0] if gpu.prices else None
