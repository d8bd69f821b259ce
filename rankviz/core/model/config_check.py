"""Checks cheaply, before anything imports torch, whether a model can be built from a config.json.

The page checks an upload, and the worker checks its input again. The checks know no architectures: only the worker
finds out whether transformers can build the model, with limits on time and memory.
"""

import json
from typing import Any

from rankviz.core.bounds import HALVES, UNPRINTABLE, shown
from rankviz.errors import BadConfigError, json_place
from rankviz.units import MB

MAX_CONFIG_BYTES = 1 * MB
TOO_LARGE = "{} has more than 1 MB; a model's config.json has a few kB. Is it a weights or tokenizer file?"
MAX_LAYERS = 400
MAX_LAYERS_IN_ALL = 800
"""Most layers, over all towers and lists. In the slowest architecture this takes some seconds of processor time
(DeepSeek-V4 takes 2 s for 100 layers). The deepest model of the catalogue has 126."""
MAX_EXPERTS = 4096
MAX_EXPERT_LAYERS = 50_000
"""Most layers × experts, because each expert of a layer may be a module. Qwen3-Next has 24,576."""
MAX_COUNT = 65_536
MAX_SIZE = 10_000_000
MAX_FREE = 10**11
MAX_LIST = 10_000
MAX_VALUES = 50_000
MAX_DEPTH = 20
MAX_TEXT = 20_000

LAYER_KEYS = frozenset(
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "depths", "encoder_layers", "decoder_layers")
)
EXPERT_KEYS = frozenset(("num_experts", "num_local_experts", "n_routed_experts"))
FREE_WORDS = ("theta", "freq", "position", "length", "window", "context", "seed", "base")
"""Words in keys whose numbers may be as large as MAX_FREE, because no layer's size depends on them. A number of
positions is limited by the size of its table."""
SIZE_KEYS = {
    *("hidden_size", "n_embd", "d_model", "dim", "intermediate_size", "n_inner", "ffn_dim", "moe_intermediate_size"),
    *("shared_expert_intermediate_size", "vocab_size", "head_dim", "global_head_dim", "num_attention_heads", "n_head"),
    *("num_heads", "num_key_value_heads", "max_position_embeddings", "n_positions"),
}
WHOLE_KEYS = SIZE_KEYS | LAYER_KEYS | EXPERT_KEYS
"""Keys whose values must be whole numbers, lists of whole numbers, or null."""
DTYPES = ("dtype", "torch_dtype")
"""Keys that hold the dtype of the stored weights."""
MODEL_DTYPES = ("bfloat16", "float16", "float32", "float64", "half", "float", "double")
"""Dtypes with which a model can be built."""
OF_CODE = frozenset(("auto_map", "quantization_config", "kernel_config", "custom_generate", "custom_pipelines"))


def parse_config(raw: bytes, *, name: str = "config.json") -> dict[str, Any]:
    """Parse a config.json into a dict; raise BadConfigError, which says in one sentence what is wrong."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise BadConfigError(TOO_LARGE.format(name))
    try:
        config = json.loads(raw)
    except RecursionError:
        raise BadConfigError(f"{name} is nested too deep to be a model's config.json.") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise BadConfigError(f"{name} is not JSON{json_place(error)}: give the config.json of a model.") from None
    if not isinstance(config, dict):
        raise BadConfigError(f"{name} holds a {type(config).__name__}, not an object: give the config.json of a model.")
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise BadConfigError(
            f'{name} has no "model_type", so its architecture is unknown: give the config.json of a transformers model.'
        )
    _check(config, name)
    return config


def without_code(value: Any) -> Any:
    """Return a config, or a part of it, without keys that name code (classes and kernels that loaders may fetch) or
    describe how weights are packed. No shape depends on these keys."""
    if isinstance(value, dict):  # numbers as keys (id2label), once transformers has read it
        ends = ("_implementation", "_implementation_internal")
        return {k: without_code(each) for k, each in value.items() if k not in OF_CODE and not str(k).endswith(ends)}
    return [without_code(each) for each in value] if isinstance(value, list) else value


def _check(config: dict[str, Any], name: str) -> None:
    layers = experts = 1
    values = layers_in_all = 0
    left: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in config.items()]
    while left:
        key, value, depth = left.pop()
        values += 1
        if values > MAX_VALUES or depth > MAX_DEPTH:
            raise BadConfigError(f"{name} has more values, or deeper ones, than any model's config.json.")
        if len(key) > MAX_LIST or UNPRINTABLE.search(key):
            raise BadConfigError(f"{name} has a key that is no name.")
        if type(value) is int:
            _check_size(key, value, name)
            layers = max(layers, value) if key in LAYER_KEYS or key.endswith("layers") else layers
            experts = max(experts, value) if key in EXPERT_KEYS or key.endswith("experts") else experts
            layers_in_all += value if key in LAYER_KEYS else 0
        elif isinstance(value, list):
            if len(value) > MAX_LIST:
                raise BadConfigError(f"{name}: {key} has {len(value):,} entries; no model has more than {MAX_LIST:,}.")
            left.extend((key, each, depth + 1) for each in value)
        elif key in WHOLE_KEYS and value is not None:
            what = "an object" if isinstance(value, dict) else shown(value)
            raise BadConfigError(f"{name}: {key} is {what}; it should be a whole number.")
        elif isinstance(value, dict):
            left.extend((inner, each, depth + 1) for inner, each in value.items())
        elif isinstance(value, str) and (len(value) > MAX_TEXT or HALVES.search(value)):
            raise BadConfigError(f"{name}: {key} is no text that a model's config.json has.")
        elif value != value:
            raise BadConfigError(f"{name}: {key} is not a number.")
    if layers_in_all > MAX_LAYERS_IN_ALL:
        raise BadConfigError(f"{name} has {layers_in_all:,} layers in all, over the {MAX_LAYERS_IN_ALL:,} that fit.")
    if layers * experts > MAX_EXPERT_LAYERS:
        raise BadConfigError(
            f"{name} has {layers:,} layers and {experts:,} experts, over the {MAX_EXPERT_LAYERS:,} of both that fit."
        )


def _check_size(key: str, value: int, name: str) -> None:
    most = MAX_COUNT if key.startswith(("num_", "n_")) and key not in SIZE_KEYS else MAX_SIZE
    if key in LAYER_KEYS or key.endswith("layers"):
        most = MAX_LAYERS
    elif key.endswith("experts"):
        most = MAX_EXPERTS
    elif any(word in key for word in FREE_WORDS):
        most = MAX_FREE
    least = 0 if key in WHOLE_KEYS else -most
    if not least <= value <= most:
        raise BadConfigError(f"{name}: {key} is {shown(value)}; RankViz takes {least:,} to {most:,}.")
