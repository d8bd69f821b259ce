"""Reads a trained LoRA adapter in PEFT's layout, computes its spectrum, and writes it truncated to lower ranks."""

import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from rankviz.children import processor_time
from rankviz.core.bounds import MAX_TEXT, MODULE_NAME, UNPRINTABLE, Between, Items, Letters, shown
from rankviz.core.from_json import Misfit, build
from rankviz.core.spectrum import LayerSpectrum, Spectrum
from rankviz.errors import BadAdapterError, InvalidSettingError, json_place, quoted
from rankviz.trained.files import (
    CONFIG,
    FLOATS,
    MAX_BYTES,
    WEIGHTS,
    NewTensor,
    decode,
    encode,
    locate,
    open_tensors,
    write,
)
from rankviz.trained.plan import DTYPES, NAMES, Module, Outline, ResizePlan, StoredTensor, shapes
from rankviz.trained.svd import Pair, decompose, of_each, singular_values, truncate

MAX_CONFIG_BYTES = 4_000_000
MAX_R = 65_536
MAX_ALPHA = 10**9
MAX_NAMES, MAX_PATTERN = 10_000, 100_000
MAX_DEPTH = 20
MATCHING_SECONDS = 2.0  # most seconds of processor time for matching all module names of one adapter with its patterns
ENDLESS = (
    "rank_pattern or alpha_pattern in adapter_config.json takes too long to match, so it is not read: name the modules "
    "without nested repeats."
)
OWN_ARITHMETIC = ("use_bdlora", "kasa_config", "monteclora_config", "velora_config", "arrow_config")
"""Settings with which the update is not scale · B·A, or the factors have another layout."""


def matcher(values: Mapping[str, Any] | None) -> Callable[[str, Any], Any]:
    """Return a function of (module name, default): the value of the first pattern that matches the name, or its end
    after a dot, as in PEFT. `re` may take forever, so call it within `processor_time`."""
    compiled = []
    for key, value in (values or {}).items():
        try:
            compiled.append((re.compile(rf"(.*\.)?({key})$"), value))  # as peft.utils.other.get_pattern_key
        except (re.error, OverflowError, RecursionError) as error:
            raise BadAdapterError(f"The pattern {quoted(key)} is not a regular expression: {error}.") from None
    return lambda name, default=None: next((value for pattern, value in compiled if pattern.match(name)), default)


Rank = Annotated[int, Between(1, MAX_R)]
Alpha = Annotated[float, Between(-MAX_ALPHA, MAX_ALPHA)]
Pattern = Annotated[str, Letters(MAX_PATTERN)]
Name = Annotated[str, Letters(MAX_TEXT, MODULE_NAME)]


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Settings of adapter_config.json on which B·A depends, with PEFT's defaults."""

    r: Rank = 8
    lora_alpha: Alpha = 8
    use_rslora: bool | None = None
    use_dora: bool | None = None
    rank_pattern: Annotated[dict[Pattern, Rank], Items(0, MAX_NAMES)] | None = None
    alpha_pattern: Annotated[dict[Pattern, Alpha], Items(0, MAX_NAMES)] | None = None
    target_parameters: Annotated[tuple[Name, ...], Items(0, MAX_NAMES)] | None = None

    @cached_property
    def _patterns(self) -> tuple[Callable[[str, Any], Any], ...]:
        return matcher(self.rank_pattern), matcher(self.alpha_pattern)

    def rank_of(self, module: str) -> int:
        return self._patterns[0](module, self.r)

    def scale_of(self, module: str) -> float:
        """Return the factor of B·A for a module: alpha / r, or alpha / √r with rsLoRA."""
        r = self.rank_of(module)
        return self._patterns[1](module, self.lora_alpha) / (math.sqrt(r) if self.use_rslora else r)


def parse_config(data: bytes, *, name: str = CONFIG) -> tuple[AdapterConfig, dict[str, Any]]:
    """Parse an adapter_config.json into settings and all its values; BadAdapterError for anything but LoRA."""
    if len(data) > MAX_CONFIG_BYTES:
        raise BadAdapterError(f"{name} is larger than a {CONFIG} can be: give the right file.")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadAdapterError(f"{name} is not JSON{json_place(error)}: give the {CONFIG} that PEFT saved.") from None
    if not isinstance(raw, dict) or "peft_type" not in raw:
        raise BadAdapterError(f"{name} has no peft_type: give the {CONFIG} that PEFT saved.")
    if raw["peft_type"] != "LORA":
        raise BadAdapterError(f"{name} has peft_type {shown(raw['peft_type'])}: RankViz reads LoRA adapters only.")
    level: list[Any] = [raw]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
    if level:  # it could not be written again as it was read
        raise BadAdapterError(f"{name} is nested deeper than PEFT nests it: give the file that PEFT saved.")
    for setting in OWN_ARITHMETIC:
        if raw.get(setting):
            raise BadAdapterError(f"{name} sets {setting}: its update is not B·A alone, so its spectrum is not known.")
    try:
        return build(AdapterConfig, raw), raw
    except Misfit as misfit:
        raise BadAdapterError(f"{name}: {misfit}. Give the {CONFIG} that PEFT saved.") from None


