"""What rows of assets/evidence/ must look like. For tests: see schema.py."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from rankviz.catalog.hardware import read_rows
from rankviz.catalog.schema import Count, Day, Link, NotNegative, Positive, Rate, Text, check_sorted, strict, validate
from rankviz.catalog.studies import (
    FOLDER,
    MODELS_FILE,
    POINTS_FILE,
    RATES_FILE,
    STUDIES_FILE,
    load_evidence,
    read_learning_rates,
    read_points,
)
from rankviz.core.studies.findings import BestRate
from rankviz.core.studies.lines import FULL, LABEL_LENGTH, BaseModel, QualityPoint, Study
from rankviz.errors import AssetError

StudyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
RANKLESS = (FULL, "base")
"""Methods whose points have no rank."""


def _tuned_per_rank_is_tuned_per_method(row: Study) -> None:
    if row.learning_rate_tuned_per_rank and not row.learning_rate_tuned_per_method:
        raise ValueError("a learning rate tuned at each rank is tuned per method too: set both")


def _ranks_and_rates_belong_together(row: QualityPoint) -> None:
    if (row.rank is None) != (row.method in RANKLESS):
        raise ValueError("give a rank, or the method full or base, not both")
    if (row.reference_learning_rate is None) != (row.value_at_reference_rate is None):
        raise ValueError("give reference_learning_rate and value_at_reference_rate, or neither")


STUDY = strict(
    Study,
    laws=_tuned_per_rank_is_tuned_per_method,
    optional=("own", "expert_scheme"),
    study_id=StudyId,
    label=Annotated[str, Field(min_length=1, max_length=LABEL_LENGTH)],
    citation=Text,
    source=Link | None,
    licence=Text,
    examples=Positive | None,
    learning_rate_and_alpha_policy=Text,
    caveat=Text,
    checked=Day,
    own=Literal[False],
)
BASE_MODEL = strict(
    BaseModel,
    optional=("has_experts",),
    base_model=Text,
    model_id=Text | None,
    family=Text,
    parameters=Positive | None,
    source=Text,
    checked=Day,
)
POINT = strict(
    QualityPoint,
    laws=_ranks_and_rates_belong_together,
    study_id=StudyId,
    base_model=Text,
    task=Text,
    metric=Text,
    method=Text,
    rank=Positive | None,
    lora_alpha=Rate | None,
    learning_rate=Rate | None,
    learning_rates_tried=Positive | None,
    standard_error=NotNegative | None,
    reference_learning_rate=Rate | None,
    trainable_parameters=Count | None,
    adapter_bytes=Positive | None,
    peak_memory_bytes=Positive | None,
    train_seconds=Rate | None,
    table=Text,
)
BEST_RATE = strict(
    BestRate,
    study_id=StudyId,
    base_model=Text,
    task=Text,
    method=Text,
    rank=Positive,
    best_learning_rate=Rate,
    source=Text,
    checked=Day,
)


def check(assets: Path) -> None:
    """Raise AssetError with file, row, field and remedy unless all four files are as they must be."""
    folder = assets / FOLDER
    check_sorted(STUDIES_FILE, read_rows(folder / STUDIES_FILE, "studies"), STUDY, "study_id")
    check_sorted(MODELS_FILE, read_rows(folder / MODELS_FILE, "models"), BASE_MODEL, "base_model")
    _check_table(POINTS_FILE, POINT, read_points(folder / POINTS_FILE))
    _check_table(RATES_FILE, BEST_RATE, read_learning_rates(assets))
    evidence = load_evidence(assets)
    for line in evidence.lines:
        if len(set(line.ranks)) < len(line.ranks):
            where = f"{line.study.study_id}, {line.model.base_model}, {line.first.task}, {line.first.metric}"
            raise AssetError(
                f"{POINTS_FILE}: {where}: one line has a rank twice; give the two runs different tables or run dates."
            )
    for name, known, used in (
        (STUDIES_FILE, evidence.studies, {point.study_id for point in evidence.points}),
        (MODELS_FILE, evidence.models, {point.base_model for point in evidence.points}),
    ):
        if unused := sorted(set(known) - used):
            raise AssetError(f"{name}: row {unused[0]!r} has no points in {POINTS_FILE}; add some, or remove it.")


def _check_table(file: str, row: Any, points: Iterable[QualityPoint | BestRate]) -> None:
    schema, before = TypeAdapter(row), ""
    for line, point in enumerate(points, start=2):
        validate(schema, asdict(point), f"{file}: row {line}")
        if point.study_id < before:
            raise AssetError(f"{file}: row {line} is out of order: move it to the rows of {point.study_id!r}.")
        before = point.study_id
