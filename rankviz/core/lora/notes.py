"""What someone should know about an adapter before trusting its numbers, in sentences.

PEFT is silent when a name hits nothing, or less than one would think. These notes are not. A caution says that
something is not trained, or trained otherwise, than the settings say.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rankviz.core.lora.config import FLAGS, UNSLOTH_VERSION
from rankviz.core.lora.experts import moe_notes
from rankviz.core.lora.saved import SavedModule, hits
from rankviz.core.lora.targets import ALL_LINEAR, FUSED_QKV, LINEAR_KINDS, Matcher, Route, listed, names_that_exist
from rankviz.core.model.spec import WHOLE, ModelSpec
from rankviz.core.model.towers import offers_text_only
from rankviz.core.quantity import Caution

if TYPE_CHECKING:
    from rankviz.core.lora.plan import Adapted

OTHER_FLAG = {"attention": "finetune_mlp_modules", "mlp": "finetune_attention_modules"}
"""What keeps a preset to itself."""
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
    expert_rank: int | str,
    route: Route,
    moved: tuple[str, ...],
    about_flags: tuple[str, ...],
) -> tuple[str, ...]:
    """All that apply, the most consequential first. about_flags: those of flag_notes."""
    sentences = [
        *about_flags,
        *moe_notes(model, requested, adapted, scheme, expert_rank, route),
        *_missed(model, requested, adapted, saved, route),
        *_fused(preset, requested),
        *_unsloth_layers(model, requested, adapted, scheme, route),
        *_strays(preset, adapted, route),
        *_fewer_blocks(model, adapted),
        *_tower(model, adapted, route),
        *_embeddings(model, saved, saved_names, moved, route),
    ]
    return tuple(sentences)


def flag_notes(
    preset: str | tuple[str, ...], requested: tuple[str, ...] | str, ignored: tuple[str, ...], route: Route
) -> tuple[str, ...]:
    """What is said of Unsloth's flags."""
    return (*_ignored(ignored, route), *_spelled_out(preset, requested))


def _ignored(flags, route):
    """Flags that do nothing here."""
    if flags:
        program = "Unsloth's CPU backend" if route.kind == "cpu" else route.framework.upper()
        does = "them" if len(flags) > 1 else "it"
        yield f"{listed(flags)}: these settings are Unsloth's on a GPU; {program} ignores {does}."


def _spelled_out(preset, requested):
    """ "all-linear" beside a flag that is off."""
    if preset == ALL_LINEAR and requested != ALL_LINEAR:
        yield (
            f"Unsloth {UNSLOTH_VERSION} ignores its flags beside the word all-linear, so RankViz and its exports name "
            f"the layers instead: {listed(requested)}."
        )


def _missed(model, requested, adapted, saved, route):
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
    if route.scoped and _scoped_out(missed, exist):
        left = _scoped_out(missed, exist)
        yield Caution(
            f"Unsloth {UNSLOTH_VERSION} leaves out {listed(left)}: its {route.unsloth_class} trains linear layers "
            "inside attention and MLP modules that its flags turn on."
        )
        missed = [name for name in missed if name not in left]
        if not missed:
            return
    fused = [
        name
        for name in exist
        if (name in FUSED_QKV and set(FUSED_INTO["qkv"]) & set(missed))
        or (name == "gate_up_proj" and set(FUSED_INTO[name]) & set(missed))
    ]
    hint = f" {listed(fused)} {_hold(fused)} them fused: name {_it(fused)} to train them." if fused else ""
    yield Caution(f"{listed(missed)} {_match(missed)} nothing in this model, which has {', '.join(exist)}.{hint}")


def _scoped_out(missed, exist):
    """Names, or ends of names with dots, that the model has and Unsloth's pattern passes by."""
    return [name for name in missed if name.rsplit(".", 1)[-1] in exist]


def _fused(preset, requested):
    """What the preset "qv" had to take instead of q_proj and v_proj."""
    if preset != "qv" or requested == ("q_proj", "v_proj"):
        return
    if len(requested) == 1:
        yield f"qv is {requested[0]} here: {requested[0]} holds queries, keys and values in one projection."
    else:
        yield f"qv is {listed(requested)} here: queries, keys and values pass through low-rank pairs (MLA)."


