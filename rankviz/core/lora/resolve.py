"""Makes a plan from a configuration: what PEFT does when it wraps a model, or refuses, without the model."""

import functools
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NoReturn

from rankviz.core.bounds import one_of
from rankviz.core.lora import experts as moe
from rankviz.core.lora.config import FLAGS, MOE_SCHEMES, QUANTIZED, UNSLOTH_VERSION, Framework, LoraConfig
from rankviz.core.lora.experts import Targets
from rankviz.core.lora.notes import notes
from rankviz.core.lora.plan import Adapted, AdapterPlan, SavedModule
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
from rankviz.core.model.spec import LinearLayer, ModelSpec
from rankviz.core.model.towers import as_loaded
from rankviz.errors import InvalidSettingError

ENDS = frozenset({"embed_tokens", "lm_head"})
"""PEFT's EMBEDDING_LAYER_NAMES."""
PARAMETER_KINDS = ("experts", "router")  # of layers that are one parameter of a module


def _refuse(what: str, model: ModelSpec, choose: str = "") -> NoReturn:
    linear = f"Linear layers here: {', '.join(names_that_exist(model))}."
    raise InvalidSettingError(f"{what} {linear}{choose and ' '}{choose}")


def _refuse_targets(
    model: ModelSpec, targets: str | tuple[str, ...], names: tuple[str, ...] | str, given: Targets, route: Route
) -> None:
    """Raise InvalidSettingError where Unsloth makes a pattern of the names and finds no linear layer for it, or where a
    name hits a list of split experts. targets: as chosen. names: what Unsloth is given. given: what PEFT is given."""
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
                f"These target modules hit {_shown(layer.path)}s, a list of experts, or one of it. Name {layer.name} "
                "instead."
            )


def _ends(model: ModelSpec) -> dict[str, LinearLayer]:
    """Return the input embedding and the head by path, in the model's order."""
    return {each.path: each for each in model.layers if each.path in (model.input_embedding, model.output_embedding)}


def _refuse_saved(model: ModelSpec, names: tuple[str, ...], route: Route) -> None:
    """Raise InvalidSettingError for modules_to_save other than the embedding and the head. PEFT trains a copy of each
    module whose path ends with a name, whole components or not (peft 0.21.2, utils/other.py, _set_trainable)."""
    ends = _ends(model)
    every = {each.path for each in (*model.layers, *model.plain_modules)}.union(model.other_modules) if names else ()
    for name in names:
        hit = {path for path in every if path.endswith(name)}
        partly = hit and not any(f".{path}".endswith(f".{name}") for path in hit)
        foreign = route.kind == "own" and name.rsplit(".", 1)[-1] not in ENDS  # _norm_modules_to_save
        if hit - set(ends) or partly or foreign:
            own = listed(end.rsplit(".", 1)[-1] for end in ends)
            raise InvalidSettingError(
                f"modules_to_save can only name the embedding and the head, here {own} (got {name}). Train other "
                "modules by LoRA."
            )


def _saved_modules(
    model: ModelSpec, names: tuple[str, ...], route: Route, target_names: Collection[str], adapted_paths: set[str]
) -> tuple[SavedModule, ...]:
    """Return the modules that the file holds in full: those of modules_to_save, and the frozen weight that PEFT saves
    of a LoRA target named exactly "embed_tokens" or "lm_head" (utils/save_and_load.py, save_embedding_layers="auto").
    Tied embedding and head are two copies; Unsloth asks PEFT to keep them tied where config.json says so
    (ensure_weight_tying): one set of parameters, saved twice. target_names: as PEFT has them in the end."""
    pair = route.unsloth_on_gpu and model.config_ties and {name.rsplit(".", 1)[-1] for name in names} >= ENDS
    saved = []
    for path, layer in _ends(model).items():
        if not path.endswith(names or ("\n",)):
            continue
        is_second = pair and path == model.output_embedding
        if not is_second or model.tie_word_embeddings:  # else dropped for PEFT to tie, with nothing to tie it to
            parameters = layer.in_features * layer.out_features + layer.bias * layer.out_features
            saved.append(SavedModule(layer=layer, trained=0 if is_second else parameters))
    if not ENDS.isdisjoint(target_names):
        frozen = (layer for path, layer in _ends(model).items() if path in adapted_paths)
        saved += [SavedModule(layer=layer, trained=0, frozen_copy=True) for layer in frozen]
    return tuple(saved)


def _shown(path: str) -> str:
    return path.replace("{}", "N")


