"""Tinker's adapters of mixtures of experts, and ranks that train equally many parameters.

All experts of a layer share the factor on the hidden side, and each has its own on the inner side; Unsloth and PEFT
give each expert a pair. RankViz trains none of these, but published lines have them. Two adapters of equal r update
each weight at an equal rank, whatever their schemes; two of equal parameters have an equal capacity and file.
"""

from bisect import bisect_left
from collections.abc import Callable

from rankviz.core.model.spec import LinearLayer, ModelSpec

MAPS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "q_a_proj", "kv_a_proj_with_mqa"), 1),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj", "in_proj_z", "out_proj"), 1),
    "in_proj_qkv": 3,
    **dict.fromkeys(("q_b_proj", "kv_b_proj", "in_proj_a", "in_proj_b", "shared_expert_gate"), 0),
}
"""How many pairs Tinker counts on a linear layer, by its name: q, k and v apart, no second MLA map, no gates."""
MAMBA_MAPS = 2
"""Of a Mamba mixer's in_proj: its two wide outputs, each as wide as what out_proj reads."""
MOST = 65_536
"""Ranks that are looked through."""


def shared_outer_per_rank(model: ModelSpec) -> int | None:
    """Tinker's trainable parameters per unit of r, on attention, MLP and unembedding; None where a layer is not known.

    Per layer of E experts, hidden size H and inner size I: 3H + 3·E·I, without a gate 2H + 2·E·I; routers are never
    counted. From shapes what get_lora_param_count stores (tinker_cookbook/hyperparam_utils.py), compared with it in
    tests/core/lora/test_shared_outer.py.
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


def rank_of_size(parameters: Callable[[int], int], target: float) -> float:
    """The rank, seldom whole, at which an adapter has this many parameters, between those of its whole ranks.

    Args:
        parameters: Of the adapter at a rank from 1.
        target: Tinker's r = 32 on Qwen3-30B-A3B is r = 12.3 of Unsloth's adapter.
    """
    high = bisect_left(range(MOST), target, lo=1, key=parameters)
    if high == 1:
        return target / parameters(1)
    low = parameters(high - 1)
    return high - 1 + (target - low) / (parameters(high) - low)


def _experts(layer: LinearLayer, hidden: int) -> int:
    """gate_up_proj is two maps, whose inner sizes lie side by side."""
    maps = 2 if layer.name == "gate_up_proj" else 1
    return maps * hidden + layer.num_experts * (layer.in_features + layer.out_features - hidden)
