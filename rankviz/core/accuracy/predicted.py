"""Predicts runs that others measured, with the formulas of every estimate; errors by group, and widths of bands."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from operator import attrgetter
from statistics import fmean
from typing import Any, NamedTuple, get_args, get_type_hints

from rankviz.core.accuracy import report
from rankviz.core.bounds import MAX_NUMBER
from rankviz.core.cost import setup as settings
from rankviz.core.cost.grpo import with_rollout
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import Gpu, Grpo, TrainingSetup, card
from rankviz.core.cost.stack import CPU_HABITS, DTYPE_BYTES, PACKING_UNSLOTH_ZOO, Habits, Litgpt, Stack
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Assumptions, Range
from rankviz.errors import BadDataError, UserError, quoted

KINDS = ("allocated", "reserved", "device", "capacity", "unknown", "resident above baseline")
"""Counters of measured memory: torch's allocated or reserved, nvidia-smi's ("device"), the card's size at the longest
length that fitted ("capacity"), not stated, or a process's resident set minus its baseline before loading."""

ORIGINS = {
    **{"fms-": "fms-acceleration", "unsloth-": "unsloth", "fitcheck-": "fitcheck"},
    **dict.fromkeys(("litgpt-", "raschka-"), "litgpt"),
    "torchtune-": "torchtune",
}
"""Source by the prefix of a group's name. Raschka's runs belong to litgpt, whose scripts and data they use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRow:
    """One measured setting with its results. None means "not known"."""

    row_id: str
    group: str = "not stated"
    """Name of the table that the row comes from; errors within a table are correlated."""
    tier: str = "D"
    """Quality of the row. A: all settings stated, exact length. B: the length is the longest sample's, or a limit that
    rows reach. C: a limit that rows may not reach. D: a setting is not stated. E: read from an extrapolated line."""
    use_peak: bool
    use_time: bool
    model_id: str
    precision: str
    raised: str = "no"
    """Tensors that k-bit preparation cast to fp32: "yes" (all), "no" (none) or "norms only"."""
    framework: str
    framework_version: str
    r: int
    targets: tuple[str, ...]
    batch: int
    grad_accum: int = 1
    seq_len: int
    seq_kind: str
    """"cap" where seq_len is only a limit: at the full length, memory would be at least the measured one."""
    checkpointing: str
    attn: str = "sdpa"
    loss_path: str = "unknown"
    optimizer: str = "adamw_torch"
    adapter_dtype: str
    gpu: str
    measured_bytes: int | None
    measured_kind: str = "unknown"
    loaded_bytes: int | None
    """Bytes allocated before the first step: weights, adapter and, where the source says so, optimizer states."""
    measured_seconds_per_step: float | None
    source: str
    notes: str
    date: str = ""
    two_depth_bytes: int | None = None
    """Peak bytes of the whole model as a probe extrapolated it from two small depths; None for other rows."""
    two_depth_seconds: float | None = None
    gpus: int = 1
    strategy: str = "ddp"
    offload: bool = False
    generations: int | None = None
    """Completions of one prompt in a GRPO run, whose row has further fields; None for supervised training."""
    whole_batch: bool = False
    """True where the batch is stated."""
    standby: bool = False
    vllm_mode: str = ""
    utilization: float | None = None

    @property
    def origin(self) -> str:
        """Name of the source: who measured, with which program. Its tables share mistakes and are left out together."""
        return next((name for start, name in ORIGINS.items() if self.group.startswith(start)), self.group)


SETTING = attrgetter(
    *("group", "model_id", "precision", "raised", "framework", "r", "targets", "batch", "seq_len", "checkpointing"),
    *("attn", "loss_path", "optimizer", "gpu", "measured_kind", "gpus", "strategy", "offload"),
)
"""Key of a row's setting; rows with equal keys repeat one measurement."""
COLUMNS = {
    "group": "independent_group",
    "raised": "kbit_fp32_upcast",
    "loaded_bytes": "measured_load_bytes",
    "two_depth_bytes": "predicted_two_depth_bytes",
    "two_depth_seconds": "predicted_two_depth_seconds",
}
"""Column of a CSV file by field of MeasuredRow, where their names differ."""
NEEDED = ("r", "batch", "seq_len")


