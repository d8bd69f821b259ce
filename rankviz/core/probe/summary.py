"""What a probe says of the whole model, measured or simulated, beside the estimate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.pace import MemoryCalibration, Timing, Workload, kernels, machine_of
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import Device, TrainingSetup
from rankviz.core.cost.stack import stack_on
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ModelSpec
from rankviz.core.probe.request import BUSY_SHARE, Extrapolation, ProbeRecord, ProbeRequest
from rankviz.core.quantity import Range, middle
from rankviz.core.runs.events import DepthDidNotFit, DepthMeasured
from rankviz.core.runs.record import RunState


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeEstimate:
    """One set-up on one device."""

    static_bytes: int
    """Base, adapter, gradients and states: known from shapes."""
    working_bytes: int
    """Activations, logits, scratch: what the formulas only approximate."""
    memory_bytes: Range
    """Of what a probe measures."""
    step_seconds: Range | None
    """None on a GPU whose speed is not known."""


def estimate_probe(model: ModelSpec, request: ProbeRequest, device: Device, assume: Assumptions) -> ProbeEstimate:
    """All blocks, as the request would train them. Of a multimodal checkpoint a probe has the text tower alone."""
    model = replace(model, whole=None)
    lora, training = request.lora, request.training
    stack = stack_on(device, training, lora.use_dora, assume)
    usable = device.usable_bytes
    predicted = predict(model, lora, stack, device, usable_bytes=usable, names=training.framework)
    memory, duration = predicted.memory_at(lora.r), predicted.duration_at(lora.r)
    slack = assume.range("cpu-resident-slack")
    return ProbeEstimate(
        static_bytes=memory.static,
        working_bytes=memory.working,
        memory_bytes=memory.allocated_band if device.cuda else memory.allocated_band.multiplied(slack),
        step_seconds=duration.step if duration else None,
    )


NOISE_SHARE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSummary:
    """A probe, and the estimate beside it."""

    record: ProbeRecord
    estimate: ProbeEstimate | None
    """None where its model is no longer available."""


def as_json(summary: ProbeSummary) -> dict[str, Any]:
    """Bytes are above the process's baseline on a CPU, the allocator's on a GPU: peak_kind says which."""
    record, estimate = summary.record, summary.estimate
    request, extrapolated, full = record.request, record.extrapolated, record.full
    training = request.training
    measured = [_measured(each) for each in record.measured]
    return {
        "probe_id": request.probe_id,
        "state": str(record.state),
        "model_id": request.model_id,
        "r": request.lora.r,
        "framework": training.framework,
        "precision": training.precision,
        "optim": training.optim,
        "checkpointing": training.gradient_checkpointing,
        "loss_path": training.loss_path,
        "batch": training.per_device_train_batch_size,
        "accumulation": training.gradient_accumulation_steps,
        "max_length": training.max_length,
        "total_depth": request.total_depth,
        "device": record.environment.get("device_name"),
        "environment": record.environment,
        "peak_kind": record.peak_kind,
        "measured": measured,
        "extrapolated": _extrapolated(extrapolated, record) if extrapolated else None,
        "full": next((each for each in measured if full and each["depth"] == full.depth), None),
        "error_of_extrapolation": {
            "peak": extrapolated.peak_bytes / full.peak_bytes - 1,
            "step_seconds": extrapolated.step_seconds / full.step_seconds - 1
            if _positive(extrapolated.step_seconds)
            else None,
        }
        if extrapolated and full
        else None,
        "estimate": {
            "memory_bytes": estimate.memory_bytes.as_json(),
            "step_seconds": estimate.step_seconds.as_json() if estimate.step_seconds else None,
        }
        if estimate
        else None,
        "did_not_fit": [
            _named(each, "depth", "limit_bytes", "short_bytes", "stage", "why") for each in record.did_not_fit
        ],
        "skipped": [_named(each, "depth", "reason") for each in record.skipped],
        "sentences": sentences(record),
        "error": record.error or None,
    }


def sentences(record: ProbeRecord) -> list[str]:
    """What the numbers do not say: what did not fit, what was left out, how certain the time is."""
    notes = [_did_not_fit(each, record) for each in record.did_not_fit]
    notes += [each.reason for each in record.skipped]
    extrapolated = record.extrapolated
    busy = max((each.busy_elsewhere for each in record.measured), default=0.0)
    if busy > BUSY_SHARE:
        notes.append(
            f"Other programs used {busy:.0%} of the CPU time of this machine while steps were timed, so the step times "
            "are too long. Run the probe again when the machine is idle. The memory figures are not affected."
        )
    elif extrapolated and extrapolated.step_noise_seconds > NOISE_SHARE * extrapolated.step_seconds:
        notes.append(
            "Steps took different times, so the step time of the whole model is uncertain by at least "
            f"± {units.duration(extrapolated.step_noise_seconds)}."
        )
    if record.measured and record.measured[-1].load_peak_bytes > record.measured[-1].peak_bytes:
        notes.append("Loading the base model took more memory than training: a run has its peak there.")
    return notes


def headers(summary: ProbeSummary) -> list[str]:
    """Column titles of a probe's table."""
    kind = summary.record.peak_kind
    return ["", f"Peak memory, {kind}" if kind else "Peak memory", "Step", "Tokens/s"]