FACTOR = re.compile(r"(?P<module>[\w.:/-]+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?")
PREFIX = "base_model.model."
NESTED = re.compile(r"(\.base_layer)+$")
MAX_MODULES = 200_000
MAX_KINDS = 5  # most unchanged tensors that a note names


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter on disk. Its numbers are read from `data`, the memory-mapped file, when they are needed."""

    outline: Outline
    config: AdapterConfig
    data: np.ndarray
    notes: tuple[str, ...]
    unpacked: Any = None

    @property
    def modules(self) -> tuple[Module, ...]:
        return self.outline.modules

    @property
    def r(self) -> int:
        """Highest rank of any module."""
        return max(module.r for module in self.modules)

    @property
    def dtype(self) -> str:
        """dtype that most factors have: "fp32", "bf16" or "fp16"."""
        codes = [self.outline.tensors[name].dtype for module in self.modules for name in (module.a, module.b)]
        return DTYPES[max(sorted(set(codes)), key=codes.count)]

    def raw(self, name: str) -> np.ndarray:
        """Return a tensor's bytes as stored in the file."""
        tensor = self.outline.tensors[name]
        return self.data[tensor.start : tensor.end]

    @cached_property
    def updates(self) -> Mapping[str, tuple[Module, int]]:
        """(module, number of the expert) of every update, by the update's name."""
        return {name: (module, i) for module in self.modules for i, name in enumerate(module.pairs)}

    def pair(self, update: str) -> Pair:
        """Read the factors (A, B) of an update, without its scale."""
        module, expert = self.updates[update]
        a, b = (decode(self.raw(name), self.outline.tensors[name]) for name in (module.a, module.b))
        if module.experts == 1:
            return a.reshape(module.r, -1), b.reshape(module.out_features, module.r)
        # PEFT's ParamWrapper: A's rows run through each expert's ranks, B's columns through each rank's experts.
        a = a.reshape(module.experts, module.r, -1)[expert]
        return a, b.reshape(module.out_features, module.r, module.experts)[:, :, expert]


def read_adapter(paths: Sequence[Path], *, max_bytes: int = MAX_BYTES, max_values: float = math.inf) -> Adapter:
    """Read an adapter from a folder, a zip or its files. max_values: Most singular values or tensors it may have."""
    weights, config_file, name, unpacked = locate(paths, max_bytes=max_bytes)
    with config_file.open("rb") as stream:
        config, raw = parse_config(stream.read(MAX_CONFIG_BYTES + 1), name=config_file.name)
    tensors, metadata, data = open_tensors(weights)
    factors, kept = _factors(tensors)
    if not factors:
        raise BadAdapterError(
            f"{weights.name} holds no lora_A and lora_B, so it is not a LoRA adapter in PEFT's layout. "
            "Save it with PEFT's model.save_pretrained."
        )
    if len(factors) > MAX_MODULES:
        raise BadAdapterError(f"{weights.name} has {len(factors):,} modules, more than {MAX_MODULES:,}.")
    with processor_time(MATCHING_SECONDS, BadAdapterError(ENDLESS)):
        parameters = _parameters(tensors, config, factors)
        modules = [_module(tensors, config, key, sides, parameters.get(key, "")) for key, sides in factors.items()]
    if (number := max(sum(module.r * len(module.pairs) for module in modules), len(tensors))) > max_values:
        raise BadAdapterError(
            f"{name} has {number:,} singular values or tensors, more than the {max_values:,} allowed here."
        )
    return Adapter(
        outline=Outline(
            name=name,
            raw_config=raw,
            modules=tuple(modules),
            tensors=tensors,
            metadata=metadata,
            adapter_bytes=data.size,
        ),
        config=config,
        data=data,
        notes=tuple(_notes(config, kept)),
        unpacked=unpacked,
    )