FIELD_KINDS = {
    name: next((kind for kind in (int, float) if kind in get_args(hint)), hint)
    for name, hint in get_type_hints(MeasuredRow).items()
}
"""Type of each field of MeasuredRow; for optional fields the type without None."""


def parse_row(cells: Mapping[str, str], line: int) -> MeasuredRow:
    """Parse one line of a CSV file; raise BadDataError, which names the line and the invalid column."""
    row = {name: _cell(cells, name, kind, line) for name, kind in FIELD_KINDS.items()}
    defaults = {each.name: each.default for each in fields(MeasuredRow) if each.default is not MISSING}
    row = {name: defaults.get(name, value) if value in ("", None) else value for name, value in row.items()}
    return MeasuredRow(**row | {"row_id": row["row_id"] or f"line {line}"})


def _cell(cells: Mapping[str, str], name: str, kind: Any, line: int) -> Any:
    column = COLUMNS.get(name, name)
    text = (cells.get(column) or "").strip()
    if kind is bool:
        return text == "yes"
    if kind not in (int, float):
        return text if kind is str else tuple(filter(None, map(str.strip, text.split(","))))
    if not text and name not in NEEDED:
        return None
    try:
        value = float(text or 0)
    except ValueError:
        raise BadDataError(f"Line {line}, column {column}: {quoted(text)} is not a number.") from None
    if not abs(value) <= MAX_NUMBER:
        raise BadDataError(f"Line {line}, column {column}: give a finite number of at most 10^18.")
    if name in NEEDED and int(value) < 1:
        raise BadDataError(f"Line {line}, column {column}: give a whole number of 1 or more.")
    return kind(value)


RAISED = {"yes": "all", "norms only": "norms", "no": "none"}
DYNAMIC = "nf4-dq-dynamic"
PRECISIONS = {name: name for name in ("bf16", "fp16", "fp32", "int8", "nf4", "nf4-dq")}
PRECISIONS |= {"fp4": "nf4", DYNAMIC: "nf4-dq", "gptq-int4": "nf4-dq"}
"""Precision whose formula is used, by a row's format. For GPTQ, bytes per weight are an assumption."""

PROGRAMS = {
    "peft": Habits(autocast=False, holds_logits=True, copies_keys=True),
    "trl": Habits(holds_logits=True),
    "fms-accelerated-peft": Habits(holds_logits=True),
    "fms-foak": Habits(triton_kernels=True, holds_logits=True),
    "llamafactory": Habits(holds_logits=True),
    "fsdp-qlora": Habits(autocast=False, holds_logits=True),
    "unsloth-cpu": CPU_HABITS,
    "unsloth": Habits(unsloth_kernels=True, saved_parameter_bytes=4),
    **dict.fromkeys(("litgpt", "torchtune"), Habits(autocast=False, holds_logits=True, own_models=True)),
}
"""Habits of each training program.

Programs with holds_logits: fitcheck ("peft"; fitcheck-llm 0.3.1 scripts/measure.py) keeps the model's output, and also
copies keys to every head for the efficient kernel. Trainers before version 5 return the output with the loss; in rows
of fms-acceleration, the loss of transformers 4.48 makes a shifted copy of the same size.
"""
TRAINED_COPIES = ("embed_tokens", "lm_head")
"""Target modules that Unsloth trains in full if they are not tied."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedRow:
    """One measured row and its prediction."""

    row: MeasuredRow
    stack: Stack | None = None
    predicted: Range | None = None
    """Predicted peak bytes, by the row's own counter."""
    loaded_bytes: int = 0
    """Predicted bytes before the first step: weights, adapter, and optimizer states where the row's notes say so."""
    working_bytes: float = 0.0
    """Modelled part of the predicted bytes: activations and logits; where GPUs share the base, all but their shards."""
    seconds: Range | None = None
    reason: str
    """Reason why the row has no prediction or is not counted; empty for a scored row."""

    @property
    def scored(self) -> bool:
        return self.predicted is not None and not self.reason

    @property
    def error(self) -> float | None:
        """Relative error: (predicted - measured) / measured."""
        if self.predicted is None or not self.row.measured_bytes:
            return None
        return self.predicted.expected / self.row.measured_bytes - 1

    @property
    def bound(self) -> bool:
        """True where the row's length is only a limit, so that the measured memory is at most the predicted one."""
        return self.predicted is not None and self.row.seq_kind == "cap"

    @property
    def inside(self) -> bool:
        """True where the measured memory is inside the predicted range, or for a bound below its high end."""
        if self.predicted is None:
            return False
        measured, low = self.row.measured_bytes, -math.inf if self.bound else self.predicted.low
        return low <= measured <= self.predicted.high


