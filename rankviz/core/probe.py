"""A probe: measured training steps of a model with few blocks and random weights, extrapolated to the whole model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Annotated, Any, ClassVar

from rankviz import units
from rankviz.core.bounds import Id, Items, Moment, Reference, named, number, one_of, whole
from rankviz.core.cost.pace import MemoryCalibration, Timing, Workload, kernels, machine_of
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import Device, TrainingSetup
from rankviz.core.cost.stack import stack_on
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import flags_not_followed
from rankviz.core.model.spec import ModelSpec, periods
from rankviz.core.quantity import Assumptions, Range
from rankviz.core.runs import events
from rankviz.core.runs.estimate import refuse_whole
from rankviz.core.runs.record import Recorded, RunState
from rankviz.core.runs.request import MAX_SEED, SHORT_TRAINING
from rankviz.errors import InvalidSettingError

TIME_LIMIT_SECONDS = 300.0
SHARED_TIME_LIMIT_SECONDS, SHARED_MEMORY_LIMIT_BYTES, SHARED_STEPS = 90.0, 4 * 2**30, 3
"""Limits of a probe on a shared page, where other visitors wait."""
MAX_MEMORY_LIMIT_BYTES = 2**50
MAX_DEPTH, MAX_DEPTHS, MAX_STEPS, MAX_TOKENS_PER_STEP = 10_000, 1000, 100, 2**22
FREE_MEMORY_SHARE = 0.8
"""Most memory that a probe may use, as a share of the memory that is free at its start."""
TIMED_STEPS, TIMED_SECONDS, MOST_TIMED_STEPS = 5, 8.0, 50
"""At each depth TIMED_STEPS steps are timed, and further ones (up to MOST_TIMED_STEPS) until TIMED_SECONDS have passed.
Steps of a shallow model are short, so their times are noisy."""
PROBE_TRAINING = replace(SHORT_TRAINING, per_device_train_batch_size=1, max_steps=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeQuestion:
    """A probe as requested, before it is checked and "auto" is replaced."""

    model_id: Reference
    """Id of a model of the catalogue, a path or a Hub id."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingSetup = PROBE_TRAINING
    depths: Annotated[tuple[int, ...], Items(0, MAX_DEPTHS)] = ()
    """Numbers of blocks to measure, in this order; empty for two that fit the model's pattern of blocks."""
    full: bool = False
    """True to measure the whole model as well, which checks the extrapolation."""
    timed_steps: int = TIMED_STEPS
    """Fewest timed steps at each depth."""
    time_limit_seconds: float = TIME_LIMIT_SECONDS
    memory_limit_bytes: int | None = None
    """Limit of memory with the baseline; None: FREE_MEMORY_SHARE of free memory. The GPU's memory is a limit too."""

    def validate(self) -> None:
        """Raise InvalidSettingError, with advice, for an invalid setting."""
        named(self.model_id, "Model")
        self.lora.validate()
        whole(self.training.max_length, "Maximum length", 8, 2**20)
        self.training.validate()
        if self.training.tokens_per_step > MAX_TOKENS_PER_STEP:
            raise InvalidSettingError(
                f"A probe trains at most {MAX_TOKENS_PER_STEP:,} tokens per step (got "
                f"{self.training.tokens_per_step:,}). Lower the batch size, the accumulation or the length."
            )
        whole(self.timed_steps, "Steps", 1, MAX_STEPS)
        number(self.time_limit_seconds, "Time limit in seconds", 1, 86_400)
        for depth in self.depths:
            whole(depth, "Depth", 1, MAX_DEPTH)
        if self.memory_limit_bytes is not None:
            whole(self.memory_limit_bytes, "Memory limit in bytes", 2**20, MAX_MEMORY_LIMIT_BYTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRequest(ProbeQuestion):
    """Request for one probe, as stored in request.json: without "auto"; depths may include total_depth."""

    data: ClassVar[str] = ""
    """Empty, because a probe trains on random tokens."""
    probe_id: Id
    created_at: Moment
    total_depth: int
    """Number of blocks of the whole model."""
    seed: int = 0

    def validate(self) -> None:
        """Raise InvalidSettingError, which names the first invalid setting."""
        whole(self.total_depth, "Blocks", 1, MAX_DEPTH)
        whole(self.seed, "Seed", 0, MAX_SEED)
        ProbeQuestion.validate(self)

    @property
    def run_id(self) -> str:
        return self.probe_id

    @property
    def sweep_id(self) -> str:
        """The probe's own id, because a worker runs one probe at a time."""
        return self.probe_id


def settle(
    question: ProbeQuestion, model: ModelSpec, *, device: Device, shared: bool, probe_id: str, created_at: float
) -> ProbeRequest:
    """Return the request to queue, with "auto" replaced; raise InvalidSettingError with advice. shared: A shared
    page."""
    question.validate()
    by_unsloth_on_gpu = device.cuda and question.training.framework == "unsloth"
    if model.tower == "whole model" and not by_unsloth_on_gpu:
        refuse_whole(model, "A probe" if device.cuda else "A probe without a GPU")
    if off := flags_not_followed(question.lora, question.training.framework, cuda=device.cuda):
        raise InvalidSettingError(f"{off[0]} is a setting of Unsloth on a GPU, which this probe ignores. Leave it out.")
    if question.training.framework == "unsloth" and not device.cuda:  # which has only its default
        one_of(question.lora.moe_scheme, "MoE scheme of an Unsloth probe without a GPU", ("default",))
    time_limit, memory_limit, steps = question.time_limit_seconds, question.memory_limit_bytes, question.timed_steps
    if shared:
        time_limit = min(time_limit, SHARED_TIME_LIMIT_SECONDS)
        memory_limit = min(memory_limit or SHARED_MEMORY_LIMIT_BYTES, SHARED_MEMORY_LIMIT_BYTES)
        steps = min(steps, SHARED_STEPS)
    shallow = question.depths or periods(model).depths() or (model.num_hidden_layers,)
    return ProbeRequest(
        probe_id=probe_id,
        created_at=created_at,
        model_id=model.id,
        total_depth=model.num_hidden_layers,
        depths=tuple(sorted({*shallow, *([model.num_hidden_layers] if question.full else [])})),
        lora=question.lora,
        training=question.training.settle(device),
        timed_steps=steps,
        time_limit_seconds=time_limit,
        memory_limit_bytes=memory_limit,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Extrapolation:
    """Memory and time at `depth` blocks, on straight lines through measurements of fewer blocks: once + per_block ·
    depth. Bytes are above the process's baseline."""

    depth: int
    moment: str
    """Part of a step with the highest peak at this depth: "forward", "backward", "optimizer", or "step" on a CPU."""
    peak_bytes: float
    once_bytes: float
    per_block_bytes: float
    load_peak_bytes: float
    step_seconds: float | None
    """Seconds of a step; None where noise made the line's value zero or negative."""
    once_seconds: float
    per_block_seconds: float
    tokens_per_second: float | None
    trainable_parameters: int
    total_parameters: int


def extrapolate(measured: Sequence[events.DepthMeasured], depth: int) -> Extrapolation | None:
    """Extrapolate measurements to a depth; None with fewer than two different depths."""
    depths = [each.depth for each in measured]
    if len(set(depths)) < 2:
        return None

    def line(name: str) -> tuple[float, float, float]:
        return fit(depths, [getattr(each, name) for each in measured], depth)

    names = [name for name in measured[0].moments if all(name in each.moments for each in measured)]
    moments = {"step": line("peak_bytes")}
    if names and all(each.peak_kind == "allocated" for each in measured):
        moments = {name: fit(depths, [each.moments[name] for each in measured], depth) for name in names}
    moment = max(moments, key=lambda name: moments[name][-1])
    once_bytes, per_block_bytes, peak_bytes = moments[moment]
    once_seconds, per_block_seconds, seconds = line("step_seconds")
    return Extrapolation(
        depth=depth,
        moment=moment,
        peak_bytes=peak_bytes,
        once_bytes=once_bytes,
        per_block_bytes=per_block_bytes,
        load_peak_bytes=line("load_peak_bytes")[-1],
        step_seconds=seconds if seconds > 0 else None,
        once_seconds=once_seconds,
        per_block_seconds=per_block_seconds,
        tokens_per_second=measured[0].tokens_per_step / seconds if seconds > 0 else None,
        trainable_parameters=round(line("trainable_parameters")[-1]),
        total_parameters=round(line("total_parameters")[-1]),
    )


def fit(depths: Sequence[float], values: Sequence[float], depth: float) -> tuple[float, float, float]:
    """Fit a line of values over depths, of which two differ; return intercept, slope, and value at `depth`."""
    mean_depth, mean = sum(depths) / len(depths), sum(values) / len(values)
    spread = sum((d - mean_depth) ** 2 for d in depths)
    slope = sum((d - mean_depth) * (v - mean) for d, v in zip(depths, values, strict=True)) / spread
    intercept = mean - slope * mean_depth
    return intercept, slope, intercept + slope * depth


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRecord(Recorded):
    """State of a probe: its request and the result of all its events."""

    request: ProbeRequest
    measured: tuple[events.DepthMeasured, ...] = ()
    did_not_fit: tuple[events.DepthDidNotFit, ...] = ()
    skipped: tuple[events.DepthSkipped, ...] = ()

    @property
    def full(self) -> events.DepthMeasured | None:
        """Measurement of the whole model; None where the whole model was not run."""
        return next((each for each in self.measured if each.depth == self.request.total_depth), None)

    @property
    def extrapolated(self) -> Extrapolation | None:
        """Extrapolation from smaller depths to the whole model; None before two depths are measured."""
        shallow = [each for each in self.measured if each.depth < self.request.total_depth]
        return extrapolate(shallow, self.request.total_depth)

    @property
    def whole(self) -> tuple[float, float | None] | None:
        """(peak bytes, seconds of a step) of the whole model, measured or extrapolated; None without a result."""
        if (whole := self.full or self.extrapolated) is None or self.state is not RunState.COMPLETED:
            return None
        return whole.peak_bytes, whole.step_seconds

    def _folded(self, event: events.RunEvent) -> "ProbeRecord":
        match event:
            case events.AttemptPlaced():
                return replace(self, place=event)
            case events.RunStarted() | events.StageReached():
                named = "environment" if isinstance(event, events.RunStarted) else "stage"
                begun = {"started_at": self.started_at or event.time, named: getattr(event, named)}
                return replace(self, state=RunState.RUNNING, **begun)
            case events.DepthMeasured() if len(self.measured) < MAX_DEPTHS and event.depth <= self.request.total_depth:
                return replace(self, measured=(*self.measured, event))
            case events.DepthDidNotFit() if len(self.did_not_fit) < MAX_DEPTHS:
                return replace(self, did_not_fit=(*self.did_not_fit, event))
            case events.DepthSkipped() if len(self.skipped) < MAX_DEPTHS:
                return replace(self, skipped=(*self.skipped, event))
            case events.ProbeCompleted():
                return replace(self, state=RunState.COMPLETED, ended_at=event.time)
            case events.RunFailed() | events.RunCancelled():
                return self._ended(event)
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeEstimate:
    """Estimate by formulas for one set-up on one device."""

    static_bytes: int
    """Base, adapter, gradients and optimizer states, which follow from shapes."""
    working_bytes: int
    """Activations, logits and temporary buffers, which the formulas approximate."""
    memory_bytes: Range
    """Peak memory, by the counter that a probe measures."""
    step_seconds: Range | None
    """Seconds of a step; None on a GPU of unknown speed."""


def estimate_probe(model: ModelSpec, request: ProbeRequest, device: Device, assume: Assumptions) -> ProbeEstimate:
    """Estimate the whole model with a probe's settings. A multimodal model counts as its text model, as in probes."""
    lora, training = request.lora, request.training
    stack = stack_on(device, training, lora.use_dora, assume)
    text, usable = replace(model, whole=None), device.usable_bytes
    predicted = predict(text, lora, stack, device, usable_bytes=usable, names=training.framework)
    memory, duration = predicted.memory_at(lora.r), predicted.duration_at(lora.r)
    band = memory.allocated_band
    return ProbeEstimate(
        static_bytes=memory.static,
        working_bytes=memory.working,
        memory_bytes=band if device.cuda else band.multiplied(assume.range("cpu-resident-slack")),
        step_seconds=duration.step if duration else None,
    )


def as_json(record: ProbeRecord, estimate: ProbeEstimate | None) -> dict[str, Any]:
    """Return a probe with its estimate as JSON; bytes are above the baseline on a CPU, allocated on a GPU."""
    request, full, training, line = record.request, record.full, record.request.training, record.extrapolated
    computed = ("peak_bytes", "step_seconds", "tokens_per_second")
    measured = [
        asdict(each) | _named(each, *computed) | {"reserved_bytes": each.peak_reserved_bytes}
        for each in record.measured
    ]
    step, (peak, seconds) = estimate and estimate.step_seconds, _errors(record)
    return {
        **_named(request, "probe_id", "model_id", "total_depth"),
        "state": str(record.state),
        "r": request.lora.r,
        **_named(training, "framework", "precision", "optim", "loss_path", "max_length"),
        "checkpointing": training.gradient_checkpointing,
        "batch": training.per_device_train_batch_size,
        "accumulation": training.gradient_accumulation_steps,
        "device": record.environment.get("device_name"),
        "environment": record.environment,
        "peak_kind": record.measured[0].peak_kind if measured else None,
        "measured": measured,
        "extrapolated": line
        and {
            **_named(line, "depth", "moment", "trainable_parameters", "total_parameters"),
            "peak_bytes": round(line.peak_bytes),
            "load_peak_bytes": round(line.load_peak_bytes),
            **_named(line, "step_seconds", "tokens_per_second"),
            "per_block": {"bytes": round(line.per_block_bytes), "seconds": line.per_block_seconds},
            "once": {"bytes": round(line.once_bytes), "seconds": line.once_seconds},
        },
        "full": measured[record.measured.index(full)] if full else None,
        "error_of_extrapolation": None if peak is None else {"peak": peak, "step_seconds": seconds},
        "estimate": estimate
        and {"memory_bytes": estimate.memory_bytes.as_json(), "step_seconds": step.as_json() if step else None},
        "did_not_fit": [asdict(each) for each in record.did_not_fit],
        "skipped": [asdict(each) for each in record.skipped],
        "sentences": sentences(record),
        "error": record.error or None,
    }


def _named(each: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(each, name) for name in names}


def _errors(record: ProbeRecord) -> tuple[float | None, float | None]:
    """Return relative errors of extrapolated peak and step time; None for what was not measured or extrapolated."""
    if not ((line := record.extrapolated) and (full := record.full)):
        return None, None
    return line.peak_bytes / full.peak_bytes - 1, line.step_seconds and line.step_seconds / full.step_seconds - 1


def sentences(record: ProbeRecord) -> list[str]:
    """Return notes on the results: depths that did not fit or were skipped, and a peak during loading."""
    notes = []
    for each in record.did_not_fit:
        limit = units.memory_size(each.limit_bytes)
        who = {"memory limit": f"the memory limit of {limit}", "GPU": f"the {limit} of this GPU"}
        short = f", by at least {units.memory_size(each.short_bytes)}" if each.short_bytes > 0 else ""
        is_whole = each.depth == record.request.total_depth
        blocks = "The whole model" if is_whole else f"A model of {units.counted(each.depth, 'block')}"
        what = f"{blocks} does not fit {who.get(each.why, 'the memory of this machine')}{short}"
        notes.append(f"{what} (stage: {each.stage}).")
    notes += [each.reason for each in record.skipped]
    if record.measured and record.measured[-1].load_peak_bytes > record.measured[-1].peak_bytes:
        notes.append("Loading the base model took more memory than training: a run has its peak there.")
    return notes


def table(record: ProbeRecord, estimate: ProbeEstimate | None) -> tuple[list[str], list[tuple[str, str, str, str]]]:
    """Return headings and rows: measured depths, their line, and the whole model by extrapolation and estimate."""
    memory, whole = units.memory_size, f"All {record.request.total_depth} blocks"

    def time(seconds: float) -> str:
        return f"{'-' * (seconds < 0)}{units.duration(abs(seconds))}"  # of a line through noisy times

    def measured(name: str, each: events.DepthMeasured) -> tuple[str, str, str, str]:
        return f"{name}, measured", memory(each.peak_bytes), time(each.step_seconds), f"{each.tokens_per_second:,.0f}"

    rows = [measured(units.counted(each.depth, "block"), each) for each in record.measured if each is not record.full]
    if line := record.extrapolated:
        seconds, tokens = units.NOT_KNOWN, ""
        if line.step_seconds:
            seconds, tokens = time(line.step_seconds), f"{line.tokens_per_second:,.0f}"
        rows += [
            ("Per block", memory(line.per_block_bytes), time(line.per_block_seconds), ""),
            ("Once: embeddings, loss, the rest", memory(line.once_bytes), time(line.once_seconds), ""),
            (f"{whole}, extrapolated", memory(round(line.peak_bytes)), seconds, tokens),
        ]
    if record.full:
        rows.append(measured(whole, record.full))
    if (errors := _errors(record))[0] is not None:
        rows.append(("Error of the extrapolation", *("" if each is None else f"{each:+.1%}" for each in errors), ""))
    if estimate:
        step = units.time_span(estimate.step_seconds) if estimate.step_seconds else ""
        rows.append((f"{whole}, estimated", units.memory_span(estimate.memory_bytes), step, ""))
    kind = f", {record.measured[0].peak_kind}" if record.measured else ""
    return ["", f"Peak memory{kind}", "Step", "Tokens/s"], rows


def applies(
    record: ProbeRecord,
    model_id: str,
    lora: LoraConfig,
    training: TrainingSetup,
    tokens: float,
    environment: Mapping[str, Any],
    assume: Assumptions,
) -> bool:
    """Tell whether a probe can correct the memory estimate of this model and set-up on this device.

    training: Without "auto". tokens: Tokens of one micro-step. environment: device_name, cpu_count and versions, as
    runs record them.
    """
    reach = assume.value("probe-tokens-reach")
    request, there = record.request, record.environment
    return (
        record.whole is not None
        and request.model_id == model_id
        and kernels(request.training, use_dora=request.lora.use_dora) == kernels(training, use_dora=lora.use_dora)
        and 1 / reach <= tokens / request.training.tokens_per_micro_step <= reach
        and machine_of(there) == machine_of(environment)
    )


def timing_of(record: ProbeRecord, model: ModelSpec, estimate: ProbeEstimate) -> Timing | None:
    """Return the probe's measured time, to correct later estimates; None if unfinished or without a time estimate."""
    _, step = record.whole or (0, None)
    request = record.request
    if not step or not estimate.step_seconds:
        return None
    return Timing(
        source_id=request.probe_id,
        kind="probe",
        ended_at=record.ended_at,
        workload=Workload(
            base=request.model_id,
            parameters=model.total_parameters,
            kernels=kernels(request.training, use_dora=request.lora.use_dora),
        ),
        ratio=step / estimate.step_seconds.expected,
    )


def calibrate(probes: Sequence[tuple[ProbeRecord, ProbeEstimate]], assume: Assumptions) -> MemoryCalibration | None:
    """Return the correction of memory estimates from probes. None without probes, and where all peaks are below the
    static bytes, since probes and formulas then count different things."""
    working, baselines, reserved = [], [], []
    for record, estimate in probes:
        peak, _ = record.whole
        if estimate.working_bytes > 0 and peak > estimate.static_bytes:
            working.append((peak - estimate.static_bytes) / estimate.working_bytes)
            baselines.append(max(each.baseline_bytes for each in record.measured))
        reserved += [each.peak_reserved_bytes / each.peak_bytes for each in record.measured if each.peak_reserved_bytes]
    if not working:
        return None
    centre, cuda = median(working), probes[0][0].environment.get("device") == "cuda"
    return MemoryCalibration(
        probe_ids=tuple(record.request.probe_id for record, _ in probes),
        process_bytes=0 if cuda else round(median(baselines)),
        working_factor=centre,
        memory_width=max(assume.value("probe-memory-width"), max(abs(each / centre - 1) for each in working)),
        reserved_share=median(reserved) if reserved else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """Bytes allocated on a simulated card. Peaks are over two optimizer steps."""

    depth: int
    loaded: int
    """Bytes after the base was loaded, before the adapter."""
    static: int
    """Bytes of base and adapter before the first step."""
    moments: Mapping[str, int]
    reserved: int
    kernels: Mapping[str, int] = field(default_factory=dict)
    """Number of calls of each attention kernel, those for recomputed blocks included."""
    trainable_parameters: int = 0

    @property
    def allocated(self) -> int:
        """Highest peak of all parts of a step."""
        return max(self.moments.values())

    @property
    def moment(self) -> str:
        """Name of the part of a step with the highest peak."""
        return max(self.moments, key=lambda name: self.moments[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedProbe:
    """A simulation with an estimate by formulas of the same set-up."""

    question: ProbeQuestion
    gpu: str
    run: Simulated
    estimate: Range
    """Allocated bytes by formulas."""
    mean_error: float
    worst_error: float
    """Largest known error of a simulated peak, as a share of the measured peak (assets/truth.json)."""

    def as_json(self) -> dict[str, Any]:
        """Return a flat JSON object; sizes in bytes."""
        run, training = self.run, self.question.training
        return {
            "simulated": True,
            "model_id": self.question.model_id,
            "gpu": self.gpu,
            "r": self.question.lora.r,
            **_named(training, "framework", "precision", "optim", "gradient_checkpointing", "max_length"),
            **_named(training, "per_device_train_batch_size", "gradient_accumulation_steps"),
            "allocated_bytes": run.allocated,
            "reserved_bytes": run.reserved,
            "base_bytes": run.loaded,
            "static_bytes": run.static,
            "moment": run.moment,
            "moments": dict(run.moments),
            "attention_kernels": dict(run.kernels),
            "trainable_parameters": run.trainable_parameters,
            "estimate_bytes": self.estimate.whole_json(),
            **_named(self, "mean_error", "worst_error"),
        }

    def lines(self) -> list[list[str]]:
        """Return the rows of a table: name and size."""
        run = self.run
        peaks = {f"Peak: {name}": value for name, value in run.moments.items() if value}  # not all are told apart
        sizes = {"Base weights": run.loaded, "Base and adapter": run.static, **peaks}
        return [
            ["Allocated (simulated)", units.memory_size(run.allocated)],
            ["Reserved (simulated)", units.memory_size(run.reserved)],
            ["Allocated (estimate)", units.memory_span(self.estimate)],
            *([name, units.memory_size(value)] for name, value in sizes.items()),
        ]

    def sentences(self) -> list[str]:
        """Return the notes below the table."""
        kernels = " and ".join(sorted(self.run.kernels)) or "eager"
        return [
            f"Nothing was measured: training steps of the real model code ran on a simulated {self.gpu}, without "
            "weights.",
            f"Compared with measured runs on a T4, simulated peaks are {units.rounded_percent(self.mean_error)} off on "
            f"average, {units.rounded_percent(self.worst_error)} at most.",
            f"The peak is at this moment of a step: {self.run.moment}. Attention kernel: {kernels}.",
        ]
