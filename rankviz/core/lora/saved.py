"""Modules that an adapter file holds in full: modules_to_save, and weights that PEFT adds by itself.

PEFT trains a copy of each module whose path ends with a name of modules_to_save, even within a word: "norm" also
matches "input_layernorm" (peft 0.21.2, utils/other.py, _set_trainable). Tied embedding and head become two copies.
Where config.json ties them, Unsloth asks PEFT to keep them tied (ensure_weight_tying): one set of parameters, saved
twice. Its FastModel freezes modules without a "weight", such as fused experts (unsloth_zoo/training_utils.py,
patch_modules_to_save). A LoRA target named exactly "embed_tokens" or "lm_head" makes PEFT save that layer's frozen
weight too (utils/save_and_load.py, save_embedding_layers="auto"). Refusals are in resolve.py.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rankviz.core.lora.targets import Route
from rankviz.core.model.spec import LayerPart, LinearLayer, ModelSpec, PlainModule

EMBEDDING_NAMES = ("embed_tokens", "lm_head")
"""Names of input and output embedding (PEFT's EMBEDDING_LAYER_NAMES)."""
PARAMETER_KINDS = ("experts", "router")  # of layers that are one parameter of a module in plain_modules


class Tensor(NamedTuple):
    """One tensor of an adapter file. name: After the module's path, such as ".lora_A.weight". fp32: True if it is
    always saved in fp32. Where rank_factor is not 0, `shape` lacks a dimension of rank_factor × rank."""

    name: str
    shape: tuple[int, ...]
    fp32: bool = False
    rank_factor: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedModule:
    """One module that the adapter file holds in full, in all blocks where it is saved."""

    path: str
    """Module path with {} in place of the block's number."""
    part: LayerPart
    trained: int
    """Trained parameters in all blocks together; 0 for a frozen copy, and for the second of two tied modules."""
    tensors: tuple[Tensor, ...]
    blocks: tuple[int, ...] = ()
    frozen_copy: bool = False
    """True for a frozen weight of the base that PEFT saves beside the LoRA pair on it."""

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


class Hit(NamedTuple):
    """A module that modules_to_save matches. holder: The layer or module with the tensors. module: Path that the name
    matches, the holder's own or that of a module above it."""

    holder: LinearLayer | PlainModule
    module: str
    blocks: tuple[int, ...]


def hits(model: ModelSpec, names: Sequence[str]) -> Iterator[Hit]:
    """Yield a Hit for each module with tensors, and each path (its own, or above it) that modules_to_save matches."""
    layers = (layer for layer in model.layers if layer.kind not in PARAMETER_KINDS)
    for holder in (*layers, *model.plain_modules) if names else ():
        parts = holder.path.split(".")
        for length in range(1, len(parts) + 1):
            module, blocks = ".".join(parts[:length]), holder.blocks
            if "{}" in module:
                blocks = tuple(block for block in blocks if module.replace("{}", str(block)).endswith(tuple(names)))
            if blocks if "{}" in module else module.endswith(tuple(names)):
                yield Hit(holder=holder, module=module, blocks=blocks)


def saved_modules(
    model: ModelSpec, names: tuple[str, ...], route: Route, target_names: Collection[str], adapted_paths: set[str]
) -> tuple[SavedModule, ...]:
    """Return all modules that the adapter file holds in full. target_names: Target modules that PEFT finally gets."""
    leaves = {name.rpartition(".")[2] for name in names}
    pair = route.unsloth_on_gpu and model.config_ties and set(EMBEDDING_NAMES) <= leaves
    saved = []
    for holder, _, blocks in hits(model, names):
        is_second = pair and holder.path == model.output_embedding
        if is_second and not model.tie_word_embeddings:
            continue  # dropped for PEFT to tie, and there is nothing to tie it to
        frozen = route.kind == "model" and isinstance(holder, PlainModule) and not holder.has_weight
        saved.append(_in_full(holder, blocks, trained=not (is_second or frozen)))
    if any(name in target_names for name in EMBEDDING_NAMES):
        ends = (model.input_embedding, model.output_embedding)
        frozen = (layer for layer in model.layers if layer.path in ends and layer.path in adapted_paths)
        saved += [_in_full(layer, (), trained=False, within=".base_layer") for layer in frozen]
    return tuple(saved)


def _in_full(
    holder: LinearLayer | PlainModule, blocks: tuple[int, ...], *, trained: bool, within: str = ""
) -> SavedModule:
    if isinstance(holder, PlainModule):
        tensors = [Tensor(f".{tensor.name}", tensor.shape, tensor.fp32) for tensor in holder.tensors]
        parameters = sum(math.prod(tensor.shape) for tensor in holder.tensors if not tensor.buffer)
    else:
        out, kernel = holder.out_features, holder.kernel
        weight = (out, holder.in_features // math.prod(kernel), *kernel)
        tensors = [Tensor(f"{within}.weight", weight[::-1] if holder.kind in ("embedding", "conv1d") else weight)]
        tensors += [Tensor(f"{within}.bias", (out,))] if holder.bias else []
        parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    return SavedModule(
        path=holder.path,
        part=holder.part,
        trained=parameters * (len(blocks) or 1) if trained else 0,
        tensors=tuple(tensors),
        blocks=blocks,
        frozen_copy=bool(within),
    )
