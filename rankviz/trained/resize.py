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
from rankviz.trained.read import Adapter, Module, Outline
from rankviz.trained.svd import decompose, singular_values, truncate_all


@dataclass(frozen=True, kw_only=True)
class ResizePlan:
    """A planned resize. ranks: values of PEFT's settings. dtype: safetensors code for the factors; None keeps the
    dtype of each. energy_kept: share over all updates; None where all updates are 0. parameters: number in all
    factors. config: the new adapter_config.json."""

    by_module: Mapping[str, int]
    ranks: Ranks
    dtype: str | None
    energy_kept: float | None
    parameters: int
    file_bytes: int
    file_bytes_before: int
    config: Mapping[str, Any]

    @property
    def smaller_by(self) -> float:
        """Share of the file that the resize saves."""
        return 1 - self.file_bytes / self.file_bytes_before

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON."""
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
    adapter: Outline, spectrum: Spectrum, *, r: int | None = None, energy: float | None = None, dtype: str | None = None
) -> ResizePlan:
    """Plan one rank for all modules, or for each module the lowest rank that keeps this share of its energy.

    Args:
        adapter: Adapter to resize.
        spectrum: The adapter's spectrum.
        r: Rank below the adapter's.
        energy: Share above 0, at most 1.
        dtype: fp32, bf16 or fp16 for the factors; None keeps their dtypes.
    """
    if dtype is not None and dtype not in NAMES:
        raise InvalidSettingError(f"The dtype of an adapter must be fp32, bf16 or fp16 (got {dtype!r}).")
    if adapter.not_resizable:
        raise BadAdapterError(f"{adapter.name} cannot be resized: {adapter.not_resizable}")
    wanted = by_module(spectrum, wanted_ranks(spectrum, r=r, energy=energy))
    code = NAMES[dtype] if dtype else None
    ranks = in_peft(spectrum, wanted, {module.name: module.scale for module in adapter.modules})
    layout = dict(adapter.tensors)
    for module in adapter.modules:
        for name, shape in zip((module.a, module.b), _shapes(adapter, module, wanted[module.name]), strict=True):
            layout[name] = (code or layout[name][0], shape)
    kept = fsum(layer.kept[wanted[layer.module]] for layer in spectrum.layers)
    return ResizePlan(
        by_module=wanted,
        ranks=ranks,
        dtype=code,
        energy_kept=kept / spectrum.kept[-1] if spectrum.kept[-1] else None,
        parameters=sum(module.parameters(wanted[module.name]) for module in adapter.modules),
        file_bytes=file_bytes(layout, adapter.metadata),
        file_bytes_before=adapter.file_bytes,
        config={**adapter.raw_config, **ranks._asdict()},
    )


def planned_truncations(
    adapter: Outline, spectrum: Spectrum, dtype: str | None = None
) -> list[tuple[Truncation, ResizePlan]]:
    """Return truncations worth a look, each with its plan; none for an adapter that cannot be resized."""
    if adapter.not_resizable:
        return []
    return [(each, plan(adapter, spectrum, **each._asdict(), dtype=dtype)) for each in truncations(spectrum)]


def resize(adapter: Adapter, planned: ResizePlan, target: Path) -> Path:
    """Write the resized adapter into a new folder, as PEFT loads it, completely or not at all; return the folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidSettingError(f"{target} already exists and is not overwritten: give a new folder.")
    tensors = resized(adapter, planned)
    target.parent.mkdir(parents=True, exist_ok=True)
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
    """Write the resized adapter's folder as a zip, and return the zip."""
    with tempfile.TemporaryDirectory(prefix="rankviz-resize-") as space:
        return pack(resize(adapter, planned, Path(space) / target.stem), target)


def resized(adapter: Adapter, planned: ResizePlan) -> dict[str, NewTensor]:
    """Return all tensors of the resized adapter."""
    pairs = adapter.pairs
    ranks = {name: planned.by_module[module.name] for module in adapter.modules for name in module.pairs}
    low = truncate_all(pairs, decompose(pairs), ranks)
    tensors = {
        name: NewTensor(dtype, shape, adapter.file.raw(name))
        for name, (dtype, shape) in adapter.outline.tensors.items()
    }
    for module in adapter.modules:
        a, b = low[module.pairs[0]]
        if module.experts > 1:  # as PEFT's ParamWrapper keeps them
            a = np.concatenate([low[name][0] for name in module.pairs])
            b = np.stack([low[name][1] for name in module.pairs], axis=2)
        shapes = _shapes(adapter.outline, module, planned.by_module[module.name])
        for name, values, shape in zip((module.a, module.b), (a, b), shapes, strict=True):
            dtype = planned.dtype or tensors[name].dtype
            tensors[name] = NewTensor(dtype, shape, encode(values.reshape(shape), dtype))
    return tensors


def _shapes(adapter: Outline, module: Module, k: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    (_, a), (_, b) = adapter.tensors[module.a], adapter.tensors[module.b]
    rows = k * module.experts
    return (rows, *a[1:]), (b[0], rows, *b[2:])


def spectrum(adapter: Adapter) -> Spectrum:
    """Return the singular values of every update, scale · B·A, as a Spectrum."""
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
    )


CACHED = {Spectrum: ("kept", "weakest_by_rank"), LayerSpectrum: ("effective_rank", "needs")}
"""Cached properties that take long to compute: `as_json` includes them, so that a page need not compute them again."""


def as_json(value: Outline | Spectrum | ResizePlan | Module | LayerSpectrum) -> dict[str, Any]:
    """Return the fields and the values in CACHED as JSON, which outline_from, spectrum_from and plan_from read."""
    row = {field.name: getattr(value, field.name) for field in fields(value)}
    for name in row.keys() & {"modules", "layers"}:
        row[name] = [as_json(each) for each in row[name]]
    if isinstance(value, ResizePlan):
        row["ranks"] = value.ranks._asdict()
    if cached := CACHED.get(type(value)):
        row["computed"] = {name: getattr(value, name) for name in cached}
    return row


def outline_from(row: Mapping[str, Any]) -> Outline:
    modules = tuple(Module(**module) for module in row["modules"])
    tensors = {name: (dtype, tuple(shape)) for name, (dtype, shape) in row["tensors"].items()}
    return Outline(**{**row, "modules": modules, "tensors": tensors})


def spectrum_from(row: Mapping[str, Any]) -> Spectrum:
    layers = (_computed(LayerSpectrum, each, singular_values=tuple(each["singular_values"])) for each in row["layers"])
    return _computed(Spectrum, row, layers=tuple(layers), notes=tuple(row["notes"]))


def _computed(kind: type, row: Mapping[str, Any], **changed: Any) -> Any:
    made = kind(**{name: value for name, value in row.items() if name != "computed"} | changed)
    vars(made).update(row["computed"])  # where a cached property keeps its value
    return made


def plan_from(row: Mapping[str, Any]) -> ResizePlan:
    return ResizePlan(**{**row, "ranks": Ranks(**row["ranks"])})
