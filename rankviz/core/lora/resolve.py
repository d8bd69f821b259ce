"""Makes the adapter plan of a configuration on a model, without loading the model: what PEFT would adapt, or refuse."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from rankviz.core.bounds import one_of
from rankviz.core.lora import experts as moe
from rankviz.core.lora.config import FLAGS, MOE_SCHEMES, QUANTIZED, UNSLOTH_VERSION, Framework, LoraConfig
from rankviz.core.lora.experts import Targets
from rankviz.core.lora.notes import notes
from rankviz.core.lora.plan import Adapted, AdapterPlan
from rankviz.core.lora.saved import EMBEDDING_NAMES, PARAMETER_KINDS, hits, saved_modules
from rankviz.core.lora.targets import (
    ALL_LINEAR,
    ALL_ON,
    LINEAR_KINDS,
    Matcher,
    Route,
    chosen_names,
    expand,
    listed,
    names_that_exist,
    refused,
    route_of,
    with_plain_linears,
)
from rankviz.core.model.spec import LinearLayer, ModelSpec, PlainModule
from rankviz.core.model.towers import as_loaded, text_model
from rankviz.errors import InvalidSettingError


def _refuse(what: str, model: ModelSpec, choose: str) -> NoReturn:
    exist = ", ".join(names_that_exist(model))
    raise InvalidSettingError(f"{what} Linear layers here: {exist}. {choose}")


def _refuse_targets(
    model: ModelSpec, targets: str | tuple[str, ...], names: tuple[str, ...] | str, given: Targets, route: Route
) -> None:
    """Raise InvalidSettingError where Unsloth's pattern of the names matches no linear layer, or a name matches a list
    of separate experts. targets: The user's choice. names: Passed to Unsloth. given: Passed to PEFT."""
    lists = [layer for layer in model.layers if layer.kind == "experts" and route.split_experts]
    if given.hits:
        flags = ALL_ON if names == ALL_LINEAR else route.flags
        each = chosen_names(model) if names == ALL_LINEAR else names
        if refused(model, each, flags, experts=tuple(f"{layer.path}s.0" for layer in lists)):
            what = f"Preset {targets}" if isinstance(targets, str) else listed(targets)
            _refuse(
                f"{what}: Unsloth {UNSLOTH_VERSION} stops here. It takes names without dots of linear layers inside "
                "the attention and MLP modules that its flags turn on, and these match none.",
                model,
                "Choose other names, or the Unsloth class FastModel.",
            )
    for layer in lists:
        inner = (f"{layer.path}s.{expert}" for expert in range(layer.num_experts))
        if any(map(given.matcher.hits_path, (f"{layer.path}s", *inner))):
            raise InvalidSettingError(
                f"These targets hit {_shown(layer.path)}s, a list of experts, or one of it: name {layer.name} instead."
            )


LEFT_IN_16_BIT = (
    *("multi_modal_projector", "merger", "modality_projection", "mm_projector", "router", "mlp.gate"),
    *("block_sparse_moe.gate", "moe.gate", "mamba", "audio_tower", "vision_tower", "visual", "vision_embedder"),
    *("embed_vision", "embed_audio"),
)
"""Names at the start or end of a linear layer's path that keep Unsloth from quantizing the layer
(unsloth_zoo/peft_utils.py, SKIP_QUANTIZATION_MODULES, as transformers' should_convert_module applies it)."""
PACKED_EXPERTS = {"gate_up_proj", "down_proj"}
"""Names of the two fused expert parameters that Unsloth quantizes to 4 bit; experts under other names stay in 16 bit
(unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py, _is_expert_module)."""

ADDED_BY_PEFT = (
    *("base_layer", "lora_dropout", "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"),
    *("lora_magnitude_vector", "default"),
)
"""Submodules that PEFT adds to a layer with LoRA (peft tuners/lora/layer.py). They exist before PEFT looks for modules
to save, so names of modules_to_save can match them."""


