"""From a configuration to a plan: what PEFT does when it wraps a model, without the model.

By whose rule (route.py), names to modules (targets.py, pattern.py), the MoE scheme (moe.py), embeddings and head
(saved.py), what is refused (refusals.py), and what is worth knowing (notes.py). Compared with PEFT and with Unsloth for
every catalogue model in tests/core/lora/test_counts_against_peft.py and test_counts_against_unsloth.py.
"""

import functools
from collections.abc import Iterator

from rankviz.core.checks import one_of
from rankviz.core.lora import moe, pattern
from rankviz.core.lora.config import FLAGS, MOE_SCHEMES, QUANTIZED, Framework, LoraConfig
from rankviz.core.lora.notes import flag_notes, notes
from rankviz.core.lora.plan import Adapted, AdapterPlan
from rankviz.core.lora.refusals import (
    not_a_layer,
    nothing_matched,
    refuse_names,
    refuse_scheme,
    refuse_split,
    refuse_unmatched,
)
from rankviz.core.lora.route import Route, route_of
from rankviz.core.lora.saved import EMBEDDING_NAMES, PARAMETER_KINDS, saved_modules
from rankviz.core.lora.saved_refusals import refuse_saved, refuse_saved_with_lora
from rankviz.core.lora.targets import ALL_LINEAR, LINEAR_KINDS, Matcher, expand
from rankviz.core.model.spec import ModelSpec
from rankviz.core.model.towers import as_loaded
from rankviz.errors import InvalidSettingError

TURNED_FAMILIES = ("llama4", "llama4_text", "qwen3_vl_moe")
"""model_types whose experts PEFT reads the other way round under Unsloth, which sets is_transposed on Llama 4's and
stores those of Qwen3-VL transposed (unsloth_zoo/temporary_patches/llama4_moe.py, qwen3_vl_moe.py). The count is the
same, the header of the file can differ by a few bytes."""
FUSED_PROJECTIONS = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
"""What Unsloth's CPU backend adds for a name that the model lacks (unsloth_zoo/cpu/loader.py)."""


def resolve(
    model: ModelSpec, lora: LoraConfig, framework: Framework, *, precision: str = "bf16", cuda: bool = True
) -> AdapterPlan:
    """What PEFT would make of this configuration on this model, with or without Unsloth; r and alpha do not matter.
    The plan's model is what the program loads (towers.py).

    precision: of the base, "auto" settled. cuda: whether it is trained on a GPU; Unsloth's CPU backend has other rules.
    InvalidSettingError where PEFT or Unsloth refuses, or where nothing would carry the adapter.
    """
    model = as_loaded(model, text_only=lora.text_only, unsloth_on_gpu=framework == "unsloth" and cuda)
    route = route_of(model, lora, framework, precision=precision, cuda=cuda)
    ignored = tuple(flag for flag, value in zip(FLAGS, lora.flags, strict=True) if value is not None)
    if route.kind == "model":
        ignored = ()
    if framework == "unsloth":
        model = moe.with_unsloths_rewrite(model)
        if cuda and precision in QUANTIZED:
            model = pattern.with_plain_linears(model)
    saves = lora.modules_to_save
    packed = bool(saves) and precision in QUANTIZED
    return _resolve(
        model, lora.target_modules, lora.use_dora, saves, lora.moe_scheme, lora.expert_rank, route, ignored, packed
    )


