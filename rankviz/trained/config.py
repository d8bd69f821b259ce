"""An adapter_config.json as far as LoRA's shapes and scale depend on it. Fields that are not read are carried along."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rankviz.core.bounds import MAX_TEXT, UNPRINTABLE
from rankviz.core.checks import MODULE_NAME, shown
from rankviz.errors import BadAdapterError, quoted
from rankviz.trained.patterns import Patterns

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
