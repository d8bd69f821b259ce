"""What a row of assets/models must look like. Strict: an unknown, missing or mistyped field is an error that names
file, row, field and remedy.

Used where assets are built and in the tests, never on the way to an estimate: pydantic costs more than the estimate.
"""

import itertools
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from rankviz.core.model.json import decode_blocks
from rankviz.core.model.spec import LayerKind, LayerPart
from rankviz.errors import AssetError

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Date = Annotated[str, StringConstraints(pattern=r"^20\d\d-\d\d-\d\d$")]
Blocks = Annotated[str, StringConstraints(pattern=r"^\d+(-\d+(/\d+)?)?(,\d+(-\d+(/\d+)?)?)*$")]
Tower = Literal["text", "text tower", "whole model"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerSchema(Strict):
    path: Text
    in_features: Positive
    out_features: Positive
    kind: Literal[get_args(LayerKind)]
    part: Literal[get_args(LayerPart)]
    blocks: Blocks | None = None
    num_experts: Positive = 1
    bias: bool = False

    @model_validator(mode="after")
    def blocks_where_the_path_has_a_place_for_them(self) -> "LayerSchema":
        if ("{}" in self.path) != (self.blocks is not None):
            raise ValueError("a path with {} has blocks, and no other has")
        return self


class ActivationSchema(Strict):
    kept: Positive
    gradients: Positive
    own_input: Count = 0


class BlockActivationsSchema(Strict):
    blocks: Blocks
    bf16: ActivationSchema
    fp32: ActivationSchema
    autocast: ActivationSchema | None = None


class ModelSchema(Strict):
    id: Text
    name: Text
    architecture: Text
    model_type: Text
    tower: Tower
    total_parameters: Positive
    unquantized_parameters: Positive
    num_hidden_layers: Positive
    hidden_size: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive
    head_dim: Positive
    intermediate_size: Positive
    vocab_size: Positive
    tie_word_embeddings: bool
    num_experts: Count
    num_experts_per_tok: Count
    layer_types: dict[Text, Blocks]
    sliding_window: Positive | None
    layers: Annotated[list[LayerSchema], Field(min_length=1)]
    input_embedding: Text
    output_embedding: str
    other_modules: list[Text]
    clippable_linears: list[Text]
    refused_names: list[Text]
    peft_remap: Literal["", "mixtral", "qwen2_moe"]
    activation_bytes_per_token: list[BlockActivationsSchema]
    aliases: list[Text]
    verified: bool
    gated: bool | None
    licence: Text | None
    source: Text
    checked: Date
    note: str

    @model_validator(mode="after")
    def layers_do_not_outweigh_the_model(self) -> "ModelSchema":
        tied = [layer for layer in self.layers if layer.kind == "lm_head" and self.tie_word_embeddings]
        weights = sum(
            (len(decode_blocks(layer.blocks or "")) or 1) * layer.num_experts * layer.in_features * layer.out_features
            for layer in self.layers
            if layer not in tied
        )
        if weights > self.total_parameters:
            raise ValueError(f"the layers hold {weights:,} weights, more than total_parameters")
        return self

    @model_validator(mode="after")
    def activations_are_of_every_block_once_or_of_none(self) -> "ModelSchema":
        blocks = sorted(block for row in self.activation_bytes_per_token for block in decode_blocks(row.blocks))
        if blocks and blocks != list(range(self.num_hidden_layers)):
            raise ValueError("activation_bytes_per_token must name every block once, or be empty")
        return self


class IndexRow(Strict):
    id: Text
    name: Text
    family: Text
    total_parameters: Positive
    tower: Tower
    verified: bool
    licence: Text | None
    gated: bool | None
    file: Text
    aliases: list[Text]


class IndexSchema(Strict):
    built_with: dict[Text, Text]
    models: list[IndexRow]


def check_models(folder: Path) -> int:
    """Check assets/models as a whole; the number of models."""
    index = _checked(IndexSchema, folder / "index.json", "")
    order = [(row.family, row.total_parameters, row.id) for row in index.models]
    for before, after in itertools.pairwise(order):
        if before > after:
            raise AssetError(f"index.json: row {after[2]} is out of order: move it before {before[2]}.")
    names: dict[str, str] = {}
    for row in index.models:
        for name in (row.id, *row.aliases):
            if names.setdefault(name.lower(), row.id) != row.id:
                raise AssetError(f"index.json: row {row.id}: {name} also stands for {names[name.lower()]}: drop one.")
        model = _checked(ModelSchema, folder / row.file, row.id)
        for field in ("id", "name", "tower", "total_parameters", "verified", "licence", "gated", "aliases"):
            if getattr(model, field) != getattr(row, field):
                raise AssetError(f"{row.file}: row {row.id}: {field} differs from index.json: run `make assets`.")
    if len({row.id for row in index.models}) != len(index.models):
        raise AssetError("index.json: an id comes twice: run `make assets`.")
    unlisted = {path.name for path in folder.glob("*.json")} - {row.file for row in index.models} - {"index.json"}
    if unlisted:
        raise AssetError(f"{min(unlisted)} is in no row of index.json: run `make assets`, or delete it.")
    return len(index.models)


def _checked(schema: type[Strict], path: Path, row: str) -> Any:
    try:
        return schema.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise AssetError(f"{path.name} is missing (row {row} of index.json names it): run `make assets`.") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole row"
        where = f"row {row}: " if row else ""
        raise AssetError(f"{path.name}: {where}field {field}: {first['msg']}: run `make assets`.") from None
