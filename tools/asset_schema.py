"""Check every row of the tables in assets/, for builds and tests: `python -m tools.asset_schema`."""

import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, asdict, field, fields, make_dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from rankviz.catalog import read_json, read_rows
from rankviz.catalog.hardware import ASSUMPTIONS_FILE, GPUS_FILE, SERVING_FILE
from rankviz.catalog.measurements import shipped_rows
from rankviz.catalog.models import CHECKPOINTS, IMAGE_PROCESSORS, ModelRow
from rankviz.catalog.studies import (
    FOLDER,
    MODELS_FILE,
    POINTS_FILE,
    RATES_FILE,
    STUDIES_FILE,
    load_evidence,
    read_table,
)
from rankviz.core.accuracy.predicted import KINDS, MeasuredRow
from rankviz.core.cost.setup import STRATEGIES, Gpu, Price
from rankviz.core.lora.config import MAX_RANK
from rankviz.core.model.spec import (
    ActivationBytes,
    BlockActivations,
    LinearLayer,
    ModelSpec,
    OwnTensor,
    PlainModule,
    decode_blocks,
)
from rankviz.core.quantity import Assumption, Range
from rankviz.core.studies.lines import FULL, LABEL_LENGTH, QualityPoint, StudiedModel, Study
from rankviz.errors import AssetError
from rankviz.paths import ASSETS
from tools.forecast.counts import BestRate, read_learning_rates


def _existing_day(text: str) -> str:
    date.fromisoformat(text)
    return text


Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Day = Annotated[str, StringConstraints(pattern=r"^20\d{2}-\d{2}-\d{2}$"), AfterValidator(_existing_day)]
Link = Annotated[str, StringConstraints(pattern=r"^https://\S+$")]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def strict(
    row: type, *, laws: Callable[[Any], None] | None = None, optional: Collection[str] = (), **in_file: Any
) -> Any:
    """The dataclass as pydantic checks a row of it: every field given, no other, none converted.

    Args:
        laws: Raises ValueError where the fields of a row contradict each other.
        optional: Fields that a row may leave out.
        in_file: Types of fields that are narrower in the file than in the dataclass, or written in another way.
    """
    if unknown := {*in_file, *optional} - {each.name for each in fields(row)}:
        raise TypeError(f"{row.__name__} has no fields {sorted(unknown)}")
    checked = make_dataclass(
        row.__name__,
        [
            (
                each.name,
                in_file.get(each.name, each.type),
                field(kw_only=True, default=each.default if each.name in optional else MISSING),
            )
            for each in fields(row)
        ],
        namespace={"__pydantic_config__": {"extra": "forbid", "strict": True}},
    )
    return checked if laws is None else Annotated[checked, AfterValidator(_passing(laws))]


def _passing(laws: Callable[[Any], None]) -> Callable[[Any], Any]:
    def check(row: Any) -> Any:
        laws(row)
        return row

    return check


def validate(adapter: TypeAdapter, row: Any, where: str, *, instead: str = "") -> Any:
    """The row as an object of the schema; AssetError with where, field and remedy (or what to do instead)."""
    try:
        return adapter.validate_json(json.dumps(row))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the row"
        raise AssetError(f"{where}, {place}: {_remedy(first)}{instead and f', or {instead}'}.") from None


def check_sorted(file: str, rows: Iterable[Any], schema: Any, key: str) -> None:
    """The same of every row, and that they rise by `key`."""
    adapter, before = TypeAdapter(schema), ""
    for row in rows:
        name = row.get(key, "?") if isinstance(row, Mapping) else json.dumps(row)
        validate(adapter, row, f"{file}: row {name!r}")
        if name == before:
            raise AssetError(f"{file}: row {name!r} appears twice: keep one.")
        if name < before:
            raise AssetError(f"{file}: row {name!r} is out of order: move it above {before!r}.")
        before = name


