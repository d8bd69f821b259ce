"""Several GPUs of one machine: what each of them holds, gathers and exchanges, and the pace of all together.

N is the number of GPUs, W the bytes of the base, P the trained parameters. Each GPU has a batch of its own, so
activations and logits are those of one GPU.

| strategy | base | gathered | adapter, its gradients and states |
| --- | --- | --- | --- |
| ddp | W | 0 | those of one GPU, and buckets as large as the gradients |
| zero2 | W | 0 | 4 · P + (4 + states) · P / N, and a bucket of fixed size |
| fsdp | W / N | two blocks, and all that is outside blocks | (8 + states) · P / N |
| zero3 | W / N | two blocks, or DeepSpeed's live parameters | (8 + states) · P / N, and a bucket of fixed size |

Scales of 4-bit weights are whole on every GPU: they are attributes of a parameter, which nothing divides (bitsandbytes
functional.QuantState). With offload, shards and the optimizer are in host memory. Left out: what saving an adapter
takes, and shards that are not of equal size.
"""

from dataclasses import dataclass

from rankviz.core.cost.duration import DurationTerms
from rankviz.core.cost.memory import MemoryTerms, TrainedBytes, bytes_per_trained_parameter
from rankviz.core.cost.setup import Gpu
from rankviz.core.cost.stack import Stack
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range

PACKED_BYTES = 0.5
"""Bytes of a 4-bit weight that are divided; the rest are scales."""
BLOCKS_GATHERED = 2
"""Blocks that are whole at once: the one that computes, and the next one (torch.distributed.fsdp, BACKWARD_PRE)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeveralGpus:
    """Division of a training over several GPUs."""

    gpus: int
    strategy: str
    offload: bool
    base_bytes: int
    """Bytes of the base that each GPU holds all the time."""
    gathered_bytes: int
    """Bytes of other GPUs' shards that each GPU holds while a block computes."""
    host_bytes: Range | None
    """Host memory that the machine needs for offloaded shards, at most while it loads them; None without offload."""
    efficiency: Range | None
    """Work of all GPUs, as a share of N times one GPU's with the same batch; None for an unknown speed."""


def unit_bytes(model: ModelSpec, stack: Stack, whole: float) -> tuple[float, float, float]:
    """Return the bytes of the largest block, of all outside blocks, and of scales. whole: Bytes of the base."""
    quantized = stack.setup.quantized and model.unquantized_parameters < model.total_parameters
    blocks, scales = dict[int, float](), 0.0
    width = stack.habits.weight_bytes or stack.assume.value(f"weight-bytes-{stack.setup.precision}") if quantized else 0
    for layer in model.layers:
        if layer.part == "vision":
            continue
        packs = ("linear", "conv1d", *(["experts"] if stack.habits.quantizes_experts else []))
        packed = quantized and layer.kind in packs
        weights = layer.num_experts * layer.in_features * layer.out_features
        scales += len(layer.blocks) * weights * (width - PACKED_BYTES) if packed else 0.0
        for block in layer.blocks:
            blocks[block] = blocks.get(block, 0.0) + weights * (PACKED_BYTES if packed else stack.compute_bytes)
    return max(blocks.values(), default=0.0), max(0.0, whole - scales - sum(blocks.values())), scales


