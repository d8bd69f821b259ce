"""The model catalogue: an index of all models, one file per model with its layers, and their config.json files."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rankviz.catalog.files import read_json, read_rows
from rankviz.core.model.spec import WHOLE, ModelSpec, UnslothCheckpoint, model_from_json
from rankviz.errors import UnknownModelError

CHECKPOINTS = "unsloth_4bit.json"
IMAGE_PROCESSORS = "image_processors.json"
REMEDY = "run `make assets`, or reinstall RankViz"
SUGGESTIONS = 3
SIMILARITY = 0.6
"""Least similarity, 0 to 1 by difflib, of a name that is suggested for an unknown one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)  # a name is looked up by the hash of all rows
class ModelRow:
    """One model of the catalogue, as lists on the page show it."""

    id: str
    name: str
    family: str
    total_parameters: int
    tower: str
    """Kind of model, as in ModelSpec: "text", "text tower" or "whole model"."""
    verified: bool
    licence: str | None
    gated: bool | None
    file: str
    """File name in assets/models."""
    aliases: tuple[str, ...] = ()


@functools.cache
def load_index(assets: Path) -> tuple[ModelRow, ...]:
    """Return every model of the catalogue, in order of family and size."""
    rows = read_json(assets / "models" / "index.json", REMEDY)["models"]
    return tuple(ModelRow(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows)


def load_model(assets: Path, ref: str) -> ModelSpec:
    """Return the model of an id or alias, with the checkpoint that Unsloth loads for this name in 4 bit; without one
    where Unsloth quantizes the name's own files instead."""
    rows, (loaded, sized) = load_index(assets), _checkpoints(assets)
    row, name = find_model(rows, ref), full_name(rows, ref)
    whole = next((_load_row(assets, each) for each in rows if each.id == row.id + WHOLE), None)
    repository = loaded.get(name.lower(), name)
    checkpoint = sized.get(repository.lower()) or UnslothCheckpoint(repository=repository)
    is_another = repository.lower() != name.lower() or checkpoint.quantized or checkpoint.stays_16_bit
    return replace(_load_row(assets, row), unsloth_checkpoint=checkpoint if is_another else None, whole=whole)


@functools.cache
def _load_row(assets: Path, row: ModelRow) -> ModelSpec:
    return model_from_json(read_json(assets / "models" / row.file, REMEDY))


@functools.cache
def _checkpoints(assets: Path) -> tuple[Mapping[str, str], Mapping[str, UnslothCheckpoint]]:
    """Return the two tables that `python -m tools.names` writes, with names in lower case: the repository that is
    loaded in place of each name, and the checkpoint of each repository whose size is known."""
    table, fields = read_json(assets / "models" / CHECKPOINTS, REMEDY), ("repository", "file_bytes", "at_most_bytes")
    loaded = {name.lower(): repository for repository, names in table["loaded"].items() for name in names}
    sizes = (UnslothCheckpoint(**{name: row[name] for name in fields}) for row in table["sizes"])
    return loaded, {each.repository.lower(): each for each in sizes}


def with_image_processor(assets: Path, model: ModelSpec) -> ModelSpec:
    """Return a whole model with the rule of its image processor, by model_type and size of its tower's patches; other
    models, and those of families without a rule, unchanged."""
    vision = [each for each in model.layers if each.part == "vision"]
    if model.tower != "whole model" or not vision:
        return model
    patch = next((each.kernel[-1] for each in vision if each.kernel), None)
    rows = (row for row in read_rows(assets / IMAGE_PROCESSORS, "processors") if model.model_type in row["model_types"])
    rule = next((row for row in rows if row.get("tower_patch") in (None, patch)), None)
    return replace(model, image_processor=rule)


def find_model(rows: Sequence[ModelRow], ref: str) -> ModelRow:
    """Return the model with this id or alias; case is ignored, and the owner may be left out if the name is unique."""
    if (row := _names(tuple(rows)).get(ref.lower().rstrip("/"))) is None:
        raise UnknownModelError(ref, close_names(rows, ref))
    return row


def is_known(rows: Sequence[ModelRow], ref: str) -> bool:
    """Tell whether `find_model` finds a model for this text."""
    return ref.lower().rstrip("/") in _names(tuple(rows))


def full_name(rows: Sequence[ModelRow], ref: str) -> str:
    """Return the Hub id that a name means: the id or alias itself, or the first id or alias that ends in the name."""
    row, wanted = find_model(rows, ref), ref.lower().rstrip("/")
    names = [name for name in (row.id, *row.aliases) if f"/{name.lower()}".endswith(f"/{wanted}")]
    return min(names, key=lambda name: name.lower() != wanted).removesuffix(WHOLE)


def close_names(rows: Sequence[ModelRow], ref: str) -> tuple[str, ...]:
    """Return names that end in `ref`, or else look like it; at most SUGGESTIONS."""
    import difflib

    ref, known = ref.removesuffix(WHOLE), {}
    for name in (*(row.id for row in rows), *(alias for row in rows for alias in row.aliases)):
        known.setdefault(name.lower(), name)
        known.setdefault(name.lower().split("/")[-1], name)
    if ending := [row.id for row in rows if row.id.lower().endswith(f"/{ref.lower()}")]:
        return tuple(ending[:SUGGESTIONS])
    matches = difflib.get_close_matches(ref.lower(), list(known), n=2 * SUGGESTIONS, cutoff=SIMILARITY)
    return tuple(dict.fromkeys(known[name] for name in matches))[:SUGGESTIONS]


@functools.cache
def _names(rows: tuple[ModelRow, ...]) -> Mapping[str, ModelRow]:
    full = {name.lower(): row for row in rows for name in (row.id, *row.aliases)}
    bare: dict[str, dict[str, ModelRow]] = {}
    for name, row in full.items():
        bare.setdefault(name.split("/")[-1], {})[row.id] = row
    return {name: next(iter(owners.values())) for name, owners in bare.items() if len(owners) == 1} | full


def load_config(assets: Path, ref: str) -> dict[str, Any]:
    """Return the config.json of a catalogue model, with the architecture that the catalogue was built with; raise
    UnknownModelError for any other model."""
    row = find_model(load_index(assets), ref)
    path = assets / "configs" / row.file.replace(".whole.json", ".full.json")
    if not path.is_file():
        path = path.with_name(path.name.replace(".json", ".full.json"))
    config = read_json(path, REMEDY)
    return config | {"architectures": [read_json(assets / "models" / row.file, REMEDY)["architecture"]]}