def _remedy(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "missing; add it"
        case "unexpected_keyword_argument":
            return "not a field of this file; remove or rename it"
        case "value_error":
            return f"{error['ctx']['error']}; got {error['input']!r:.80}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}; got {error['input']!r:.80}"


CardBytes = Annotated[int, Field(ge=10**9, le=10**12)]
Capability = Annotated[float, Field(ge=3.0, lt=20.0)]
PRICE = strict(Price, usd_per_hour=Rate, provider=Text, source=Text, checked=Day)
GPU = strict(
    Gpu,
    id=Slug,
    name=Text,
    device_names=tuple[Text, ...],
    memory_bytes=CardBytes,
    usable_bytes=CardBytes | None,
    usable_source=Text,
    bf16_flops_per_second=Rate | None,
    fp16_flops_per_second=Rate | None,
    fp32_flops_per_second=Rate | None,
    flops_source=Text,
    bandwidth_bytes_per_second=Rate | None,
    bandwidth_source=Text,
    compute_capability=Capability | None,
    prices=tuple[PRICE, ...],
    source=Text,
    checked=Day,
)
ASSUMPTION = strict(
    Assumption,
    optional=("without",),
    id=Slug,
    value=Range | float,
    unit=Text,
    meaning=Text,
    source=Text,
    checked=Day,
    without=dict[str, Range | float],
)
ARCHITECTURE = strict(
    make_dataclass(
        "Architecture",
        [
            *(("id", Text), ("source", Text), ("lora", bool), ("fused_experts", bool), ("slices", dict[str, Positive])),
            *((name, tuple[Text, ...]) for name in ("wraps", "refuses", "convolutions")),
        ],
    )
)
SLOW_DOWN = strict(
    make_dataclass(
        "SlowDown",
        [
            *(("id", Slug), ("setting", Text), ("r", Positive | None), ("slot_rank", Positive | None)),
            *(("measured", Text), ("low", Rate), ("high", Rate), ("source", Link), ("checked", Day)),
        ],
    )
)


class _ImageProcessor(BaseModel, extra="forbid", strict=True):
    """Rule of one family's image processor; which values it needs depends on the rule (rankviz.core.images)."""

    id: Slug
    model_types: Annotated[list[Text], Field(min_length=1)]
    processor: Text
    values_of: Text
    tower_patch: Positive | None = None
    rule: Literal["fixed", "multiple", "ratio", "budget", "rows", "canvas", "nearest", "split", "anyres"]
    side: Positive | None = None
    longest_side: Positive | None = None
    min_pixels: Positive | None = None
    max_pixels: Positive | None = None
    most_ratio: Positive | None = None
    max_tokens: Positive | None = None
    max_tiles: Positive | None = None
    tiles: Positive | None = None
    canvases: list[tuple[Positive, Positive]] | None = None
    tokens: Positive | None = None
    marks: Count
    patches: Count | None = None
    patches_per_token: Positive | None = None
    full_attention_every: Positive | None = None
    window_patches: Positive | None = None
    joined: bool = False
    unsloth_side: Positive | tuple[Positive, Positive]
    note: Text | None = None
    source: Text
    checked: Day


def check_hardware(assets: Path) -> None:
    """Raise AssetError with file, row, field and remedy unless the files are as they must be."""
    check_sorted(SERVING_FILE, read_rows(assets / SERVING_FILE, "architectures"), ARCHITECTURE, "id")
    check_sorted(SERVING_FILE, read_rows(assets / SERVING_FILE, "slow_down"), SLOW_DOWN, "id")
    for key in ("gpus", "macs"):
        check_sorted(GPUS_FILE, read_rows(assets / GPUS_FILE, key), GPU, "id")
    check_sorted(ASSUMPTIONS_FILE, read_rows(assets / ASSUMPTIONS_FILE, "assumptions"), ASSUMPTION, "id")
    check_sorted(IMAGE_PROCESSORS, read_rows(assets / IMAGE_PROCESSORS, "processors"), _ImageProcessor, "id")


Bytes = Annotated[int, Field(ge=10**6, le=10**12)]


def _consistent(row: MeasuredRow) -> None:
    if row.use_peak and row.measured_bytes is None:
        raise ValueError("give measured_bytes, or set use_peak to no")
    if row.use_time and row.measured_seconds_per_step is None:
        raise ValueError("give measured_seconds_per_step, or set use_time to no")


MEASURED_ROW = strict(
    MeasuredRow,
    laws=_consistent,
    row_id=Text,
    group=Text,
    tier=Literal["A", "B", "C", "D", "E"],
    model_id=Text,
    precision=Literal["bf16", "fp16", "fp32", "nf4", "nf4-dq", "nf4-dq-dynamic", "gptq-int4", "fp4", "int8"],
    raised=Literal["yes", "no", "norms only"],
    framework=Text,
    r=Annotated[int, Field(ge=1, le=MAX_RANK)],
    targets=Annotated[tuple[Text, ...], Field(min_length=1)],
    batch=Positive,
    grad_accum=Positive,
    seq_len=Positive,
    seq_kind=Literal["exact", "cap", "longest", "mean"],
    checkpointing=Literal["none", "hf", "unsloth"],
    attn=Literal["flash", "sdpa", "eager"],
    loss_path=Literal["full", "triton", "fused", "unknown"],
    optimizer=Text,
    adapter_dtype=Literal["fp32", "bf16", "fp16"],
    gpu=Text,
    measured_bytes=Bytes | None,
    measured_kind=Literal[KINDS],
    loaded_bytes=Bytes | None,
    measured_seconds_per_step=Rate | None,
    source=Text,
    two_depth_bytes=Bytes | None,
    two_depth_seconds=Rate | None,
    gpus=Positive,
    strategy=Literal[STRATEGIES],
)


def check_measurements(assets: Path) -> int:
    """How many rows there are; AssetError with row, field and remedy unless all are as they must be."""
    adapter, seen = TypeAdapter(MEASURED_ROW), set()
    for row in shipped_rows(assets):
        validate(adapter, asdict(row), f"validation row {row.row_id}")
        if row.row_id in seen:
            raise AssetError(f"validation row {row.row_id} stands twice: give each row an id of its own.")
        seen.add(row.row_id)
    return len(seen)


INDEX = "index.json"
SHARED = ("id", "name", "tower", "total_parameters", "verified", "licence", "gated", "aliases")
"""Fields that a model's file and its row of the index have in common."""
Blocks = Annotated[str, StringConstraints(pattern=r"^\d+(-\d+(/\d+)?)?(,\d+(-\d+(/\d+)?)?)*$")]


def _blocks_where_the_path_has_a_place_for_them(row: LinearLayer | PlainModule) -> None:
    if ("{}" in row.path) != bool(row.blocks):
        raise ValueError("a path with {} has blocks, and no other has")


def _layers_and_activations_fit_the_model(row: ModelSpec) -> None:
    weights = sum(
        (len(decode_blocks(layer.blocks or "")) or 1) * layer.num_experts * layer.in_features * layer.out_features
        for layer in row.layers
        if not (layer.kind == "lm_head" and row.tie_word_embeddings)
    )
    if weights > row.total_parameters:
        raise ValueError(f"the layers hold {weights:,} weights, more than total_parameters")
    blocks = sorted(block for each in row.activation_bytes_per_token for block in decode_blocks(each.blocks))
    if blocks and blocks != list(range(row.num_hidden_layers)):
        raise ValueError("activation_bytes_per_token must name every block once, or be empty")


LAYER = strict(
    LinearLayer,
    laws=_blocks_where_the_path_has_a_place_for_them,
    optional=("blocks", "num_experts", "bias", "kernel", "subclass"),
    path=Text,
    in_features=Positive,
    out_features=Positive,
    blocks=Blocks | None,
    num_experts=Positive,
)
TENSOR = strict(OwnTensor, optional=("buffer", "fp32"), name=Text, shape=tuple[Positive, ...])
PLAIN_MODULE = strict(
    PlainModule,
    laws=_blocks_where_the_path_has_a_place_for_them,
    optional=("blocks", "is_norm"),
    path=Text,
    tensors=Annotated[tuple[TENSOR, ...], Field(min_length=1)],
    blocks=Blocks | None,
)
ACTIVATIONS = strict(ActivationBytes, optional=("own_input",), kept=Positive, gradients=Positive, own_input=Count)
BLOCK_ACTIVATIONS = strict(
    BlockActivations,
    optional=("autocast",),
    blocks=Blocks,
    bf16=ACTIVATIONS,
    fp32=ACTIVATIONS,
    autocast=ACTIVATIONS | None,
)
MODEL = TypeAdapter(
    strict(
        ModelSpec,
        laws=_layers_and_activations_fit_the_model,
        optional=("unsloth_checkpoint", "whole", "image_processor"),
        id=Text,
        name=Text,
        architecture=Text,
        model_type=Text,
        total_parameters=Positive,
        unquantized_parameters=Positive,
        num_hidden_layers=Positive,
        hidden_size=Positive,
        num_attention_heads=Positive,
        num_key_value_heads=Positive,
        head_dim=Positive,
        intermediate_size=Positive,
        vocab_size=Positive,
        num_experts=Count,
        num_experts_per_tok=Count,
        layer_types=dict[Text, Blocks],
        sliding_window=Positive | None,
        max_position_embeddings=Positive | None,
        layers=Annotated[tuple[LAYER, ...], Field(min_length=1)],
        input_embedding=Text,
        plain_modules=tuple[PLAIN_MODULE, ...],
        other_modules=tuple[Text, ...],
        clippable_linears=tuple[Text, ...],
        refused_names=tuple[Text, ...],
        activation_bytes_per_token=tuple[BLOCK_ACTIVATIONS, ...],
        aliases=tuple[Text, ...],
        licence=Text | None,
        source=Text,
        checked=Day,
    )
)


class _CheckpointSize(BaseModel, extra="forbid", strict=True):
    repository: Text
    file_bytes: Positive | None
    at_most_bytes: Positive | None
    source: Text
    checked: Day


class _Checkpoints(BaseModel, extra="forbid", strict=True):
    source: Text
    checked: Day
    loaded: dict[Text, list[Text]]
    sizes: list[_CheckpointSize]


CHECKPOINT_TABLE = TypeAdapter(_Checkpoints)
INDEX_ROW = TypeAdapter(
    strict(
        ModelRow,
        id=Text,
        name=Text,
        family=Text,
        total_parameters=Positive,
        tower=get_type_hints(ModelSpec)["tower"],
        licence=Text | None,
        file=Text,
        aliases=tuple[Text, ...],
    )
)


def check_models(folder: Path) -> int:
    """The number of models in assets/models; AssetError unless the folder as a whole is as it must be."""
    rows = [_checked(INDEX_ROW, row, INDEX, _id(row)) for row in read_json(folder / INDEX)["models"]]
    order = [(row.family, row.total_parameters, row.id) for row in rows]
    for before, after in itertools.pairwise(order):
        if before > after:
            raise AssetError(f"{INDEX}: row {after[2]!r} is out of order: move it before {before[2]!r}.")
    names: dict[str, str] = {}
    for row in rows:
        for name in (row.id, *row.aliases):
            if names.setdefault(name.lower(), row.id) != row.id:
                raise AssetError(f"{INDEX}: row {row.id!r}: {name} also stands for {names[name.lower()]}: drop one.")
        model = _checked(MODEL, read_json(folder / row.file), row.file, row.id)
        for shared in SHARED:
            if getattr(model, shared) != getattr(row, shared):
                raise AssetError(f"{row.file}: row {row.id!r}: {shared} differs from {INDEX}: run `make assets`.")
    if len({row.id for row in rows}) != len(rows):
        raise AssetError(f"{INDEX}: an id appears twice: run `make assets`.")
    unlisted = {path.name for path in folder.glob("*.json")} - {row.file for row in rows} - {INDEX, CHECKPOINTS}
    if unlisted:
        raise AssetError(f"{min(unlisted)} is in no row of {INDEX}: run `make assets`, or delete it.")
    _check_checkpoints(read_json(folder / CHECKPOINTS))
    return len(rows)


def _check_checkpoints(table: Any) -> None:
    """AssetError unless each name that Unsloth replaces is there once, and sizes are sorted."""
    rebuild = "run `make assets`"
    checked = validate(CHECKPOINT_TABLE, table, CHECKPOINTS, instead=rebuild)
    names = [name for group in checked.loaded.values() for name in group]
    if twice := {name for name in names if names.count(name) > 1}:
        raise AssetError(f"{CHECKPOINTS}: {min(twice)} is loaded as two repositories: {rebuild}.")
    sized = [size.repository for size in checked.sizes]
    if sized != sorted(set(sized), key=str.lower):
        raise AssetError(f"{CHECKPOINTS}: sizes must be sorted by repository, each once.")


def _checked(schema: TypeAdapter, row: Any, file: str, name: str) -> Any:
    return validate(schema, row, f"{file}: row {name!r}", instead="run `make assets`")


def _id(row: Any) -> str:
    return str(row.get("id", "?") if isinstance(row, dict) else row)


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
    StudiedModel,
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


def check_studies(assets: Path) -> None:
    """Raise AssetError with file, row, field and remedy unless all four files are as they must be."""
    folder = assets / FOLDER
    check_sorted(STUDIES_FILE, read_rows(folder / STUDIES_FILE, "studies"), STUDY, "study_id")
    check_sorted(MODELS_FILE, read_rows(folder / MODELS_FILE, "models"), BASE_MODEL, "base_model")
    _check_table(POINTS_FILE, POINT, read_table(QualityPoint, folder / POINTS_FILE))
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


if __name__ == "__main__":
    check_hardware(ASSETS)
    check_studies(ASSETS)
    print(f"{check_models(ASSETS / 'models')} models and {check_measurements(ASSETS)} measured rows are valid.")
