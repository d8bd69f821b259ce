"""Is this config.json worth building a model from? Cheap checks, before anything imports torch.

The page runs them on an upload, the worker runs them again on what it is given. They know no architecture: whether
transformers can build the model is for the worker to find out, under its time and memory limits.
"""

import json
from collections.abc import Iterator
from typing import Any

from rankviz.errors import BadConfigError
from rankviz.units import MB

MAX_CONFIG_BYTES = 1 * MB
MAX_LAYERS = 1000
MAX_SIZE = 100_000_000
MAX_LIST = 10_000

LAYER_KEYS = frozenset(
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "encoder_layers", "decoder_layers")
)
SIZE_KEYS = frozenset(
    (
        "hidden_size",
        "n_embd",
        "d_model",
        "dim",
        "intermediate_size",
        "n_inner",
        "ffn_dim",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "vocab_size",
        "head_dim",
        "global_head_dim",
        "num_attention_heads",
        "n_head",
        "num_heads",
        "num_key_value_heads",
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "max_position_embeddings",
        "n_positions",
    )
)


def parse_config(raw: bytes, *, name: str = "config.json") -> dict[str, Any]:
    """The config as a dict, or a BadConfigError that says in one sentence what is wrong with it."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise BadConfigError(too_large(name, len(raw)))
    try:
        config = json.loads(raw)
    except RecursionError:
        raise BadConfigError(f"{name} is nested too deep to be a model's config.json.") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise BadConfigError(f"{name} is not JSON ({error}): give the config.json of a model.") from None
    if not isinstance(config, dict):
        raise BadConfigError(f"{name} holds a {type(config).__name__}, not an object: give the config.json of a model.")
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise BadConfigError(
            f'{name} has no "model_type", so its architecture is unknown: give the config.json of a transformers model.'
        )
    for key, value in _settings(config):
        _check(key, value, name)
    return config


def too_large(name: str, size_bytes: int) -> str:
    """Why a file of this size is not read."""
    return (
        f"{name} is {size_bytes / MB:,.1f} MB; a model's config.json has a few kB, and RankViz reads at most 1 MB. "
        "Is it a weights or tokenizer file?"
    )


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, those of nested configs included."""
    stack = [config]
    while stack:
        current = stack.pop()
        for key, value in current.items():
            yield key, value
            if isinstance(value, dict):
                stack.append(value)


def _check(key: str, value: Any, name: str) -> None:
    if isinstance(value, list) and len(value) > MAX_LIST:
        raise BadConfigError(f"{name}: {key} has {len(value):,} entries; no model has more than {MAX_LIST:,}.")
    if key in LAYER_KEYS:
        low, high = 0, MAX_LAYERS
    elif key in SIZE_KEYS:
        low, high = 0, MAX_SIZE
    else:
        return
    for number in value if isinstance(value, list) else [value]:
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int):
            raise BadConfigError(f"{name}: {key} is {number!r}; it should be a whole number.")
        if not low <= number <= high:
            raise BadConfigError(f"{name}: {key} is {number:,}; RankViz takes {low} to {high:,}.")
