"""A trained LoRA adapter in PEFT's layout: its pairs of A and B with their scale, and what else is in the file.

Linear layers, GPT-2's Conv1D, convolutions, embeddings and fused experts (PEFT's target_parameters) are pairs. What is
saved beside them (DoRA magnitudes, biases, modules_to_save) is carried along, and so is a pair whose layout is none of
these, with a note that says so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from rankviz.core.checks import shown
from rankviz.errors import BadAdapterError
from rankviz.trained.config import MAX_CONFIG_BYTES, AdapterConfig, parse_config
from rankviz.trained.files import CONFIG, MAX_BYTES, locate
from rankviz.trained.svd import Pair
from rankviz.trained.tensors import DTYPES, FLOATS, TensorFile

FACTOR = re.compile(r"(?P<module>[\w.:/-]+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?")
PREFIX = "base_model.model."
NESTED = re.compile(r"(\.base_layer)+$")
MAX_MODULES = 200_000
MAX_KINDS = 10
"""Of tensors that are left alone, by name."""
MAX_NOTES = 3
"""About modules that are left alone; the last one counts the rest."""


@dataclass(frozen=True, kw_only=True)
class Module:
    """One pair of factors in the file. Fused experts are one, with a pair for each expert inside."""

    name: str
    """As PEFT's patterns name it: "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.experts.down_proj"."""
    a: str
    """The tensor's name."""
    b: str
    r: int
    scale: float
    in_features: int
    out_features: int
    experts: int = 1

    @property
    def pairs(self) -> tuple[str, ...]:
        return (self.name,) if self.experts == 1 else tuple(f"{self.name}.{i}" for i in range(self.experts))


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What is known of an adapter without its numbers: enough to say what a resize gives, to the byte."""

    name: str
    raw_config: Mapping[str, Any]
    not_resizable: str
    """Why it cannot be resized; "" if it can."""
    modules: tuple[Module, ...]
    left_alone: tuple[Module, ...]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    """dtype and shape by name."""
    metadata: Mapping[str, str]
    file_bytes: int


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter on disk. Its numbers are read when they are needed."""

    name: str
    config: AdapterConfig
    file: TensorFile
    modules: tuple[Module, ...]
    left_alone: tuple[Module, ...]
    """Pairs in a layout that cannot be truncated: they are copied."""
    kept: tuple[str, ...]
    """Tensors that are not factors: DoRA magnitudes, biases, modules saved in full."""
    notes: tuple[str, ...]
    steps: int | None = None
    """Optimizer steps that it was trained for; None where its files do not say."""
    held: Any = field(default=None, repr=False)

    @property
    def r(self) -> int:
        """The highest rank of any module."""
        return max(module.r for module in self.modules)

    @property
    def dtype(self) -> str:
        """fp32, bf16 or fp16: what most factors are saved in."""
        codes = [self.file.tensors[name].dtype for module in self.modules for name in (module.a, module.b)]
        return DTYPES[max(sorted(set(codes)), key=codes.count)]

    @cached_property
    def outline(self) -> Outline:
        return Outline(
            name=self.name,
            raw_config=self.config.raw,
            not_resizable=self.config.not_resizable,
            modules=self.modules,
            left_alone=self.left_alone,
            tensors={name: (tensor.dtype, tensor.shape) for name, tensor in self.file.tensors.items()},
            metadata=self.file.metadata,
            file_bytes=self.file.file_bytes,
        )

    @cached_property
    def pairs(self) -> Mapping[str, Pair]:
        """A and B of every pair, unscaled, by name; read from the file at each access."""
        return _Pairs(self)


class _Pairs(Mapping[str, Pair]):
    def __init__(self, adapter: Adapter):
        self._file = adapter.file
        self._where = {name: (module, i) for module in adapter.modules for i, name in enumerate(module.pairs)}

    def __getitem__(self, name: str) -> Pair:
        module, expert = self._where[name]
        a, b = self._file.floats(module.a), self._file.floats(module.b)
        if module.experts == 1:
            return a.reshape(module.r, -1), b.reshape(module.out_features, module.r)
        # PEFT's ParamWrapper: A's rows run through each expert's ranks, B's columns through each rank's experts.
        a = a.reshape(module.experts, module.r, -1)[expert]
        return a, b.reshape(module.out_features, module.r, module.experts)[:, :, expert]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def read_adapter(paths: Sequence[Path], *, max_bytes: int = MAX_BYTES) -> Adapter:
    """The adapter in a folder, a zip, or the files given; BadAdapterError names what is wrong."""
    located = locate(paths, max_bytes=max_bytes)
    if located.config.stat().st_size > MAX_CONFIG_BYTES:
        raise BadAdapterError(f"{located.config.name} is larger than a {CONFIG} can be: give the right file.")
    config = parse_config(located.config.read_bytes(), name=located.config.name)
    file = TensorFile(located.weights)
    factors, kept = _factors(file)
    if not factors:
        raise BadAdapterError(
            f"{located.weights.name} holds no lora_A and lora_B, so it is not a LoRA adapter in PEFT's layout. "
            "Save it with PEFT's model.save_pretrained."
        )
    if len(factors) > MAX_MODULES:
        raise BadAdapterError(f"{located.weights.name} has {len(factors):,} modules, more than {MAX_MODULES:,}.")
    parameters = _parameters(file, config, factors)
    modules, left_alone, notes = [], [], []
    for name, sides in factors.items():
        module, why = _module(file, config, name, sides, parameters.get(name, ""))
        (left_alone if why else modules).append(module)
        if why:
            notes.append(f"{name} is not changed: {why}.")
    if not modules:
        raise BadAdapterError(f"{located.weights.name} has no pair of factors that can be read. {notes[0]}")
    return Adapter(
        name=located.name,
        config=config,
        file=file,
        modules=tuple(modules),
        left_alone=tuple(left_alone),
        kept=tuple(kept),
        notes=(*_notes(config, kept), *_few(notes)),
        steps=located.steps,
        held=located.held,
    )


