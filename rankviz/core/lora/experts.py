"""Applies MoE schemes: the adapter of fused experts and the targets that PEFT gets. Counts parameters like Tinker."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from rankviz.core.lora import targets as pattern
from rankviz.core.lora.config import MoeScheme
from rankviz.core.lora.targets import ALL_LINEAR, ALL_ON, LINEAR_KINDS, Matcher, Route, hit_blocks
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

REMAP = {
    "mixtral": {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen2_moe": {
        "gate": "gate.weight",
        **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
        "down_proj": "down_proj",
    },
}
"""Fused parameters that replaced module names of transformers 4, by family (PEFT's _MOE_TARGET_MODULE_MAPPING)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """Targets of an adapter as PEFT gets them: module names, and names of parameters."""

    modules: tuple[str, ...] | str
    """Module names, or "all-linear"."""
    parameters: tuple[str, ...] = ()
    gate_up_doubled: bool = False
    """True where gate_up_proj gets rank 2r, because it replaces gate_proj and up_proj with rank r each."""
    hits: Callable[[str], bool] | None = None
    """Function that tells whether Unsloth's pattern of the names matches a path; None where PEFT gets plain names."""

    @property
    def matcher(self) -> Matcher:
        """Matcher of the names, or of Unsloth's pattern. Not valid for "all-linear" without a pattern."""
        return Matcher(self.modules, self.hits)


def scheme_of(model: ModelSpec, requested: MoeScheme, route: Route) -> MoeScheme | str:
    """Return the MoE scheme that applies; "dense" for a model without fused experts."""
    if not model.has_experts:
        return "dense"
    if requested == "default":
        requested = "unsloth" if route.unsloth_on_gpu else "peft-remap"
    return "linear-only" if requested == "peft-remap" and not model.peft_remap else requested


def without_experts(model: ModelSpec, names: tuple[str, ...] | str, route: Route) -> tuple[str, ...] | str:
    """Return target names with which Unsloth trains the named linear layers, but no expert (scheme "linear-only"). A
    bare "down_proj" makes Unsloth's FastModel train the experts' projection too: PEFT rewrites the name, or it matches
    in each expert where experts are modules. A name with a dot avoids both, and so does Unsloth's pattern of names."""
    if route.split_experts:
        names = pattern.chosen_names(model) if names == ALL_LINEAR else names
        return tuple(name for name in names if name not in pattern.EXPERT_NAMES)
    if route.kind != "model" or route.scoped or names == ALL_LINEAR or not model.peft_remap:
        return names
    ends: dict[str, list[str]] = {}
    for layer in model.layers:
        if layer.kind in LINEAR_KINDS:
            ends.setdefault(layer.name, []).append(".".join(layer.path.split(".")[-2:]))
    each = (ends.get(name, []) if name in REMAP[model.peft_remap] else [name] for name in names)
    return tuple(dict.fromkeys(end for some in each for end in some))


def expert_names(model: ModelSpec, scheme: str) -> tuple[str, ...]:
    """Return the module names that select the experts under this scheme; the preset "mlp" includes them."""
    if scheme == "peft-remap":
        return tuple(name for name, new in REMAP[model.peft_remap].items() if new != "gate.weight")
    return ("gate_proj", "up_proj", "down_proj") if scheme == "unsloth" else ()


def apply_scheme(model: ModelSpec, modules: tuple[str, ...] | str, scheme: str, route: Route) -> Targets:
    """Return the targets that PEFT gets for these module names, under a MoE scheme and a framework."""
    targets, experts = Targets(modules=modules), modules
    if scheme != "peft-remap" and route.kind == "model":
        if modules == ALL_LINEAR:
            targets = replace(targets, hits=pattern.all_linear(model))
            experts = pattern.names_experts(pattern.chosen_names(model), ALL_ON)
        elif route.scoped:
            targets = replace(targets, hits=pattern.matcher(model, modules, route.flags))
            if not (route.flags.language and route.flags.mlp):
                experts = pattern.names_experts(modules, route.flags)
    match scheme:
        case "peft-remap":
            return remap(model, targets)
        case "unsloth":
            if route.unsloth_on_gpu:
                return _as_unsloth(model, targets, experts)
            # the experts that Unsloth would name, named to plain PEFT, without the names that it would rewrite
            parameters = _unsloth_parameters(model, modules)
            by_hand = replace(targets, modules=not_rewritten(model, modules), parameters=parameters)
            return by_hand if parameters else remap(model, targets)
        case "dense" if model.peft_remap:
            # PEFT goes by the model_type, whether there are experts or not.
            return _as_unsloth(model, targets, experts) if route.unsloth_on_gpu else remap(model, targets)
        case "target-parameters":
            named = replace(targets, parameters=expert_parameters(model))
            return named if route.unsloth_on_gpu else remap(model, named)
    return targets


def expert_parameters(model: ModelSpec) -> tuple[str, ...]:
    """Return the names of all fused expert parameters for target_parameters, such as "mlp.experts.gate_up_proj"."""
    paths = (layer.path for layer in model.layers if layer.kind == "experts" and layer.part != "vision")
    return tuple(dict.fromkeys(path.rpartition("{}.")[2] for path in paths))


def not_rewritten(model: ModelSpec, names: tuple[str, ...] | str) -> tuple[str, ...] | str:
    """Return the names that PEFT does not rewrite; all of them for a family without a rewrite."""
    if not model.peft_remap:
        return names
    names = _linear_names(model) if names == ALL_LINEAR else names
    return tuple(name for name in names if name.rpartition(".")[2] not in REMAP[model.peft_remap])


def _linear_names(model: ModelSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer.name for layer in model.layers if layer.kind in LINEAR_KINDS))