def _refuse_saved(model: ModelSpec, names: tuple[str, ...], route: Route, *, packed: bool) -> None:
    """Raise InvalidSettingError for modules_to_save that cannot be trained in full, that FastLanguageModel refuses in
    its families (_norm_modules_to_save), or that are not counted. packed: A 4- or 8-bit base."""
    why, modules = "", dict[str, str]()
    for name in names:
        reached = tuple(hits(model, (name,)))
        norms = {hit.module for hit in reached if isinstance(hit.holder, PlainModule) and hit.holder.is_norm}
        every = {hit.module for hit in reached} | {path for path in model.other_modules if path.endswith(name)}
        is_end = name.rpartition(".")[2] in EMBEDDING_NAMES
        if any(part.endswith(name) for part in ADDED_BY_PEFT):
            why = f"{name}, which also hits modules that PEFT adds to each adapted layer. Give a longer name"
        elif route.kind == "own" and not is_end and not (reached and norms >= every):
            why = (
                f"{name}, and Unsloth's FastLanguageModel takes only embed_tokens, lm_head and normalization layers of "
                f"{model.model_type} models. Leave it out, or choose the Unsloth class FastModel"
            )
    for hit in hits(model, names):
        where, outer = _shown(hit.module), modules.setdefault(hit.holder.path, hit.module)
        if hit.holder.path.startswith(hit.module + ".{}"):
            why = why or f"{where}, a list of blocks, which PEFT cannot save. Name modules inside it"
        elif outer != hit.module:
            why = why or f"both {_shown(outer)} and {where} inside it, which RankViz does not count. Give a longer name"
        elif packed and _is_packed(hit.holder, route):
            why = why or f"{where}, packed in a 4-bit or 8-bit base. Leave it out, or load the base in 16 bit"
    if why:
        raise InvalidSettingError(f"modules_to_save hits {why}.")


def _is_packed(holder: LinearLayer | PlainModule, route: Route) -> bool:
    if isinstance(holder, PlainModule):
        return route.unsloth_on_gpu and {tensor.name for tensor in holder.tensors} >= PACKED_EXPERTS
    left = holder.path.startswith(LEFT_IN_16_BIT) or holder.path.endswith(LEFT_IN_16_BIT)
    return holder.kind in ("linear", "conv1d") and not (route.unsloth_on_gpu and left)


def _shown(path: str) -> str:
    return path.replace("{}", "N")


TRANSPOSED_FAMILIES = ("llama4", "llama4_text", "qwen3_vl_moe")
"""model_types whose experts PEFT treats as transposed under Unsloth: it sets is_transposed on Llama 4's experts and
stores Qwen3-VL's transposed (unsloth_zoo/temporary_patches/llama4_moe.py, qwen3_vl_moe.py). The number of parameters
stays the same; the file's header can differ by a few bytes."""
FUSED_PROJECTIONS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
}
"""Fused projection that Unsloth's CPU backend adds for a name that the model lacks (unsloth_zoo/cpu/loader.py)."""


def resolve(
    model: ModelSpec, lora: LoraConfig, framework: Framework, *, precision: str = "bf16", cuda: bool = True
) -> AdapterPlan:
    """Return the plan of the adapter that PEFT, with or without Unsloth, makes of this configuration on this model, for
    any r and alpha. The plan's `model` is the model as the program loads it. Raise InvalidSettingError where PEFT or
    Unsloth refuses, or no module would be adapted.

    precision: Precision of the base, not "auto". cuda: True for a GPU; Unsloth's CPU backend has other rules.
    """
    if framework == "mlx":  # MLX LM drops the weights of other towers (sanitize of its models)
        model = text_model(model) if model.is_whole else model
    else:
        model = as_loaded(model, text_only=lora.text_only, unsloth_on_gpu=framework == "unsloth" and cuda)
    route = route_of(model, lora, framework, precision=precision, cuda=cuda)
    given = tuple(flag for flag, value in zip(FLAGS, lora.flags, strict=True) if value is not None)
    ignored = () if route.kind == "model" else given
    ignored += ("text_only",) if lora.text_only and framework != "unsloth" else ()
    if framework == "unsloth":
        if not model.peft_remap and model.model_type in moe.REMAP:
            # Unsloth has PEFT rewrite names of qwen2_moe too, which transformers 5.17 leaves out
            # (unsloth/import_fixes.py, _patch_peft_moe_target_conversion).
            model = replace(model, peft_remap=model.model_type)
        if cuda and precision in QUANTIZED:
            model = with_plain_linears(model)
    packed = bool(lora.modules_to_save) and precision in QUANTIZED
    return _resolve(model, _without_rank(lora), route, ignored, packed)


@functools.lru_cache(maxsize=512)
def _without_rank(lora: LoraConfig) -> LoraConfig:
    return replace(lora, r=1, lora_alpha=1)


