"""An adapter's tensors without their numbers, and plans to truncate it, with sizes to the byte; without numpy."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum
from typing import Any, NamedTuple

from rankviz.core.bounds import shown
from rankviz.core.spectrum import LayerSpectrum, Ranks, Spectrum, Truncation, in_peft, wanted_ranks
from rankviz.errors import BadAdapterError, InvalidSettingError

DTYPES = {"F64": "fp64", "F32": "fp32", "BF16": "bf16", "F16": "fp16"}
NAMES = {dtype: code for code, dtype in DTYPES.items() if code != "F64"}
"""safetensors' code of each dtype in which an adapter can be written."""
WRITTEN_AS = {
    "U64": "uint64", "I64": "int64", "F64": "float64", "F32": "float32", "U32": "uint32", "I32": "int32",
    "BF16": "bfloat16", "F16": "float16", "U16": "uint16", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Name that safetensors' writer uses for each dtype of a file, in the order in which it sorts the data."""
WIDTHS = {code: 1 if code == "BOOL" else int(code.strip("BFIU")) // 8 for code in WRITTEN_AS}
MOVES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of init_lora_weights with which PEFT, when it loads the adapter, changes the base by a part of rank r."""


class StoredTensor(NamedTuple):
    """A tensor of a file, not yet read. dtype: safetensors' code (F32, BF16, ...). start, end: Offsets in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Module:
    """One pair of factors in the file: of a module, or of fused experts with an update for each expert. a, b: Names of
    the tensors. name: The name in PEFT's patterns: "model.layers.0.self_attn.q_proj",
    "model.layers.0.mlp.experts.down_proj"."""

    name: str
    a: str
    b: str
    r: int
    scale: float
    in_features: int
    out_features: int
    experts: int = 1

    @property
    def pairs(self) -> tuple[str, ...]:
        """Names of its updates: one, or one for each fused expert."""
        return (self.name,) if self.experts == 1 else tuple(f"{self.name}.{i}" for i in range(self.experts))


@dataclass(frozen=True, kw_only=True)
class Outline:
    """An adapter without its numbers: enough to compute the size of a resized file to the byte."""

    name: str
    raw_config: Mapping[str, Any]
    modules: tuple[Module, ...]
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    adapter_bytes: int


@dataclass(frozen=True, kw_only=True)
class ResizePlan:
    """A planned resize. truncation, dtype: As requested. ranks: PEFT's settings. energy_kept: Share over all updates;
    None where all updates are 0. adapter_parameters: Number of values in all factors."""

    truncation: Truncation
    dtype: str | None
    rank_by_module: Mapping[str, int]
    ranks: Ranks
    energy_kept: float | None
    adapter_parameters: int
    adapter_bytes: int
    adapter_bytes_before: int

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        names = ("rank_by_module", "energy_kept", "adapter_parameters", "adapter_bytes", "adapter_bytes_before")
        return {"r": self.ranks.r, "lora_alpha": self.ranks.lora_alpha} | {name: getattr(self, name) for name in names}


def plan(
    adapter: Outline, spectrum: Spectrum, *, r: int | None = None, energy: float | None = None, dtype: str | None = None
) -> ResizePlan:
    """Plan a resize to one rank `r` for all modules, lower than the adapter's, or for each module to the lowest rank
    that keeps a share of its `energy` (above 0, at most 1). dtype: Of the factors; None keeps theirs."""
    if dtype is not None and dtype not in NAMES:
        raise InvalidSettingError(f"The dtype of an adapter must be fp32, bf16 or fp16 (got {dtype!r}).")
    if str(init := adapter.raw_config.get("init_lora_weights")).startswith(MOVES_THE_BASE):
        raise BadAdapterError(
            f"{adapter.name} cannot be resized: init_lora_weights is {shown(init)}, with which PEFT changes the base "
            f"by a part of rank {spectrum.r} when it loads this adapter: first save it with "
            "path_initial_model_for_weight_conversion, then resize it."
        )
    wanted = wanted_ranks(spectrum, r=r, energy=energy)
    layout = {name: (tensor.dtype, tensor.shape) for name, tensor in adapter.tensors.items()}
    for module in adapter.modules:
        for name, shape in zip((module.a, module.b), shapes(adapter, module, wanted[module.name]), strict=True):
            layout[name] = (NAMES[dtype] if dtype else layout[name][0], shape)
    kept = fsum(layer.kept[wanted[layer.module]] for layer in spectrum.layers)
    header, data_bytes = new_header(layout, adapter.metadata)
    return ResizePlan(
        truncation=Truncation(r, energy),
        dtype=dtype,
        rank_by_module=wanted,
        ranks=in_peft(spectrum, wanted, {module.name: module.scale for module in adapter.modules}),
        energy_kept=kept / spectrum.kept[-1] if spectrum.kept[-1] else None,
        adapter_parameters=sum(
            wanted[module.name] * module.experts * (module.in_features + module.out_features)
            for module in adapter.modules
        ),
        adapter_bytes=len(header) + data_bytes,
        adapter_bytes_before=adapter.adapter_bytes,
    )


def shapes(adapter: Outline, module: Module, k: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    a, b, rows = adapter.tensors[module.a].shape, adapter.tensors[module.b].shape, k * module.experts
    return (rows, *a[1:]), (b[0], rows, *b[2:])


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


def new_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> tuple[bytes, int]:
    """Return the bytes before the data in the safetensors file that `write` would make of tensors with these dtypes and
    shapes, and the number of bytes of the data, in the order of dtypes and then names."""
    in_file = list(WRITTEN_AS)
    header: dict[str, Any] = {"__metadata__": dict(metadata) or {"format": "pt"}}
    end = 0
    for name in sorted(tensors, key=lambda name: (in_file.index(tensors[name][0]), name)):
        dtype, shape = tensors[name]
        start, end = end, end + WIDTHS[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, end
