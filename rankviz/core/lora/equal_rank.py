"""A rank of one MoE scheme as the rank of another that trains as many parameters.

Two adapters of equal r update each weight at an equal rank, whatever their schemes; two of equal parameters have an
equal capacity and file. Schemes are those of LoraConfig, and "shared-outer", which is Tinker's: all experts of a layer
share the factor on the hidden side, and each has its own on the inner side. RankViz trains none of those; published
lines have it.
"""

from typing import Literal

from rankviz.core.lora.config import UNSLOTH_SEVEN, LoraConfig, MoeScheme
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import LinearLayer, ModelSpec

SHARED_OUTER = "shared-outer"
ExpertScheme = MoeScheme | Literal["shared-outer"]

MAPS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "q_a_proj", "kv_a_proj_with_mqa"), 1),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj", "in_proj_z", "out_proj"), 1),
    "in_proj_qkv": 3,
    **dict.fromkeys(("q_b_proj", "kv_b_proj", "in_proj_a", "in_proj_b", "shared_expert_gate"), 0),
}
"""How many pairs Tinker counts on a linear layer, by its name: q, k and v apart, no second MLA map, no gates."""
MAMBA_MAPS = 2
"""Of a Mamba mixer's in_proj: its two wide outputs, each as wide as what out_proj reads."""


def parameters_per_rank(model: ModelSpec, scheme: ExpertScheme) -> int | None:
    """Trainable parameters per unit of r, of Tinker's adapter or of Unsloth's seven names under another scheme; None
    where a layer is not known."""
    if scheme == SHARED_OUTER:
        return _shared_outer(model)
    framework = "peft" if scheme == "peft-remap" else "unsloth"
    return resolve(model, LoraConfig(target_modules=UNSLOTH_SEVEN, moe_scheme=scheme), framework).per_rank


def equal_rank(model: ModelSpec, scheme_from: ExpertScheme, r: float, scheme_to: ExpertScheme) -> float | None:
    """The rank under scheme_to with as many trainable parameters as r has under scheme_from; None where a count is not
    known. Qwen3-30B-A3B: r = 32 of "shared-outer" is r = 12.3 of "unsloth"."""
    ours, theirs = (parameters_per_rank(model, scheme) for scheme in (scheme_to, scheme_from))
    return r * theirs / ours if ours and theirs else None


def _shared_outer(model: ModelSpec) -> int | None:
    """Tinker's get_lora_param_count (tinker_cookbook/hyperparam_utils.py) from shapes: attention, MLP and unembedding.

    Per layer of E experts, hidden size H and inner size I: 3H + 3·E·I, without a gate 2H + 2·E·I. Routers are never
    counted. Compared with its table in tests/core/lora/test_equal_rank.py.
    """
    inner = {layer.path.rsplit(".", 1)[0]: layer.in_features for layer in model.layers if layer.name == "out_proj"}
    total = model.vocab_size + model.hidden_size
    for layer in model.layers:
        if layer.kind in ("embedding", "lm_head", "router") or layer.part == "vision":
            continue
        if layer.kind == "experts":
            total += layer.count * _experts(layer, model.hidden_size)
        elif layer.name == "in_proj":
            total += layer.count * MAMBA_MAPS * (layer.in_features + inner[layer.path.rsplit(".", 1)[0]])
        elif layer.name in MAPS:
            maps = MAPS[layer.name]
            total += layer.count * (maps * layer.in_features + min(maps, 1) * layer.out_features)
        else:
            return None
    return total


def _experts(layer: LinearLayer, hidden: int) -> int:
    """gate_up_proj is two maps, whose inner sizes lie side by side."""
    maps = 2 if layer.name == "gate_up_proj" else 1
    return maps * hidden + layer.num_experts * (layer.in_features + layer.out_features - hidden)