@functools.lru_cache(maxsize=512)
def _resolve(model: ModelSpec, lora: LoraConfig, route: Route, ignored: tuple[str, ...], packed: bool) -> AdapterPlan:
    one_of(lora.moe_scheme, "MoE scheme", MOE_SCHEMES)
    scheme = moe.scheme_of(model, lora.moe_scheme, route)
    own_way = scheme == "peft-remap" and route.unsloth_on_gpu
    if own_way or (scheme == "target-parameters" and route.split_experts):
        why = "trains experts in its own way on a GPU" if own_way else "loads a linear layer for each expert in 4 bit"
        raise InvalidSettingError(
            f"Unsloth {UNSLOTH_VERSION} {why}, so the MoE scheme {scheme} names nothing. Choose the scheme unsloth."
        )
    experts = moe.expert_names(model, scheme)
    requested = expand(model, lora.target_modules, expert_names=experts, bare=route.scoped)
    if requested == ALL_LINEAR and route.scoped and route.flags_given:
        # Given the word, Unsloth turns every flag on; given the names, it heeds them.
        scope = experts if route.flags.mlp and route.flags.language else ()
        requested = tuple(dict.fromkeys((*chosen_names(model), *scope)))
    names, saved_names = requested, lora.modules_to_save
    if requested != ALL_LINEAR:
        names, saved_names = _embeddings_to_save(requested, lora.modules_to_save, route)
    _refuse_saved(model, saved_names, route, packed=packed)
    if scheme == "linear-only":
        names = moe.without_experts(model, names, route)
    targets = moe.apply_scheme(model, _with_fused(model, names, route), scheme, route)
    _refuse_targets(model, lora.target_modules, names, targets, route)
    order = {id(layer): place for place, layer in enumerate(model.layers)}
    modules = (*_adapted_modules(model, targets, saved_names, route), *_adapted_parameters(model, targets, route))
    adapted = tuple(sorted(modules, key=lambda each: order[id(each.layer)]))
    if not adapted:
        what = requested if isinstance(requested, str) else ", ".join(requested) or "This preset"
        verb = "match" if not isinstance(requested, str) and len(requested) > 1 else "matches"
        fused = " Experts are fused parameters, which other MoE schemes reach." if scheme == "linear-only" else ""
        _refuse(f"{what} {verb} nothing in this model.{fused}", model, "Choose all-linear or one of these.")
    wrapped = [a for a in adapted if a.layer.kind in PARAMETER_KINDS and not a.split]
    if lora.use_dora and wrapped:
        raise InvalidSettingError(
            f"DoRA does not work on fused experts ({wrapped[0].layer.name}): turn it off, or choose scheme linear-only."
        )
    for hit, each in itertools.product(hits(model, saved_names), adapted):
        inside = f"{each.module}.".startswith(f"{hit.module}.")
        if inside and (not hit.blocks or set(hit.blocks) & set(each.blocks)):
            raise InvalidSettingError(
                f"modules_to_save hits {_shown(hit.module)}, where {each.layer.name} carries LoRA: name it once."
            )
    with_experts = any(a.is_expert for a in adapted)
    if with_experts and lora.expert_rank == "r/active" and not model.num_experts_per_tok:
        raise InvalidSettingError(
            "The config.json of this model does not say how many experts are active. Give expert_rank as a number."
        )
    by_unsloth = scheme == "unsloth" and route.unsloth_on_gpu
    target_parameters = tuple(n for n in moe.expert_parameters(model) if n in targets.parameters and not by_unsloth)
    if scheme == "unsloth" and target_parameters:
        names = moe.not_rewritten(model, names)
    kept_names = targets.modules if isinstance(targets.modules, tuple) and not targets.hits else ()
    plan = AdapterPlan(
        model=model,
        adapted=adapted,
        saved=saved_modules(model, saved_names, route, kept_names, {a.layer.path for a in adapted}),
        use_dora=lora.use_dora,
        target_modules=names,
        target_parameters=target_parameters,
        modules_to_save=saved_names,
        scheme=scheme,
        expert_rank=lora.expert_rank if with_experts else "r",
        route=route,
    )
    moved = saved_names[len(lora.modules_to_save) :]
    about = notes(plan, lora, requested=requested, moved=moved, ignored=ignored)
    return replace(plan, notes=tuple(about))


