"""Which probes say something of an estimate, and the calibration that they make."""

from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.calibration import Calibration
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.probe.estimate import ProbeEstimate
from rankviz.core.probe.record import ProbeRecord
from rankviz.core.probe.request import BUSY_SHARE
from rankviz.core.quantity import middle
from rankviz.core.runs.record import RunState

LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
"""Versions that memory and time hang on."""


def applies(
    record: ProbeRecord,
    model_id: str,
    lora: LoraConfig,
    training: TrainingSetup,
    tokens: float,
    environment: Mapping[str, Any],
    assume: Assumptions,
) -> bool:
    """Whether a probe says something of this model and set-up on this device.

    training: with nothing "auto" in it. tokens: of a micro-step. environment: device_name, cpu_count and versions, as a
    run's has them.
    """
    reach = assume.value("probe-tokens-reach")
    request, there = record.request, record.environment
    return (
        record.state is RunState.COMPLETED
        and (record.full is not None or record.extrapolated is not None)
        and request.model_id == model_id
        and request.lora.use_dora == lora.use_dora
        and _kernels(request.training) == _kernels(training)
        and 1 / reach <= tokens / request.training.tokens_per_micro_step <= reach
        and all(there.get(name) == environment.get(name) for name in ("device", "device_name", "cpu_count"))
        and all(there.get("versions", {}).get(name) == environment.get("versions", {}).get(name) for name in LIBRARIES)
    )


def _kernels(setup: TrainingSetup) -> tuple[str, ...]:
    """What must be the same for memory and time to be made of the same parts."""
    checkpointing = setup.gradient_checkpointing
    if checkpointing == "unsloth" and setup.framework != "unsloth":
        checkpointing = "hf"
    return setup.framework, setup.precision, setup.optim, checkpointing, setup.loss_path


def calibrate(probes: Sequence[tuple[ProbeRecord, ProbeEstimate]], assume: Assumptions) -> Calibration | None:
    """None without probes, or where less was measured than weights and states alone take: then a probe and the
    formulas don't speak of the same thing."""
    working, seconds, baselines, reserved = [], [], [], []
    for record, estimate in probes:
        peak, step, quiet = _whole(record)
        if estimate.working_bytes > 0 and peak > estimate.static_bytes:
            working.append((peak - estimate.static_bytes) / estimate.working_bytes)
            baselines.append(max(each.baseline_bytes for each in record.measured))
        if quiet and estimate.step_seconds and step > 0:
            seconds.append(step / estimate.step_seconds.expected)
        reserved += [each.peak_reserved_bytes / each.peak_bytes for each in record.measured if each.peak_reserved_bytes]
    if not working:
        return None
    cuda = probes[0][0].environment.get("device") == "cuda"
    return Calibration(
        probe_ids=tuple(record.request.probe_id for record, _ in probes),
        process_bytes=0 if cuda else round(middle(baselines)),
        working_factor=middle(working),
        memory_width=max(assume.value("probe-memory-width"), _disagreement(working)),
        seconds_factor=middle(seconds) if seconds else None,
        seconds_width=max(assume.value("probe-time-width"), _disagreement(seconds)),
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
