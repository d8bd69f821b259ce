"""A trained LoRA adapter in PEFT's layout: its configuration, its pairs of A and B with their scale, and their SVD."""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import permutations
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from rankviz.core.bounds import MAX_TEXT, MODULE_NAME, UNPRINTABLE, shown
from rankviz.errors import BadAdapterError, quoted
from rankviz.trained.files import CONFIG, DTYPES, FLOATS, MAX_BYTES, TensorFile, locate
from rankviz.trained.patterns import Patterns, bounded_matching

MAX_CONFIG_BYTES = 4_000_000
MAX_R = 65_536
MAX_ALPHA = 10**9
MAX_NAMES = 10_000
MAX_DEPTH = 20
PEFT_DEFAULT = 8
"""PEFT's r and lora_alpha where a config names none."""
MOVES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of init_lora_weights with which PEFT changes the base by a part of rank r when it loads the adapter."""
OWN_ARITHMETIC = ("use_bdlora", "kasa_config", "monteclora_config", "velora_config", "arrow_config")
"""Settings under which the update is not scale · B·A, or the factors are laid out in another way."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The rank that PEFT expects of each module, and the scale that it gives B·A."""

    r: int
    lora_alpha: float
    use_rslora: bool
    use_dora: bool
    rank_pattern: Patterns
    alpha_pattern: Patterns
    target_parameters: tuple[str, ...]
    raw: Mapping[str, Any]
    """The whole file."""

    @property
    def base_model(self) -> str:
        """The id or path of the base that it was trained on; "" where the file does not say."""
        name = self.raw.get("base_model_name_or_path")
        return name if isinstance(name, str) and len(name) <= MAX_TEXT and not UNPRINTABLE.search(name) else ""

    def rank_of(self, module: str) -> int:
        return self.rank_pattern.get(module, self.r)

    def alpha_of(self, module: str) -> float:
        return self.alpha_pattern.get(module, self.lora_alpha)

    def scale_of(self, module: str) -> float:
        return self.scale(self.alpha_of(module), self.rank_of(module))

    def parameters_of(self, module: str) -> list[str]:
        """The parameters of a module that target_parameters may mean, by their full names."""
        keys = ((target, f"{module}.{target.rpartition('.')[2]}") for target in self.target_parameters)
        return list(dict.fromkeys(key for target, key in keys if f".{key}".endswith(f".{target}")))

    def scale(self, alpha: float, r: int) -> float:
        """alpha / r, or alpha / √r with rsLoRA."""
        return alpha / (math.sqrt(r) if self.use_rslora else r)

    @property
    def not_resizable(self) -> str:
        """Why PEFT would load a resized adapter as another update; "" if it would not."""
        init = self.raw.get("init_lora_weights")
        if isinstance(init, str) and init.startswith(MOVES_THE_BASE):
            return (
                f"init_lora_weights is {shown(init)}, with which PEFT changes the base by a part of rank {self.r} when "
                "it loads this adapter: first save it with path_initial_model_for_weight_conversion, then resize it."
            )
        return ""


def parse_config(data: bytes, *, name: str = "adapter_config.json") -> AdapterConfig:
    """An AdapterConfig from the file's bytes; BadAdapterError for anything but LoRA."""
    if len(data) > MAX_CONFIG_BYTES:
        raise BadAdapterError(
            f"{name} has {len(data):,} bytes, more than an adapter_config.json can have: give the right file."
        )
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadAdapterError(f"{name} is not JSON ({error}): give the adapter_config.json that PEFT saved.") from None
    if not isinstance(raw, dict) or "peft_type" not in raw:
        raise BadAdapterError(f"{name} has no peft_type: give the adapter_config.json that PEFT saved.")
    if raw["peft_type"] != "LORA":
        raise BadAdapterError(f"{name} has peft_type {shown(raw['peft_type'])}: RankViz reads LoRA adapters only.")
    if _is_deep(raw):
        raise BadAdapterError(f"{name} is nested deeper than PEFT nests it: give the file that PEFT saved.")
    for setting in OWN_ARITHMETIC:
        if raw.get(setting):
            raise BadAdapterError(f"{name} sets {setting}: its update is not B·A alone, so its spectrum is not known.")
    return AdapterConfig(
        r=_whole(raw.get("r", PEFT_DEFAULT), "r", name),
        lora_alpha=_number(raw.get("lora_alpha", PEFT_DEFAULT), "lora_alpha", name),
        use_rslora=bool(raw.get("use_rslora")),
        use_dora=bool(raw.get("use_dora")),
        rank_pattern=_patterns(raw, "rank_pattern", name, _whole),
        alpha_pattern=_patterns(raw, "alpha_pattern", name, _number),
        target_parameters=_names(raw, "target_parameters", name),
        raw=raw,
    )


def _is_deep(raw: Mapping[str, Any]) -> bool:
    """Whether it cannot be written again as it was read."""
    level: list[Any] = [raw]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
    return bool(level)


def _names(raw: Mapping[str, Any], field: str, name: str) -> tuple[str, ...]:
    names = raw.get(field) or ()
    if not isinstance(names, list | tuple) or len(names) > MAX_NAMES:
        raise BadAdapterError(f"{name}: {field} must be a list of at most {MAX_NAMES:,} names.")
    for each in names:
        if not isinstance(each, str) or not MODULE_NAME.fullmatch(each):
            raise BadAdapterError(f"{name}: {field} has {shown(each)}, which is not the name of a parameter.")
    return tuple(names)


