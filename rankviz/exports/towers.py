"""LLaMA-Factory's own rule from target names to modules of multimodal checkpoints (model/model_utils/visual.py)."""

from collections.abc import Sequence

from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.exports.chat import data

NOT_IN_ALL = ("lm_head", "feed_forward.router")
"""Modules that "all" never includes: the head, and Llama 4's router, whose linear layer has a class of another name."""
_WHOLE_OF = {"ministral3": "mistral3", "mistral": "mistral3", "mllama_text_model": "mllama"}
"""model_type of the whole checkpoint by that of its text tower, where removing "_text" does not give it."""


def composite(model: ModelSpec) -> dict[str, list[str]] | None:
    """Return LLaMA-Factory's data on the multimodal checkpoint of this model or text tower: parts of the paths of its
    projector and vision tower, and of modules that never carry LoRA. None where it lists none."""
    if model.tower == "text":
        return None
    whole = _WHOLE_OF.get(model.model_type, model.model_type.removesuffix("_text"))
    return data()["llamafactory_models"]["towers"].get(model.model_type if model.is_whole else whole)


def reached(model: ModelSpec, plan: AdapterPlan, *, vision: bool) -> tuple[str, ...] | None:
    """Return paths of the modules that LLaMA-Factory gives to PEFT; None where it gives the names themselves. plan:
    with the target names of the file. vision: True where the file unfreezes the vision tower and the projector."""
    family = composite(model)
    if family is None:
        return None
    frozen = [] if vision else family["vision"]
    names: Sequence[str] = plan.target_modules
    if isinstance(names, str):
        skipped = (*NOT_IN_ALL, *family["projector"], *frozen)
        linear = [layer for layer in model.layers if layer.kind in ("linear", "lm_head")]
        names = tuple({layer.name: None for layer in linear if not _contains(layer.path, skipped)})
    forbidden = (*frozen, *([] if vision else family["projector"]), *family["never"])
    paths: dict[str, None] = {}  # all modules on the way to a weight
    for layer in model.layers:
        for block in layer.blocks or (0,) if layer.kind not in ("experts", "router") else ():
            parts = layer.path.format(block).split(".")
            paths |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return tuple(path for path in paths if _contains(path, names) and not _contains(path, forbidden))


def _contains(path: str, parts: Sequence[str]) -> bool:
    return any(part in path for part in parts)
