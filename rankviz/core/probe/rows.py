"""A finished probe as a row of measurements, in the form of assets/validation/*.csv.

Only the whole model is a measurement of it; what two shallow depths made of the whole stands beside, in two columns of
its own.
"""

import datetime
from typing import Any

from rankviz.core.cost.adapter import dtype_on, plan_on
from rankviz.core.cost.device import Device
from rankviz.core.cost.unsloth import compute_dtype
from rankviz.core.model.spec import ModelSpec
from rankviz.core.probe.record import ProbeRecord
from rankviz.units import counted

COLUMNS = (
    "row_id", "independent_group", "tier", "use_peak", "use_count", "use_time", "model_id", "precision",
    "compute_dtype", "kbit_fp32_upcast", "framework", "framework_version", "r", "targets", "batch", "grad_accum",
    "seq_len", "seq_kind", "checkpointing", "attn", "loss_path", "optimizer", "adapter_dtype", "gpu", "measured_bytes",
    "measured_kind", "measured_reserved_bytes", "measured_device_bytes", "measured_load_bytes", "trainable_params",
    "measured_seconds_per_step", "measured_seconds_per_micro_step", "tokens_per_s", "date", "notes", "source",
    "predicted_two_depth_bytes", "predicted_two_depth_seconds",
)  # fmt: skip
VERSIONS = ("torch", "transformers", "peft", "trl", "unsloth")


def probe_row(record: ProbeRecord, model: ModelSpec, device: Device) -> dict[str, Any] | None:
    """None where the whole model wasn't measured. device: that measured it."""
    full, request, where = record.full, record.request, record.environment
    if full is None:
        return None
    lora, training = request.lora, request.training
    extrapolated = record.extrapolated
    cuda = device.cuda
    versions = where.get("versions", {})
    depths = ", ".join(str(each.depth) for each in record.measured if each is not full)
    dora = "; DoRA" if lora.use_dora else ""
    # Rows have no column for the rank of experts.
    used = "yes" if lora.expert_rank == "r" else "no"
    return {
        "row_id": request.probe_id,
        "independent_group": f"rankviz-probe-{'gpu' if cuda else 'cpu'}",
        "tier": "A",
        "use_peak": used,
        "use_count": used,
        "use_time": used,
        "model_id": request.model_id,
        "precision": training.precision,
        "compute_dtype": compute_dtype(model.model_type, training, bf16=device.has_bf16),
        "kbit_fp32_upcast": "yes" if training.framework == "peft" and training.precision in ("nf4", "nf4-dq") else "no",
        "framework": training.framework if cuda or training.framework != "unsloth" else "unsloth-cpu",
        "framework_version": "; ".join(f"{name} {versions[name]}" for name in VERSIONS if name in versions),
        "r": lora.r,
        "targets": ",".join(plan_on(model, lora, training, device).target_names),
        "batch": training.per_device_train_batch_size,
        "grad_accum": training.gradient_accumulation_steps,
        "seq_len": training.max_length,
        "seq_kind": "exact",
        "checkpointing": training.gradient_checkpointing,
        "attn": full.attn_implementation,
        "loss_path": training.loss_path,
        "optimizer": training.optim,
        "adapter_dtype": dtype_on(model, training, device),
        "gpu": where.get("device_name") if cuda else f"CPU, {where.get('cpu_count')} cores",
        "measured_bytes": full.peak_bytes,
        "measured_kind": full.peak_kind,
        "measured_reserved_bytes": full.peak_reserved_bytes,
        "trainable_params": full.trainable_parameters,
        "measured_seconds_per_step": round(full.step_seconds, 4),
        "tokens_per_s": round(full.tokens_per_second, 2),
        "date": datetime.date.fromtimestamp(record.started_at or request.created_at).isoformat(),
        "notes": (
            f"random weights, random tokens, all of them targets; {where.get('device_name')}, "
            f"{where.get('threads')} threads, {where.get('platform')}, Python {where.get('python')}; baseline "
            f"{full.baseline_bytes} bytes; {counted(len(full.timed_steps), 'step')} timed, standard error "
            f"{full.step_noise_seconds:.4f} s; depths {depths}{dora}"
        ),
        "source": f"rankviz probe {where.get('rankviz', '')}".strip(),
        "predicted_two_depth_bytes": round(extrapolated.peak_bytes) if extrapolated else None,
        "predicted_two_depth_seconds": round(extrapolated.step_seconds, 4)
        if extrapolated and extrapolated.step_seconds > 0
        else None,
    }
