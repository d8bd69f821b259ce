"""From a configuration to a plan: what PEFT does when it wraps a model, without the model.

Names to modules (targets.py), the MoE scheme (moe.py), embeddings and head (saved.py), what is refused, and what is
worth knowing (notes.py). Compared with PEFT for every catalogue model in tests/core/lora/test_counts_against_peft.py.
"""

import functools
from collections.abc import Iterator

from rankviz.core.checks import one_of
from rankviz.core.lora import moe
from rankviz.core.lora.config import MOE_SCHEMES, Framework, LoraConfig
from rankviz.core.lora.notes import notes
from rankviz.core.lora.plan import Adapted, AdapterPlan
from rankviz.core.lora.saved import saved_modules
from rankviz.core.lora.targets import ALL_LINEAR, LINEAR_KINDS, Matcher, expand, names_that_exist
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError


def resolve(model: ModelSpec, lora: LoraConfig, framework: Framework) -> AdapterPlan:
    """What PEFT would make of this configuration on this model, with or without Unsloth; rank and alpha do not matter.

    InvalidSettingError where PEFT refuses, or where nothing would carry the adapter.
    """
    return _resolve(model, lora.target_modules, lora.use_dora, lora.modules_to_save, lora.moe_scheme, framework)


@functools.lru_cache(maxsize=512)
def _resolve(
    model: ModelSpec,
    target_modules: str | tuple[str, ...],
    use_dora: bool,
    modules_to_save: tuple[str, ...],
    moe_scheme: str,
    framework: Framework,
) -> AdapterPlan:
    one_of(moe_scheme, "MoE scheme", MOE_SCHEMES)
    scheme = moe.scheme_of(model, moe_scheme, framework)
    requested = expand(model, target_modules, expert_names=moe.expert_names(model, scheme))
    names, saved_names = requested, modules_to_save
    if framework == "unsloth" and requested != ALL_LINEAR:
        names, saved_names = _embeddings_to_save(requested, modules_to_save)
    targets = moe.apply_scheme(model, names, scheme, framework)
    excluded = frozenset(saved_names)
    adapted = (
        *_adapted_modules(model, targets, excluded, unsloth=framework == "unsloth"),
        *_adapted_parameters(model, targets),
    )
    if not adapted:
        raise InvalidSettingError(_nothing_matched(model, requested, scheme))
    wrapped = [a for a in adapted if a.layer.kind in ("experts", "router")]
    if use_dora and wrapped:
        raise InvalidSettingError(
            f"DoRA does not work on {wrapped[0].layer.name}, a fused parameter of the experts (PEFT: lora.ParamWrapper "
            "does not work with use_dora=True). Turn DoRA off, or choose the MoE scheme linear-only."
        )
    order = {id(layer): place for place, layer in enumerate(model.layers)}
    adapted = tuple(sorted(adapted, key=lambda a: order[id(a.layer)]))
    saved = saved_modules(
        model,
        saved_names,
        target_names=targets.modules if isinstance(targets.modules, tuple) else (),
        adapted_paths=frozenset(a.layer.path for a in adapted),
        tie=framework == "unsloth",
    )
    by_hand = scheme == "target-parameters" or (scheme == "unsloth" and framework != "unsloth")
    magnitudes = sum(a.count * a.layer.out_features for a in adapted) if use_dora else 0
    return AdapterPlan(
        model=model,
        adapted=adapted,
        saved=saved,
        use_dora=use_dora,
        target_modules=names,
        target_parameters=_by_hand(model, targets) if by_hand else (),
        modules_to_save=saved_names,
        target_names=tuple(dict.fromkeys(a.layer.name for a in adapted)),
        scheme=scheme,
        notes=notes(
            model,
            preset=target_modules,
            requested=requested,
            adapted=adapted,
            saved=saved,
            saved_names=saved_names,
            scheme=scheme,
            framework=framework,
            moved=saved_names[len(modules_to_save) :],
        ),
        per_rank=sum(a.per_rank for a in adapted),
        fixed=magnitudes + sum(module.trained for module in saved),
    )


def _by_hand(model: ModelSpec, targets: moe.Targets) -> tuple[str, ...]:
    return tuple(name for name in moe.expert_parameters(model) if name in targets.parameters)


