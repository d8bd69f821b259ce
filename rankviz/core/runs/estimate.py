"""Estimates memory, time and adapter size of a run on this machine, for comparison with measured values."""

from dataclasses import dataclass, replace

from rankviz.core.cost.pace import MemoryCalibration, Pace, Workload, kernels
from rankviz.core.cost.predict import predict
from rankviz.core.cost.question import adapter_bytes_on, plan_on
from rankviz.core.cost.setup import Device, TrainingSetup
from rankviz.core.cost.stack import stack_on
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import WHOLE, ModelSpec
from rankviz.core.model.towers import LOADED_WHOLE
from rankviz.core.quantity import Assumptions, Range
from rankviz.core.runs.request import RunRequest
from rankviz.errors import InvalidSettingError


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEstimate:
    """Estimated adapter size, memory and time of one run."""

    adapter_parameters: int
    adapter_bytes: int
    memory_bytes: Range
    """Peak memory, as the counter `memory_kind` measures it."""
    memory_kind: str
    seconds: Range | None
    """Training time without loading and evaluation; None on a GPU of unknown speed."""
    formula_seconds: Range | None
    """Training time by formulas alone, not corrected by runs and probes on this machine."""
    calibrated_by: tuple[str, ...] = ()
    """Ids of the probes on this machine that corrected the memory."""
    timed_by: tuple[str, ...] = ()
    """Ids of the runs and probes on this machine that corrected the time."""
    timed_in_words: str = ""
    """Phrase on the sources of the time, such as "from 3 finished runs here"."""


def estimate_run(
    model: ModelSpec,
    request: RunRequest,
    device: Device,
    assumptions: Assumptions,
    row_tokens: Range | None = None,
    calibration: MemoryCalibration | None = None,
) -> RunEstimate:
    """Estimate memory and adapter size of a run, and its time by formulas alone. row_tokens: Tokens of an example after
    padding; None takes shares of max_length. calibration: Memory that probes measured on this machine."""
    training, r = request.training.without_auto(device), request.lora.r
    lengths = row_tokens or assumptions.range("row-length-share").times(training.max_length)

    def at_length(tokens: float) -> tuple[Range, Range | None]:
        """Return memory and time with this number of tokens per example."""
        setup = replace(request.training, max_length=max(1, min(training.max_length, round(tokens))))
        stack = stack_on(device, setup, request.lora.use_dora, assumptions)
        predicted = predict(model, request.lora, stack, device, usable_bytes=device.usable_bytes, names=setup.framework)
        memory, duration = predicted.memory_at(r), predicted.duration_at(r)
        held = memory.allocated_band
        if calibration is not None:
            held = calibration.memory(memory.static, memory.working)
        elif not device.cuda:  # resident
            slack = assumptions.range("cpu-resident-slack")
            held = assumptions.range("cpu-process-bytes").plus(held.multiplied(slack))
        return held, duration.step.times(setup.total_steps) if duration and duration.step else None

    memories, durations = zip(*map(at_length, (lengths.low, lengths.expected, lengths.high)), strict=True)
    low, expected, high = memories
    formulas = None if None in durations else Range(durations[0].low, durations[1].expected, durations[2].high)
    plan = plan_on(model, request.lora, training, device)
    return RunEstimate(
        adapter_parameters=plan.parameters(r),
        adapter_bytes=run_adapter_bytes(plan, request, device),
        memory_bytes=Range(round(low.low), round(expected.expected), round(high.high)),
        memory_kind="GPU allocated" if device.cuda else "process resident",
        seconds=formulas,
        formula_seconds=formulas,
        calibrated_by=calibration.probe_ids if calibration else (),
    )


def run_adapter_bytes(plan: AdapterPlan, request: RunRequest, device: Device) -> int:
    """Return the bytes of the adapter file that the run saves."""
    return adapter_bytes_on(plan, request.lora.r, request.training.without_auto(device), device)


def all_adapters_bytes(request: RunRequest, adapter_bytes: int) -> int:
    """Return the bytes of all adapters that the run saves: its own, and truncated ones with recovery steps."""
    cuts = sum(r for r in request.cut_ranks if request.recovery_steps(r))
    return adapter_bytes * (request.r + cuts) // request.r


def paced(estimate: RunEstimate, pace: Pace | None) -> RunEstimate:
    """Return the estimate with its time corrected by `pace`, from runs and probes that finished on this machine."""
    if pace is None or estimate.formula_seconds is None:
        return estimate
    seconds = pace.of(estimate.formula_seconds)
    return replace(estimate, seconds=seconds, timed_by=pace.source_ids, timed_in_words=pace.in_words)


def workload_of(model: ModelSpec, request: RunRequest, device: Device) -> Workload:
    """Return the properties that a run's time depends on, for comparison with other runs on its machine."""
    settings = kernels(request.training.without_auto(device), use_dora=request.lora.use_dora)
    answered = request.data, request.columns, request.shown_answers
    return Workload(base=model.id, parameters=model.total_parameters, kernels=settings, answered=answered)


def row_tokens(mean_characters: float, longest_characters: float, assumptions: Assumptions) -> Range:
    """Estimate the tokens of an example after padding from numbers of characters. Low end: the mean example, with many
    characters per token. High end: the longest example, with few."""
    each = assumptions.range("characters-per-token")
    return Range(
        mean_characters / each.high,
        max(mean_characters, (mean_characters + longest_characters) / 2) / each.expected,
        max(mean_characters, longest_characters) / each.low,
    )


def refuse_base(model: ModelSpec, lora: LoraConfig, training: TrainingSetup, device: Device) -> None:
    """Raise InvalidSettingError where a run cannot train this base, or this adapter on it."""
    if model.tower == "whole model" and (not device.cuda or model.id.endswith(WHOLE)):
        refuse_whole(model, "A run" if device.cuda else "A run without a GPU")
    plan = plan_on(model, lora, training, device)
    if model.tower != "text tower":
        return
    if not device.cuda and model.model_type in LOADED_WHOLE:
        raise InvalidSettingError(
            f"A run without a GPU does not train {model.id}, since its checkpoint is multimodal. Choose another base."
        )
    if plan.model.is_whole and plan.route.kind == "model" and plan.route.flags.vision:
        raise InvalidSettingError(
            f"The vision tower of {model.id} would train too, on text alone: turn finetune_vision_layers off."
        )


def refuse_whole(model: ModelSpec, what: str) -> None:
    """Raise InvalidSettingError for a whole multimodal model, naming its text model. what: Subject of the message."""
    tower = model.id.removesuffix(WHOLE) if model.id.endswith(WHOLE) else "a text model"
    raise InvalidSettingError(
        f"{model.id or 'This base'} is a whole multimodal model. {what} trains on text only: choose {tower} instead."
    )
