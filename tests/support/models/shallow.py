"""The first blocks of catalogue models, which repeat further on: what wraps them is a few times faster for it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankviz.catalog.models import find_model, load_index, load_model
from rankviz.core.model.spec import ModelSpec, periods
from rankviz.paths import ASSETS

LEAST, FEW = 11, 3
"""Blocks: the numbers of LEAST have two digits, which the order and the size of a file depend on."""


def as_built(model_id: str) -> ModelSpec:
    """The model of the catalogue's config.json: a text tower by itself, as text_only loads it."""
    return replace(load_model(ASSETS, model_id), whole=None)


def config_of(model_id: str) -> Path:
    """The config.json of a catalogue model."""
    return ASSETS / "configs" / find_model(load_index(ASSETS), model_id).file.replace(".whole.json", ".full.json")


def shallow(model_id: str, folder: Path, *, least: int = LEAST) -> tuple[ModelSpec, Path]:
    """Its first blocks, in whole periods, and the config.json that they are built of, written into the folder."""
    from rankviz.worker.introspect.layers import cut_config

    model, path, pattern = as_built(model_id), config_of(model_id), periods(load_model(ASSETS, model_id))
    least = max(least, pattern.prefix + 2 * pattern.period)
    depth = least + (pattern.blocks - least) % pattern.period
    sized_by_depth = any("per_layer" in layer.path for layer in model.layers)  # Gemma's tables of all blocks
    if depth >= pattern.blocks or sized_by_depth:
        return model, path
    cut = folder / path.name
    cut.write_text(json.dumps(cut_config(json.loads(path.read_bytes()), depth)))

    def of_first(parts: Sequence[Any]) -> tuple[Any, ...]:
        first = (
            part if part.part == "vision" else replace(part, blocks=tuple(n for n in part.blocks if n < depth))
            for part in parts
        )
        return tuple(part for part in first if part.blocks or "{}" not in part.path)

    return (
        replace(
            model,
            num_hidden_layers=depth,
            layer_types=model.layer_types[:depth],
            layers=of_first(model.layers),
            plain_modules=of_first(model.plain_modules),
        ),
        cut,
    )
