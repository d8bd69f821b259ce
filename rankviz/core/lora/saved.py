"""Modules saved in full beside the adapter: modules_to_save, and what PEFT adds by itself.

PEFT trains a copy of each module whose path ends with a name of modules_to_save, whole components or not: "norm" also
hits "input_layernorm" (peft 0.21.2, utils/other.py, _set_trainable). Tied embedding and head are then two copies;
Unsloth asks PEFT to keep them tied where config.json says so (ensure_weight_tying): one set of parameters, saved
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
"""PEFT's EMBEDDING_LAYER_NAMES."""
PARAMETER_KINDS = ("experts", "router")  # of layers that are one parameter of a module in plain_modules


class SavedTensor(NamedTuple):
    """One tensor of a saved module. suffix: its name after the module's path. fp32: True for fp32 with any base."""

    suffix: str
    shape: tuple[int, ...]
    fp32: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedModule:
    """One module that is saved in full, in all blocks where it is saved."""

    path: str
    """Module path with {} for the block's number."""
    part: LayerPart
    trained: int
    """Parameters trained, all copies; 0 for a frozen copy, or for the second of a tied pair."""
    tensors: tuple[SavedTensor, ...]
    blocks: tuple[int, ...] = ()
    frozen_copy: bool = False
    """True for the base's weight that PEFT saves beside a LoRA pair on it."""

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]


class Hit(NamedTuple):
    """Match of modules_to_save. holder: layer or module with tensors; module: path of the holder or of its parent."""

    holder: LinearLayer | PlainModule
    module: str
    blocks: tuple[int, ...]


def hits(model: ModelSpec, names: Sequence[str]) -> Iterator[Hit]:
    """Yield a Hit for each module with tensors that modules_to_save reaches, once per hit module above it."""
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
    """Return all modules that the file holds in full. target_names: target modules as PEFT has them in the end."""
    leaves = {name.rsplit(".", 1)[-1] for name in names}
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
        tensors = [SavedTensor(f".{tensor.name}", tensor.shape, tensor.fp32) for tensor in holder.tensors]
        parameters = sum(math.prod(tensor.shape) for tensor in holder.tensors if not tensor.buffer)
    else:
        out, kernel = holder.out_features, holder.kernel
        weight = (out, holder.in_features // math.prod(kernel), *kernel)
        tensors = [SavedTensor(f"{within}.weight", weight[::-1] if holder.kind in ("embedding", "conv1d") else weight)]
        tensors += [SavedTensor(f"{within}.bias", (out,))] if holder.bias else []
        parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    return SavedModule(
        path=holder.path,
        part=holder.part,
        trained=parameters * (len(blocks) or 1) if trained else 0,
        tensors=tuple(tensors),
        blocks=blocks,
        frozen_copy=bool(within),
    )