def predict_row(
    row: MeasuredRow, find_model: Callable[[str], ModelSpec], find_gpu: Callable[[str], Gpu | None], assume: Assumptions
) -> PredictedRow:
    """Predict a row's peak by its own counter, and its step time if that was measured and the card's speed is known."""
    if row.generations:
        return _predict_grpo(row, find_model, find_gpu, assume)
    if problem := unusable(row):
        return PredictedRow(row=row, reason=problem)
    stack, gpu = row_stack(row, assume), find_gpu(row.gpu)
    try:
        model = find_model(row.model_id)
        copies = TRAINED_COPIES if row.framework == "unsloth" and not model.tie_word_embeddings else ()
        lora = LoraConfig(
            r=row.r,
            target_modules=tuple(name for name in row.targets if name not in copies),
            modules_to_save=tuple(name for name in row.targets if name in copies),
        )
        chain = predict(model, lora, stack, card(gpu), usable_bytes=gpu and gpu.usable_bytes, names="peft")
    except UserError as error:
        return PredictedRow(row=row, reason=str(error))
    memory, measured = chain.memory_at(row.r), row.use_peak and row.measured_bytes
    duration = chain.duration_at(row.r) if row.use_time and row.measured_seconds_per_step else None
    return PredictedRow(
        row=row,
        stack=stack,
        predicted=_of_kind(memory, row.measured_kind, assume) if measured else None,
        loaded_bytes=memory.base_weights + memory.adapter + (memory.optimizer if "Adam states" in row.notes else 0),
        working_bytes=memory.working + memory.gradients if stack.setup.sharded else memory.activations + memory.logits,
        seconds=duration and duration.step,
        reason="" if row.tier in ("A", "B") and measured else _why_not_counted(row),
    )


ASSUMED_PROMPT = 512
"""Tokens of the prompt, where a row has the length of prompt and completion together: TRL's default. It hardly changes
a capacity."""


def _predict_grpo(
    row: MeasuredRow, find_model: Callable[[str], ModelSpec], find_gpu: Callable[[str], Gpu | None], assume: Assumptions
) -> PredictedRow:
    """Predict the memory that a row's length needs on the card. With vLLM in the process, the share that it was given
    fixes the card's peak, so only rows count that give the longest length that fitted. What a row does not state makes
    the range: a batch of 1 to a whole group; vLLM with the least share with which it starts, to the program's default;
    for TRL also no vLLM; a prompt of ASSUMED_PROMPT tokens to none."""
    gpu = find_gpu(row.gpu)
    if row.measured_bytes is None and gpu:
        row = replace(row, measured_bytes=gpu.usable_bytes)
    if problem := "; ".join(part for part in row.notes.split("; ") if part.endswith("not stated")) or unusable(row):
        return PredictedRow(row=row, reason=problem)
    stack = row_stack(row, assume)

    def at(batch: int, mode: str, *, most: bool = False) -> Range:
        prompt = 1 if most else min(ASSUMED_PROMPT, row.seq_len - 1) or 1
        grpo = Grpo(
            num_generations=row.generations,
            max_prompt_length=prompt,
            max_completion_length=max(1, row.seq_len - prompt),
            vllm_mode=mode,
            vllm_enable_sleep_mode=row.standby,
            vllm_gpu_memory_utilization=row.utilization,
        )
        setup = replace(stack.setup, per_device_train_batch_size=batch, gradient_accumulation_steps=1, grpo=grpo)
        made = predict(model, LoraConfig(r=row.r), replace(stack, setup=setup), card(gpu))
        known = gpu and gpu.usable_bytes if row.utilization or (most and not row.standby) else None
        return with_rollout(made, row.r, known)[0].device_band

    try:
        model = find_model(row.model_id)
        least = 1 if not row.whole_batch else row.batch
        most = row.batch if row.whole_batch else max(row.batch, row.generations)
        ends = at(least, row.vllm_mode), at(most, "colocate", most=True)
        expected = at(row.batch, row.vllm_mode)
    except UserError as error:
        return PredictedRow(row=row, reason=str(error))
    counted, notes = row.tier == "A" and row.measured_bytes, row.notes.split("; ")
    return PredictedRow(
        row=row,
        stack=stack,
        predicted=Range(min(ends[0].low, expected.low), expected.expected, max(ends[1].high, expected.high)),
        working_bytes=expected.expected,
        reason="" if counted else notes[0],
    )


