"""What PEFT and Unsloth refuse to save in full, in one sentence with what to do instead.

RankViz itself refuses what it does not count: modules inside one another, and modules that a name hits by the end of
another word though they carry LoRA.
"""

import itertools
from collections.abc import Sequence

from rankviz.core.lora.plan import Adapted
from rankviz.core.lora.route import Route
from rankviz.core.lora.saved import EMBEDDING_NAMES, hits
from rankviz.core.lora.targets import listed
from rankviz.core.model.spec import LinearLayer, ModelSpec, PlainModule
from rankviz.errors import InvalidSettingError

LEFT_IN_16_BIT = (
    "multi_modal_projector",
    "merger",
    "modality_projection",
    "mm_projector",
    "router",
    "mlp.gate",
    "block_sparse_moe.gate",
    "moe.gate",
    "mamba",
    "audio_tower",
    "vision_tower",
    "visual",
    "vision_embedder",
    "embed_vision",
    "embed_audio",
)
"""How paths of linear layers begin or end that Unsloth does not quantize (unsloth_zoo/peft_utils.py,
SKIP_QUANTIZATION_MODULES, as transformers' should_convert_module reads it)."""
PACKED_EXPERTS = {"gate_up_proj", "down_proj"}
"""Names of the two fused parameters that Unsloth packs into 4 bit."""

ADDED_BY_PEFT = (
    "base_layer",
    "lora_dropout",
    "lora_A",
    "lora_B",
    "lora_embedding_A",
    "lora_embedding_B",
    "lora_magnitude_vector",
    "default",
)
"""Modules inside a layer with LoRA (peft tuners/lora/layer.py), there before PEFT looks for modules to save."""


def refuse_saved(model: ModelSpec, names: tuple[str, ...], route: Route, *, packed: bool) -> None:
    """InvalidSettingError for modules_to_save that cannot be trained in full, or that RankViz does not count.

    packed: the base's linear layers are in 4 or 8 bit.
    """
    if not names:
        return
    if inner := [name for name in names if any(part.endswith(name) for part in ADDED_BY_PEFT)]:
        raise InvalidSettingError(
            f"modules_to_save names {listed(inner)}, which also hits modules that PEFT adds to each adapted layer "
            f"({', '.join(ADDED_BY_PEFT)}). Give a longer name."
        )
    if route.kind == "own":
        _refuse_foreign(model, names)
    modules: dict[str, str] = {}
    for hit in hits(model, names):
        where = _shown(hit.module)
        if hit.holder.path.startswith(hit.module + ".{}"):
            raise InvalidSettingError(
                f"modules_to_save hits {where}, a list of blocks, which PEFT cannot save. Name modules inside it."
            )
        if (outer := modules.setdefault(hit.holder.path, hit.module)) != hit.module:
            raise InvalidSettingError(
                f"modules_to_save hits both {_shown(outer)} and {where} inside it, which RankViz does not count. "
                f"{_only_one(names, outer, hit.module)}"
            )
        if packed and _is_packed(hit.holder, route):
            raise InvalidSettingError(
                f"modules_to_save hits {_shown(hit.holder.path)}, whose weights are packed in a 4-bit or 8-bit base "
                "and cannot be trained in full. Leave it out, or load the base in 16 bit."
            )


def refuse_saved_with_lora(model: ModelSpec, names: tuple[str, ...], adapted: Sequence[Adapted]) -> None:
    """InvalidSettingError for a module that would be saved with the LoRA pair that it carries."""
    for hit, each in itertools.product(hits(model, names), adapted):
        inside = f"{each.module}.".startswith(f"{hit.module}.")
        if inside and (not hit.blocks or set(hit.blocks) & set(each.blocks)):
            raise InvalidSettingError(
                f"modules_to_save hits {_shown(hit.module)}, where {each.layer.name} carries LoRA. Take it out of one "
                "of the two lists."
            )


def _refuse_foreign(model: ModelSpec, names: tuple[str, ...]) -> None:
    """FastLanguageModel's check for its own families (models/llama.py, _norm_modules_to_save)."""
    foreign = [
        name for name in names if name.rsplit(".", 1)[-1] not in EMBEDDING_NAMES and not _hits_norms_only(model, name)
    ]
    if foreign:
        raise InvalidSettingError(
            f"modules_to_save names {listed(foreign)}. For {model.model_type} models Unsloth's FastLanguageModel takes "
            f"only {listed((*EMBEDDING_NAMES, 'normalization layers'))} there. Leave it out, or choose the Unsloth "
            "class FastModel."
        )


def _hits_norms_only(model: ModelSpec, name: str) -> bool:
    found = tuple(hits(model, (name,)))
    norms = {hit.module for hit in found if isinstance(hit.holder, PlainModule) and hit.holder.is_norm}
    others = (path for path in model.other_modules if path.endswith(name))
    return bool(found) and norms.issuperset({hit.module for hit in found}) and norms.issuperset(others)


def _only_one(names: tuple[str, ...], outer: str, inner: str) -> str:
    """How to reach one of two modules, one inside the other."""
    both = [name for name in names if outer.endswith(name) and inner.endswith(name)]
    if not both:
        return "Name only one."
    longer = ".".join(inner.split(".")[-2:])
    return f"Replace {listed(both)}, which ends both paths, by {longer}, which ends the inner one alone."


def _is_packed(holder: LinearLayer | PlainModule, route: Route) -> bool:
    if isinstance(holder, PlainModule):
        return route.unsloth_on_gpu and {tensor.name for tensor in holder.tensors} >= PACKED_EXPERTS
    if holder.kind not in ("linear", "conv1d"):
        return False
    left = route.unsloth_on_gpu and holder.path.startswith(LEFT_IN_16_BIT) | holder.path.endswith(LEFT_IN_16_BIT)
    return not left


def _shown(path: str) -> str:
    return path.replace("{}", "N")
