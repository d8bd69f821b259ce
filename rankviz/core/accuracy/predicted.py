"""Measured training runs from elsewhere, predicted by the same formulas as any estimate, and how far off they were."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any, get_args, get_type_hints

from rankviz.core.bounds import MAX_NUMBER
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.predict import predict
from rankviz.core.cost.setup import ATTENTION, CHECKPOINTING, LOSS_PATHS, OPTIMIZERS, Gpu, TrainingSetup, card
from rankviz.core.cost.stack import CPU_HABITS, DTYPE_BYTES, PACKING_UNSLOTH_ZOO, Habits, Stack
from rankviz.core.lora.config import LoraConfig
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.errors import BadDataError, UserError, quoted

KINDS = ("allocated", "reserved", "device", "capacity", "unknown", "resident above baseline")
"""Which counter a figure is: torch's two, nvidia-smi's, a card's size at the longest length that fitted, not stated,
or a process's resident set less what it had before the base was loaded."""

ORIGINS = {
    "fms-": "fms-acceleration",
    "litgpt-": "litgpt",
    "raschka-": "litgpt",
    "unsloth-": "unsloth",
    "fitcheck-": "fitcheck",
}
"""By how a group's name begins. Raschka's runs are litgpt's scripts on litgpt's data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRow:
    """One row. None is "not known"."""

    row_id: str
    group: str
    """Rows from one table, whose errors hang together."""
    tier: str
    """A: every setting stated, exact length. B: the length is the longest sample or a cap that is reached. C: the
    length is a cap that rows need not reach. D: something is not stated. E: an extrapolated line."""
    use_peak: bool
    use_time: bool
    model_id: str
    precision: str
    compute_dtype: str
    raised: str
    """"yes", "no" or "norms only": what k-bit preparation left in fp32."""
    framework: str
    framework_version: str
    r: int
    targets: tuple[str, ...]
    batch: int
    grad_accum: int
    seq_len: int
    seq_kind: str
    checkpointing: str
    attn: str
    loss_path: str
    optimizer: str
    adapter_dtype: str
    gpu: str
    measured_bytes: int | None
    measured_kind: str
    reserved_bytes: int | None
    device_bytes: int | None
    """The other totals, where they were read too: torch's reserved and nvidia-smi's."""
    loaded_bytes: int | None
    """Allocated before the first step: weights, adapter and, where the source says so, optimizer states."""
    measured_seconds_per_step: float | None
    source: str
    notes: str
    trainable_parameters: int | None = None
    """Printed by the program; only where the row's targets can be given by name."""
    date: str = ""
    """Date of the measurement in the source."""
    two_depth_bytes: int | None = None
    """For a probe's row: what two small depths made of the whole model."""
    two_depth_seconds: float | None = None

    @property
    def origin(self) -> str:
        """The source: who measured with which program. Tables of one source share mistakes, so that only another
        source says what happens on one that has not been seen."""
        return next((name for start, name in ORIGINS.items() if self.group.startswith(start)), self.group)

    @property
    def is_bound(self) -> bool:
        """The length is only a cap: at the cap the run would have taken at least what was measured."""
        return self.seq_kind == "cap"

    @property
    def setting(self) -> tuple:
        """Rows with the same setting repeat one measurement."""
        return _SETTING(self)


_SETTING = attrgetter(
    *("group", "model_id", "precision", "raised", "framework", "r", "targets", "batch", "seq_len", "checkpointing"),
    *("attn", "loss_path", "optimizer", "gpu", "measured_kind"),
)
COLUMNS = {
    "group": "independent_group",
    "raised": "kbit_fp32_upcast",
    "reserved_bytes": "measured_reserved_bytes",
    "device_bytes": "measured_device_bytes",
    "loaded_bytes": "measured_load_bytes",
    "trainable_parameters": "trainable_params",
    "two_depth_bytes": "predicted_two_depth_bytes",
    "two_depth_seconds": "predicted_two_depth_seconds",
}
"""By field: its column in a CSV file, where that has another name."""
IF_EMPTY = {
    "group": "not stated",
    "tier": "D",
    "raised": "no",
    "grad_accum": 1,
    "attn": "sdpa",
    "loss_path": "unknown",
    "optimizer": "adamw_torch",
    "measured_kind": "unknown",
}
NEEDED = ("r", "batch", "seq_len")


def parse_row(cells: Mapping[str, str], line: int) -> MeasuredRow:
    """One line of a CSV file; BadDataError names the line and the column that can't be read."""
    row = {name: _cell(cells, name, kind, line) for name, kind in _kinds().items()}
    row["row_id"] = row["row_id"] or f"line {line}"
    if (cells.get("use_count") or "").strip() != "yes":
        row["trainable_parameters"] = None
    return MeasuredRow(**row)


