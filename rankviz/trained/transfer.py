"""What one process reads of an adapter and another needs, as JSON: its outline, its spectrum, and a plan."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rankviz.core.spectrum.rank_pattern import Ranks
from rankviz.core.spectrum.spectrum import LayerSpectrum, Spectrum
from rankviz.trained.read import Module, Outline
from rankviz.trained.resize import ResizePlan

COMPUTED = "computed"
CACHED = {Spectrum: ("kept", "weakest_by_rank"), LayerSpectrum: ("effective_rank", "needs")}
"""Cached properties that take the time of all singular values: they travel along, so that a page need not compute
them."""


def outline_json(outline: Outline) -> dict[str, Any]:
    return {
        **_fields(outline),
        "modules": [_fields(module) for module in outline.modules],
        "left_alone": [_fields(module) for module in outline.left_alone],
    }


def outline_from(row: Mapping[str, Any]) -> Outline:
    return Outline(
        **{
            **row,
            "modules": tuple(Module(**module) for module in row["modules"]),
            "left_alone": tuple(Module(**module) for module in row["left_alone"]),
            "tensors": {name: (dtype, tuple(shape)) for name, (dtype, shape) in row["tensors"].items()},
        }
    )


def spectrum_json(spectrum: Spectrum) -> dict[str, Any]:
    layers = [_fields(layer) | {COMPUTED: _computed(layer)} for layer in spectrum.layers]
    return {**_fields(spectrum), "layers": layers, COMPUTED: _computed(spectrum)}


def spectrum_from(row: Mapping[str, Any]) -> Spectrum:
    layers = tuple(
        _with_computed(LayerSpectrum, {**layer, "singular_values": tuple(layer["singular_values"])})
        for layer in row["layers"]
    )
    return _with_computed(Spectrum, {**row, "layers": layers, "notes": tuple(row["notes"])})


def _computed(row: Spectrum | LayerSpectrum) -> dict[str, Any]:
    return {name: getattr(row, name) for name in CACHED[type(row)]}


def _with_computed(kind: type, row: Mapping[str, Any]) -> Any:
    made = kind(**{name: value for name, value in row.items() if name != COMPUTED})
    vars(made).update(row[COMPUTED])  # where a cached property keeps its value
    return made


def plan_json(planned: ResizePlan) -> dict[str, Any]:
    return {**_fields(planned), "ranks": planned.ranks._asdict()}


def plan_from(row: Mapping[str, Any]) -> ResizePlan:
    return ResizePlan(**{**row, "ranks": Ranks(**row["ranks"])})


def _fields(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