@functools.lru_cache(maxsize=512)
def _resolve(
    model: ModelSpec,
    target_modules: str | tuple[str, ...],
    use_dora: bool,
    modules_to_save: tuple[str, ...],
    moe_scheme: str,
    expert_rank: int | str,
    route: Route,
    ignored: tuple[str, ...],
    packed: bool,
) -> AdapterPlan:
    one_of(moe_scheme, "MoE scheme", MOE_SCHEMES)
    scheme = moe.scheme_of(model, moe_scheme, route)
    refuse_scheme(scheme, route)
    requested = _requested(model, target_modules, scheme, route)
    names, saved_names = requested, modules_to_save
    if requested != ALL_LINEAR:
        names, saved_names = _embeddings_to_save(requested, modules_to_save, route)
    refuse_saved(model, saved_names, route, packed=packed)
    if scheme == "linear-only":
        names = moe.without_experts(model, names, route)
    targets = moe.apply_scheme(model, _with_fused(model, names, route), scheme, route)
    if targets.hits:
        refuse_unmatched(model, target_modules, names, route)
    if route.split_experts:
        refuse_split(model, targets)
    excluded = frozenset(saved_names)
    adapted = (
        *_adapted_modules(model, targets, excluded, reaches_inside=route.unsloth_on_gpu),
        *_adapted_parameters(model, targets, route),
    )
    if not adapted:
        raise InvalidSettingError(nothing_matched(model, requested, scheme, saved_names))
    wrapped = [a for a in adapted if a.layer.kind in ("experts", "router") and not a.split]
    if use_dora and wrapped:
        raise InvalidSettingError(
            f"DoRA does not work on {wrapped[0].layer.name}, a fused parameter of the experts (PEFT: lora.ParamWrapper "
            "does not work with use_dora=True). Turn DoRA off, or choose the MoE scheme linear-only."
        )
    refuse_saved_with_lora(model, saved_names, adapted)
    with_experts = any(a.layer.kind == "experts" for a in adapted)
    if with_experts and expert_rank == "r/active" and not model.num_experts_per_tok:
        raise InvalidSettingError(
            "expert_rank r/active needs the number of experts active for a token, which this model's config.json does "
            "not say. Give the rank of experts as a number."
        )
    order = {id(layer): place for place, layer in enumerate(model.layers)}
    adapted = tuple(sorted(adapted, key=lambda a: order[id(a.layer)]))
    saved = saved_modules(
        model,
        saved_names,
        target_names=targets.modules if isinstance(targets.modules, tuple) and not targets.hits else (),
        adapted_paths=frozenset(a.layer.path for a in adapted),
        unsloth=route.unsloth_on_gpu,
        frozen_without_weight=route.kind == "model",
    )
    by_hand = scheme == "target-parameters" or (scheme == "unsloth" and not route.unsloth_on_gpu)
    target_parameters = _by_hand(model, targets) if by_hand else ()
    if scheme == "unsloth" and target_parameters:
        names = moe.not_rewritten(model, names)
    magnitudes = sum(a.magnitudes for a in adapted) if use_dora else 0
    about_flags = flag_notes(target_modules, requested, ignored, route)
    return AdapterPlan(
        model=model,
        adapted=adapted,
        saved=saved,
        use_dora=use_dora,
        target_modules=names,
        target_parameters=target_parameters,
        modules_to_save=saved_names,
        target_names=tuple(dict.fromkeys(a.layer.name for a in adapted)),
        scheme=scheme,
        expert_rank=expert_rank if with_experts else "r",
        route=route,
        notes=notes(
            model,
            preset=target_modules,
            requested=requested,
            adapted=adapted,
            saved=saved,
            saved_names=saved_names,
            scheme=scheme,
            expert_rank=expert_rank,
            route=route,
            moved=saved_names[len(modules_to_save) :],
            about_flags=about_flags,
        ),
        flag_notes=about_flags,
        fixed=magnitudes + sum(module.trained for module in saved),
    )


def _requested(
    model: ModelSpec, target_modules: str | tuple[str, ...], scheme: str, route: Route
) -> tuple[str, ...] | str:
    """The names that the target modules stand for on this route."""
    experts = moe.expert_names(model, scheme)
    if target_modules == ALL_LINEAR and route.scoped and route.flags_given:
        # Given the word, Unsloth turns every flag on; given the names, it heeds them.
        scope = experts if route.flags.mlp and route.flags.language else ()
        return tuple(dict.fromkeys((*pattern.chosen_names(model), *scope)))
    return expand(model, target_modules, expert_names=experts, bare=route.scoped)


def _with_fused(model: ModelSpec, names: tuple[str, ...] | str, route: Route) -> tuple[str, ...] | str:
    """Unsloth's CPU backend adds the fused projection that a name stands for where the model lacks the name itself."""
    if route.kind != "cpu" or isinstance(names, str):
        return names
    leaves = {path.rsplit(".", 1)[-1] for path in (*(layer.path for layer in model.layers), *model.other_modules)}
    fused = (FUSED_PROJECTIONS[name] for name in names if name in FUSED_PROJECTIONS and name not in leaves)
    return tuple(dict.fromkeys((*names, *(name for name in fused if name in leaves))))


