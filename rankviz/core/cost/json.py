"""An estimate as `rankviz estimate --json` and the HTTP endpoint have it. Keys may be added, none renamed."""

from typing import TypedDict

from rankviz.core.cost.estimate import Estimate, Fit, RankEstimate
from rankviz.core.cost.memory.estimate import MemoryEstimate
from rankviz.core.lora.config import Framework
from rankviz.core.lora.moe_notes import experts_at
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.note import by_level
from rankviz.core.quantity import RangeJSON, WholeRangeJSON


class MemoryJSON(TypedDict):
    """Bytes of GPU memory: seven components that add up to allocated; what the allocator reserves, and nvidia-smi shows
    (device), with the band around the last; and what nvidia-smi shows while the base is loaded."""

    base_weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    other: int
    allocated: int
    reserved: int
    device: int
    low: int
    high: int
    while_loading: int


class RankJSON(TypedDict):
    """One rank. Without a GPU there is no time, cost or fit. `scale` is what B·A is multiplied by, `expert_rank` the
    rank of each expert (null where none has LoRA), `experts` how they carry it (empty without experts), `margin_bytes`
    the usable memory less the expected figure of nvidia-smi, while loading where that is higher."""

    r: int
    lora_alpha: float
    scale: float
    adapter_parameters: int
    adapter_percent: float
    adapter_bytes: int
    adapter_dtype: str
    targets: list[str]
    expert_rank: int | None
    experts: str
    memory_bytes: MemoryJSON
    seconds: RangeJSON | None
    step_seconds: RangeJSON | None
    load_seconds: RangeJSON | None
    usd: RangeJSON | None
    fit: Fit | None
    margin_bytes: int | None


class EstimateJSON(TypedDict):
    """All ranks of a question. `attention_kernel` is the one that takes most: flash, cudnn, efficient, flex, math or
    eager; the last two hold a matrix of length × length for each head. `warnings` are those of the notes that matter
    most."""

    model_id: str
    total_parameters: int
    gpu: str | None
    gpu_id: str | None
    usable_bytes: WholeRangeJSON | None
    usd_per_hour: float | None
    price_source: str | None
    framework: Framework
    scheme: str
    adapter_dtype: str
    attention_kernel: str | None
    steps: int
    tokens_per_step: int
    ranks: list[RankJSON]
    notes: list[str]
    warnings: list[str]


class CalibrationJSON(TypedDict):
    """Which probes and runs on this machine moved an estimate, and by how much. A shared page names one's own, and
    in_words counts all."""

    calibrated: str
    probe_ids: list[str]
    run_ids: list[str]
    working_factor: float | None
    seconds_factor: float | None
    in_words: str


def as_json(answer: Estimate) -> EstimateJSON:
    """The answer as `rankviz estimate --json` prints it."""
    gpu, price = answer.gpu, answer.price
    targets = list(answer.plan.target_names)
    total = answer.model.total_parameters
    return {
        "model_id": answer.model.id,
        "total_parameters": total,
        "gpu": gpu.name if gpu else None,
        "gpu_id": gpu.id if gpu else None,
        "usable_bytes": answer.usable_bytes.whole_json() if answer.usable_bytes else None,
        "usd_per_hour": price.usd_per_hour if price else None,
        "price_source": f"{price.provider}, {price.checked}".rstrip(", ") if price else None,
        "framework": answer.question.training.framework,
        "scheme": answer.plan.scheme,
        "adapter_dtype": answer.adapter_dtype,
        "attention_kernel": answer.attention_kernel,
        "steps": answer.question.training.total_steps,
        "tokens_per_step": answer.question.training.tokens_per_step,
        "ranks": [_rank(rank, total, targets, answer.adapter_dtype, answer.plan) for rank in answer.ranks],
        "notes": list(answer.notes),
        "warnings": list(by_level(answer.notes)[0]),
    }


def _rank(rank: RankEstimate, total_parameters: int, targets: list[str], dtype: str, plan: AdapterPlan) -> RankJSON:
    duration = rank.duration
    return {
        "r": rank.r,
        "lora_alpha": rank.lora_alpha,
        "scale": rank.scale,
        "adapter_parameters": rank.adapter_parameters,
        "adapter_percent": 100 * rank.adapter_parameters / total_parameters,
        "adapter_bytes": rank.adapter_bytes,
        "adapter_dtype": dtype,
        "targets": targets,
        "expert_rank": plan.expert_rank_at(rank.r) if plan.trains_experts else None,
        "experts": experts_at(plan, rank.r),
        "memory_bytes": memory_json(rank.memory),
        "seconds": duration.total.as_json() if duration else None,
        "step_seconds": duration.step.as_json() if duration else None,
        "load_seconds": duration.load.as_json() if duration else None,
        "usd": rank.cost.usd.as_json() if rank.cost else None,
        "fit": rank.fit,
        "margin_bytes": rank.margin_bytes,
    }


def memory_json(memory: MemoryEstimate) -> MemoryJSON:
    return {name: getattr(memory, name) for name in MemoryJSON.__annotations__}