@cache
def _kinds() -> Mapping[str, Any]:
    """The type of each field, without None."""
    hints = get_type_hints(MeasuredRow).items()
    return {name: next((kind for kind in (int, float) if kind in get_args(hint)), hint) for name, hint in hints}


def _cell(cells: Mapping[str, str], name: str, kind: Any, line: int) -> Any:
    column = COLUMNS.get(name, name)
    text = (cells.get(column) or "").strip()
    if kind is bool:
        return text == "yes"
    if kind not in (int, float):
        return (text or IF_EMPTY.get(name, "")) if kind is str else tuple(filter(None, map(str.strip, text.split(","))))
    if not text and name not in NEEDED:
        return IF_EMPTY.get(name)
    try:
        value = float(text or 0)
    except ValueError:
        raise BadDataError(f"Line {line}, column {column}: {quoted(text)} is not a number.") from None
    if not abs(value) <= MAX_NUMBER:
        raise BadDataError(f"Line {line}, column {column}: give a finite number of at most 10^18.")
    if name in NEEDED and int(value) < 1:
        raise BadDataError(f"Line {line}, column {column}: give a whole number of 1 or more.")
    return kind(value)


SCORED_TIERS = ("A", "B")
RAISED = {"yes": "all", "norms only": "norms", "no": "none"}
DYNAMIC = "nf4-dq-dynamic"
PRECISIONS = {name: name for name in ("bf16", "fp16", "fp32", "int8", "nf4", "nf4-dq")}
PRECISIONS |= {"fp4": "nf4", DYNAMIC: "nf4-dq", "gptq-int4": "nf4-dq"}
"""The precision whose formula a row's format follows; GPTQ's own bytes a weight are an assumption."""

LITGPT = Habits(
    autocast=False,
    holds_logits=True,
    lora_dropout=True,
    keeps_quantized_inputs=True,
    pads_adapters=True,
    unties_head=True,
    own_models=True,
)
"""litgpt of 2023 and 2024 (finetune/lora.py, lora.py, model.py) on Fabric (plugins/precision/bitsandbytes.py): LoRA
dropout 0.05, bitsandbytes before 0.43, padded adapters of the fused qkv. What was read there because rows did not fit
is in assumptions.json, so that it can be left out with them: see `_as_rows_taught`."""
PROGRAMS = {
    "peft": Habits(autocast=False, holds_logits=True, copies_keys=True),
    "trl": Habits(holds_logits=True),
    "fms-accelerated-peft": Habits(holds_logits=True),
    "fms-foak": Habits(triton_kernels=True, holds_logits=True),
    "llamafactory": Habits(holds_logits=True),
    "unsloth-cpu": CPU_HABITS,
    "unsloth": Habits(unsloth_kernels=True, saved_bytes=4),
    "litgpt": LITGPT,
    "torchtune": Habits(autocast=False, holds_logits=True, own_models=True),
}
"""Programs that hold logits: fitcheck ("peft"; fitcheck-llm 0.3.1 scripts/measure.py, which also copies keys to every
head so that the efficient kernel takes them) keeps the output; Trainers before 5 return it beside the loss, or, in the
rows of fms-acceleration, the loss of transformers 4.48 makes a shifted copy as large."""
FMS_TRANSFORMERS_OF_2024 = (4, 45, 2)
"""scripts/benchmarks/refs/requirements.txt of fms-acceleration before February 2025, for rows that only point to it."""
TRAINED_COPIES = ("embed_tokens", "lm_head")
"""Target names that Unsloth trains as full copies where they are not tied."""
UNSTATED_LOSS_PATHS = {"litgpt": "chunked", "torchtune": "chunked"}
"""Loss path of a program where the row names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedRow:
    """One row beside its prediction."""

    row: MeasuredRow
    stack: Stack | None = None
    predicted: Range | None = None
    """Prediction of the row's own kind of peak."""
    memory: MemoryEstimate | None = None
    parameters: int | None = None
    """That train."""
    loaded_bytes: int = 0
    """Allocated before the first step: weights, adapter, and optimizer states where the row's notes say so."""
    working_bytes: float = 0.0
    """The part of the prediction that is modelled: activations and logits."""
    seconds: Range | None = None
    reason: str
    """Why the row can't be used, or isn't counted; empty for a scored row."""

    @property
    def scored(self) -> bool:
        return self.predicted is not None and not self.reason

    @property
    def error(self) -> float | None:
        """(predicted - measured) / measured."""
        if self.predicted is None or not self.row.measured_bytes:
            return None
        return self.predicted.expected / self.row.measured_bytes - 1

    @property
    def bound(self) -> bool:
        """The measured figure is at most what the prediction is for: the row's length is only a cap."""
        return self.predicted is not None and self.row.is_bound

    @property
    def inside(self) -> bool:
        """Whether the measured figure is inside the band, or below its high end where it is a bound."""
        if self.predicted is None:
            return False
        measured, low = self.row.measured_bytes, -math.inf if self.bound else self.predicted.low
        return low <= measured <= self.predicted.high