class Line(NamedTuple):
    """A row of the table. memory_bytes, seconds: numbers, a range, or the words that stand in their place."""

    name: str
    memory_bytes: float | Range | str
    seconds: float | Range | str
    tokens_per_second: float | None = None

    @property
    def texts(self) -> tuple[str, str, str, str]:
        pace = f"{self.tokens_per_second:,.0f}" if self.tokens_per_second else ""
        return self.name, _written(self.memory_bytes, units.memory_size), _written(self.seconds, _seconds), pace


def lines_of(summary: ProbeSummary) -> list[Line]:
    """Rows of the table: the measured depths, the line through them, and the whole model extrapolated, measured and
    estimated."""
    record, estimate = summary.record, summary.estimate
    extrapolated, full = record.extrapolated, record.full
    whole = f"All {record.request.total_depth} blocks"
    lines = [
        _line(f"{units.counted(each.depth, 'block')}, measured", each) for each in record.measured if each is not full
    ]
    if extrapolated:
        memory, step = extrapolated.peak, extrapolated.step
        lines += [
            Line("Per block", memory.slope, step.slope),
            Line("Once: embeddings, loss, the rest", memory.intercept, step.intercept),
            _extrapolated_line(f"{whole}, extrapolated", extrapolated, record),
        ]
    if full:
        lines.append(_line(f"{whole}, measured", full))
    if extrapolated and full:
        lines.append(_error_line(extrapolated, full))
    if estimate:
        lines.append(Line(f"{whole}, estimated", estimate.memory_bytes, estimate.step_seconds or ""))
    return lines


def _line(name: str, each: DepthMeasured) -> Line:
    return Line(name, each.peak_bytes, each.step_seconds, each.tokens_per_second)


def _extrapolated_line(name: str, each: Extrapolation, record: ProbeRecord) -> Line:
    seconds = _positive(each.step_seconds)
    pace = record.measured[0].tokens_per_step / seconds if seconds else None
    return Line(name, round(each.peak_bytes), units.NOT_KNOWN if seconds is None else seconds, pace)


def _error_line(extrapolated: Extrapolation, full: DepthMeasured) -> Line:
    seconds = _positive(extrapolated.step_seconds)
    step = f"{seconds / full.step_seconds - 1:+.1%}" if seconds else ""
    return Line("Error of the extrapolation", f"{extrapolated.peak_bytes / full.peak_bytes - 1:+.1%}", step)


def _positive(seconds: float) -> float | None:
    """Noise can turn a line down so far that it says nothing."""
    return seconds if seconds > 0 else None


def _written(value: float | Range | str, text: Callable[[float], str]) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Range):
        return units.memory_span(value) if text is units.memory_size else units.time_span(value)
    return text(value)


def _seconds(value: float) -> str:
    """A line may cross zero where times are noisy."""
    return units.duration(value) if value >= 0 else f"-{units.duration(-value)}"


def _did_not_fit(event: DepthDidNotFit, record: ProbeRecord) -> str:
    who = {
        "memory limit": f"the memory limit of {units.memory_size(event.limit_bytes)}",
        "GPU": f"the {units.memory_size(event.limit_bytes)} of this GPU",
        "system": "the memory of this machine",
    }[event.why]
    short = f", by at least {units.memory_size(event.short_bytes)}" if event.short_bytes > 0 else ""
    blocks = (
        "The whole model"
        if event.depth == record.request.total_depth
        else f"A model of {units.counted(event.depth, 'block')}"
    )
    return f"{blocks} does not fit {who}{short} (stage: {event.stage})."


