"""Facts on model families for exports: chat or base, templates, and the modules that LLaMA-Factory adapts.

A chat model is trained through its chat template, which ends each answer with a token that the model stops at. A base
model has no such template, or one with tokens that it was never trained on, so it gets plain text that ends with the
tokenizer's end token. RankViz has no tokenizer here, so LLaMA-Factory's list decides
(assets/llamafactory_templates.csv), then the model_type and the name (assets/exports.json, core/model/towers.py). A
renamed fine-tune has no known template. For multimodal checkpoints LLaMA-Factory has its own rule from target names to
modules (model/model_utils/visual.py).
"""

import csv
import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import COPY, is_chat, last_part
from rankviz.paths import ASSETS


@cache
def data() -> dict[str, Any]:
    """Return assets/exports.json: names of settings by tool, and LLaMA-Factory's templates by model family."""
    return json.loads((ASSETS / "exports.json").read_text(encoding="utf-8"))


@cache
def listed() -> dict[str, dict[str, str]]:
    """Return the rows of LLaMA-Factory's list of models, by lower-case Hub id and by the part after the slash."""
    with (ASSETS / "llamafactory_templates.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"].lower(): row for row in csv.DictReader(file)}
    return {name.split("/")[-1]: row for name, row in rows.items()} | rows


def _row(model_id: str) -> dict[str, str] | None:
    """Return the model's row, by its id, its name, or the name of the model it is a copy of; None if unlisted."""
    name = last_part(model_id)
    names = (model_id.strip().removesuffix(":whole").lower(), name, COPY.sub("", name).removesuffix("-hf"))
    return next((listed()[each] for each in names if each in listed()), None)


def is_chat_model(model_id: str, model_type: str = "") -> bool | None:
    """Return True for a chat model, False for a base model, None where neither LLaMA-Factory's list nor the name tells.
    model_id: Hub id or folder. model_type: from its config.json, for folders with other names."""
    row = _row(model_id)
    return is_chat(model_id, model_type, listed=row["chat"] == "yes" if row else None)


def llamafactory_template(model_id: str, model_type: str = "") -> str:
    """Return LLaMA-Factory's template for a chat model; empty where it is unknown."""
    if row := _row(model_id):
        return row["template"]
    known = data()["llamafactory_models"]
    if model_type in known["template_of_model_type"]:
        return known["template_of_model_type"][model_type]
    name = last_part(model_id)
    patterns = known["template_of_name"]
    return next((template for start, template in patterns if re.match(f"(?:meta-|nvidia-)?({start})", name)), "")


def end_of_turn(model_id: str, model_type: str = "") -> str | None:
    """Return the token that the chat template writes after an answer; None where it writes no token; empty for the
    tokenizer's end token, or where the template is unknown."""
    known, template = data()["llamafactory_models"], llamafactory_template(model_id, model_type)
    if template in known["no_end_of_turn"]:
        return None
    return next((token for token, templates in known["end_of_turn"].items() if template in templates), "")


NOT_IN_ALL = ("lm_head", "feed_forward.router")
"""Modules that "all" never includes: the head, and Llama 4's router, whose linear layer has a class of another name."""
_WHOLE_OF = {"ministral3": "mistral3", "mistral": "mistral3", "mllama_text_model": "mllama"}
"""model_type of a whole checkpoint, by the model_type of its text tower, where removing "_text" does not give it."""


def composite(model: ModelSpec) -> dict[str, list[str]] | None:
    """Return LLaMA-Factory's data on the multimodal checkpoint of this model or text tower: parts of the paths of its
    projector and vision tower, and of modules that never carry LoRA. None where it lists none."""
    if model.tower == "text":
        return None
    whole = _WHOLE_OF.get(model.model_type, model.model_type.removesuffix("_text"))
    return data()["llamafactory_models"]["towers"].get(model.model_type if model.is_whole else whole)


def reached(model: ModelSpec, plan: AdapterPlan, *, vision: bool) -> tuple[str, ...] | None:
    """Return paths of the modules that LLaMA-Factory gives to PEFT; None where it gives the target names. plan: the
    adapter with the file's targets. vision: the file unfreezes vision tower and projector."""
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
