"""The spectrum of an adapter on disk, and the adapter truncated to lower ranks, with its size to the byte."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np

from rankviz.core.spectrum import (
    LayerSpectrum,
    Ranks,
    Spectrum,
    Truncation,
    by_module,
    in_peft,
    truncations,
    wanted_ranks,
)
from rankviz.errors import BadAdapterError, InvalidSettingError
from rankviz.trained.files import CONFIG, NAMES, WEIGHTS, NewTensor, encode, file_bytes, pack, write
from rankviz.trained.read import Adapter, Module, Outline, Pair, decompose, singular_values, truncate_all


@dataclass(frozen=True, kw_only=True)
class ResizePlan:
    """What a resize will do, before it does it."""

    by_module: Mapping[str, int]
    ranks: Ranks
    """As PEFT's settings."""
    dtype: str | None
    """A safetensors code for the factors; None leaves each as it is."""
    energy_kept: float | None
    """Of all updates together; None where there is none."""
    parameters: int
    """Of all factors."""
    file_bytes: int
    file_bytes_before: int
    config: Mapping[str, Any]
    """The new adapter_config.json."""

    @property
    def smaller_by(self) -> float:
        """The share of the file that goes."""
        return 1 - self.file_bytes / self.file_bytes_before

    def as_json(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "r": self.ranks.r,
            "lora_alpha": self.ranks.lora_alpha,
            "rank_by_module": dict(self.by_module),
            "energy_kept": self.energy_kept,
            "adapter_parameters": self.parameters,
            "adapter_bytes": self.file_bytes,
            "adapter_bytes_before": self.file_bytes_before,
        }


def plan(
    adapter: Outline,
    spectrum: Spectrum,
    *,
    r: int | None = None,
    energy: float | None = None,
    dtype: str | None = None,
) -> ResizePlan:
    """One rank for all, or for each module the smallest that keeps this share of its energy.

    Args:
        spectrum: The adapter's spectrum.
        r: Lower than the adapter's.
        energy: Above 0, at most 1.
        dtype: fp32, bf16 or fp16 for the factors; without it they stay as they are.
    """
    if dtype is not None and dtype not in NAMES:
        raise InvalidSettingError(f"The dtype of an adapter must be fp32, bf16 or fp16 (got {dtype!r}).")
    if adapter.not_resizable:
        raise BadAdapterError(f"{adapter.name} cannot be resized: {adapter.not_resizable}")
    wanted = by_module(spectrum, wanted_ranks(spectrum, r=r, energy=energy))
    code = NAMES[dtype] if dtype else None
    every = (*adapter.modules, *adapter.left_alone)
    ranks = in_peft(
        spectrum,
        wanted | {module.name: module.r for module in adapter.left_alone},
        {module.name: module.scale for module in every},
    )
    kept = fsum(layer.kept[wanted[layer.module]] for layer in spectrum.layers)
    return ResizePlan(
        by_module=wanted,
        ranks=ranks,
        dtype=code,
        energy_kept=kept / spectrum.kept[-1] if spectrum.kept[-1] else None,
        parameters=sum(_parameters(module, wanted.get(module.name, module.r)) for module in every),
        file_bytes=file_bytes(_layout(adapter, wanted, code), adapter.metadata),
        file_bytes_before=adapter.file_bytes,
        config={**adapter.raw_config, **ranks._asdict()},
    )


def planned_truncations(
    adapter: Outline, spectrum: Spectrum, dtype: str | None = None
) -> list[tuple[Truncation, ResizePlan]]:
    """Truncations worth a look, each with its result; none for an adapter that cannot be resized."""
    if adapter.not_resizable:
        return []
    return [(each, plan(adapter, spectrum, **each._asdict(), dtype=dtype)) for each in truncations(spectrum)]


def resize(adapter: Adapter, planned: ResizePlan, target: Path) -> Path:
    """Write the resized adapter into a new folder, as PEFT loads it; returns the folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidSettingError(f"{target} already exists and is not overwritten: give a new folder.")
    tensors = resized(adapter, planned)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: written beside its place, then moved there.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as half:
        folder = Path(half) / target.name
        folder.mkdir()
        write(folder / WEIGHTS, tensors, adapter.file.metadata)
        (folder / CONFIG).write_text(json.dumps(planned.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if target.exists():
            target.rmdir()
        os.replace(folder, target)
    return target


def zipped(adapter: Adapter, planned: ResizePlan, target: Path) -> Path:
    """Write the resized adapter's folder as a zip."""
    with tempfile.TemporaryDirectory(prefix="rankviz-resize-") as space:
        return pack(resize(adapter, planned, Path(space) / target.stem), target)


def resized(adapter: Adapter, planned: ResizePlan) -> dict[str, NewTensor]:
    """All tensors of the resized adapter."""
    ranks = {name: planned.by_module[module.name] for module in adapter.modules for name in module.pairs}
    pairs = adapter.pairs
    low = truncate_all(pairs, decompose(pairs), ranks)
    tensors = {
        name: NewTensor(adapter.file.tensors[name].dtype, adapter.file.tensors[name].shape, adapter.file.raw(name))
        for name in adapter.file.tensors
    }
    for module in adapter.modules:
        a, b = _joined(module, [low[name] for name in module.pairs])
        for name, values, shape in zip((module.a, module.b), (a, b), _shapes(adapter, module, planned), strict=True):
            dtype = planned.dtype or adapter.file.tensors[name].dtype
            tensors[name] = NewTensor(dtype, shape, encode(values.reshape(shape), dtype))
    return tensors


def _joined(module: Module, pairs: list[Pair]) -> Pair:
    """Experts' pairs as PEFT's ParamWrapper keeps them; a pair that is alone as it is."""
    if module.experts == 1:
        return pairs[0]
    a = np.concatenate([a for a, _ in pairs])
    return a, np.stack([b for _, b in pairs], axis=2)


def _shapes(adapter: Adapter, module: Module, planned: ResizePlan) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return _shapes_at(adapter.outline, module, planned.by_module[module.name])


def _shapes_at(adapter: Outline, module: Module, k: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    (_, a), (_, b) = adapter.tensors[module.a], adapter.tensors[module.b]
    rows = k * module.experts
    return (rows, *a[1:]), (b[0], rows, *b[2:])


def _layout(adapter: Outline, wanted: Mapping[str, int], dtype: str | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    layout = dict(adapter.tensors)
    for module in adapter.modules:
        for name, shape in zip((module.a, module.b), _shapes_at(adapter, module, wanted[module.name]), strict=True):
            layout[name] = (dtype or layout[name][0], shape)
    return layout


def _parameters(module: Module, k: int) -> int:
    return k * module.experts * (module.in_features + module.out_features)


def spectrum(adapter: Adapter) -> Spectrum:
    """The singular values of every update, scale · B·A, as a Spectrum."""
    values = singular_values(adapter.pairs)
    return Spectrum(
        name=adapter.name,
        r=adapter.r,
        layers=tuple(
            LayerSpectrum(
                name=name,
                module=module.name,
                r=module.r,
                scale=module.scale,
                singular_values=tuple((abs(module.scale) * values[name]).tolist()),
            )
            for module in adapter.modules
            for name in module.pairs
        ),
        base_model=adapter.config.base_model,
        lora_alpha=adapter.config.lora_alpha,
        use_rslora=adapter.config.use_rslora,
        dtype=adapter.dtype,
        file_bytes=adapter.file.file_bytes,
        notes=adapter.notes,
        training_steps=adapter.steps,
    )


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
