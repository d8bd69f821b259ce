"""What rows of assets/evidence/ must look like. Strict: nothing unknown, nothing missing, nothing out of order.

pydantic is imported in such modules only, and they only where assets are tested: reading an asset stays fast.
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rankviz.catalog.hardware import read_rows
from rankviz.catalog.hardware_schema import Day, Rate, Row, Text
from rankviz.catalog.row_check import check_sorted, validate
from rankviz.catalog.studies import FOLDER, MODELS_FILE, POINTS_FILE, STUDIES_FILE, check_columns, load_evidence
from rankviz.core.studies.lines import FULL, Facet, Role, TaskKind
from rankviz.errors import AssetError

Link = Annotated[str, Field(pattern=r"^https://\S+$")]
Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
Whole = Annotated[int, Field(gt=0)]
RANKLESS = (FULL, "base")


class StudyRow(Row):
    study_id: Id
    label: Annotated[str, Field(min_length=1, max_length=30)]
    citation: Text
    source: Link
    licence: Text
    task_kind: TaskKind
    examples: Whole | None
    learning_rate_tuned_per_rank: bool
    learning_rate_tuned_per_method: bool
    learning_rate_and_alpha_policy: Text
    caveat: Text

    @model_validator(mode="after")
    def _tuned_per_rank_is_tuned_per_method(self):
        if self.learning_rate_tuned_per_rank and not self.learning_rate_tuned_per_method:
            raise ValueError("a learning rate tuned at each rank is tuned per method too: set both")
        return self


class BaseModelRow(Row):
    base_model: Text
    model_id: Text | None
    family: Text
    parameters: Whole | None
    source: Text


class PointRow(BaseModel):
    """A row of points.csv, cell by cell: an empty cell is "not stated"."""

    model_config = ConfigDict(extra="forbid")

    study_id: Id
    base_model: Text
    task: Text
    metric: Text
    higher_is_better: bool
    role: Role
    method: Text
    target_modules: str
    facet: Facet
    rank: Whole | None
    lora_alpha: Rate | None
    learning_rate: Rate | None
    learning_rates_tried: Whole | None
    value: float
    standard_error: Annotated[float, Field(gt=0)] | None
    reference_learning_rate: Rate | None
    value_at_reference_rate: float | None
    trainable_parameters: Annotated[int, Field(ge=0)] | None
    adapter_bytes: Whole | None
    peak_memory_bytes: Whole | None
    train_seconds: Rate | None
    duration: str
    table: Text
    experiment: str
    run_date: Day | str

    @field_validator("higher_is_better", mode="before")
    @classmethod
    def _yes_or_no(cls, text: str) -> bool:
        if text not in ("yes", "no"):
            raise ValueError("write yes or no")
        return text == "yes"

    @model_validator(mode="after")
    def _ranks_and_rates_belong_together(self):
        if (self.rank is None) != (self.method in RANKLESS):
            raise ValueError("give a rank, or the method full or base, not both")
        if (self.reference_learning_rate is None) != (self.value_at_reference_rate is None):
            raise ValueError("give reference_learning_rate and value_at_reference_rate, or neither")
        return self


def check(assets: Path) -> None:
    """Raise AssetError with file, row, field and remedy unless all three files are as they must be."""
    folder = assets / FOLDER
    check_sorted(STUDIES_FILE, read_rows(folder / STUDIES_FILE, "studies"), StudyRow, "study_id")
    check_sorted(MODELS_FILE, read_rows(folder / MODELS_FILE, "models"), BaseModelRow, "base_model")
    with (folder / POINTS_FILE).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        check_columns(reader.fieldnames)
        _check_points(reader)
    evidence = load_evidence(assets)
    for line in evidence.lines:
        if len(set(line.ranks)) < len(line.ranks):
            where = f"{line.study.study_id}, {line.model.base_model}, {line.first.task}, {line.first.metric}"
            raise AssetError(
                f"{POINTS_FILE}: {where}: a rank is there twice in one line; tell the runs apart by table or run_date."
            )
    for name, known, used in (
        (STUDIES_FILE, evidence.studies, {point.study_id for point in evidence.points}),
        (MODELS_FILE, evidence.models, {point.base_model for point in evidence.points}),
    ):
        if unused := sorted(set(known) - used):
            raise AssetError(f"{name}: row {unused[0]!r} has no points in {POINTS_FILE}; add some, or remove it.")


def _check_points(rows: Iterable[Mapping[str, str]]) -> None:
    before = ""
    for line, cells in enumerate(rows, start=2):
        values = {name: text if text or name in _texts() else None for name, text in cells.items()}
        validate(PointRow, values, f"{POINTS_FILE}: row {line}")
        if cells["study_id"] < before:
            raise AssetError(
                f"{POINTS_FILE}: row {line} is out of order: move it to the rows of {cells['study_id']!r}."
            )
        before = cells["study_id"]


def _texts() -> tuple[str, ...]:
    return ("target_modules", "duration", "experiment", "run_date")
