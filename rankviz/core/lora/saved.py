"""Embeddings and head saved in full beside the adapter: modules_to_save, and what PEFT adds by itself.

PEFT trains a copy of each module that modules_to_save names, also where embedding and head are tied: then two copies
that drift apart. Unsloth asks PEFT to keep them tied (ensure_weight_tying): one set of parameters, saved twice. A LoRA
target named exactly "embed_tokens" or "lm_head" makes PEFT save that layer's frozen weight too
(utils/save_and_load.py, save_embedding_layers="auto").
"""

from dataclasses import dataclass

from rankviz.core.model.spec import LayerPart, LinearLayer, ModelSpec
from rankviz.errors import InvalidSettingError

EMBEDDING_NAMES = ("embed_tokens", "lm_head")
"""PEFT's EMBEDDING_LAYER_NAMES."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedModule:
    """One module in the file in full."""

    path: str
    part: LayerPart
    trained: int
    """Parameters trained; 0 for a frozen copy, or for the second of a tied pair."""
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    """What follows the path, and the shape."""

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]

    @property
    def elements(self) -> int:
        """Elements written to the file."""
        return sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for _, shape in self.tensors)


def saved_modules(
    model: ModelSpec,
    names: tuple[str, ...],
    *,
    target_names: tuple[str, ...],
    adapted_paths: frozenset[str],
    tie: bool,
) -> tuple[SavedModule, ...]:
    """Everything that lies in the file in full.

    target_names: as PEFT holds them in the end. tie: Unsloth's way with a tied pair of which both are saved.
    """
    wanted = [layer for layer in model.layers if any(layer.path.endswith(name) for name in names)]
    for layer in wanted:
        if layer.kind not in ("embedding", "lm_head"):
            raise InvalidSettingError(
                f"modules_to_save hits {layer.path.replace('{}', 'N')}: RankViz counts embeddings and the output head "
                f"there ({model.input_embedding}, {model.output_embedding}), not other modules."
            )
    for path in model.other_modules:
        if any(path.endswith(name) for name in names):
            raise InvalidSettingError(
                f"modules_to_save hits {path.replace('{}', 'N')}: RankViz counts embeddings and the output head there."
            )
    pair = tie and model.tie_word_embeddings and set(EMBEDDING_NAMES) <= {name.rsplit(".", 1)[-1] for name in names}
    saved = [_in_full(layer, "", trained=not (pair and layer.path == model.output_embedding)) for layer in wanted]
    if any(name in target_names for name in EMBEDDING_NAMES):
        ends = (model.input_embedding, model.output_embedding)
        frozen = (layer for layer in model.layers if layer.path in ends and layer.path in adapted_paths)
        saved += [_in_full(layer, ".base_layer", trained=False) for layer in frozen]
    return tuple(saved)


def _in_full(layer: LinearLayer, within: str, *, trained: bool) -> SavedModule:
    if layer.kind == "embedding":
        weight = (layer.in_features, layer.out_features)
    else:
        weight = (layer.out_features, layer.in_features)
    tensors = [(f"{within}.weight", weight)]
    if layer.bias:
        tensors.append((f"{within}.bias", (layer.out_features,)))
    parameters = layer.in_features * layer.out_features + (layer.out_features if layer.bias else 0)
    return SavedModule(path=layer.path, part=layer.part, trained=parameters if trained else 0, tensors=tuple(tensors))
