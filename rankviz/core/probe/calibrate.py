"""Which probes say something of an estimate's memory, the calibration that they make, and a probe as a timing."""

from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.calibration import MemoryCalibration
from rankviz.core.cost.pace.paces import Timing
from rankviz.core.cost.pace.workload import Workload, kernels, machine_of
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ModelSpec
from rankviz.core.probe.estimate import ProbeEstimate
from rankviz.core.probe.record import ProbeRecord
from rankviz.core.probe.request import BUSY_SHARE
from rankviz.core.quantity import middle
from rankviz.core.runs.record import RunState


def applies(
    record: ProbeRecord,
    model_id: str,
    lora: LoraConfig,
    training: TrainingSetup,
    tokens: float,
    environment: Mapping[str, Any],
    assume: Assumptions,
) -> bool:
    """Whether a probe says something of the memory of this model and set-up on this device.

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
    """None without probes, or where less was measured than weights and states alone take: then a probe and the
    formulas don't speak of the same thing."""
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
    """How far the furthest is from the middle, as a share of it."""
    if len(factors) < 2:
        return 0.0
    centre = middle(factors)
    return max(abs(factor - centre) for factor in factors) / centre