def row_stack(row: MeasuredRow, assume: Assumptions) -> Stack:
    """Return the stack (program and settings) that the row was measured with."""
    on_cpu = row.gpu.startswith("CPU")
    unstated = "chunked" if row.framework in ("litgpt", "torchtune") else "full"
    habits = _habits_in_version(CPU_HABITS if on_cpu else PROGRAMS[row.framework], row)
    if row.framework == "litgpt":
        constants = (assume.value(f"litgpt-{name}") for name in ("logit-bytes", "quantized-head", "unpacked-copies"))
        # The scripts of 2023 have no maximum length: the longest sample, and so the peak, comes once, after a shorter
        # one. Those of 2024 cut rows at a length that most micro-steps reach.
        habits = replace(habits, litgpt=Litgpt(*constants, not row.date.startswith("2023")))
    habits = replace(
        habits,
        raised=RAISED[row.raised],
        adapter_parameter_bytes=DTYPE_BYTES.get(row.adapter_dtype, habits.adapter_parameter_bytes),
        weight_bytes=assume.value("weight-bytes-gptq-int4") if row.precision == "gptq-int4" else None,
        dropout="LoRA dropout" in row.notes,
    )
    setup = TrainingSetup(
        framework="unsloth" if habits.unsloth_kernels else "trl" if habits.autocast else "peft",
        precision=PRECISIONS[row.precision],
        optim=row.optimizer,
        per_device_train_batch_size=row.batch,
        gradient_accumulation_steps=row.grad_accum,
        max_length=row.seq_len,
        gradient_checkpointing=row.checkpointing,
        # on a CPU as in stack_on: fused losses are kernels of a GPU
        loss_path="full" if on_cpu else unstated if row.loss_path == "unknown" else row.loss_path,
        attn_implementation=row.attn,
        gpus=row.gpus,
        strategy=row.strategy,
        offload=row.offload,
    )
    return Stack(setup=setup, use_dora=False, assume=assume, measured_habits=habits)


def _habits_in_version(habits: Habits, row: MeasuredRow) -> Habits:
    """Return the program's habits in the version or year that the row names."""
    transformers = version_of("transformers", row.framework_version)
    if transformers is None and row.origin == "fms-acceleration" and row.date.startswith("2024"):
        transformers = (4, 45, 2)  # until February 2025 (scripts/benchmarks/refs/requirements.txt)
    old = transformers is not None and transformers < (5,)
    # Rows that do not name unsloth_zoo name Unsloth, whose versions are of the same days.
    unsloth = version_of("unsloth", row.framework_version)
    zoo = version_of("unsloth_zoo", row.framework_version) or unsloth
    habits = replace(
        habits,
        quantizes_experts=old,
        packs_experts=zoo is None or zoo >= PACKING_UNSLOTH_ZOO,
        one_expert_at_a_time=old,
        rebinds_logits=transformers is not None and transformers < (4, 46),
    )
    if row.framework != "unsloth":
        return habits
    year = unsloth or version_of("", row.date) or (9999,)
    return replace(
        habits,
        unsloth_loss="cut" if year < (2025,) else "func-2025" if year < (2026,) else "chunked",
        moves_embedding=year >= (2026,),
        loads_plain_nf4=row.precision != DYNAMIC,
    )


def version_of(name: str, text: str) -> tuple[int, ...] | None:
    """Return the version after a program's name: "transformers 4.45.2" gives (4, 45, 2); None without one."""
    match = re.search(rf"\b{name}\W*(\d+(?:\.\d+)*)", text, re.IGNORECASE)
    return tuple(map(int, match[1].split("."))) if match else None