def _factors(tensors: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the names of factors by module and side ("A", "B"), in the model's order; and the names of all other
    tensors: DoRA magnitudes, biases, modules saved in full."""
    parts = {name: [(int(n), "") if n.isdecimal() else (-1, n) for n in name.split(".")] for name in tensors}
    factors: dict[str, dict[str, str]] = {}
    kept = []
    for name in sorted(parts, key=parts.__getitem__):
        if match := FACTOR.fullmatch(name):
            factors.setdefault(match["module"].removeprefix(PREFIX), {})[match["side"]] = name
        else:
            kept.append(name)
    for module, sides in factors.items():
        if missing := {"A", "B"} - sides.keys():
            raise BadAdapterError(
                f"{module} has a lora_{next(iter(sides))} but no lora_{missing.pop()}: the file is incomplete."
            )
    return factors, kept


def _module(
    tensors: Mapping[str, StoredTensor], config: AdapterConfig, name: str, sides: Mapping[str, str], parameter: str
) -> Module:
    """Return the Module of a pair; raise BadAdapterError where the shapes contradict each other. parameter: Parameter
    that the pair adapts, where target_parameters names one; else ""."""
    a, b = tensors[sides["A"]], tensors[sides["B"]]
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
    experts = rows // r if parameter else 1
    if experts == 1 and (rows != r or b.shape[1] != r or set(b.shape[2:]) - {1}):
        if rows != b.shape[1] or len(a.shape) != 2:
            raise BadAdapterError(
                f"{name} has A of shape {shown(list(a.shape))} and B of shape {shown(list(b.shape))}: "
                "A must be r × in and B out × r with the same r."
            )
        raise BadAdapterError(
            f"{name} has rank {rows} in the weights and {r} in {CONFIG}: give the config saved with these weights."
        )
    return Module(
        name=key,
        a=sides["A"],
        b=sides["B"],
        r=r,
        scale=config.scale_of(key),
        in_features=int(np.prod(a.shape[1:])),
        out_features=b.shape[0],
        experts=experts,
    )


def _parameters(
    tensors: Mapping[str, StoredTensor], config: AdapterConfig, factors: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Return the parameter that each pair of target_parameters adapts, by the pair's name in the file, such as
    {"model.layers.0.mlp.experts.base_layer": "model.layers.0.mlp.experts.gate_up_proj"}. PEFT nests the pairs of
    several parameters of one module ("experts", "experts.base_layer"); the file does not say which pair is whose. PEFT
    wraps parameters in the order in which the module declares them, the last one outermost, and every MoE of
    transformers declares down_proj last. The ranks in the configuration must give each the same number of experts."""
    nested: dict[str, list[str]] = {}
    for name in factors:
        nested.setdefault(NESTED.sub("", name), []).append(name)
    parameters: dict[str, str] = {}
    for module, names in nested.items():
        named = ((target, f"{module}.{target.rpartition('.')[2]}") for target in config.target_parameters or ())
        meant = {key for target, key in named if f".{key}".endswith(f".{target}")}
        keys = sorted(meant, key=lambda key: ("down" in key.rpartition(".")[2], key))
        inner_first = sorted(names, key=len, reverse=True)
        rows = [tensors[factors[name]["A"]].shape[0] for name in inner_first]
        if len(names) == 1 and rows[0] == config.rank_of(names[0]):  # a linear layer, or a router's own weight
            keys = [key for key in keys if key.endswith(".weight")]
        for order in permutations(keys, len(names)):
            experts = {number / config.rank_of(key) for number, key in zip(rows, order, strict=True)}
            if len(experts) == 1 and min(experts) == int(min(experts)) >= 1:
                parameters |= dict(zip(inner_first, order, strict=True))
                break
    return parameters


def _notes(config: AdapterConfig, kept: Sequence[str]) -> Iterator[str]:
    if config.use_dora:
        yield (
            "DoRA: the magnitudes are not changed. They were trained with the whole update, and a truncated update "
            "changes the norm of W + B·A a little, so a resized DoRA adapter is approximate."
        )
    if others := [name.removeprefix(PREFIX) for name in kept if "lora_magnitude" not in name]:
        more = f" and {len(others) - MAX_KINDS} more" if len(others) > MAX_KINDS else ""
        yield f"Not changed: {', '.join(others[:MAX_KINDS])}{more}."


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
        return truncate(pair, decompose(update, pair), planned.rank_by_module[module.name])

    low = of_each(adapter.updates, truncated)
    tensors = {
        name: (tensor.dtype, tensor.shape, adapter.raw(name)) for name, tensor in adapter.outline.tensors.items()
    }
    for module in adapter.modules:
        a, b = low[module.pairs[0]]
        if module.experts > 1:  # as PEFT's ParamWrapper keeps them
            a = np.concatenate([low[name][0] for name in module.pairs])
            b = np.stack([low[name][1] for name in module.pairs], axis=2)
        both = shapes(adapter.outline, module, planned.rank_by_module[module.name])
        for name, values, shape in zip((module.a, module.b), (a, b), both, strict=True):
            dtype = NAMES[planned.dtype] if planned.dtype else adapter.outline.tensors[name].dtype
            tensors[name] = (dtype, shape, encode(values.reshape(shape), dtype))
    return tensors


def spectrum(adapter: Adapter, *, name: str = "", training_steps: int | None = None) -> Spectrum:
    """Return the singular values of every update, scale · B·A. name: By default the adapter's file name."""
    values = of_each(adapter.updates, lambda update: singular_values(update, adapter.pair(update)))
    base = adapter.outline.raw_config.get("base_model_name_or_path")
    has_base = isinstance(base, str) and len(base) <= MAX_TEXT and not UNPRINTABLE.search(base)
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
        base_model=base if has_base else "",
        lora_alpha=adapter.config.lora_alpha,
        use_rslora=bool(adapter.config.use_rslora),
        dtype=adapter.dtype,
        file_bytes=adapter.outline.adapter_bytes,
        notes=adapter.notes,
        training_steps=training_steps,
    )