def _embeddings_to_save(
    names: tuple[str, ...], modules_to_save: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Unsloth trains embed_tokens and lm_head in full where they are named as targets (_redirect_embedding_targets)."""
    moved = tuple(name for name in names if name.rsplit(".", 1)[-1] in ("embed_tokens", "lm_head"))
    rest = tuple(name for name in names if name not in moved)
    if moved and not rest:
        raise InvalidSettingError(
            f"Unsloth trains {' and '.join(moved)} in full, not by LoRA, so no target module is left: "
            "name at least one projection as well."
        )
    return rest, (*modules_to_save, *(name for name in moved if name not in modules_to_save))


def _adapted_modules(
    model: ModelSpec, targets: moe.Targets, excluded: frozenset[str], *, unsloth: bool
) -> Iterator[Adapted]:
    """Modules that target_modules hits."""
    if targets.modules == ALL_LINEAR:
        for layer in model.layers:
            if layer.kind in LINEAR_KINDS and not _is_saved(layer.path, excluded):
                _refuse_names(model, layer.path)
                yield Adapted(layer=layer, blocks=layer.blocks, module=layer.path)
        return
    matcher = Matcher(targets.modules)
    clippable = frozenset(model.clippable_linears) if unsloth else frozenset()
    for path in model.other_modules:
        if matcher.hits_path(path) and path not in clippable and not _is_saved(path, excluded):
            raise InvalidSettingError(_not_a_layer(model, path))
    for layer in model.layers:
        if layer.kind in ("experts", "router") or _is_saved(layer.path, excluded):
            continue
        blocks = matcher.blocks(layer.path, layer.blocks)
        if blocks is None and clippable and (wrapper := layer.path.rpartition(".")[0]) in clippable:
            blocks = matcher.blocks(wrapper, layer.blocks)
        if blocks is not None:
            _refuse_names(model, layer.path)
            yield Adapted(layer=layer, blocks=blocks, module=layer.path)


def _adapted_parameters(model: ModelSpec, targets: moe.Targets) -> Iterator[Adapted]:
    """nn.Parameters that target_parameters hits. Two on one module nest, the later one outside."""
    if not targets.parameters:
        return
    matcher = Matcher(targets.parameters)
    hits = []
    for layer in model.layers:
        if layer.kind in ("experts", "router"):
            blocks = matcher.blocks(layer.path, layer.blocks)
            if blocks is not None:
                hits.append((layer, blocks))
    for place, (layer, blocks) in enumerate(hits):
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
        )


def _is_saved(path: str, excluded: frozenset[str]) -> bool:
    """PEFT puts no adapter on or under a module that it saves in full."""
    if not excluded:
        return False
    dotted = f".{path}."
    return any(f".{name}." in dotted for name in excluded)


def _refuse_names(model: ModelSpec, path: str) -> None:
    name = path.rsplit(".", 1)[-1]
    if name in model.refused_names:
        raise InvalidSettingError(
            f"PEFT refuses LoRA on {name} in {model.model_type} models, whose Mamba kernels read its weight directly. "
            "Choose another preset, or name modules without it."
        )


def _not_a_layer(model: ModelSpec, path: str) -> str:
    name = path.rsplit(".", 1)[-1]
    if path in model.clippable_linears:
        return (
            f"PEFT cannot put LoRA on {path.replace('{}', 'N')}, which wraps its linear layer. Choose the text tower, "
            f"name {name}.linear with full paths, or train with Unsloth, which reaches the inner layer."
        )
    return (
        f"{path.replace('{}', 'N')} is not a linear layer, and PEFT refuses LoRA on it. "
        f"Linear layers here: {', '.join(names_that_exist(model))}."
    )


def _nothing_matched(model: ModelSpec, requested: tuple[str, ...] | str, scheme: str) -> str:
    names = (requested,) if isinstance(requested, str) else requested
    verb = "match" if len(names) > 1 else "matches"
    experts = ""
    if model.has_experts and scheme == "linear-only":
        experts = " Its experts are fused parameters, which the MoE schemes unsloth and target-parameters reach."
    step = "" if requested == ALL_LINEAR else " Choose all-linear or one of the layers above."
    return (
        f"{', '.join(names) or 'This preset'} {verb} nothing in this model. "
        f"Linear layers here: {', '.join(names_that_exist(model))}.{experts}{step}"
    )
