"""A tiny random checkpoint of every family of the catalogue: its config.json with narrow layers and few blocks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankviz.worker.introspect.layers import cut_config
from tests.support.models.tiny_llama import save_tokenizer

CONFIGS = Path(__file__).parents[3] / "assets" / "configs"
VOCABULARY = 512
WIDTHS = {
    VOCABULARY: ("vocab_size", "vocab_size_per_layer_input"),
    192: ("intermediate_size", "ffn_dim", "n_inner", "block_ff_dim", "intermediate_size_mlp"),
    128: (
        *("hidden_size", "n_embd", "word_embed_proj_dim", "block_dim", "conv_dim", "conv_dim_out", "out_hidden_size"),
        *("moe_shared_expert_intermediate_size", "vision_output_dim", "projector_input_dim", "projector_output_dim"),
    ),
    64: (
        *("moe_intermediate_size", "shared_expert_intermediate_size", "hidden_size_per_layer_input", "q_lora_rank"),
        *("kv_lora_rank", "global_head_dim", "position_embedding_size", "num_position_embeddings"),
    ),
    56: ("image_size",),
    32: (
        *("head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "mamba_head_dim", "ssm_state_size"),
        *("chunk_size", "linear_key_head_dim", "linear_value_head_dim"),
    ),
    8: ("mamba_num_heads",),
    4: (
        *("num_attention_heads", "n_head", "num_heads", "linear_num_value_heads", "num_experts", "n_routed_experts"),
        *("num_local_experts", "mm_tokens_per_image"),
    ),
    2: (
        *("num_key_value_heads", "num_global_key_value_heads", "num_experts_per_tok", "top_k_experts", "n_groups"),
        *("experts_per_token", "linear_num_key_heads"),
    ),
    1: ("n_group", "topk_group"),
}
WIDTH = {name: width for width, names in WIDTHS.items() for name in names}
TOWER_DEPTH = 2


def shrunk(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with narrow layers, and as many blocks as its pattern needs to show each kind once."""
    text = config.get("text_config") or config
    small = _narrow(cut_config(config, _depth(text)))
    for name in ("vision_config", "audio_config"):
        if isinstance(small.get(name), Mapping):
            small[name] = _tower(small[name])
    return small


def families() -> dict[str, str]:
    """A name of a config for each family of the catalogue, by what tells them apart: model_type, towers, experts and
    Gemma 4's embeddings of each layer."""
    found: dict[tuple[Any, ...], str] = {}
    for file in sorted(CONFIGS.glob("*.json")):
        config = json.loads(file.read_bytes())
        text = config.get("text_config") or config
        experts = text.get("num_experts") or text.get("num_local_experts") or text.get("n_routed_experts")
        kind = (config["model_type"], bool(experts), bool(text.get("hidden_size_per_layer_input")))
        found.setdefault(kind, file.stem)
    whole = {name.removesuffix(".full") for name in found.values() if name.endswith(".full")}
    return {_title(*kind): name for kind, name in found.items() if name not in whole}


def _title(model_type: str, experts: bool, per_layer: bool) -> str:
    more = [word for word, has in (("experts", experts), ("per-layer embeddings", per_layer)) if has]
    return f"{model_type} ({', '.join(more)})" if more else model_type


def _depth(text: Mapping[str, Any]) -> int:
    pattern = text.get("layer_types") or text.get("hybrid_override_pattern") or text.get("layers_block_type") or ()
    whole = max((list(pattern).index(kind) + 1 for kind in set(pattern)), default=0)
    first_of_a_kind = (
        (text.get("first_k_dense_replace") or 0) + 1,
        (text.get("full_attention_interval") or 0),
        min(text.get("full_attn_idxs") or (0,)) + 1,
        text.get("interleave_moe_layer_step") or 0,
    )
    return max(2, whole, *first_of_a_kind)


def _narrow(value: Any, name: str = "") -> Any:
    match value:
        case dict():
            return {key: _narrow(each, key) for key, each in value.items()}
        case bool() | None:
            return value
        case int() if name in WIDTH:
            return min(value, WIDTH[name])
        case int() if name.endswith(("_token_id", "_token_index")):
            return min(value, 3) if name.startswith(("bos", "eos", "pad")) else 256 + sum(map(ord, name)) % 250
        case list() if name.endswith(("_token_id", "_token_index")):
            return 2
        case list() if name in ("long_factor", "short_factor"):
            return value[: WIDTH["head_dim"] // 2]
        case list() if name == "full_attn_idxs":
            return value[:1]
    return value


def _tower(config: Mapping[str, Any]) -> dict[str, Any]:
    depth = next((key for key in ("depth", "num_hidden_layers") if key in config), None)
    small = cut_config(config, TOWER_DEPTH) if depth == "num_hidden_layers" else {**config}
    if depth == "depth":
        small["depth"] = TOWER_DEPTH
    if indexes := small.get("deepstack_visual_indexes"):
        small["deepstack_visual_indexes"] = [0, 1][: len(indexes)]
    return small


def write(name: str, folder: Path) -> Path:
    """Random weights in bf16, config.json and a tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = shrunk(json.loads((CONFIGS / f"{name}.json").read_bytes()))
    save_tokenizer(folder)
    parsed = AutoConfig.for_model(**config)
    whole = name.endswith(".full") or type(parsed) not in AutoModelForCausalLM._model_mapping
    factory = AutoModelForImageTextToText if whole else AutoModelForCausalLM
    torch.manual_seed(0)
    factory.from_config(parsed, dtype=torch.bfloat16).save_pretrained(folder)
    return folder