def remap(model: ModelSpec, targets: Targets) -> Targets:
    """Return the targets after PEFT's silent rewrite of MoE names; unchanged for a family without a rewrite."""
    if not model.peft_remap:
        return targets
    mapping, modules = REMAP[model.peft_remap], targets.modules
    fused = [old for old, new in mapping.items() if new == "gate_up_proj"]  # PEFT's _MOE_FUSED_TARGETS
    if modules == ALL_LINEAR:
        modules = tuple(dict.fromkeys((*_linear_names(model), *mapping)))
    seen = [target.rpartition(".")[2] for target in modules if target.rpartition(".")[2] in mapping]
    present, missing = ([name for name in fused if (name in seen) is there] for there in (True, False))
    if present and missing:
        raise InvalidSettingError(
            f"PEFT cannot adapt {' and '.join(present)} without {' and '.join(missing)} here: this model fuses them "
            "into its experts' gate_up_proj. Name both, or choose another MoE scheme."
        )
    return Targets(
        modules=tuple(target for target in modules if target.rpartition(".")[2] not in mapping),
        parameters=tuple(dict.fromkeys((*targets.parameters, *(mapping[old] for old in seen)))),
        gate_up_doubled=bool(present) or targets.gate_up_doubled,
    )


def _as_unsloth(model: ModelSpec, targets: Targets, experts: tuple[str, ...] | str) -> Targets:
    """Return the targets as Unsloth passes them to PEFT. experts: Names among which Unsloth looks for experts."""
    parameters = _unsloth_parameters(model, experts)
    if experts == ALL_LINEAR or parameters or targets.hits:
        return replace(targets, parameters=parameters)
    bare, dotted = (tuple(name for name in targets.modules if ("." in name) is there) for there in (False, True))
    if not bare:
        return targets
    after = remap(model, replace(targets, modules=bare))
    # Unsloth puts names of linear layers back that the rewrite took out of target_modules.
    linear = [layer for layer in model.layers if layer.kind in (*LINEAR_KINDS, "lm_head")]
    layers = [each for each in linear if not Matcher(after.parameters).hits_path(f"{each.path}.weight")]
    lost = (name for name in bare if name not in after.modules)
    back = [n for n in lost if any(hit_blocks(each.path, each.blocks, n) is not None for each in layers)]
    return replace(after, modules=(*after.modules, *dotted, *back))


def _unsloth_parameters(model: ModelSpec, modules: tuple[str, ...] | str) -> tuple[str, ...]:
    """Return the expert parameters that names select, all for "all-linear" (get_moe_target_parameters)."""
    if modules == ALL_LINEAR:
        return expert_parameters(model)
    if not model.num_experts:
        return ()
    wanted = set(pattern.EXPERT_NAMES).intersection(modules)
    existing = {name.rpartition(".")[2]: name for name in reversed(expert_parameters(model))}
    leaves = [name for name in ("gate_proj", "up_proj") if wanted & {name, "gate_up_proj"}]
    if "gate_up_proj" in existing and wanted - {"down_proj"}:
        leaves = ["gate_up_proj"]
    return tuple(existing[name] for name in (*leaves, *(wanted & {"down_proj"})) if name in existing)


MAPS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "q_a_proj", "kv_a_proj_with_mqa"), 1),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj", "in_proj_z", "out_proj"), 1),
    "in_proj_qkv": 3,
    **dict.fromkeys(("q_b_proj", "kv_b_proj", "in_proj_a", "in_proj_b", "shared_expert_gate"), 0),
}
"""LoRA pairs that Tinker counts on a layer, by name: 3 for a fused q, k, v; 0 for gates and second MLA projections."""


def shared_outer_per_rank(model: ModelSpec) -> int | None:
    """Return Tinker's trainable parameters per unit of r, on attention, MLP and unembedding; None for unknown layers. A
    layer of E experts, hidden size H and inner size I has 3H + 3·E·I, or 2H + 2·E·I without a gate; routers have none.
    tests/core/lora/test_lora.py compares with get_lora_param_count (tinker_cookbook/hyperparam_utils.py)."""
    inner = {layer.path.rpartition(".")[0]: layer.in_features for layer in model.layers if layer.name == "out_proj"}
    hidden, total = model.hidden_size, model.vocab_size + model.hidden_size
    for layer in model.layers:
        if layer.kind in ("embedding", "lm_head", "router") or layer.part == "vision":
            continue
        if layer.kind == "experts":  # gate_up_proj is two maps, whose inner sizes lie side by side
            outer = (2 if layer.name == "gate_up_proj" else 1) * hidden
            total += layer.count * (outer + layer.num_experts * (layer.in_features + layer.out_features - hidden))
        elif layer.name == "in_proj":  # a Mamba mixer's two wide outputs, each as wide as what out_proj reads
            total += layer.count * 2 * (layer.in_features + inner[layer.path.rpartition(".")[0]])
        elif layer.name in MAPS:
            maps = MAPS[layer.name]
            total += layer.count * (maps * layer.in_features + min(maps, 1) * layer.out_features)
        else:
            return None
    return total


def rank_of_size(parameters: Callable[[int], int], target: float) -> float:
    """Return the rank, usually a fraction, at which an adapter has `target` parameters: Tinker's r = 32 on
    Qwen3-30B-A3B is Unsloth's r = 12.3. parameters: Returns those at a rank."""
    high = bisect_left(range(65_536), target, lo=1, key=parameters)
    if high == 1:
        return target / parameters(1)
    low = parameters(high - 1)
    return high - 1 + (target - low) / (parameters(high) - low)
