"""What one decoder block holds per token while it trains, from its real linear layers.

Memory and time need sums over layers, per block, since hybrid models differ from block to block. What is covered:
attention (grouped, fused, MLA), gated and plain MLPs, fused and split projections, experts (the active ones),
linear-attention and Mamba projections. What is not: the inner state of linear attention and Mamba kernels, the
router's bookkeeping, and vision or audio towers, which a text example doesn't run through.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rankviz.core.model import LinearLayer, ModelSpec
from rankviz.core.plan import Adapted

OUTPUT_PROJECTIONS = frozenset({"o_proj", "out_proj", "c_proj", "dense", "down_proj", "dense_4h_to_h"})
"""Names of square projections that write to the residual stream; others show it by their shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockKind:
    """Blocks with the same layers. Counts are elements per token."""

    count: int
    attention: int
    """Outputs of the projections into attention plus the input of the one out of it: 2Q + 2K in a Llama block."""
    mlp: int
    """Outputs of the projections up plus the input of the one down: 3M in a Llama block; experts × active ones."""
    mlp_hidden: int
    """Input of the projection down, M; experts × active ones."""
    attention_width: int
    """Q, the width over which attention mixes tokens; 0 in blocks that don't attend."""
    sliding: bool
    """Attends within the model's sliding window only."""
    targeted_inputs: int
    """Sum of in_features over modules that carry an adapter; experts × active ones."""
    targeted_modules: int
    """How many modules carry an adapter; experts × active ones."""
    targeted_expert_weights: int
    """Weights of fused expert parameters that carry an adapter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """The sums that don't depend on rank, batch or length."""

    kinds: tuple[BlockKind, ...]
    blocks: int
    active_weights: int
    """Weights of the decoder's linear layers that one token is multiplied with: P, with only the active experts."""
    active_adapter_parameters: int
    """Adapter parameters per unit of rank that one token is multiplied with."""
    largest_linear: int
    """Weights of the largest layer that a quantizer reaches."""
    largest_targeted: int
    """Weights of the largest layer that carries an adapter, experts left out."""
    linear_rows: int
    """Output rows of all layers that a quantizer reaches; int8 keeps a scale for each."""


def writes_residual(layer: LinearLayer, hidden_size: int) -> bool:
    """Whether the layer leads back to the residual stream: o_proj, down_proj and their like."""
    return layer.out_features == hidden_size and (layer.in_features != hidden_size or layer.name in OUTPUT_PROJECTIONS)


def model_shape(model: ModelSpec, adapted: Iterable[Adapted]) -> ModelShape:
    """Sums over the real layers and over those that carry an adapter. Hand-worked in tests/test_blocks.py."""
    by_blocks: dict[tuple[int, ...], list[int]] = {}
    active_weights = largest = rows = 0
    for layer in model.layers:
        if layer.kind in ("embedding", "lm_head"):
            continue
        if layer.kind in ("linear", "conv1d"):
            largest = max(largest, layer.in_features * layer.out_features)
            rows += layer.count * layer.out_features
        if layer.part == "vision":
            continue
        active = _active(model, layer)
        active_weights += layer.count * active * layer.in_features * layer.out_features
        if layer.blocks:
            out = writes_residual(layer, model.hidden_size)
            _add_layer(by_blocks.setdefault(layer.blocks, [0] * 7), layer, active, out=out)
    active_adapter = largest_targeted = 0
    for each in adapted:
        layer = each.layer
        if layer.kind == "experts":
            active = _active(model, layer)
            factor = each.rank_factor * active // layer.num_experts
        else:
            active = factor = 1
            largest_targeted = max(largest_targeted, layer.in_features * layer.out_features)
        if layer.part == "vision":
            continue
        active_adapter += each.count * factor * (layer.in_features + layer.out_features)
        if each.blocks:
            _add_adapter(by_blocks.setdefault(each.blocks, [0] * 7), layer, active)
    kinds = _kinds(by_blocks, model)
    return ModelShape(
        kinds=kinds,
        blocks=sum(kind.count for kind in kinds),
        active_weights=active_weights,
        active_adapter_parameters=active_adapter,
        largest_linear=largest,
        largest_targeted=largest_targeted,
        linear_rows=rows,
    )


def _active(model: ModelSpec, layer: LinearLayer) -> int:
    return (model.num_experts_per_tok or 1) if layer.kind == "experts" else 1


def _add_layer(sums: list[int], layer: LinearLayer, active: int, *, out: bool) -> None:
    kept = active * (layer.in_features if out else layer.out_features)
    if layer.part == "mlp" or layer.kind in ("experts", "router"):
        sums[1] += kept
        if out:
            sums[2] += kept
    else:
        sums[0] += kept
        if out and layer.part == "attention":
            sums[3] += layer.in_features


def _add_adapter(sums: list[int], layer: LinearLayer, active: int) -> None:
    sums[4] += active * layer.in_features
    sums[5] += active
    if layer.kind == "experts":
        sums[6] += layer.num_experts * layer.in_features * layer.out_features


def _kinds(by_blocks: dict[tuple[int, ...], list[int]], model: ModelSpec) -> tuple[BlockKind, ...]:
    """Blocks grouped by which rows they have, and by how they attend."""
    members: dict[int, list[int]] = {}
    sums = list(by_blocks.values())
    for number, blocks in enumerate(by_blocks):
        for block in blocks:
            members.setdefault(block, []).append(number)
    unnamed = "sliding_attention" if model.sliding_window else "full_attention"
    types = model.layer_types
    signatures = Counter(
        (tuple(rows), types[block] if block < len(types) else unnamed) for block, rows in members.items()
    )
    return tuple(
        _kind(count, [sum(column) for column in zip(*(sums[n] for n in rows), strict=True)], layer_type)
        for (rows, layer_type), count in signatures.items()
    )


def _kind(count: int, sums: list[int], layer_type: str) -> BlockKind:
    attends = "attention" in layer_type and "linear" not in layer_type
    return BlockKind(
        count=count,
        attention=sums[0],
        mlp=sums[1],
        mlp_hidden=sums[2],
        attention_width=sums[3] if attends else 0,
        sliding="sliding" in layer_type,
        targeted_inputs=sums[4],
        targeted_modules=sums[5],
        targeted_expert_weights=sums[6],
    )
