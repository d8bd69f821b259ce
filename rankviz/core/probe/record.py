"""A probe: training steps on the chosen model's layers with random weights, at small depths, and what follows."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rankviz.core.cost.device import Device
from rankviz.core.cost.question import dtype_on, plan_on
from rankviz.core.cost.stack import compute_dtype
from rankviz.core.model.spec import ModelSpec
from rankviz.core.probe.request import MAX_DEPTHS, ProbeRequest
from rankviz.core.runs.events import (
    AttemptPlaced,
    DepthDidNotFit,
    DepthMeasured,
    DepthSkipped,
    ProbeCompleted,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunStarted,
    StageReached,
)
from rankviz.core.runs.record import Recorded, RunState
from rankviz.units import counted


@dataclass(frozen=True, slots=True)
class DepthLine:
    """intercept + slope · depth."""

    intercept: float
    slope: float

    def at(self, depth: float) -> float:
        return self.intercept + self.slope * depth


@dataclass(frozen=True, kw_only=True, slots=True)
class Extrapolation:
    """A model of `depth` blocks, from shallower ones."""

    depth: int
    peak_bytes: float
    """Above the process's baseline."""
    moment: str
    """Which moment of the step holds most at this depth: forward, backward, optimizer, or "step" on a CPU."""
    peak: DepthLine
    """Of that moment: bytes once, and bytes a block."""
    load_peak_bytes: float
    """While the base is loaded, above the baseline."""
    step_seconds: float
    step: DepthLine
    step_noise_seconds: float
    """What the spread of the timed steps makes of step_seconds: each depth's, weighed as the line weighs it."""
    trainable_parameters: int
    total_parameters: int


def extrapolate(measured: Sequence[DepthMeasured], depth: int) -> Extrapolation | None:
    """None where fewer than two depths were measured."""
    depths = [each.depth for each in measured]
    if len(set(depths)) < 2:
        return None
    names = [name for name in measured[0].moments if all(name in each.moments for each in measured)]
    if names and all(each.counts_exactly for each in measured):
        moments = {name: fit(depths, [each.moments[name] for each in measured]) for name in names}
    else:
        moments = {"step": fit(depths, [each.peak_bytes for each in measured])}
    moment = max(moments, key=lambda name: moments[name].at(depth))
    step = fit(depths, [each.step_seconds for each in measured])
    shares = _weights(depths, depth)
    noise = sum((w * each.step_noise_seconds) ** 2 for w, each in zip(shares, measured, strict=True)) ** 0.5
    return Extrapolation(
        depth=depth,
        peak_bytes=moments[moment].at(depth),
        moment=moment,
        peak=moments[moment],
        load_peak_bytes=fit(depths, [each.load_peak_bytes for each in measured]).at(depth),
        step_seconds=step.at(depth),
        step=step,
        step_noise_seconds=noise,
        trainable_parameters=round(fit(depths, [each.trainable_parameters for each in measured]).at(depth)),
        total_parameters=round(fit(depths, [each.total_parameters for each in measured]).at(depth)),
    )


def fit(depths: Sequence[float], values: Sequence[float]) -> DepthLine:
    """Least squares; at least two different depths."""
    mean_depth, mean = sum(depths) / len(depths), sum(values) / len(values)
    spread = sum((d - mean_depth) ** 2 for d in depths)
    slope = sum((d - mean_depth) * (v - mean) for d, v in zip(depths, values, strict=True)) / spread
    return DepthLine(mean - slope * mean_depth, slope)


def _weights(depths: Sequence[float], depth: float) -> list[float]:
    """How much each measured value counts in the line's value at `depth`."""
    n, mean = len(depths), sum(depths) / len(depths)
    spread = sum((d - mean) ** 2 for d in depths)
    return [1 / n + (depth - mean) * (d - mean) / spread for d in depths]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRecord(Recorded):
    """Where a probe stands: its request folded with its events."""

    request: ProbeRequest
    measured: tuple[DepthMeasured, ...] = ()
    did_not_fit: tuple[DepthDidNotFit, ...] = ()
    skipped: tuple[DepthSkipped, ...] = ()

    @property
    def run_id(self) -> str:
        return self.request.probe_id

    @property
    def attempt_seconds(self) -> float | None:
        if self.started_at is None:
            return None
        lines = [each.time for each in (*self.measured, *self.did_not_fit, *self.skipped)]
        last = max([self.started_at, *lines]) if self.ended_at is None else self.ended_at
        return max(0.0, last - self.started_at)

    @property
    def peak_kind(self) -> str | None:
        """What the peak is of; None before a depth was measured."""
        return self.measured[0].peak_kind if self.measured else None

    @property
    def full(self) -> DepthMeasured | None:
        """The whole model, where it was run."""
        return next((each for each in self.measured if each.depth == self.request.total_depth), None)

    @property
    def extrapolated(self) -> Extrapolation | None:
        """The whole model from the shallower depths; None before two of them are there."""
        shallow = [each for each in self.measured if each.depth < self.request.total_depth]
        return extrapolate(shallow, self.request.total_depth)

    def _folded(self, event: RunEvent) -> "ProbeRecord":
        match event:
            case AttemptPlaced():
                return replace(self, place=event)
            case RunStarted():
                begun = replace(self, environment=event.environment)
                return replace(begun, state=RunState.RUNNING, started_at=self.started_at or event.time)
            case StageReached():
                begun = replace(self, stage=event.stage)
                return replace(begun, state=RunState.RUNNING, started_at=self.started_at or event.time)
            case DepthMeasured() if len(self.measured) < MAX_DEPTHS and event.depth <= self.request.total_depth:
                return replace(self, measured=(*self.measured, event))
            case DepthDidNotFit() if len(self.did_not_fit) < MAX_DEPTHS:
                return replace(self, did_not_fit=(*self.did_not_fit, event))
            case DepthSkipped() if len(self.skipped) < MAX_DEPTHS:
                return replace(self, skipped=(*self.skipped, event))
            case ProbeCompleted():
                return replace(self, state=RunState.COMPLETED, ended_at=event.time)
            case RunFailed() | RunCancelled():
                return self._ended(event)
        return self


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
