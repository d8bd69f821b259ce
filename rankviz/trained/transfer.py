"""What one process reads of an adapter and another needs, as JSON: its outline, its spectrum, and a plan."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rankviz.core.spectrum.rank_pattern import Ranks
from rankviz.core.spectrum.spectrum import LayerSpectrum, Spectrum
from rankviz.trained.read import Module, Outline
from rankviz.trained.resize import ResizePlan


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
    return {**_fields(spectrum), "layers": [_fields(layer) for layer in spectrum.layers]}


def spectrum_from(row: Mapping[str, Any]) -> Spectrum:
    layers = (LayerSpectrum(**{**layer, "singular_values": tuple(layer["singular_values"])}) for layer in row["layers"])
    return Spectrum(**{**row, "layers": tuple(layers), "notes": tuple(row["notes"])})


def plan_json(planned: ResizePlan) -> dict[str, Any]:
    return {**_fields(planned), "ranks": planned.ranks._asdict()}


def plan_from(row: Mapping[str, Any]) -> ResizePlan:
    return ResizePlan(**{**row, "ranks": Ranks(**row["ranks"])})


def _fields(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
