"""A probe as flat JSON, and in sentences: what the command line prints and the page shows."""

from collections.abc import Callable, Mapping
from typing import Any

from rankviz import units
from rankviz.core.probe.estimate import ProbeEstimate
from rankviz.core.probe.extrapolate import Extrapolation
from rankviz.core.probe.record import ProbeRecord
from rankviz.core.probe.request import BUSY_SHARE
from rankviz.core.runs.events import DepthDidNotFit, DepthMeasured

NOISE_SHARE = 0.1


def as_json(record: ProbeRecord, estimate: ProbeEstimate | None) -> dict[str, Any]:
    """Bytes are above the process's baseline on a CPU, the allocator's on a GPU: peak_kind says which."""
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
        "peak_kind": record.measured[0].peak_kind if record.measured else None,
        "measured": measured,
        "extrapolated": _extrapolated(extrapolated, record) if extrapolated else None,
        "full": next((each for each in measured if full and each["depth"] == full.depth), None),
        "error_of_extrapolation": {
            "peak": extrapolated.peak_bytes / full.peak_bytes - 1,
            "step_seconds": extrapolated.step_seconds / full.step_seconds - 1
            if extrapolated.step_seconds > 0
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
            {
                "depth": each.depth,
                "limit_bytes": each.limit_bytes,
                "short_bytes": each.short_bytes,
                "stage": each.stage,
                "why": each.why,
            }
            for each in record.did_not_fit
        ],
        "skipped": [{"depth": each.depth, "reason": each.reason} for each in record.skipped],
        "sentences": sentences(record),
        "error": record.error or None,
    }


def sentences(record: ProbeRecord) -> list[str]:
    """What the numbers don't say: what did not fit, what was left out, how sure the time is."""
    notes = [_did_not_fit(each, record) for each in record.did_not_fit]
    notes += [each.reason for each in record.skipped]
    extrapolated = record.extrapolated
    busy = max((each.busy_elsewhere for each in record.measured), default=0.0)
    if busy > BUSY_SHARE:
        notes.append(
            f"Other programs used {busy:.0%} of this machine's CPU time while steps were timed, so step times are too "
            "long. Probe again when the machine is idle. Memory is not affected."
        )
    elif extrapolated and extrapolated.step_noise_seconds > NOISE_SHARE * extrapolated.step_seconds:
        notes.append(
            "Steps took unequal times, so the step time of the whole model is uncertain by at least "
            f"{units.duration(extrapolated.step_noise_seconds)}."
        )
    if record.measured and record.measured[-1].load_peak_bytes > record.measured[-1].peak_bytes:
        notes.append("Loading the base needs more memory than training, so a run peaks while it loads.")
    return notes


HEADERS = ("", "Peak memory", "Step", "Tokens/s")


def table_lines(answer: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows under HEADERS: the depths measured, the line through them, and the whole model by it, measured, estimated.

    answer: as as_json makes it.
    """

    def line(name: str, figures: Mapping[str, Any]) -> tuple[str, str, str, str]:
        pace = f"{figures['tokens_per_second']:,.0f}" if figures["tokens_per_second"] else ""
        return name, units.memory_size(figures["peak_bytes"]), _seconds(figures["step_seconds"]), pace

    whole = f"All {answer['total_depth']} blocks"
    extrapolated, full, estimate = answer["extrapolated"], answer["full"], answer["estimate"]
    lines = [line(f"{each['depth']} blocks, measured", each) for each in answer["measured"] if each is not full]
    if extrapolated:
        block, once = extrapolated["per_block"], extrapolated["once"]
        lines += [
            ("Each block", units.memory_size(block["bytes"]), _seconds(block["seconds"]), ""),
            ("Once: embeddings, loss, the rest", units.memory_size(once["bytes"]), _seconds(once["seconds"]), ""),
            line(f"{whole}, extrapolated", extrapolated),
        ]
    if full:
        lines.append(line(f"{whole}, measured", full))
    if error := answer["error_of_extrapolation"]:
        step = "" if error["step_seconds"] is None else f"{error['step_seconds']:+.1%}"
        lines.append(("Extrapolated against measured", f"{error['peak']:+.1%}", step, ""))
    if estimate:
        memory, step = estimate["memory_bytes"], estimate["step_seconds"]
        took = _span(step, units.duration) if step else ""
        lines.append((f"{whole}, estimated", _span(memory, units.memory_size), took, ""))
    return lines


def _span(values: Mapping[str, float], text: Callable[[float], str]) -> str:
    return f"{text(values['low'])} – {text(values['high'])}"


def _seconds(value: float | None) -> str:
    """A line may cross zero where times are noisy."""
    if value is None:
        return "not known"
    return units.duration(value) if value >= 0 else f"-{units.duration(-value)}"


def _did_not_fit(event: DepthDidNotFit, record: ProbeRecord) -> str:
    who = {
        "memory limit": f"the {units.memory_size(event.limit_bytes)} that it may use",
        "GPU": f"the {units.memory_size(event.limit_bytes)} of this GPU",
        "system": "the memory of this machine",
    }[event.why]
    short = f", by at least {units.memory_size(event.short_bytes)}" if event.short_bytes > 0 else ""
    blocks = "The whole model" if event.depth == record.request.total_depth else f"A model of {event.depth} blocks"
    return f"{blocks} does not fit {who}{short}; it was {event.stage}."


def _measured(each: DepthMeasured) -> dict[str, Any]:
    return {
        "depth": each.depth,
        "peak_bytes": each.peak_bytes,
        "load_peak_bytes": each.load_peak_bytes,
        "moments": each.moments,
        "baseline_bytes": each.baseline_bytes,
        "reserved_bytes": each.peak_reserved_bytes,
        "step_seconds": each.step_seconds,
        "step_noise_seconds": each.step_noise_seconds,
        "busy_elsewhere": each.busy_elsewhere,
        "timed_steps": list(each.timed_steps),
        "first_step_seconds": each.first_step_seconds,
        "tokens_per_second": each.tokens_per_second,
        "trainable_parameters": each.trainable_parameters,
        "total_parameters": each.total_parameters,
    }


def _extrapolated(each: Extrapolation, record: ProbeRecord) -> dict[str, Any]:
    tokens = record.measured[0].tokens_per_step
    return {
        "depth": each.depth,
        "peak_bytes": round(each.peak_bytes),
        "moment": each.moment,
        "load_peak_bytes": round(each.load_peak_bytes),
        # Noise can turn a line down so far that it says nothing.
        "step_seconds": each.step_seconds if each.step_seconds > 0 else None,
        "step_noise_seconds": each.step_noise_seconds,
        "tokens_per_second": tokens / each.step_seconds if each.step_seconds > 0 else None,
        "trainable_parameters": each.trainable_parameters,
        "total_parameters": each.total_parameters,
        "per_block": {"bytes": round(each.peak.slope), "seconds": each.step.slope},
        "once": {"bytes": round(each.peak.intercept), "seconds": each.step.intercept},
    }