def _by_hand(model: ModelSpec, targets: moe.Targets) -> tuple[str, ...]:
    return tuple(name for name in moe.expert_parameters(model) if name in targets.parameters)


def _embeddings_to_save(
    names: tuple[str, ...], modules_to_save: tuple[str, ...], route: Route
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Unsloth trains embed_tokens and lm_head in full where they are named as targets (_redirect_embedding_targets).

    Not where language layers are off; the CPU backend knows only their bare names.
    """
    if route.kind == "peft" or not route.flags.language:
        return names, modules_to_save
    moved = tuple(
        name for name in names if (name if route.kind == "cpu" else name.rsplit(".", 1)[-1]) in EMBEDDING_NAMES
    )
    rest = tuple(name for name in names if name not in moved)
    if moved and not rest:
        raise InvalidSettingError(
            f"Unsloth trains {' and '.join(moved)} in full, not by LoRA, so no target module is left: "
            "name at least one projection as well."
        )
    return rest, (*modules_to_save, *(name for name in moved if name not in modules_to_save))


def _adapted_modules(
    model: ModelSpec, targets: moe.Targets, excluded: frozenset[str], *, reaches_inside: bool
) -> Iterator[Adapted]:
    """Modules that target_modules hits. reaches_inside: Unsloth's patch for Gemma 4's wrapped linear layers."""
    if targets.modules == ALL_LINEAR and not targets.hits:
        for layer in model.layers:
            if layer.kind in LINEAR_KINDS and not _is_saved(layer.path, excluded):
                refuse_names(model, layer.path)
                yield Adapted(layer=layer, blocks=layer.blocks, module=layer.path)
        return
    matcher = targets.matcher
    clippable = frozenset(model.clippable_linears) if reaches_inside else frozenset()
    for path in model.other_modules:
        if matcher.hits_path(path) and path not in clippable and not _is_saved(path, excluded):
            raise InvalidSettingError(not_a_layer(model, path))
    for layer in model.layers:
        if layer.kind in PARAMETER_KINDS or _is_saved(layer.path, excluded):
            continue
        blocks = matcher.blocks(layer.path, layer.blocks)
        if blocks is None and clippable and (wrapper := layer.path.rpartition(".")[0]) in clippable:
            blocks = matcher.blocks(wrapper, layer.blocks)
        if blocks is not None:
            refuse_names(model, layer.path)
            yield Adapted(layer=layer, blocks=blocks, module=layer.path)


def _adapted_parameters(model: ModelSpec, targets: moe.Targets, route: Route) -> Iterator[Adapted]:
    """nn.Parameters that target_parameters hits. Two on one module nest, the later one outside.

    Where experts are split, each is a linear layer instead, which nests nothing.
    """
    if not targets.parameters:
        return
    matcher = Matcher(targets.parameters)
    hits = []
    for layer in model.layers:
        if layer.kind in PARAMETER_KINDS:
            blocks = matcher.blocks(layer.path, layer.blocks)
            if blocks is not None:
                hits.append((layer, blocks))
    for place, (layer, blocks) in enumerate(hits):
        if route.split_experts:
            yield Adapted(
                layer=layer, blocks=blocks, module=f"{layer.path}s", rank_factor=layer.num_experts, split=True
            )
            continue
        module = layer.path.rpartition(".")[0]
        later = sum(
            other.path.rpartition(".")[0] == module and other_blocks == blocks
            for other, other_blocks in hits[place + 1 :]
        )
        doubled = targets.gate_up_doubled and layer.name == "gate_up_proj"
        yield Adapted(
            layer=layer,
            blocks=blocks,
            module=module + ".base_layer" * later,
            rank_factor=layer.num_experts * (2 if doubled else 1),
            turned=route.unsloth_on_gpu and model.model_type in TURNED_FAMILIES,
        )


def _is_saved(path: str, excluded: frozenset[str]) -> bool:
    """PEFT puts no adapter on or under a module that it saves in full."""
    if not excluded:
        return False
    dotted = f".{path}."
    return any(f".{name}." in dotted for name in excluded)
