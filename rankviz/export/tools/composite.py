"""Says which modules LLaMA-Factory hands to PEFT for a multimodal model: the full path of each, not their names.

It loads the whole checkpoint, also where the text tower alone was asked for. Then it takes every module whose path
contains one of the names, except in the towers that it freezes (patch_target_modules and find_all_linear_modules).
Source: LLaMA-Factory 0.9.5, src/llamafactory/model/model_utils/visual.py and misc.py, checked 2026-11-26. Compared with
these functions on the real models in tests/export/tools/test_composite.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec


class Composite(NamedTuple):
    """What LLaMA-Factory knows of a multimodal family; parts of paths."""

    projector: tuple[str, ...] = ("multi_modal_projector",)
    vision: tuple[str, ...] = ("vision_tower",)
    never: tuple[str, ...] = ()
    """Modules that never carry LoRA (lora_conflict_keys)."""


_QWEN2_VL = Composite(("visual.merger",), ("visual.patch_embed", "visual.blocks"), ("patch_embed",))
_QWEN3_VL_TOWER = ("visual.pos_embed", "visual.patch_embed", "visual.blocks", "visual.deepstack_merger_list")
_QWEN3_VL = Composite(("visual.merger",), _QWEN3_VL_TOWER, ("patch_embed",))
_QWEN3_5 = Composite(
    ("model.visual.merger",), ("visual.pos_embed", "visual.patch_embed", "visual.blocks"), ("patch_embed",)
)
_PLAIN = (
    "gemma3", "internvl", "interns1", "kimi_vl", "llava", "llava_next", "llava_next_video", "paligemma", "video_llava"
)  # fmt: skip
COMPOSITES = {
    **dict.fromkeys(_PLAIN, Composite()),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "glm4v", "glm4v_moe", "glm_ocr"), _QWEN2_VL),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe"), _QWEN3_VL),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe"), _QWEN3_5),
    **dict.fromkeys(("llama4", "mllama"), Composite(vision=("vision_model",))),
    "Keye": Composite(
        ("mlp_AR",), ("visual.vision_model.patch_embedding", "visual.vision_model.encoder"), ("patch_embedding",)
    ),
    "dots_ocr": Composite(("vision_tower.merger",), ("vision_tower",), ("merger",)),
    "gemma3n": Composite(vision=("vision_tower", "audio_tower"), never=("timm_model", "subsample_conv_projection")),
    "gemma4": Composite(
        ("model.embed_vision", "model.embed_audio"), ("vision_tower", "audio_tower"), ("per_layer_projection_norm",)
    ),
    "minicpmv": Composite(("resampler",), ("vpm",)),
    "minicpmv4_6": Composite(("model.merger",), ("model.vision_tower",)),
    "minicpmo": Composite(
        ("resampler",),
        ("vpm", "apm", "audio_avg_pooler", "audio_projection_layer", "tts"),
        ("audio_projection_layer",),
    ),
    "mistral3": Composite(("model.multi_modal_projector",)),
    "qwen2_5_omni_thinker": Composite(
        ("visual.merger", "audio_tower.proj"),
        ("visual.patch_embed", "visual.blocks", "audio_tower"),
        ("patch_embed",),
    ),
    "qwen2_audio": Composite(vision=("audio_tower",)),
    "qwen3_omni_moe_thinker": Composite(
        ("visual.merger", "audio_tower.proj"), (*_QWEN3_VL_TOWER, "audio_tower"), ("patch_embed",)
    ),
}
"""By model_type of the whole model (COMPOSITE_MODELS)."""
NOT_IN_ALL = ("lm_head", "feed_forward.router")
"""What "all" never means: the head, and Llama 4's router, a linear layer whose class has another name."""
_WHOLE_OF = {"ministral3": "mistral3", "mistral": "mistral3", "mllama_text_model": "mllama"}
"""model_type of a text tower: that of the whole, where it isn't the same without "_text"."""


def composite(model: ModelSpec) -> Composite | None:
    """What LLaMA-Factory knows of the checkpoint that this model, or this text tower, is loaded from."""
    if model.tower == "text":
        return None
    whole = _WHOLE_OF.get(model.model_type, model.model_type.removesuffix("_text"))
    return COMPOSITES.get(model.model_type if model.is_whole else whole)


def reached(model: ModelSpec, plan: AdapterPlan, *, vision: bool) -> tuple[str, ...] | None:
    """Paths of the modules that LLaMA-Factory hands to PEFT; None where it hands on the names themselves.

    plan: with the names of the file. vision: whether the file thaws the vision tower and the projector.
    """
    family = composite(model)
    if family is None:
        return None
    frozen = () if vision else family.vision
    names = plan.target_modules
    if isinstance(names, str):
        skipped = (*NOT_IN_ALL, *family.projector, *frozen)
        linear = [layer for layer in model.layers if layer.kind in ("linear", "lm_head")]
        names = tuple(dict.fromkeys(layer.name for layer in linear if not _contains(layer.path, skipped)))
    forbidden = (*frozen, *(() if vision else family.projector), *family.never)
    return tuple(path for path in _paths(model) if _contains(path, names) and not _contains(path, forbidden))


def _paths(model: ModelSpec) -> list[str]:
    """All modules on the way to a weight, once each."""
    paths: dict[str, None] = {}
    for layer in model.layers:
        if layer.kind in ("experts", "router"):
            continue
        for block in layer.blocks or (0,):
            parts = layer.path.format(block).split(".")
            paths |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return list(paths)


def _contains(path: str, parts: Sequence[str]) -> bool:
    return any(part in path for part in parts)