def _unsloth_layers(model, requested, adapted, scheme, route):
    """Layers that a name or "all-linear" means to PEFT, and Unsloth's pattern passes by."""
    if route.kind != "model" or scheme == "peft-remap":
        return
    reached = {(a.layer.path, a.blocks) for a in adapted}
    linear = [layer for layer in model.layers if layer.kind in LINEAR_KINDS]
    if requested == ALL_LINEAR:
        left = dict.fromkeys(layer.name for layer in linear if (layer.path, layer.blocks) not in reached)
        if left:
            yield (
                f"Unsloth {UNSLOTH_VERSION}'s all-linear is a pattern of its own: it leaves out {listed(left)}, which "
                "PEFT's takes."
            )
    elif route.scoped:
        names, hit = Matcher(requested), {a.layer.name for a in adapted}
        part = [
            layer
            for layer in linear
            if (layer.path, layer.blocks) not in reached and names.hits_path(layer.path) and layer.name in hit
        ]
        if part:
            off = listed(flag for flag, on in zip(FLAGS, route.flags, strict=True) if not on)
            yield (
                f"Unsloth {UNSLOTH_VERSION} takes these names in some places only ({off} off): "
                f"{sum(layer.count for layer in part)} more modules that PEFT would adapt stay out, such as "
                f"{part[0].path.replace('{}', 'N')}."
            )


def _strays(preset, adapted, route):
    """Layers of another part that a preset reaches, since Unsloth's pattern takes last names only."""
    if not route.scoped or preset not in OTHER_FLAG:
        return
    strays = [a.layer for a in adapted if a.layer.kind in LINEAR_KINDS and a.layer.part not in (preset, "vision")]
    if strays:
        paths = listed(dict.fromkeys(".".join(layer.path.split(".")[-2:]) for layer in strays))
        yield (
            f"Preset {preset} also reaches {paths}, since Unsloth {UNSLOTH_VERSION} takes last names only. "
            f"Turn {OTHER_FLAG[preset]} off to leave out what it does not mean."
        )


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
        verb = "exist" if len(names) > 1 else "exists"
        yield f"{listed(names)} {verb} in {count} of {model.num_hidden_layers} blocks."


def _tower(model, adapted, route):
    if model.tower == "text tower":
        yield f"Text tower only. The whole model, other towers included, is {model.id.removesuffix(WHOLE)}{WHOLE}."
    elif model.is_whole:
        vision = sum(a.count for a in adapted if a.layer.part == "vision")
        if vision:
            total = sum(a.count for a in adapted)
            yield f"Whole model: {vision} of {total} targeted modules are outside the text tower."
        else:
            yield "The whole model is loaded. The adapter is in its text tower only."
        if model.tower == "whole for text" and route.unsloth_on_gpu and offers_text_only(model):
            yield "Unsloth loads the other towers too. With text_only it loads the text model alone."


def _embeddings(model, saved, saved_names, moved, route):
    if moved:
        yield f"Unsloth trains {listed(moved)} in full (modules_to_save) instead of by LoRA."
    ends = tuple(filter(None, (model.input_embedding, model.output_embedding)))
    for name in saved_names:
        if next(hits(model, (name,)), None) is None:
            has = any(path.endswith(name) for path in model.other_modules)
            why = "has no parameters here" if has else "this model lacks: PEFT ignores it"
            yield f"modules_to_save names {name}, which {why}. Embedding and head are {listed(ends)}."
    frozen = [module.name for module in saved if module.frozen_copy]
    if frozen:
        yield f"PEFT saves the frozen weight of {listed(frozen)} with the adapter, since a target names an embedding."
    idle = [module.name for module in saved if not (module.trained or module.frozen_copy or module.path in ends)]
    if idle:
        yield Caution(
            f"Unsloth {UNSLOTH_VERSION} saves {listed(dict.fromkeys(idle))} in full and does not train "
            f"{_it(idle)}: it freezes modules without a tensor called weight."
        )
    trained = [module for module in saved if not module.frozen_copy and module.path in ends]
    if model.tie_word_embeddings and trained:
        if len(trained) == 2 and not all(module.trained for module in trained):
            yield "Embedding and head are tied: Unsloth trains one set of weights and saves it twice."
        elif not route.unsloth_on_gpu or len(trained) == 1:
            yield Caution(
                "Embedding and head are tied in the base: what is trained in full is a copy, and the tie is lost."
            )


def _match(names) -> str:
    return "match" if len(names) > 1 else "matches"


def _hold(names) -> str:
    return "hold" if len(names) > 1 else "holds"


def _it(names) -> str:
    return "them" if len(names) > 1 else "it"