def _patterns(raw: Mapping[str, Any], field: str, name: str, checked: Callable[[Any, str, str], Any]) -> Patterns:
    patterns = raw.get(field) or {}
    if not isinstance(patterns, dict):
        raise BadAdapterError(f"{name} has a {field} that is not an object of patterns: give the file that PEFT saved.")
    values = {key: checked(value, f"{field} of {quoted(key)}", name) for key, value in patterns.items()}
    return Patterns(values)


def _whole(value: Any, field: str, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_R:
        raise BadAdapterError(f"{name}: {field} must be a whole number from 1 to {MAX_R:,} (got {shown(value)}).")
    return value


def _number(value: Any, field: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_ALPHA:
        raise BadAdapterError(f"{name}: {field} must be a number of at most {MAX_ALPHA:,} (got {shown(value)}).")
    return value


Pair = tuple[np.ndarray, np.ndarray]
"""A (r × in) and B (out × r), as PEFT keeps them; fp32 or fp64."""
Result = TypeVar("Result")

NOTHING = 3e-8
"""As a share of the norms of A and B together: smaller singular values are rounding errors of the factors."""
MAX_THREADS = 8
_LOCK = Lock()


class Decomposition(NamedTuple):
    """What truncation needs beside the pair itself."""

    singular_values: np.ndarray
    """r of them, falling."""
    left: np.ndarray
    """r × r: B @ left is U·Σ."""
    right: np.ndarray
    """r × r: A.T @ right is V. Where a singular value is 0, the columns here and in left are 0."""


def singular_values(pairs: Mapping[str, Pair]) -> dict[str, np.ndarray]:
    """The singular values of every B·A, falling, r of each; BadAdapterError names a module that diverged."""
    return _of_each(pairs, lambda name: _singular_values(name, *pairs[name]))


def decompose(pairs: Mapping[str, Pair]) -> dict[str, Decomposition]:
    """The SVD of every B·A as r × r pieces, from which `truncate` makes any lower rank."""
    return _of_each(pairs, lambda name: _decompose(name, *pairs[name]))


def truncate(pair: Pair, decomposition: Decomposition, k: int) -> Pair:
    """The best rank-k approximation of B·A as a pair of rank k, each factor with the square root of Σ.

    A pair whose update is 0 keeps the first k rows of A and columns of B, so that it could still be trained.
    """
    a, b = pair
    values = decomposition.singular_values[:k]
    if not values.any():
        return a[:k].copy(), b[:, :k].copy()
    root = np.sqrt(values)
    right, left = decomposition.right[:, :k] * root, decomposition.left[:, :k] * _inverse(root)
    return right.T.astype(a.dtype) @ a, b @ left.astype(b.dtype)


def truncate_all(
    pairs: Mapping[str, Pair], decompositions: Mapping[str, Decomposition], ranks: int | Mapping[str, int]
) -> dict[str, Pair]:
    """Every pair truncated: to one rank, or each to its own. No rank may exceed the pair's."""
    by_name = dict.fromkeys(pairs, ranks) if isinstance(ranks, int) else ranks
    return _of_each(pairs, lambda name: truncate(pairs[name], decompositions[name], by_name[name]))


def _singular_values(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    root, gram_b, nothing = _factored(name, a, b)
    return _values(np.linalg.eigvalsh(root.T @ gram_b @ root), nothing)


def _decompose(name: str, a: np.ndarray, b: np.ndarray) -> Decomposition:
    root, gram_b, nothing = _factored(name, a, b)
    squares, vectors = np.linalg.eigh(root.T @ gram_b @ root)
    values = _values(squares, nothing)
    left = root @ vectors[:, ::-1] * (values > 0)
    return Decomposition(values, left, gram_b @ left * _inverse(values) ** 2)


def _factored(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """L with L·Lᵀ = A·Aᵀ, Bᵀ·B, and the singular value below which there is only rounding."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    gram_a, gram_b = a @ a.T, b.T @ b
    if not (np.isfinite(gram_a).all() and np.isfinite(gram_b).all()):
        raise BadAdapterError(f"{name} holds values that are infinite or not a number: its training diverged.")
    nothing = NOTHING * float(np.sqrt(np.linalg.norm(gram_a) * np.linalg.norm(gram_b)))
    try:
        return np.linalg.cholesky(gram_a), gram_b, nothing
    except np.linalg.LinAlgError:  # A without full rank
        squares, vectors = np.linalg.eigh(gram_a)
        return vectors * np.sqrt(squares.clip(0.0)), gram_b, nothing


def _values(rising_squares: np.ndarray, nothing: float) -> np.ndarray:
    values = np.sqrt(rising_squares[::-1].clip(0.0))
    return np.where(values > nothing, values, 0.0)


def _inverse(values: np.ndarray) -> np.ndarray:
    """1 / values, and 0 for 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


def _of_each(names: Iterable[str], function: Callable[[str], Result]) -> dict[str, Result]:
    """The function's result for each name, in threads: numpy releases the interpreter while it computes.

    Each product runs on one thread of BLAS. The matrices are small, so BLAS's own threads cost more than they bring,
    and ten to fifty times more where another program uses the other core. That limit holds for the whole process,
    hence the lock.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with _LOCK, _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(min(cores, MAX_THREADS)) as pool:
        return dict(pool.map(lambda name: (name, function(name)), names))


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


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
    modules, left_alone, notes = [], [], []
    with bounded_matching():
        parameters = _parameters(file, config, factors)
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
