"""A ModelSpec from JSON: a row of assets/models, or what the worker's introspection prints."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rankviz.core.model.activations import ActivationBytes, BlockActivations
from rankviz.core.model.spec import LinearLayer, ModelSpec, OwnTensor, PlainModule


def model_from_json(row: Mapping[str, Any]) -> ModelSpec:
    """A row of assets/models, or what the worker's introspection prints, as a ModelSpec."""
    facts = dict(row)
    facts["layers"] = tuple(_layer(layer) for layer in facts["layers"])
    facts["plain_modules"] = tuple(_plain_module(module) for module in facts.get("plain_modules", ()))
    for name in ("other_modules", "clippable_linears", "refused_names", "aliases"):
        facts[name] = tuple(facts.get(name, ()))
    facts["layer_types"] = _layer_types(facts.get("layer_types", ()))
    facts["activation_bytes_per_token"] = tuple(map(_activations, facts.get("activation_bytes_per_token", ())))
    return ModelSpec(**facts)


def _layer(row: Mapping[str, Any]) -> LinearLayer:
    return LinearLayer(**{**row, "blocks": _blocks(row), "kernel": tuple(row.get("kernel", ()))})


def _plain_module(row: Mapping[str, Any]) -> PlainModule:
    tensors = tuple(OwnTensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in row["tensors"])
    return PlainModule(**{**row, "blocks": _blocks(row), "tensors": tensors})


def _blocks(row: Mapping[str, Any]) -> tuple[int, ...]:
    blocks = row.get("blocks", "")
    return decode_blocks(blocks) if isinstance(blocks, str) else tuple(blocks)


def _activations(row: Mapping[str, Any]) -> BlockActivations:
    ways = {way: ActivationBytes(**figures) for way, figures in row.items() if way != "blocks"}
    return BlockActivations(blocks=decode_blocks(row["blocks"]), **ways)


def _layer_types(types: Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    """The kind of each block, from {kind: blocks} or from the plain list."""
    if not isinstance(types, Mapping):
        return tuple(types)
    kinds = {block: kind for kind, blocks in types.items() for block in decode_blocks(blocks)}
    return tuple(kinds[block] for block in sorted(kinds))


def encode_blocks(blocks: Iterable[int]) -> str:
    """The shortest list of runs, each an arithmetic progression, in rising order."""
    rest = list(blocks)
    runs = []
    while rest:
        step = rest[1] - rest[0] if len(rest) > 1 else 1
        length = 1
        while length < len(rest) and rest[length] - rest[length - 1] == step:
            length += 1
        if length < 3 and step != 1:
            length = 1
        first, last = rest[0], rest[length - 1]
        runs.append(str(first) if length == 1 else f"{first}-{last}" + (f"/{step}" if step != 1 else ""))
        rest = rest[length:]
    return ",".join(runs)


def decode_blocks(text: str) -> tuple[int, ...]:
    """Undoes encode_blocks; "" is no block."""
    blocks: list[int] = []
    for run in text.split(",") if text else ():
        span, _, step = run.partition("/")
        first, _, last = span.partition("-")
        blocks.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return tuple(blocks)