TURNED_FAMILIES = ("llama4", "llama4_text", "qwen3_vl_moe")
"""model_types whose experts PEFT reads transposed under Unsloth, which sets is_transposed on Llama 4's and stores
Qwen3-VL's transposed (unsloth_zoo/temporary_patches/llama4_moe.py, qwen3_vl_moe.py). The number of parameters is
equal; the header of the file can differ by a few bytes."""
FUSED_PROJECTIONS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
}
"""Fused projection, by a name that the model lacks, that Unsloth's CPU backend adds (unsloth_zoo/cpu/loader.py)."""


def resolve(
    model: ModelSpec, lora: LoraConfig, framework: Framework, *, precision: str = "bf16", cuda: bool = True
) -> AdapterPlan:
    """Return the adapter that PEFT makes of this configuration on this model, with or without Unsloth, for any r and
    alpha. Its `model` is what the program loads. Raise InvalidSettingError where PEFT or Unsloth refuses, or nothing
    is adapted.

    precision: of the base, without "auto". cuda: True for training on a GPU; Unsloth's CPU backend has other rules.
    """
    model = as_loaded(model, text_only=lora.text_only, unsloth_on_gpu=framework == "unsloth" and cuda)
    route = route_of(model, lora, framework, precision=precision, cuda=cuda)
    given = tuple(flag for flag, value in zip(FLAGS, lora.flags, strict=True) if value is not None)
    ignored = () if route.kind == "model" else given
    if framework == "unsloth":
        model = moe.with_unsloths_rewrite(model)
        if cuda and precision in QUANTIZED:
            model = with_plain_linears(model)
    return _resolve(model, replace(lora, r=1, lora_alpha=1), route, ignored)


@functools.lru_cache(maxsize=512)
def _resolve(model: ModelSpec, lora: LoraConfig, route: Route, ignored: tuple[str, ...]) -> AdapterPlan:
    target_modules, modules_to_save, moe_scheme = lora.target_modules, lora.modules_to_save, lora.moe_scheme
    use_dora, expert_rank = lora.use_dora, lora.expert_rank
    one_of(moe_scheme, "MoE scheme", MOE_SCHEMES)
    scheme = moe.scheme_of(model, moe_scheme, route)
    own_way = scheme == "peft-remap" and route.unsloth_on_gpu
    if own_way or (scheme == "target-parameters" and route.split_experts):
        why = "trains experts in its own way on a GPU" if own_way else "loads a linear layer for each expert in 4 bit"
        raise InvalidSettingError(
            f"Unsloth {UNSLOTH_VERSION} {why}, so the MoE scheme {scheme} names nothing. Choose the scheme unsloth."
        )
    experts = moe.expert_names(model, scheme)
    requested = expand(model, target_modules, expert_names=experts, bare=route.scoped)
    if requested == ALL_LINEAR and route.scoped and route.flags_given:
        # Given the word, Unsloth turns every flag on; given the names, it heeds them.
        scope = experts if route.flags.mlp and route.flags.language else ()
        requested = tuple(dict.fromkeys((*chosen_names(model), *scope)))
    names, saved_names = requested, modules_to_save
    if requested != ALL_LINEAR:
        names, saved_names = _embeddings_to_save(requested, modules_to_save, route)
    _refuse_saved(model, saved_names, route)
    if scheme == "linear-only":
        names = moe.without_experts(model, names, route)
    targets = moe.apply_scheme(model, _with_fused(model, names, route), scheme, route)
    _refuse_targets(model, target_modules, names, targets, route)
    order = {id(layer): place for place, layer in enumerate(model.layers)}
    modules = (*_adapted_modules(model, targets, saved_names, route), *_adapted_parameters(model, targets, route))
    adapted = tuple(sorted(modules, key=lambda each: order[id(each.layer)]))
    if not adapted:
        what = requested if isinstance(requested, str) else ", ".join(requested) or "This preset"
        verb = "match" if not isinstance(requested, str) and len(requested) > 1 else "matches"
        fused = " Experts are fused parameters, which other MoE schemes reach." if scheme == "linear-only" else ""
        _refuse(f"{what} {verb} nothing in this model.{fused}", model, "Choose all-linear or one of these.")
    wrapped = [a for a in adapted if a.layer.kind in PARAMETER_KINDS and not a.split]
    if use_dora and wrapped:
        raise InvalidSettingError(
            f"DoRA does not work on {wrapped[0].layer.name}, a fused parameter of experts. Turn DoRA off, or choose "
            "the MoE scheme linear-only."
        )
    with_experts = any(a.is_expert for a in adapted)
    if with_experts and expert_rank == "r/active" and not model.num_experts_per_tok:
        raise InvalidSettingError(
            "The config.json of this model does not say how many experts are active. Give expert_rank as a number."
        )
    by_hand = scheme == "target-parameters" or (scheme == "unsloth" and not route.unsloth_on_gpu)
    target_parameters = tuple(n for n in moe.expert_parameters(model) if by_hand and n in targets.parameters)
    if scheme == "unsloth" and target_parameters:
        names = moe.not_rewritten(model, names)
    kept_names = targets.modules if isinstance(targets.modules, tuple) and not targets.hits else ()
    plan = AdapterPlan(
        model=model,
        adapted=adapted,
        saved=_saved_modules(model, saved_names, route, kept_names, {a.layer.path for a in adapted}),
        use_dora=use_dora,
        target_modules=names,
        target_parameters=target_parameters,
        modules_to_save=saved_names,
        scheme=scheme,
        expert_rank=expert_rank if with_experts else "r",
        route=route,
    )
    moved = saved_names[len(modules_to_save) :]
    about = notes(plan, lora, requested=requested, moved=moved, ignored=ignored)
    return replace(plan, notes=tuple(about))