def unusable(row: MeasuredRow) -> str:
    """Return the reason why a row cannot be predicted; empty where it can."""
    for value, values, what in (
        (row.framework, PROGRAMS, "program"),
        (row.precision, PRECISIONS, "precision"),
        (row.raised, RAISED, "k-bit preparation"),
        (row.checkpointing, settings.CHECKPOINTING, "checkpointing"),
        (row.attn, settings.ATTENTION, "attention"),
        (row.loss_path, (*settings.LOSS_PATHS, "chunked", "unknown"), "loss path"),
        (row.optimizer, settings.OPTIMIZERS, "optimizer"),
        (row.strategy, settings.STRATEGIES, "strategy"),
    ):
        if value not in values:
            return f"{what} {value or 'not stated'!r}: no formula"
    if row.gpu[:1].isdigit() and " x " in row.gpu:
        return "several GPUs"
    if not row.targets:
        return "target modules not stated"
    if (row.use_peak and row.measured_bytes) or (row.use_time and row.measured_seconds_per_step):
        return ""
    parts = [part.strip() for part in row.notes.split(";")]
    reason = next((part for part in parts if part.endswith("not usable")), parts[0].split(":")[0])
    return "the run stopped out of memory, so no peak was measured" if reason == "OOM" else reason or "no measurement"


def _why_not_counted(row: MeasuredRow) -> str:
    """Return the reason why a row is not counted: one of its source, never the error of its prediction."""
    if not (row.use_peak and row.measured_bytes):
        return "timing only"
    if row.seq_kind == "cap":
        return "the length is only a cap: measured at most the high end"
    parts = (part.strip().split(":")[0] for part in row.notes.split(";"))
    unknown = "; ".join(part for part in parts if re.search("not stated|contradict", part)) or "a setting is not stated"
    reasons = {"D": unknown, "E": "read from an extrapolated line, not measured"}
    return reasons.get(row.tier, f"tier {row.tier}")


def _of_kind(memory: MemoryEstimate, kind: str, assume: Assumptions) -> Range:
    if kind == "resident above baseline":
        return memory.allocated_band.multiplied(assume.range("cpu-resident-slack"))
    bands = {"allocated": memory.allocated_band, "reserved": memory.reserved_band}
    bands |= dict.fromkeys(("device", "capacity"), memory.device_band)
    # A peak whose kind isn't stated may be any of the three.
    unknown = Range(memory.allocated_band.low, memory.reserved_band.expected, memory.device_band.high)
    return bands.get(kind, unknown)


STUDENT_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""Student's t for a two-sided 90 % interval, with 1 to 10 degrees of freedom."""
Rows = Sequence[PredictedRow]
Figure = Callable[[PredictedRow], float]


def half_width(errors_by_origin: dict[str, Sequence[float]], unmeasured: float = math.inf) -> float:
    """Return the half-width of a band, t(95 %, G) · s, from the errors of G sources. unmeasured: Half-width where
    nothing is measured; the result is at most this, or the largest measured error if larger."""
    worst = max(abs(error) for errors in errors_by_origin.values() for error in errors)
    means = [sum(error * error for error in errors) / len(errors) for errors in errors_by_origin.values()]
    by_spread = STUDENT_95[min(len(means), len(STUDENT_95)) - 1] * math.sqrt(sum(means) / len(means))
    return min(by_spread, max(unmeasured, worst))


class BandEvidence(NamedTuple):
    """Functions of a predicted row for one kind of band: kind of setting, error in the band's unit, error as a share,
    and whether the measured figure is inside the band."""

    kind: Callable[[PredictedRow], str]
    error: Figure
    share: Figure
    inside: Figure
    unmeasured: str = "width-unmeasured"


MEMORY = BandEvidence(
    kind=lambda p: p.stack.kind,
    error=lambda p: (p.row.measured_bytes - p.predicted.expected) / max(1.0, p.working_bytes),
    share=lambda p: p.error,
    inside=lambda p: p.inside,
)
TIME = BandEvidence(
    kind=lambda p: p.stack.time_kind,
    error=lambda p: math.log(p.row.measured_seconds_per_step / p.seconds.expected),
    share=lambda p: p.seconds.expected / p.row.measured_seconds_per_step - 1,
    inside=lambda p: p.seconds.holds(p.row.measured_seconds_per_step),
    unmeasured="time-width-unmeasured",
)
STATIC = BandEvidence(
    kind=lambda p: "static",
    error=lambda p: p.row.loaded_bytes - p.loaded_bytes,
    share=lambda p: p.loaded_bytes / p.row.loaded_bytes - 1,
    inside=lambda p: True,
    unmeasured="width-static-unmeasured",
)
"""Errors in bytes of the counted parts (weights, adapter, states), where memory was measured before the first step.
They are not shares, because what is missing (workspaces, small tensors) does not grow with the base."""


