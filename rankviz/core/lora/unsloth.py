"""What Unsloth makes of "all-linear".

For the families that FastLanguageModel handles itself the word goes to PEFT. For all others it becomes a pattern
(unsloth 2026.10.9: models/vision.py, get_peft_model; unsloth_zoo/peft_utils.py, get_peft_regex): linear layers inside
attention and MLP modules, told by names in their paths, of every tower. Routers, mergers, patch embedders, projectors
and per-layer inputs stay out, fused experts come in. Compared with Unsloth's own functions for every catalogue model in
tests/core/lora/test_counts_against_unsloth.py.
"""

import re
from collections import Counter

from rankviz.core.model.spec import LinearLayer, ModelSpec

OWN_FAMILIES = ("llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3")
"""model_types that models/loader.py dispatches to FastLlamaModel and its kin."""

_TOWERS = "vision|image|visual|patch|language|text"
_COMPONENTS = "self_attn|attention|attn|mixer|mlp|feed_forward|ffn|dense"
_GEMMA_EMBEDDERS = (
    "embed_audio.embedding_projection",
    "embed_vision.embedding_projection",
    "vision_tower.patch_embedder.input_proj",
)
_GEMMA_AUDIO = frozenset(
    (
        "q_proj",
        "k_proj",
        "v_proj",
        "relative_k_proj",
        "pos_proj",
        "post",
        "ffw_layer_1",
        "ffw_layer_2",
        "linear_start",
        "linear_end",
        "input_proj_linear",
        "output_proj",
    )
)
"""Leaves of Gemma 4's sound tower, which carry no name of attention or MLP."""


def takes_all_linear_literally(model: ModelSpec) -> bool:
    """Whether "all-linear" reaches PEFT as it is."""
    return model.model_type in OWN_FAMILIES


def all_linear(model: ModelSpec) -> tuple[str, ...]:
    """Paths of the layers that Unsloth's pattern hits, {} for the block's number; none in a model of Conv1D layers,
    where FastLanguageModel gives up."""
    leaves = _leaves(model)
    linear = [layer for layer in model.layers if layer.kind == "linear"]
    text = re.compile(rf"model\.layers\.\{{\}}\..*?(?:{_COMPONENTS}).*?\.[^.]+")
    tower = re.compile(rf".*?(?:{_TOWERS}).*?(?:{_COMPONENTS}).*?\.[^.]+")
    named = [layer for layer in linear if layer.name in leaves]
    hits = {layer.path for layer in named if text.fullmatch(layer.path) or tower.fullmatch(layer.path)}
    if "gemma4" in model.model_type:
        hits |= {layer.path for layer in linear if _is_gemma_extra(layer)}
    if not hits:
        anywhere = re.compile(rf".*?(?:{_COMPONENTS}).*?\.[^.]+")
        hits = {layer.path for layer in named if anywhere.fullmatch(layer.path)}
    return tuple(layer.path for layer in linear if layer.path in hits)


def expert_names(model: ModelSpec) -> tuple[str, ...]:
    """What the pattern says of experts: the names of expert projections in it, or all of them if there is none."""
    pattern = "|".join(_leaves(model))
    known = ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
    return tuple(name for name in known if name in pattern) or known


def _leaves(model: ModelSpec) -> frozenset[str]:
    """Last names that the pattern lists: those of more than one layer or of a numbered block, routers left out."""
    linear = [layer for layer in model.layers if layer.kind in ("linear", "lm_head")]
    counts: Counter[str] = Counter()
    for layer in linear:
        counts[layer.name] += layer.count
    return frozenset(
        layer.name
        for layer in linear
        if (counts[layer.name] > 1 or layer.blocks) and layer.name != "router" and layer.name not in model.refused_names
    )


def _is_gemma_extra(layer: LinearLayer) -> bool:
    path = layer.path.removesuffix(".linear")
    if path.endswith(_GEMMA_EMBEDDERS):
        return True
    return "audio_tower." in path and path.rsplit(".", 1)[-1] in _GEMMA_AUDIO
