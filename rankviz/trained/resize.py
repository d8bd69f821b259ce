"""The spectrum of an adapter on disk, and the adapter truncated to lower ranks."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from rankviz.core.spectrum import LayerSpectrum, Spectrum
from rankviz.errors import InvalidSettingError
from rankviz.trained.files import CONFIG, WEIGHTS, NewTensor, encode, write
from rankviz.trained.plan import NAMES, ResizePlan, shapes
from rankviz.trained.read import Adapter
from rankviz.trained.svd import Pair, decompose, of_each, singular_values, truncate


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
        both = shapes(adapter.outline, module, planned.by_module[module.name])
        for name, values, shape in zip((module.a, module.b), (a, b), both, strict=True):
            dtype = NAMES[planned.dtype] if planned.dtype else adapter.outline.tensors[name].dtype
            tensors[name] = (dtype, shape, encode(values.reshape(shape), dtype))
    return tensors


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
