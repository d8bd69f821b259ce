"""What assets/models must look like. For `make assets` and the tests: see schema.py."""

import itertools
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from rankviz.catalog.models import CHECKPOINTS, ModelRow, read_json
from rankviz.catalog.schema import Count, Day, Positive, Text, strict, validate
from rankviz.core.model.activations import ActivationBytes, BlockActivations
from rankviz.core.model.json import decode_blocks
from rankviz.core.model.spec import LinearLayer, ModelSpec, OwnTensor, PlainModule
from rankviz.errors import AssetError

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
        optional=("unsloth_checkpoint", "whole"),
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
        for field in SHARED:
            if getattr(model, field) != getattr(row, field):
                raise AssetError(f"{row.file}: row {row.id!r}: {field} differs from {INDEX}: run `make assets`.")
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
