"""The spectrum of an adapter on disk, and the adapter truncated to lower ranks, with its size to the byte."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np

from rankviz.core.bounds import shown
from rankviz.core.spectrum import LayerSpectrum, Ranks, Spectrum, Truncation, by_module, in_peft, wanted_ranks
from rankviz.errors import BadAdapterError, InvalidSettingError
from rankviz.trained.files import CONFIG, NAMES, WEIGHTS, NewTensor, StoredTensor, encode, new_file_bytes, write
from rankviz.trained.read import Adapter, Module, Outline
from rankviz.trained.svd import Pair, decompose, of_each, singular_values, truncate

MOVES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of init_lora_weights with which PEFT, when it loads the adapter, changes the base by a part of rank r."""


@dataclass(frozen=True, kw_only=True)
class ResizePlan:
    """A planned resize. truncation, dtype: As requested. ranks: PEFT's settings. energy_kept: Share over all updates;
    None where all updates are 0. parameters: Number of values in all factors."""

    truncation: Truncation
    dtype: str | None
    by_module: Mapping[str, int]
    ranks: Ranks
    energy_kept: float | None
    parameters: int
    adapter_bytes: int
    adapter_bytes_before: int

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return {
            "r": self.ranks.r,
            "lora_alpha": self.ranks.lora_alpha,
            "rank_by_module": dict(self.by_module),
            "energy_kept": self.energy_kept,
            "adapter_parameters": self.parameters,
            "adapter_bytes": self.adapter_bytes,
            "adapter_bytes_before": self.adapter_bytes_before,
        }


def plan(
    adapter: Outline, spectrum: Spectrum, *, r: int | None = None, energy: float | None = None, dtype: str | None = None
) -> ResizePlan:
    """Plan a resize to one rank for all modules, or for each module to the lowest rank that keeps a share of its
    energy.

    Args:
        adapter: Adapter to resize.
        spectrum: The adapter's spectrum.
        r: Rank below the adapter's.
        energy: Share of the energy, above 0 and at most 1.
        dtype: fp32, bf16 or fp16 for the factors; None keeps their dtypes.
    """
    if dtype is not None and dtype not in NAMES:
        raise InvalidSettingError(f"The dtype of an adapter must be fp32, bf16 or fp16 (got {dtype!r}).")
    if str(init := adapter.raw_config.get("init_lora_weights")).startswith(MOVES_THE_BASE):
        raise BadAdapterError(
            f"{adapter.name} cannot be resized: init_lora_weights is {shown(init)}, with which PEFT changes the base "
            f"by a part of rank {spectrum.r} when it loads this adapter: first save it with "
            "path_initial_model_for_weight_conversion, then resize it."
        )
    wanted = by_module(spectrum, wanted_ranks(spectrum, r=r, energy=energy))
    layout = {name: (tensor.dtype, tensor.shape) for name, tensor in adapter.tensors.items()}
    for module in adapter.modules:
        for name, shape in zip((module.a, module.b), _shapes(adapter, module, wanted[module.name]), strict=True):
            layout[name] = (NAMES[dtype] if dtype else layout[name][0], shape)
    kept = fsum(layer.kept[wanted[layer.module]] for layer in spectrum.layers)
    return ResizePlan(
        truncation=Truncation(r, energy),
        dtype=dtype,
        by_module=wanted,
        ranks=in_peft(spectrum, wanted, {module.name: module.scale for module in adapter.modules}),
        energy_kept=kept / spectrum.kept[-1] if spectrum.kept[-1] else None,
        parameters=sum(
            wanted[module.name] * module.experts * (module.in_features + module.out_features)
            for module in adapter.modules
        ),
        adapter_bytes=new_file_bytes(layout, adapter.metadata),
        adapter_bytes_before=adapter.adapter_bytes,
    )


def resize(adapter: Adapter, planned: ResizePlan, target: Path) -> Path:
    """Write the resized adapter, as PEFT loads it, into a new folder, completely or not at all; return the folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidSettingError(f"{target} already exists and is not overwritten: give a new folder.")
    tensors = resized(adapter, planned)
    config = {**adapter.outline.raw_config, **planned.ranks._asdict()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as half:
        folder = Path(half) / target.name
        folder.mkdir()
        write(folder / WEIGHTS, tensors, adapter.outline.metadata)
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if target.exists():
            target.rmdir()
        os.replace(folder, target)
    return target


def resized(adapter: Adapter, planned: ResizePlan) -> dict[str, NewTensor]:
    """Return all tensors of the resized adapter, by name."""

    def truncated(update: str) -> Pair:
        pair, (module, _) = adapter.pair(update), adapter.updates[update]
        return truncate(pair, decompose(update, pair), planned.by_module[module.name])

    low = of_each(adapter.updates, truncated)
    tensors = {
        name: (tensor.dtype, tensor.shape, adapter.raw(name)) for name, tensor in adapter.outline.tensors.items()
    }
    for module in adapter.modules:
        a, b = low[module.pairs[0]]
        if module.experts > 1:  # as PEFT's ParamWrapper keeps them
            a = np.concatenate([low[name][0] for name in module.pairs])
            b = np.stack([low[name][1] for name in module.pairs], axis=2)
        shapes = _shapes(adapter.outline, module, planned.by_module[module.name])
        for name, values, shape in zip((module.a, module.b), (a, b), shapes, strict=True):
            dtype = NAMES[planned.dtype] if planned.dtype else adapter.outline.tensors[name].dtype
            tensors[name] = (dtype, shape, encode(values.reshape(shape), dtype))
    return tensors


def _shapes(adapter: Outline, module: Module, k: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    a, b, rows = adapter.tensors[module.a].shape, adapter.tensors[module.b].shape, k * module.experts
    return (rows, *a[1:]), (b[0], rows, *b[2:])


def spectrum(adapter: Adapter, *, name: str = "", training_steps: int | None = None) -> Spectrum:
    """Return the singular values of every update, scale · B·A. name: By default the adapter's file name."""
    values = of_each(adapter.updates, lambda update: singular_values(update, adapter.pair(update)))
    return Spectrum(
        name=name or adapter.outline.name,
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
        base_model=adapter.base_model,
        lora_alpha=adapter.config.lora_alpha,
        use_rslora=bool(adapter.config.use_rslora),
        dtype=adapter.dtype,
        file_bytes=adapter.outline.adapter_bytes,
        notes=adapter.notes,
        training_steps=training_steps,
    )


def received(outline: Mapping[str, Any], spectrum: Mapping[str, Any]) -> tuple[Outline, Spectrum]:
    """Return an adapter's outline and spectrum from the `asdict` of each, as another process sent them."""
    modules = tuple(Module(**module) for module in outline["modules"])
    tensors = {
        name: StoredTensor(dtype, tuple(shape), *places) for name, (dtype, shape, *places) in outline["tensors"].items()
    }
    layers = (LayerSpectrum(**row | {"singular_values": tuple(row["singular_values"])}) for row in spectrum["layers"])
    return (
        Outline(**outline | {"modules": modules, "tensors": tensors}),
        Spectrum(**spectrum | {"layers": tuple(layers), "notes": tuple(spectrum["notes"])}),
    )
