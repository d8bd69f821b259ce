"""What someone should know about an adapter before trusting its numbers, in sentences.

PEFT is silent when a name hits nothing, or less than one would think. These notes are not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.lora.moe import expert_parameters
from rankviz.core.lora.saved import SavedModule
from rankviz.core.lora.targets import ALL_LINEAR, FUSED_QKV, LINEAR_KINDS, Matcher, names_that_exist
from rankviz.core.model.spec import ModelSpec

if TYPE_CHECKING:
    from rankviz.core.lora.plan import Adapted

FUSED_INTO = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}


def notes(
    model: ModelSpec,
    *,
    preset: str | tuple[str, ...],
    requested: tuple[str, ...] | str,
    adapted: Sequence["Adapted"],
    saved: Sequence[SavedModule],
    saved_names: tuple[str, ...],
    scheme: str,
    framework: str,
    moved: tuple[str, ...],
) -> tuple[str, ...]:
    """All that apply, the most consequential first."""
    sentences = [
        *_moe(model, scheme, framework, adapted, saved),
        *_missed(model, requested, adapted, saved),
        *_fused(preset, requested),
        *_unsloth_layers(model, requested, adapted, scheme, framework),
        *_fewer_blocks(model, adapted),
        *_tower(model, adapted),
        *_embeddings(model, saved, saved_names, moved, framework),
    ]
    return tuple(sentences)


def _moe(model, scheme, framework, adapted, saved):
    if scheme == "dense":
        return
    experts = [a for a in adapted if a.layer.kind == "experts"]
    names = _and(name.rsplit(".", 1)[-1] for name in expert_parameters(model))
    factor = max((a.rank_factor // a.layer.num_experts for a in experts), default=1)
    if not experts:
        why = {
            "linear-only": f"PEFT {PEFT_VERSION} reaches them only through target_parameters",
            "peft-remap": "these targets name none of them",
            "unsloth": "these targets name none of them",
        }[scheme if scheme in ("linear-only", "peft-remap") else "unsloth"]
        yield f"No adapter on the experts: {names} are fused parameters, and {why}. Attention and dense layers only."
        if scheme == "linear-only" and model.peft_remap:
            yield (
                f"Plain PEFT {PEFT_VERSION} on transformers 5 rewrites targets that name expert projections of this "
                "family (scheme peft-remap): leaving the experts out takes targets that name none of them."
            )
        return
    reach = _and(dict.fromkeys(a.layer.name for a in experts))
    if factor == 2:
        yield (
            f"MoE scheme peft-remap: PEFT {PEFT_VERSION} on transformers 5 silently rewrites these targets. Each "
            f"expert's {reach} carry LoRA, gate_up_proj at rank 2r"
            + (", and so does the router" if any(a.layer.kind == "router" for a in adapted) else "")
            + ("" if framework == "unsloth" else "; shared experts and dense first layers lose theirs")
            + "."
        )
    elif scheme == "unsloth":
        yield (
            f"MoE scheme unsloth: Unsloth {UNSLOTH_VERSION} names the experts' {reach} in target_parameters, at rank r "
            f"an expert, and keeps PEFT {PEFT_VERSION} from rewriting the targets."
        )
    else:
        yield (
            f"MoE scheme {scheme}: the experts' {reach} carry LoRA at rank r an expert, through target_parameters "
            f"(PEFT {PEFT_VERSION})."
        )


def _missed(model, requested, adapted, saved):
    """Names that hit nothing, with what the model has instead."""
    if requested == ALL_LINEAR:
        return
    hit = {a.layer.name for a in adapted} | {module.name for module in saved}
    if any(a.layer.kind == "experts" for a in adapted):
        # Names of transformers 4 that reached the experts' fused parameters.
        hit |= {"gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "w2", "gate"}
    paths = [a.layer.path for a in adapted] + [path for a in adapted for path in [a.layer.path.rpartition(".")[0]]]
    missed = [
        name
        for name in requested
        if name.rsplit(".", 1)[-1] not in hit and not any(Matcher((name,)).hits_path(path) for path in paths)
    ]
    if not missed:
        return
    exist = names_that_exist(model)
    fused = [
        name
        for name in exist
        if (name in FUSED_QKV and set(FUSED_INTO["qkv"]) & set(missed))
        or (name == "gate_up_proj" and set(FUSED_INTO[name]) & set(missed))
    ]
    hint = f" {_and(fused)} {_hold(fused)} them fused: name {_it(fused)} to train them." if fused else ""
    yield f"{_and(missed)} {_match(missed)} nothing in this model, which has {', '.join(exist)}.{hint}"


def _fused(preset, requested):
    """What the preset "qv" had to take instead of q_proj and v_proj."""
    if preset != "qv" or requested == ("q_proj", "v_proj"):
        return
    if len(requested) == 1:
        yield f"qv is {requested[0]} here: {requested[0]} holds queries, keys and values in one projection."
    else:
        yield f"qv is {_and(requested)} here: queries, keys and values pass through low-rank pairs (MLA)."


def _unsloth_layers(model, requested, adapted, scheme, framework):
    """Where Unsloth's ways with layers differ from PEFT's."""
    if framework != "unsloth":
        return
    if any(a.layer.kind == "conv1d" for a in adapted):
        yield (
            f"These layers are Conv1D, in which Unsloth {UNSLOTH_VERSION}'s FastLanguageModel finds nothing to train. "
            "Use FastModel, which passes the names on to PEFT, or framework peft or trl."
        )
    if requested == ALL_LINEAR and scheme != "peft-remap":
        reached = {a.layer.path for a in adapted}
        left = dict.fromkeys(
            layer.name for layer in model.layers if layer.kind in LINEAR_KINDS and layer.path not in reached
        )
        if left:
            yield f"Unsloth's all-linear is a pattern of its own: it leaves out {_and(left)}, which PEFT's takes."


def _fewer_blocks(model, adapted):
    """Modules that not every block has."""
    blocks: dict[str, set[int]] = {}
    for a in adapted:
        if a.layer.part in ("attention", "mlp") and a.layer.kind in LINEAR_KINDS and a.blocks:
            blocks.setdefault(a.layer.name, set()).update(a.blocks)
    by_count: dict[int, list[str]] = {}
    for name, present in blocks.items():
        if len(present) < model.num_hidden_layers:
            by_count.setdefault(len(present), []).append(name)
    for count, names in by_count.items():
        yield f"{_and(names)} {'exist' if len(names) > 1 else 'exists'} in {count} of {model.num_hidden_layers} blocks."


def _tower(model, adapted):
    if model.tower == "text tower":
        yield f"Text tower only. The whole model, other towers included, is {model.id}:whole."
    elif model.tower == "whole model":
        vision = sum(a.count for a in adapted if a.layer.part == "vision")
        if vision:
            total = sum(a.count for a in adapted)
            yield f"Whole model: {vision} of {total} targeted modules are outside the text tower."
        else:
            yield "Whole model: all targeted modules are in the text tower."


def _embeddings(model, saved, saved_names, moved, framework):
    if moved:
        yield f"Unsloth trains {_and(moved)} in full (modules_to_save) instead of by LoRA."
    for name in saved_names:
        if not any(module.path.endswith(name) for module in saved):
            ends = _and(filter(None, (model.input_embedding, model.output_embedding)))
            yield f"modules_to_save names {name}, which this model lacks: PEFT ignores it. It has {ends}."
    frozen = [module.name for module in saved if module.tensors[0][0].startswith(".base_layer")]
    if frozen:
        yield f"PEFT saves the frozen weight of {_and(frozen)} with the adapter, since a target names an embedding."
    trained = [module for module in saved if not module.tensors[0][0].startswith(".base_layer")]
    if model.tie_word_embeddings and trained:
        if len(trained) == 2 and not all(module.trained for module in trained):
            yield "Embedding and head are tied: Unsloth trains one set of weights and saves it twice."
        elif framework != "unsloth" or len(trained) == 1:
            yield "Embedding and head are tied in the base: what is trained in full is a copy, and the tie is lost."


def _and(names) -> str:
    names = list(names)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _match(names) -> str:
    return "match" if len(names) > 1 else "matches"


def _hold(names) -> str:
    return "hold" if len(names) > 1 else "holds"


def _it(names) -> str:
    return "them" if len(names) > 1 else "it"