MEASURED = (
    "depth", "peak_bytes", "load_peak_bytes", "moments", "baseline_bytes", "peak_reserved_bytes", "step_seconds",
    "step_noise_seconds", "busy_elsewhere", "timed_steps", "first_step_seconds", "tokens_per_second",
    "trainable_parameters", "total_parameters",
)  # fmt: skip


def _measured(each: DepthMeasured) -> dict[str, Any]:
    values = _named(each, *MEASURED)
    return {**values, "timed_steps": list(each.timed_steps), "reserved_bytes": values.pop("peak_reserved_bytes")}


def _named(each: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(each, name) for name in names}


def _extrapolated(each: Extrapolation, record: ProbeRecord) -> dict[str, Any]:
    tokens = record.measured[0].tokens_per_step
    return {
        "depth": each.depth,
        "peak_bytes": round(each.peak_bytes),
        "moment": each.moment,
        "load_peak_bytes": round(each.load_peak_bytes),
        "step_seconds": _positive(each.step_seconds),
        "step_noise_seconds": each.step_noise_seconds,
        "tokens_per_second": tokens / each.step_seconds if each.step_seconds > 0 else None,
        "trainable_parameters": each.trainable_parameters,
        "total_parameters": each.total_parameters,
        "per_block": {"bytes": round(each.peak.slope), "seconds": each.step.slope},
        "once": {"bytes": round(each.peak.intercept), "seconds": each.step.intercept},
    }


def applies(
    record: ProbeRecord,
    model_id: str,
    lora: LoraConfig,
    training: TrainingSetup,
    tokens: float,
    environment: Mapping[str, Any],
    assume: Assumptions,
) -> bool:
    """Tell whether a probe counts for the memory of this model and set-up on this device.

    training: with nothing "auto" in it. tokens: of a micro-step. environment: device_name, cpu_count and versions, as a
    run's has them.
    """
    reach = assume.value("probe-tokens-reach")
    request, there = record.request, record.environment
    return (
        record.state is RunState.COMPLETED
        and (record.full is not None or record.extrapolated is not None)
        and request.model_id == model_id
        and kernels(request.training, use_dora=request.lora.use_dora) == kernels(training, use_dora=lora.use_dora)
        and 1 / reach <= tokens / request.training.tokens_per_micro_step <= reach
        and machine_of(there) == machine_of(environment)
    )


def timing_of(record: ProbeRecord, model: ModelSpec, estimate: ProbeEstimate) -> Timing | None:
    """The probe as evidence for the time of the next run; None where its steps were not timed on a quiet machine, or
    none was estimated."""
    if record.state is not RunState.COMPLETED or (record.full is None and record.extrapolated is None):
        return None
    _, step, quiet = _whole(record)
    request = record.request
    if not quiet or step <= 0 or not estimate.step_seconds:
        return None
    return Timing(
        source_id=request.probe_id,
        kind="probe",
        ended_at=record.ended_at,
        workload=Workload(
            base=request.model_id,
            parameters=model.total_parameters,
            kernels=kernels(request.training, use_dora=request.lora.use_dora),
            tokens=request.training.tokens_per_micro_step,
        ),
        ratios={"training": step / estimate.step_seconds.expected},
    )


def calibrate(probes: Sequence[tuple[ProbeRecord, ProbeEstimate]], assume: Assumptions) -> MemoryCalibration | None:
    """Calibrate memory by probes. None without probes, or where less was measured than weights and states alone take:
    then a probe and the formulas don't speak of the same thing."""
    working, baselines, reserved = [], [], []
    for record, estimate in probes:
        peak, _, _ = _whole(record)
        if estimate.working_bytes > 0 and peak > estimate.static_bytes:
            working.append((peak - estimate.static_bytes) / estimate.working_bytes)
            baselines.append(max(each.baseline_bytes for each in record.measured))
        reserved += [each.peak_reserved_bytes / each.peak_bytes for each in record.measured if each.peak_reserved_bytes]
    if not working:
        return None
    cuda = probes[0][0].environment.get("device") == "cuda"
    return MemoryCalibration(
        probe_ids=tuple(record.request.probe_id for record, _ in probes),
        process_bytes=0 if cuda else round(middle(baselines)),
        working_factor=middle(working),
        memory_width=max(assume.value("probe-memory-width"), _disagreement(working)),
        reserved_share=middle(reserved) if reserved else None,
    )