def _factors(file: TensorFile) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tensor names by module and side, in the order of the model, and all others."""
    factors: dict[str, dict[str, str]] = {}
    kept = []
    for name in sorted(file.tensors, key=_by_numbers):
        match = FACTOR.fullmatch(name)
        if match is None:
            kept.append(name)
            continue
        factors.setdefault(match["module"].removeprefix(PREFIX), {})[match["side"]] = name
    for module, sides in factors.items():
        if len(sides) != 2:
            (side,) = sides
            raise BadAdapterError(
                f"{module} has a lora_{side} but no lora_{'B' if side == 'A' else 'A'}: the file is incomplete."
            )
    return factors, kept


def _by_numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def _module(
    file: TensorFile, config: AdapterConfig, name: str, sides: Mapping[str, str], parameter: str
) -> tuple[Module, str]:
    """The pair, and why it must be left alone ("" if it need not). Shapes that do not belong together are an error.

    parameter: what the pair adapts, where target_parameters names it; else "".
    """
    a, b = file.tensors[sides["A"]], file.tensors[sides["B"]]
    if {a.dtype, b.dtype} - FLOATS.keys():
        raise BadAdapterError(f"{name} is saved as {a.dtype} and {b.dtype}: save the adapter in fp32, bf16 or fp16.")
    if min(len(a.shape), len(b.shape)) < 2 or 0 in a.shape + b.shape:
        raise BadAdapterError(
            f"{name} has factors of shapes {shown(list(a.shape))} and {shown(list(b.shape))}, which are not matrices: "
            "gather the shards (DeepSpeed, FSDP) before saving."
        )
    rows = a.shape[0]
    if tuple(b.shape[1:]) != (rows,):
        parameter = ""
    key = parameter or name
    r = config.rank_of(key)
    module = Module(
        name=key,
        a=sides["A"],
        b=sides["B"],
        r=r,
        scale=config.scale_of(key),
        in_features=int(np.prod(a.shape[1:])),
        out_features=b.shape[0],
        experts=rows // r if parameter else 1,
    )
    if module.experts > 1 or (rows == r and b.shape[1] == r and set(b.shape[2:]) <= {1}):
        return module, ""
    if len(a.shape) > 2 and rows == r and r % b.shape[1] == 0:
        return module, "it is a grouped convolution"
    if rows != b.shape[1] or len(a.shape) != 2:
        raise BadAdapterError(
            f"{name} has A of shape {shown(list(a.shape))} and B of shape {shown(list(b.shape))}: "
            "A must be r × in and B out × r with the same r."
        )
    raise BadAdapterError(
        f"{name} has rank {rows} in the weights and {r} in {CONFIG}: give the config that was saved with these weights."
    )


def _parameters(file: TensorFile, config: AdapterConfig, factors: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The parameter that each pair of target_parameters adapts, by the pair's name in the file, such as
    {"model.layers.0.mlp.experts.base_layer": "model.layers.0.mlp.experts.gate_up_proj"}.

    Of several parameters of one module PEFT nests the pairs ("experts", "experts.base_layer") and the file does not
    say which is which. It wraps them in the order in which the module declares them, the last one outermost, and every
    MoE of transformers declares down_proj last. Ranks of the config must give each the same number of experts.
    """
    nested: dict[str, list[str]] = {}
    for name in factors:
        nested.setdefault(NESTED.sub("", name), []).append(name)
    found: dict[str, str] = {}
    for module, names in nested.items():
        keys = sorted(config.parameters_of(module), key=lambda key: ("down" in key.rpartition(".")[2], key))
        inner_first = sorted(names, key=len, reverse=True)
        rows = [file.tensors[factors[name]["A"]].shape[0] for name in inner_first]
        if len(names) == 1 and rows[0] == config.rank_of(names[0]):  # a linear layer, or a router's own weight
            keys = [key for key in keys if key.endswith(".weight")]
        for order in permutations(keys, len(names)):
            experts = {number / config.rank_of(key) for number, key in zip(rows, order, strict=True)}
            if len(experts) == 1 and min(experts) == int(min(experts)) >= 1:
                found |= dict(zip(inner_first, order, strict=True))
                break
    return found


def _notes(config: AdapterConfig, kept: Sequence[str]) -> list[str]:
    notes = []
    if config.use_dora:
        notes.append(
            "DoRA: the magnitudes are not changed. They were trained with the whole update, and a truncated update "
            "changes the norm of W + B·A a little, so a resized DoRA adapter is approximate."
        )
    others = sorted({_kind(name) for name in kept if "lora_magnitude" not in name})
    if others:
        more = f" and {len(others) - MAX_KINDS} more" if len(others) > MAX_KINDS else ""
        notes.append(f"Not changed: {', '.join(others[:MAX_KINDS])}{more}.")
    if config.not_resizable:
        notes.append(f"This adapter cannot be resized: {config.not_resizable}")
    return notes


def _kind(name: str) -> str:
    if ".lora_" in name:
        return "biases of the factors"
    return re.sub(r"\.(weight|bias|modules_to_save)\b", "", name.removeprefix(PREFIX)).split(".")[-1]


def _few(notes: Sequence[str]) -> list[str]:
    if len(notes) <= MAX_NOTES:
        return list(notes)
    shown = notes[: MAX_NOTES - 1]
    return [*shown, f"{len(notes) - len(shown)} more modules are not changed."]
