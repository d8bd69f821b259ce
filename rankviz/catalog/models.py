"""The model catalogue: an index of all models, and one file a model with its layers.

Reading is light, since the command line does it from cold: one small index, one model's file, no validation.
`make assets` and the tests check both against model_schema.py.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rankviz.core.model.json import model_from_json
from rankviz.core.model.spec import ModelSpec, UnslothCheckpoint
from rankviz.errors import AssetError, UnknownModelError

CHECKPOINTS = "unsloth_4bit.json"
SUGGESTIONS = 3
SIMILARITY = 0.6
"""From 0 to 1, as difflib measures it: below this a name is no suggestion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRow:
    """What a picker shows of a model."""

    id: str
    name: str
    family: str
    total_parameters: int
    tower: str
    """"text", "text tower" or "whole model", as in ModelSpec."""
    verified: bool
    licence: str | None
    gated: bool | None
    file: str
    """In assets/models."""
    aliases: tuple[str, ...] = ()


@functools.cache
def load_index(assets: Path) -> tuple[ModelRow, ...]:
    """Every model of the catalogue, in order of family and size."""
    rows = read_json(assets / "models" / "index.json")["models"]
    return tuple(ModelRow(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows)


@functools.cache
def load_model(assets: Path, ref: str) -> ModelSpec:
    """The model that an id or another name of it stands for."""
    row = find_model(load_index(assets), ref)
    model = model_from_json(read_json(assets / "models" / row.file))
    return replace(model, unsloth_checkpoint=load_checkpoints(assets).get(row.id))


@functools.cache
def load_checkpoints(assets: Path) -> Mapping[str, UnslothCheckpoint]:
    """What Unsloth fetches in 4 bit in place of a model, by the model's id; models that are not there it quantizes as
    it loads them."""
    return {
        row["model_id"]: UnslothCheckpoint(
            repository=row["repository"], file_bytes=row["file_bytes"], at_most_bytes=row["at_most_bytes"]
        )
        for row in read_json(assets / "models" / CHECKPOINTS)["checkpoints"]
    }


def find_model(rows: Sequence[ModelRow], ref: str) -> ModelRow:
    """By id, alias or, where only one model has it, the part after the slash; case does not matter."""
    exact = _names(tuple(rows)).get(ref.lower())
    if exact is not None:
        return exact
    raise UnknownModelError(ref, close_names(rows, ref))


def close_names(rows: Sequence[ModelRow], ref: str) -> tuple[str, ...]:
    """Names that look like ref, SUGGESTIONS at most."""
    import difflib

    known: dict[str, str] = {}
    for name in (*(row.id for row in rows), *(alias for row in rows for alias in row.aliases)):
        known.setdefault(name.lower(), name)
        known.setdefault(name.lower().split("/")[-1], name)
    matches = difflib.get_close_matches(ref.lower(), list(known), n=2 * SUGGESTIONS, cutoff=SIMILARITY)
    return tuple(dict.fromkeys(known[name] for name in matches))[:SUGGESTIONS]


@functools.cache
def _names(rows: tuple[ModelRow, ...]) -> Mapping[str, ModelRow]:
    bare: dict[str, list[ModelRow]] = {}
    full: dict[str, ModelRow] = {}
    for row in rows:
        for name in (row.id, *row.aliases):
            full[name.lower()] = row
            bare.setdefault(name.lower().split("/")[-1], []).append(row)
    short = {name: owners[0] for name, owners in bare.items() if len({row.id for row in owners}) == 1}
    return short | full


def read_json(path: Path) -> dict[str, Any]:
    """A file of assets/models; AssetError where it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AssetError(
            f"{path.name} is missing from {path.parent}: run `make assets`, or reinstall RankViz."
        ) from None
    except ValueError as error:
        raise AssetError(f"{path.name} is not JSON ({error}): run `make assets`, or reinstall RankViz.") from None