def evidence_of(predictions: Rows, unseen: Rows = ()) -> report.AccuracyByKind:
    """Return the errors behind each band. `static` excludes GPTQ, which RankViz does not estimate. unseen: The same
    rows, each predicted without measurements of its source."""
    scored = [p for p in predictions if p.scored]
    loaded = [p for p in scored if p.loaded_bytes and p.row.loaded_bytes and p.row.precision != "gptq-int4"]
    # times of several GPUs have a range of their own (core.cost.cards)
    timed, others_timed = ([p for p in each if p.seconds and p.row.gpus == 1] for each in (predictions, unseen))
    return report.AccuracyByKind(
        static=by_kind(STATIC, [p for p in loaded if p.row.gpus == 1]),
        memory=by_kind(MEMORY, scored, [p for p in unseen if p.scored]),
        time=by_kind(TIME, timed, others_timed),
    )


def by_kind(evidence: BandEvidence, predictions: Rows, unseen: Rows = ()) -> tuple[report.KindAccuracy, ...]:
    """Return errors by kind of setting. Repeats of one setting count as one error: the root of their mean square."""
    accuracies, left_out = [], _grouped(unseen, evidence.kind)
    for name, members in sorted(_grouped(predictions, evidence.kind).items()):
        errors: dict[str, list[float]] = defaultdict(list)
        for repeats in _by_setting(members):
            errors[repeats[0].row.origin].append(math.sqrt(fmean(evidence.error(p) ** 2 for p in repeats)))
        others = left_out.get(name)
        accuracies.append(
            report.KindAccuracy(
                kind=name,
                half_width=half_width(errors, members[0].stack.assume.value(evidence.unmeasured)),
                groups=tuple(sorted(errors)),
                settings=sum(len(each) for each in errors.values()),
                mean_abs_error=mean_over_settings(members, lambda p: abs(evidence.share(p))),
                left_out_error=others and mean_over_settings(others, lambda p: abs(evidence.share(p))),
                left_out_inside=others and mean_over_settings(others, evidence.inside),
            )
        )
    return tuple(accuracies)


def _grouped(predictions: Rows, key: Callable) -> dict:
    groups = defaultdict(list)
    for prediction in predictions:
        groups[key(prediction)].append(prediction)
    return groups


def _by_setting(predictions: Rows) -> Iterable[list[PredictedRow]]:
    """Return the rows in groups that repeat one setting."""
    return _grouped(predictions, lambda p: SETTING(p.row)).values()


def mean_over_settings(predictions: Rows, figure: Figure) -> float:
    """Return the mean of a figure over settings; a setting that was measured several times counts once."""
    return fmean(fmean(figure(p) for p in members) for members in _by_setting(predictions))


def scores(predictions: Rows, name_of: Callable[[PredictedRow], str]) -> tuple[report.Score, ...]:
    """Return the scores of predicted rows in groups, the largest group first. name_of: Returns the group of a row."""
    groups = sorted(_grouped(predictions, name_of).items(), key=lambda item: -len(item[1]))
    return tuple(interval_score(name, members) for name, members in groups)


def interval_score(name: str, members: Rows) -> report.Score:
    """Return the score of one group of predicted rows."""
    return report.Score(
        group=name,
        rows=len(members),
        settings=len(_by_setting(members)),
        mean_abs_error=mean_over_settings(members, lambda p: abs(p.error)),
        worst_error=max((p.error for p in members), key=abs),
        inside_band=mean_over_settings(members, lambda p: p.inside),
        mean_half_width=mean_over_settings(
            members, lambda p: (p.predicted.high - p.predicted.low) / 2 / p.predicted.expected
        ),
    )