def _with_fused(model: ModelSpec, names: tuple[str, ...] | str, route: Route) -> tuple[str, ...] | str:
    """Return the names and the fused projections that Unsloth's CPU backend adds for names that the model lacks."""
    if route.kind != "cpu" or isinstance(names, str):
        return names
    leaves = {path.rsplit(".", 1)[-1] for path in (*(layer.path for layer in model.layers), *model.other_modules)}
    fused = (FUSED_PROJECTIONS.get(name) for name in names if name not in leaves)
    return tuple(dict.fromkeys((*names, *(name for name in fused if name in leaves))))


def _embeddings_to_save(
    names: tuple[str, ...], modules_to_save: tuple[str, ...], route: Route
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return target names and modules_to_save after Unsloth's change: it trains embed_tokens and lm_head in full where
    they are targets (_redirect_embedding_targets), not with language layers off; its CPU backend knows only bare
    names."""
    if route.kind == "peft" or not route.flags.language:
        return names, modules_to_save
    bare = route.kind == "cpu"
    moved = tuple(name for name in names if (name if bare else name.rsplit(".", 1)[-1]) in ENDS)
    rest = tuple(name for name in names if name not in moved)
    if moved and not rest:
        raise InvalidSettingError(
            f"Unsloth trains {' and '.join(moved)} in full, not by LoRA, so no target module is left: "
            "name at least one projection as well."
        )
    return rest, (*modules_to_save, *(name for name in moved if name not in modules_to_save))


def _adapted_modules(
    model: ModelSpec, targets: Targets, saved_names: tuple[str, ...], route: Route
) -> Iterator[Adapted]:
    """Yield the modules that target_modules hits; Unsloth's patch reaches into Gemma 4's wrapped linear layers too."""

    def is_saved(path: str) -> bool:
        """Return True where PEFT puts no adapter, since it saves the module or one above it in full."""
        return any(f".{name}." in f".{path}." for name in saved_names)

    every = targets.modules == ALL_LINEAR and not targets.hits
    clippable = frozenset(model.clippable_linears) if route.unsloth_on_gpu else frozenset()
    matcher = None if every else targets.matcher
    for path in () if every else model.other_modules:
        if matcher.hits_path(path) and path not in clippable and not is_saved(path):
            _refuse(f"{_shown(path)} is not a linear layer, and PEFT refuses LoRA on it.", model)
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
            if (name := layer.path.rsplit(".", 1)[-1]) in model.refused_names:
                raise InvalidSettingError(
                    f"PEFT refuses LoRA on {name} in {model.model_type} models, whose Mamba kernels read its weight "
                    "directly. Choose another preset, or name modules without it."
                )
            yield Adapted(layer=layer, blocks=blocks, module=layer.path)


def _adapted_parameters(model: ModelSpec, targets: Targets, route: Route) -> Iterator[Adapted]:
    """Yield the nn.Parameters that target_parameters hits. Two on one module nest, the later one outside. Where
    experts are split, each expert is a linear layer instead, and nothing nests."""
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
            turned=route.unsloth_on_gpu and model.model_type in TURNED_FAMILIES and not split,
            split=split,
        )