def _with_fused(model: ModelSpec, names: tuple[str, ...] | str, route: Route) -> tuple[str, ...] | str:
    """Return the names, with the fused projections that Unsloth's CPU backend adds for names that the model lacks."""
    if route.kind != "cpu" or isinstance(names, str):
        return names
    leaves = {path.rpartition(".")[2] for path in (*(layer.path for layer in model.layers), *model.other_modules)}
    fused = (FUSED_PROJECTIONS.get(name) for name in names if name not in leaves)
    return tuple(dict.fromkeys((*names, *(name for name in fused if name in leaves))))


def _embeddings_to_save(
    names: tuple[str, ...], modules_to_save: tuple[str, ...], route: Route
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return target names and modules_to_save as Unsloth changes them: embed_tokens and lm_head are trained in full
    (_redirect_embedding_targets) unless language layers are off; on a CPU only names without a dot."""
    if route.kind == "peft" or not route.flags.language:
        return names, modules_to_save
    bare = route.kind == "cpu"
    moved = tuple(name for name in names if (name if bare else name.rpartition(".")[2]) in EMBEDDING_NAMES)
    rest = tuple(name for name in names if name not in moved)
    if moved and not rest:
        raise InvalidSettingError(
            f"Unsloth trains {' and '.join(moved)} in full, not by LoRA: name at least one projection as well."
        )
    return rest, (*modules_to_save, *(name for name in moved if name not in modules_to_save))


def _adapted_modules(
    model: ModelSpec, targets: Targets, saved_names: tuple[str, ...], route: Route
) -> Iterator[Adapted]:
    """Yield the modules that target_modules matches. Unsloth's patch of PEFT adds Gemma 4's wrapped linear layers."""

    def is_saved(path: str) -> bool:
        """Return True where PEFT puts no adapter, because it saves this module, or a module above it, in full."""
        return any(f".{name}." in f".{path}." for name in saved_names)

    every = targets.modules == ALL_LINEAR and not targets.hits
    clippable = frozenset(model.clippable_linears) if route.unsloth_on_gpu else frozenset()
    matcher = None if every else targets.matcher
    for path in () if every else model.other_modules:
        if matcher.hits_path(path) and path not in clippable and not is_saved(path):
            _refuse(
                f"{_shown(path)} is not a linear layer, and PEFT refuses LoRA on it.",
                model,
                "Choose the target modules all-linear, which leave such modules out.",
            )
    for layer in model.layers:
        if layer.kind in PARAMETER_KINDS or is_saved(layer.path):
            continue
        if every:
            blocks = layer.blocks if layer.kind in LINEAR_KINDS else None
        else:
            blocks = matcher.blocks(layer.path, layer.blocks)
            if blocks is None and clippable and (wrapper := layer.path.rpartition(".")[0]) in clippable:
                blocks = matcher.blocks(wrapper, layer.blocks)
        if blocks is not None:
            if layer.name in model.refused_names:
                raise InvalidSettingError(
                    f"PEFT refuses LoRA on {layer.name} in {model.model_type} models, whose Mamba kernels read its "
                    "weight directly. Choose another preset, or name modules without it."
                )
            yield Adapted(layer=layer, blocks=blocks, module=layer.path)


def _adapted_parameters(model: ModelSpec, targets: Targets, route: Route) -> Iterator[Adapted]:
    """Yield the nn.Parameters that target_parameters matches. Of two on one module, the second wraps the first. Experts
    that are separate modules are linear layers, each with its own wrapper."""
    if not targets.parameters:
        return
    matcher = Matcher(targets.parameters)
    parameters = (layer for layer in model.layers if layer.kind in PARAMETER_KINDS)
    hit = [(each, blocks) for each in parameters if (blocks := matcher.blocks(each.path, each.blocks)) is not None]
    split = route.split_experts
    for place, (layer, blocks) in enumerate(hit):
        module = layer.path.rpartition(".")[0]
        later = sum(each.path.rpartition(".")[0] == module and other == blocks for each, other in hit[place + 1 :])
        doubled = targets.gate_up_doubled and layer.name == "gate_up_proj" and not split
        yield Adapted(
            layer=layer,
            blocks=blocks,
            module=f"{layer.path}s" if split else module + ".base_layer" * later,
            rank_factor=layer.num_experts * (2 if doubled else 1),
            transposed=route.unsloth_on_gpu and model.model_type in TRANSPOSED_FAMILIES and not split,
            split=split,
        )