def together(
    memory: MemoryTerms, duration: DurationTerms | None, plan: AdapterPlan, stack: Stack, gpu: Gpu | None
) -> tuple[DurationTerms | None, SeveralGpus]:
    """Change the memory terms from those of one GPU to those of each of several; return the times of all together, and
    the division. duration: Times of one GPU; None where its speed is not known."""
    setup, assume, n, whole = stack.setup, stack.assume, stack.setup.gpus, memory.base_weights
    block, outside, scales = unit_bytes(plan.model, stack, whole)
    _divide_trained(memory, stack)
    memory.context = memory.context.plus(assume.range("exchange-bytes"))
    shared = 0.0
    if setup.sharded:
        shared = whole - scales
        memory.base_weights = round(scales + (0.0 if setup.offload else shared / n))
        memory.base_extra = memory.base_extra.times(1 / n)
        # transformers loads a quantized base whole under ZeRO-3; RankViz's script for FSDP loads into host memory
        memory.loading = shared * (1 - 1 / n) if setup.quantized and setup.strategy == "zero3" else block
        # A module that trains as a whole is a unit of its own, and so is its gradient.
        trained = max((module.trained for module in plan.saved), default=0)
        own_unit = trained * (stack.compute_bytes + stack.habits.saved_parameter_bytes)
        if setup.strategy == "fsdp":  # the outermost unit stays whole from the forward pass on
            memory.gathered_at_loss = outside + own_unit
            memory.gathered = outside + own_unit + BLOCKS_GATHERED * block
        else:
            live = min(whole, assume.value("zero3-live-bytes"))
            memory.gathered = memory.gathered_at_loss = own_unit + max(BLOCKS_GATHERED * block, live)
        # shards are exact; what is gathered beside them, and when, is not
        memory.width_beside = assume.value(f"width-{stack.kind}", "width-unmeasured")
    paced, efficiency = _paced(duration, plan, stack, gpu, shared) if duration and gpu else (None, None)
    host = assume.range("host-bytes-per-offloaded").times(shared) if setup.offload else None
    return paced, SeveralGpus(
        gpus=n,
        strategy=setup.strategy,
        offload=setup.offload,
        base_bytes=memory.base_weights,
        gathered_bytes=round(memory.gathered),
        host_bytes=host,
        efficiency=efficiency,
    )


def _divide_trained(memory: MemoryTerms, stack: Stack) -> None:
    """Change the bytes per trained parameter. FSDP under the Trainer holds in fp32 what trains (accelerate
    accelerator.py, upcasted_log). DeepSpeed casts weights and gradients to 16 bit, and updates an fp32 copy."""
    setup, n = stack.setup, stack.setup.gpus
    if setup.strategy == "ddp":
        memory.adapter, memory.saved = (each._replace(bucket=each.gradient) for each in (memory.adapter, memory.saved))
        return
    if setup.strategy == "fsdp":
        width = 4 if stack.habits.autocast else stack.habits.adapter_parameter_bytes
        each = TrainedBytes(*(part / n for part in bytes_per_trained_parameter(stack, width)))
    else:
        states, divided = bytes_per_trained_parameter(stack, 4), n if setup.strategy == "zero3" else 1
        each = TrainedBytes(2 / divided, 2 / divided, (4 + states.optimizer) / n, states.temporary / n)
        memory.standing += stack.assume.value("zero-bucket-bytes")
    memory.adapter = memory.saved = TrainedBytes(0.0, 0.0, 0.0, 0.0) if setup.offload else each


def _paced(
    duration: DurationTerms, plan: AdapterPlan, stack: Stack, gpu: Gpu, shared: float
) -> tuple[DurationTerms, Range]:
    """Return the times of all GPUs together, and their efficiency. In each of the two passes of a micro-step a GPU gets
    the others' shards of the base, and its own from host memory if that is offloaded; gradients go once around in each
    step of the optimizer. At the low end all this happens while the GPU computes, else before or after. shared: Bytes
    of the base that are divided."""
    setup, assume, n = stack.setup, stack.assume, stack.setup.gpus
    link, others, waits = assume.range(f"link-bytes-per-second-{gpu.link}"), (n - 1) / n, assume.range("gpus-waiting")
    a_byte = Range(1.0, 1.0, 1.0).over(link)
    exchange = a_byte.times(2 * shared * others)
    if setup.offload:
        from_host = Range(1.0, 1.0, 1.0).over(assume.range("host-bytes-per-second"))
        exchange = exchange.plus(from_host.times(2 * shared / n))
    a_gradient = a_byte.times(2 * others / setup.gradient_accumulation_steps)
    exchange = exchange.plus(a_gradient.times(stack.habits.saved_parameter_bytes * sum(m.trained for m in plan.saved)))
    of_adapter = a_gradient.times(stack.habits.adapter_parameter_bytes)
    alone, work = duration.work.expected, duration.work.multiplied(waits)
    paced = duration._replace(
        work=Range(max(work.low, exchange.low), work.expected + exchange.expected, work.high + exchange.high),
        work_per_rank=duration.work_per_rank.multiplied(waits),
        floor=duration.floor.multiplied(waits),
        exchange=Range(0.0, of_adapter.expected, of_adapter.high),
    )
    slowest, usual = (
        alone * end + more for end, more in ((waits.high, exchange.high), (waits.expected, exchange.expected))
    )
    return paced, Range(alone / slowest, alone / usual, min(1.0, alone / max(alone * waits.low, exchange.low)))
