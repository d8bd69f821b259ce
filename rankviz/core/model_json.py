"""A ModelSpec from JSON: a row of assets/models, or what the worker's introspection prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from rankviz.core.activations import ActivationBytes, BlockActivations
from rankviz.core.block_ranges import decode_blocks
from rankviz.core.model import LinearLayer, ModelSpec


def model_from_json(row: Mapping[str, Any]) -> ModelSpec:
    """A row of assets/models, or what the worker's introspection prints, as a ModelSpec."""
    facts = dict(row)
    facts["layers"] = tuple(_layer(layer) for layer in facts["layers"])
    for name in ("other_modules", "clippable_linears", "refused_names", "aliases"):
        facts[name] = tuple(facts.get(name, ()))
    facts["layer_types"] = _layer_types(facts.get("layer_types", ()))
    facts["activation_bytes_per_token"] = tuple(map(_activations, facts.get("activation_bytes_per_token", ())))
    return ModelSpec(**facts)


def _layer(row: Mapping[str, Any]) -> LinearLayer:
    blocks = row.get("blocks", "")
    return LinearLayer(**{**row, "blocks": decode_blocks(blocks) if isinstance(blocks, str) else tuple(blocks)})


def _activations(row: Mapping[str, Any]) -> BlockActivations:
    ways = {way: ActivationBytes(**figures) for way, figures in row.items() if way != "blocks"}
    return BlockActivations(blocks=decode_blocks(row["blocks"]), **ways)


def _layer_types(types: Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    """The kind of each block, from {kind: blocks} or from the plain list."""
    if not isinstance(types, Mapping):
        return tuple(types)
    kinds = {block: kind for kind, blocks in types.items() for block in decode_blocks(blocks)}
    return tuple(kinds[block] for block in sorted(kinds))