def predict_row(
    row: MeasuredRow, find_model: Callable[[str], ModelSpec], find_gpu: Callable[[str], Gpu | None], assume: Assumptions
) -> PredictedRow:
    """Memory of the row's kind of peak, and seconds a step where the row has a timing and the card a speed."""
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
        memory=memory,
        parameters=chain.plan.parameters(row.r),
        loaded_bytes=memory.base_weights + memory.adapter + (memory.optimizer if "Adam states" in row.notes else 0),
        working_bytes=memory.activations + memory.logits,
        seconds=duration and duration.step,
        reason="" if row.tier in SCORED_TIERS and measured else _why_not_counted(row),
    )


def row_stack(row: MeasuredRow, assume: Assumptions) -> Stack:
    """The stack that the row was measured on."""
    on_cpu = row.gpu.startswith("CPU")
    loss_path = row.loss_path if row.loss_path != "unknown" else UNSTATED_LOSS_PATHS.get(row.framework, "full")
    habits = _of_its_time(CPU_HABITS if on_cpu else PROGRAMS[row.framework], row)
    if row.framework == "litgpt":  # known from its rows alone
        habits = replace(
            habits,
            fp32_logits=assume.value("litgpt-logit-bytes") == 4,
            quantizes_every_linear=bool(assume.value("litgpt-quantized-head")),
            dequantizes_twice=assume.value("litgpt-unpacked-copies") == 2,
        )
    habits = replace(
        habits,
        raised=RAISED[row.raised],
        adapter_bytes=DTYPE_BYTES.get(row.adapter_dtype, habits.adapter_bytes),
        weight_bytes=assume.value("weight-bytes-gptq-int4") if row.precision == "gptq-int4" else None,
    )
    setup = TrainingSetup(
        framework="unsloth" if habits.unsloth_kernels else "trl" if habits.autocast else "peft",
        precision=PRECISIONS[row.precision],
        optim=row.optimizer,
        per_device_train_batch_size=row.batch,
        gradient_accumulation_steps=row.grad_accum,
        max_length=row.seq_len,
        gradient_checkpointing=row.checkpointing,
        loss_path="full" if on_cpu else loss_path,  # as in stack_on: fused losses are kernels of a GPU
        attn_implementation=row.attn,
    )
    return Stack(setup=setup, use_dora=False, assume=assume, measured_habits=habits)


def _of_its_time(habits: Habits, row: MeasuredRow) -> Habits:
    """Habits of the program in the version or year that the row names."""
    transformers = version_of("transformers", row.framework_version)
    if transformers is None and row.origin == "fms-acceleration" and row.date.startswith("2024"):
        transformers = FMS_TRANSFORMERS_OF_2024
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
    if row.framework == "litgpt":
        # The scripts of 2023 have no maximum length: the longest sample, and so the peak, comes once, after a shorter
        # one. Those of 2024 cut rows at a length that most micro-steps reach.
        return replace(habits, keeps_previous_graph=not row.date.startswith("2023"))
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
    """The numbers after a program's name ("transformers 4.45.2" -> (4, 45, 2)); None where they are not there."""
    match = re.search(rf"\b{name}\W*(\d+(?:\.\d+)*)", text, re.IGNORECASE)
    return tuple(map(int, match[1].split("."))) if match else None


def unusable(row: MeasuredRow) -> str:
    """Why nothing can be predicted for the row, in words; empty where something can."""
    for value, known, what in (
        (row.framework, PROGRAMS, "program"),
        (row.precision, PRECISIONS, "precision"),
        (row.raised, RAISED, "k-bit preparation"),
        (row.checkpointing, CHECKPOINTING, "checkpointing"),
        (row.attn, ATTENTION, "attention"),
        (row.loss_path, (*LOSS_PATHS, "chunked", "unknown"), "loss path"),
        (row.optimizer, OPTIMIZERS, "optimizer"),
    ):
        if value not in known:
            return f"{what} {value or 'not stated'!r}: no formula"
    if row.gpu[:1].isdigit() and " x " in row.gpu:
        return "several GPUs"
    if not row.targets:
        return "target modules not stated"
    if not (row.use_peak and row.measured_bytes) and not (row.use_time and row.measured_seconds_per_step):
        parts = [part.strip() for part in row.notes.split(";")]
        reason = next((part for part in parts if part.endswith("not usable")), parts[0].split(":")[0])
        return (
            "the run stopped out of memory, so no peak was measured" if reason == "OOM" else reason or "no measurement"
        )
    return ""


def _why_not_counted(row: MeasuredRow) -> str:
    """Reason in the source for not counting the row: never how far off the prediction is."""
    if not (row.use_peak and row.measured_bytes):
        return "timing only"
    if row.is_bound:
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
