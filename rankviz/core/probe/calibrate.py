"""Which probes say something of an estimate, and the calibration that they make."""

from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.calibration import Calibration, Setting
from rankviz.core.cost.device import Device
from rankviz.core.cost.question import Question
from rankviz.core.probe.estimate import ProbeEstimate
from rankviz.core.probe.record import ProbeRecord
from rankviz.core.probe.request import BUSY_SHARE
from rankviz.core.quantity import middle
from rankviz.core.runs.record import RunState
from rankviz.core.runs.request import RunRequest

LIBRARIES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
"""Versions that memory and time hang on."""


def setting_of(record: ProbeRecord) -> Setting:
    request = record.request
    return Setting(
        model_id=request.model_id,
        framework=request.framework,
        precision=request.precision,
        optim=request.optim,
        checkpointing=request.checkpointing,
        loss_path=request.loss_path,
        use_dora=request.use_dora,
    )


def setting_of_run(model_id: str, request: RunRequest, device: Device) -> Setting:
    """Of a run with Unsloth, "auto" settled as the worker settles it (worker/settings.py)."""
    cuda = device.cuda
    return Setting(
        model_id=model_id,
        framework="unsloth",
        precision=("nf4-dq" if cuda else "fp32") if request.precision == "auto" else request.precision,
        optim=("adamw_8bit" if cuda else "adamw_torch") if request.optim == "auto" else request.optim,
        checkpointing="unsloth" if cuda else "none",
        loss_path="fused",
        use_dora=request.use_dora,
    )


def setting_of_question(model_id: str, question: Question) -> Setting:
    """Of an estimate for a GPU."""
    setup = question.training
    elsewhere = question.framework != "unsloth" and setup.checkpointing == "unsloth"
    return Setting(
        model_id=model_id,
        framework=question.framework,
        precision=setup.precision,
        optim=setup.optim,
        checkpointing="hf" if elsewhere else setup.checkpointing,
        loss_path=setup.loss_path,
        use_dora=question.use_dora,
    )


def applies(
    record: ProbeRecord, setting: Setting, tokens: float, environment: Mapping[str, Any], assume: Assumptions
) -> bool:
    """Whether a probe says something of this setting with so many tokens a micro-step on this device.

    environment: device_name, cpu_count and versions, as a run's has them.
    """
    reach = assume.value("probe-tokens-reach")
    request, there = record.request, record.environment
    theirs = request.per_device_train_batch_size * request.max_length
    return (
        record.state is RunState.COMPLETED
        and (record.full is not None or record.extrapolated is not None)
        and setting_of(record) == setting
        and 1 / reach <= tokens / theirs <= reach
        and all(there.get(name) == environment.get(name) for name in ("device", "device_name", "cpu_count"))
        and all(there.get("versions", {}).get(name) == environment.get("versions", {}).get(name) for name in LIBRARIES)
    )


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