def _whole(record: ProbeRecord) -> tuple[float, float, bool]:
    """Peak and step of the whole model, measured where it was, else extrapolated; and whether the machine was quiet."""
    quiet = all(each.busy_elsewhere <= BUSY_SHARE for each in record.measured)
    if record.full is not None:
        return record.full.peak_bytes, record.full.step_seconds, record.full.busy_elsewhere <= BUSY_SHARE
    return record.extrapolated.peak_bytes, record.extrapolated.step_seconds, quiet


def _disagreement(factors: Sequence[float]) -> float:
    """Distance of the furthest factor from the middle, as a share of it."""
    if len(factors) < 2:
        return 0.0
    centre = middle(factors)
    return max(abs(factor - centre) for factor in factors) / centre


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """Bytes that the allocator of the simulated card holds; peaks over two optimizer steps."""

    depth: int
    loaded: int
    """The base alone."""
    static: int
    """Base and adapter, before the first step."""
    moments: Mapping[str, int]
    reserved: int
    kernels: Mapping[str, int] = field(default_factory=dict)
    """How often each attention kernel ran, recomputed blocks included."""
    trainable_parameters: int = 0
    workspaces: int = 0
    """cuBLAS's, part of every moment."""

    @property
    def allocated(self) -> int:
        """The highest of the moments."""
        return max(self.moments.values())

    @property
    def moment(self) -> str:
        """Which one that is."""
        return max(self.moments, key=lambda name: self.moments[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedProbe:
    """A simulation with what was asked, and the estimate beside it."""

    model_id: str
    gpu: str
    lora: LoraConfig
    training: TrainingSetup
    padded: bool
    run: Simulated
    estimate: Range
    """Bytes that the formulas say are allocated."""
    mean_error: float
    worst_error: float
    """Of simulated peaks, as shares of the measured ones (assets/truth.json)."""

    def as_json(self) -> dict[str, Any]:
        """Flat, in bytes."""
        setup, run = self.training, self.run
        return {
            "simulated": True,
            "model_id": self.model_id,
            "gpu": self.gpu,
            "r": self.lora.r,
            "framework": setup.framework,
            "precision": setup.precision,
            "optim": setup.optim,
            "gradient_checkpointing": setup.gradient_checkpointing,
            "per_device_train_batch_size": setup.per_device_train_batch_size,
            "gradient_accumulation_steps": setup.gradient_accumulation_steps,
            "max_length": setup.max_length,
            "padded": self.padded,
            "allocated_bytes": run.allocated,
            "reserved_bytes": run.reserved,
            "base_bytes": run.loaded,
            "static_bytes": run.static,
            "moment": run.moment,
            "moments": dict(run.moments),
            "attention_kernels": dict(run.kernels),
            "trainable_parameters": run.trainable_parameters,
            "estimate_bytes": {name: round(getattr(self.estimate, name)) for name in ("low", "expected", "high")},
            "mean_error": self.mean_error,
            "worst_error": self.worst_error,
        }

    def lines(self) -> list[list[str]]:
        """Rows of a table: what, and how much."""
        run, size = self.run, units.memory_size
        peaks = [[f"Peak: {name}", size(value)] for name, value in run.moments.items()]
        return [
            ["Allocated (simulated)", size(run.allocated)],
            ["Reserved (simulated)", size(run.reserved)],
            ["Allocated (estimate)", f"{size(self.estimate.low)} to {size(self.estimate.high)}"],
            ["Base weights", size(run.loaded)],
            ["Base and adapter", size(run.static)],
            *peaks,
        ]

    def sentences(self) -> list[str]:
        """Below the table."""
        kernels = " and ".join(sorted(self.run.kernels)) or "eager"
        return [
            f"Nothing was measured: training steps of the real model code ran on a simulated {self.gpu}, without "
            "weights.",
            f"Compared with measured runs on a T4, simulated peaks are {units.rounded_percent(self.mean_error)} off on "
            f"average, {units.rounded_percent(self.worst_error)} at most.",
            f"The peak is at this moment of a step: {self.run.moment}. Attention kernel: {kernels}.",
        ]
