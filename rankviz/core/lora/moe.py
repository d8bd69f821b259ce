"""How fused experts get an adapter, or don't: the schemes, and what each makes of a list of targets.

On transformers 5 a family's experts are one 3-D nn.Parameter, not an nn.Linear a piece, so module names no longer
reach them. Three things can happen (peft 0.21.2, unsloth 2026.10.9):

- nothing: only attention, dense layers and shared experts carry LoRA ("linear-only");
- PEFT rewrites the config by itself for the families it knows (utils/transformers_weight_conversion.py,
  _convert_peft_config_moe): names of expert projections become target_parameters, gate_up_proj at rank 2r, and since
  those names leave target_modules, shared experts and dense first layers lose their LoRA ("peft-remap");
- Unsloth names the experts in target_parameters (models/_utils.py, get_moe_target_parameters), keeps PEFT from
  rewriting a config that has them, and puts back linear layers that a rewrite took away (import_fixes.py,
  _patch_peft_moe_target_conversion and _moe_linear_targets_to_restore; applied when it starts on a GPU, not by its
  CPU backend) ("unsloth").

"target-parameters" is plain PEFT with the experts named by hand; PEFT's rewrite still runs on top. "unsloth" for plain
PEFT, or for the CPU backend, names the experts that Unsloth would name, and no module that PEFT would rewrite: not by
its last name, not by its full path. Shared experts and dense first layers then carry no LoRA. Compared with both
libraries in tests/core/lora/test_counts_against_peft.py and tests/core/lora/test_counts_against_unsloth.py.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from rankviz.core.lora import pattern
from rankviz.core.lora.config import MoeScheme
from rankviz.core.lora.route import ALL_ON, Route
from rankviz.core.lora.targets import ALL_LINEAR, LINEAR_KINDS, Matcher, PatternMatcher, hit_blocks
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

REMAP = {
    "mixtral": {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen2_moe": {
        "gate": "gate.weight",
        "gate_proj": "gate_up_proj",
        "up_proj": "gate_up_proj",
        "down_proj": "down_proj",
    },
}
"""PEFT's _MOE_TARGET_MODULE_MAPPING: a name of transformers 4, and the parameter it became."""
FUSED = {"mixtral": ("w1", "w3"), "qwen2_moe": ("gate_proj", "up_proj")}
"""PEFT's _MOE_FUSED_TARGETS: what gate_up_proj was fused from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """What PEFT is told in the end."""

    modules: tuple[str, ...] | str
    """Names, or "all-linear"."""
    parameters: tuple[str, ...] = ()
    gate_up_doubled: bool = False
    """gate_up_proj carries rank 2r, as gate_proj and up_proj would have carried r each."""
    hits: Callable[[str], bool] | None = None
    """Whether a path is hit, where Unsloth makes a pattern of the names; None where PEFT gets the names."""

    @property
    def matcher(self) -> Matcher | PatternMatcher:
        """Of names; "all-linear" without a pattern has none."""
        return PatternMatcher(self.hits) if self.hits else Matcher(self.modules)


def with_unsloths_rewrite(model: ModelSpec) -> ModelSpec:
    """The model as Unsloth has PEFT see it: families after which a rewrite is named are rewritten too, and transformers
    5.17 leaves qwen2_moe out (unsloth/import_fixes.py, _patch_peft_moe_target_conversion)."""
    if model.peft_remap or model.model_type not in REMAP:
        return model
    return replace(model, peft_remap=model.model_type)


def scheme_of(model: ModelSpec, requested: MoeScheme, route: Route) -> MoeScheme | str:
    """The scheme that is really in force; "dense" for a model without fused experts."""
    if not model.has_experts:
        return "dense"
    if requested == "default":
        requested = "unsloth" if route.unsloth_on_gpu else "peft-remap"
    return "linear-only" if requested == "peft-remap" and not model.peft_remap else requested


def without_experts(model: ModelSpec, names: tuple[str, ...] | str, route: Route) -> tuple[str, ...] | str:
    """The names to hand to Unsloth so that it trains the linear layers they mean and no expert ("linear-only").

    A bare "down_proj" makes its FastModel train the experts' too: by PEFT's rewrite, or one by one where they are
    split. Neither looks at a name with a dot, and a pattern keeps PEFT from rewriting.
    """
    if route.split_experts:
        names = pattern.chosen_names(model) if names == ALL_LINEAR else names
        return tuple(name for name in names if name not in pattern.EXPERT_NAMES)
    if route.kind != "model" or route.scoped or names == ALL_LINEAR or not model.peft_remap:
        return names
    linear = [layer.path for layer in model.layers if layer.kind in LINEAR_KINDS]
    ends = {path.rsplit(".", 1)[-1]: [] for path in linear}
    for path in linear:
        ends[path.rsplit(".", 1)[-1]].append(".".join(path.split(".")[-2:]))
    rewritten = REMAP[model.peft_remap]
    each = (ends.get(name, []) if name in rewritten else [name] for name in names)
    return tuple(dict.fromkeys(itertools.chain.from_iterable(each)))


def expert_rank(model: ModelSpec, rule: int | str, r: int) -> int:
    """The rank of each expert where all other layers have rank r. rule: LoraConfig.expert_rank."""
    if isinstance(rule, int):
        return rule
    divisor = {"r": 1, "r/active": model.num_experts_per_tok, "r/all": model.num_experts}[rule]
    return max(1, r // divisor)


def expert_names(model: ModelSpec, scheme: str) -> tuple[str, ...]:
    """The module names that reach the experts under this scheme, for the preset "mlp"."""
    if scheme == "peft-remap":
        return tuple(name for name, new in REMAP[model.peft_remap].items() if new != "gate.weight")
    return ("gate_proj", "up_proj", "down_proj") if scheme == "unsloth" else ()


def apply_scheme(model: ModelSpec, modules: tuple[str, ...] | str, scheme: str, route: Route) -> Targets:
    """Targets as PEFT matches them once scheme and framework have had their way."""
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
            return _as_unsloth(model, targets, experts) if route.unsloth_on_gpu else _by_hand(model, targets)
        case "dense" if model.peft_remap:
            # PEFT goes by the model_type, whether there are experts or not.
            return _as_unsloth(model, targets, experts) if route.unsloth_on_gpu else remap(model, targets)
        case "target-parameters":
            named = replace(targets, parameters=expert_parameters(model))
            return named if route.unsloth_on_gpu else remap(model, named)
    return targets


def expert_parameters(model: ModelSpec) -> tuple[str, ...]:
    """Every fused expert parameter, named as target_parameters names it: "mlp.experts.gate_up_proj"."""
    paths = (layer.path for layer in model.layers if layer.kind == "experts" and layer.part != "vision")
    return tuple(dict.fromkeys(path.split("{}.")[-1] for path in paths))


def not_rewritten(model: ModelSpec, names: tuple[str, ...] | str) -> tuple[str, ...] | str:
    """The names that PEFT hands on as they are, of a family whose experts it knows."""
    if not model.peft_remap:
        return names
    names = _linear_names(model) if names == ALL_LINEAR else names
    return tuple(name for name in names if name.rsplit(".", 1)[-1] not in REMAP[model.peft_remap])


def _by_hand(model: ModelSpec, targets: Targets) -> Targets:
    """The experts that Unsloth would name, named to plain PEFT, without the names that it would rewrite."""
    if targets.modules == ALL_LINEAR:
        parameters = expert_parameters(model)
    else:
        parameters = _unsloth_parameters(model, targets.modules)
    if not parameters:
        return remap(model, targets)
    return replace(targets, modules=not_rewritten(model, targets.modules), parameters=parameters)


def _linear_names(model: ModelSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer.name for layer in model.layers if layer.kind in LINEAR_KINDS))


def remap(model: ModelSpec, targets: Targets) -> Targets:
    """PEFT's silent rewrite; the identity for families it doesn't know."""
    if not model.peft_remap:
        return targets
    mapping = REMAP[model.peft_remap]
    modules = targets.modules
    if modules == ALL_LINEAR:
        modules = tuple(dict.fromkeys((*_linear_names(model), *mapping)))
    kept, parameters, seen = [], list(targets.parameters), set()
    for target in modules:
        old = target.rsplit(".", 1)[-1]
        if old not in mapping:
            kept.append(target)
            continue
        parameters.append(mapping[old])
        seen.add(old)
    fused = FUSED[model.peft_remap]
    present = [name for name in fused if name in seen]
    if 0 < len(present) < len(fused):
        missing = [name for name in fused if name not in seen]
        raise InvalidSettingError(
            f"PEFT cannot adapt {' and '.join(present)} without {' and '.join(missing)} here: this model fuses them "
            "into its experts' gate_up_proj. Name both, or choose another MoE scheme."
        )
    return Targets(
        modules=tuple(kept),
        parameters=tuple(dict.fromkeys(parameters)),
        gate_up_doubled=bool(present) or targets.gate_up_doubled,
    )


def _as_unsloth(model: ModelSpec, targets: Targets, experts: tuple[str, ...] | str) -> Targets:
    """experts: the names among which Unsloth looks for those of experts."""
    if experts == ALL_LINEAR:
        return replace(targets, parameters=expert_parameters(model))
    parameters = _unsloth_parameters(model, experts)
    if parameters or targets.hits:
        return replace(targets, parameters=parameters)
    bare = tuple(target for target in targets.modules if "." not in target)
    dotted = tuple(target for target in targets.modules if "." in target)
    if not bare:
        return targets
    after = remap(model, replace(targets, modules=bare))
    return _restored(model, targets, replace(after, modules=(*after.modules, *dotted)))


def _unsloth_parameters(model: ModelSpec, modules: tuple[str, ...]) -> tuple[str, ...]:
    """Unsloth's get_moe_target_parameters: the experts' share of a list of names."""
    if not model.num_experts:
        return ()
    wanted = set(pattern.EXPERT_NAMES).intersection(modules)
    existing = {name.rsplit(".", 1)[-1]: name for name in reversed(expert_parameters(model))}
    leaves = []
    if wanted & {"gate_proj", "up_proj", "gate_up_proj"}:
        if "gate_up_proj" in existing:
            leaves.append("gate_up_proj")
        else:
            leaves += [name for name in ("gate_proj", "up_proj") if wanted & {name, "gate_up_proj"}]
    if "down_proj" in wanted:
        leaves.append("down_proj")
    return tuple(existing[name] for name in leaves if name in existing)


def _restored(model: ModelSpec, before: Targets, after: Targets) -> Targets:
    """Linear layers whose names the rewrite took out of target_modules, put back."""
    if after == before:
        return after
    lost = [name for name in before.modules if name not in after.modules]
    parameters = Matcher(after.parameters)
    back = [
        name
        for name in lost
        if any(
            layer.kind in (*LINEAR_KINDS, "lm_head")
            and hit_blocks(layer.path, layer.blocks, name) is not None
            and not parameters.hits_path(f"{layer.path}.weight")
            for layer in model.layers
        )
    ]
    return replace(after, modules=(*after.modules, *back))