def summarize(predictions: Rows, made: str, unseen: Rows = ()) -> report.AccuracyReport:
    """Return the report on predictions; every setting counts once. made: ISO date. unseen: The same rows, each
    predicted without its source; empty leaves this out. Several GPUs are a group of their own."""
    evidence, several = evidence_of(predictions, unseen), [p for p in unseen or predictions if p.row.gpus > 1]
    predictions = [p for p in predictions if p.row.gpus == 1]
    unseen = [p for p in unseen if p.row.gpus == 1]
    scored = [p for p in predictions if p.scored]
    aside = [p for p in predictions if p.predicted and not p.scored]
    # A GPU's own counters measured these; a process's resident memory is something else.
    on_cards = [p for p in scored if not p.stack.habits.on_cpu]
    every = "all counted rows on GPUs" if on_cards else "all counted rows"
    return report.AccuracyReport(
        made=made,
        rows=tuple(map(_row, unseen or predictions)),
        groups=scores(scored, TABLE),
        overall=interval_score(every, on_cards or scored) if scored else None,
        not_scored=scores([p for p in aside if not p.bound], TABLE),
        bounds=scores([p for p in aside if p.bound], TABLE),
        time=_time(predictions),
        evidence=evidence,
        left_out=_by_origin(unseen, every),
        several_rows=tuple(map(_row, several)),
        several=_by_origin(several, "all counted rows of several GPUs"),
    )


def _by_origin(predictions: Rows, every: str) -> report.LeftOut | None:
    """Return the errors of rows by source; None without a counted row on a GPU. every: Name of all these rows."""
    scored = [p for p in predictions if p.scored]
    if not (on_cards := [p for p in scored if not p.stack.habits.on_cpu]):
        return None
    by_origin, overall = scores(scored, lambda p: p.row.origin), interval_score(every, on_cards)
    return report.LeftOut(origins=by_origin, overall=overall, time=_time(predictions))


TABLE = attrgetter("row.group")
SHARED = (
    "row_id",
    "group",
    "origin",
    "model_id",
    "gpu",
    "measured_kind",
    "two_depth_bytes",
    "two_depth_seconds",
    "source",
)


def _row(p: PredictedRow) -> report.ReportRow:
    row, stack, band = p.row, p.stack, p.predicted
    loss = f", {row.loss_path} loss" if row.loss_path != "unknown" else ""
    cards = f"{row.gpus} x {row.gpu}, {row.strategy}{' with offload' * row.offload}" if row.gpus > 1 else row.gpu
    return report.ReportRow(
        **{name: getattr(row, name) for name in SHARED},
        scored=p.scored,
        bound=p.bound,
        reason=p.reason or None,
        kind=stack and stack.kind,
        quantized=stack and stack.setup.quantized,
        setting=f"{row.framework}, {row.precision}, r {row.r}, {len(row.targets)} targets, {row.batch} × "
        f"{row.seq_len:,} tokens, checkpointing {row.checkpointing}, {row.attn} attention{loss}, {cards}",
        measured_bytes=row.measured_bytes if row.use_peak else None,
        predicted_bytes=band and round(band.expected),
        low=band and round(band.low),
        high=band and round(band.high),
        measured_seconds_per_step=row.measured_seconds_per_step if row.use_time else None,
        predicted_seconds_per_step=p.seconds and p.seconds.expected,
    )


def _time(predictions: Rows) -> report.TimeScore | None:
    timed = [p for p in predictions if p.seconds]
    if not timed:
        return None
    return report.TimeScore(
        rows=len(timed),
        mean_abs_error=mean_over_settings(timed, lambda p: abs(TIME.share(p))),
        inside_range=mean_over_settings(timed, TIME.inside),
        widest_high_over_low=max(p.seconds.high / p.seconds.low for p in timed),
    )


def left_out_predictions(
    rows: Sequence[MeasuredRow],
    predict: Callable[[MeasuredRow, Assumptions], PredictedRow],
    constants: Assumptions,
    made: str,
) -> tuple[PredictedRow, ...]:
    """Predict each row with constants and widths that its source did not contribute to, in the order of the rows.
    constants: Assumptions without measured widths. made: ISO date."""
    unseen = {}
    for origin in {row.origin for row in rows}:
        own = constants.without(origin)
        others = [predict(row, own) for row in rows if row.origin != origin]
        unseen[origin] = own.with_rows(report.widths(evidence_of(others), made))
    return tuple(predict(row, unseen[row.origin]) for row in rows)
