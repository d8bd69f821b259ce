"""How fused experts get an adapter, or don't: the schemes, what each makes of targets, and notes on them."""

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rankviz.core.lora import targets as pattern
from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, MoeScheme
from rankviz.core.lora.targets import (
    ALL_LINEAR,
    ALL_ON,
    LINEAR_KINDS,
    Matcher,
    PatternMatcher,
    Route,
    hit_blocks,
    listed,
)
from rankviz.core.model.spec import LinearLayer, ModelSpec
from rankviz.core.quantity import Caution
from rankviz.errors import InvalidSettingError

if TYPE_CHECKING:
    from rankviz.core.lora.plan import Adapted, AdapterPlan


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
        """Matcher of the names; "all-linear" without a pattern has none."""
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


def moe_notes(
    model: ModelSpec,
    requested: tuple[str, ...] | str,
    adapted: Sequence["Adapted"],
    scheme: str,
    expert_rank: int | str,
    route: Route,
) -> Iterator[str]:
    """All that apply. scheme: one of this module's; "dense" of a model without experts."""
    experts = [a for a in adapted if a.layer.kind == "experts"]
    if expert_rank != "r" and not experts:
        why = "this model has no experts" if scheme == "dense" else "these experts carry no LoRA"
        yield Caution(f"expert_rank has no effect here: {why}.")
    if scheme == "dense":
        if model.peft_remap and not route.unsloth_on_gpu:
            yield (
                f"PEFT {PEFT_VERSION} rewrites targets that name expert projections in {model.model_type} models. This "
                "one has no experts, so its dense layers with these names carry no LoRA."
            )
        return
    names = listed(name.rsplit(".", 1)[-1] for name in expert_parameters(model))
    factor = max((a.rank_factor // a.layer.num_experts for a in experts), default=1)
    if not experts:
        why = {
            "linear-only": f"PEFT {PEFT_VERSION} reaches them only through target_parameters",
            "peft-remap": "these targets name none of them",
            "unsloth": "these targets name none of them",
        }[scheme if scheme in ("linear-only", "peft-remap") else "unsloth"]
        yield Caution(
            f"No adapter on the experts: {names} are fused parameters, and {why}. Attention and dense layers only."
        )
        if scheme == "linear-only" and model.peft_remap:
            yield (
                f"Plain PEFT {PEFT_VERSION} on transformers 5 rewrites targets that name expert projections of this "
                "family (scheme peft-remap): leaving the experts out takes targets that name none of them."
            )
        return
    reach = listed(dict.fromkeys(a.layer.name for a in experts))
    rank = _rank_words(model, expert_rank)
    if factor == 2:
        yield Caution(
            f"MoE scheme peft-remap: PEFT {PEFT_VERSION} on transformers 5 silently rewrites these targets. Each "
            f"expert's {reach} carry LoRA, gate_up_proj at rank {'2r' if rank == 'r' else f'2 · {rank}'}"
            + (", and so does the router" if any(a.layer.kind == "router" for a in adapted) else "")
            + ("" if route.unsloth_on_gpu else "; shared experts and dense first layers lose theirs")
            + "."
        )
    elif experts[0].split:
        yield (
            f"MoE scheme unsloth: in 4 bit Unsloth {UNSLOTH_VERSION} loads a checkpoint in which each expert's {reach} "
            f"is a linear layer of its own, at rank {rank}. Counts are those of 16 bit; the file has one pair an "
            "expert."
        )
    elif scheme == "unsloth" and route.unsloth_on_gpu:
        yield (
            f"MoE scheme unsloth: Unsloth {UNSLOTH_VERSION} names the experts' {reach} in target_parameters, at rank "
            f"{rank} an expert, and keeps PEFT {PEFT_VERSION} from rewriting the targets."
        )
    else:
        yield (
            f"MoE scheme {scheme}: the experts' {reach} carry LoRA at rank {rank} an expert, through target_parameters "
            f"(PEFT {PEFT_VERSION})."
        )
        left = _left_to_experts(model, adapted, requested) if scheme == "unsloth" else ()
        if left:
            yield (
                f"{listed(left)} carry no LoRA outside the experts: PEFT {PEFT_VERSION} takes these names for those of "
                "experts and would train the experts at rank 2r, so RankViz and its exports leave the names out."
            )
    if expert_rank != "r":
        least = ", at least 1," if rank.startswith("r") else ""
        yield (
            f"expert_rank {expert_rank}: the experts have rank {rank}{least} and the alpha / r of the other layers, by "
            "PEFT's rank_pattern and alpha_pattern. PEFT's docs leave alpha: alpha / r of experts then differs."
            + ("" if experts[0].split else f" PEFT {PEFT_VERSION} warns that it ignores these patterns, and uses them.")
        )


def experts_at(plan: "AdapterPlan", r: int) -> str:
    """Describe how experts carry LoRA at one rank, for display beside a count; empty for a model without experts."""
    if plan.scheme == "dense":
        return ""
    experts = [a for a in plan.adapted if a.layer.kind == "experts"]
    if not experts:
        return "no LoRA on the experts"
    rank = plan.expert_rank_at(r)
    words = f"LoRA per expert at rank {rank}"
    if any(a.rank_factor > a.layer.num_experts for a in experts):
        return f"{words}, gate_up_proj at {2 * rank} (PEFT's remap)"
    if experts[0].split:
        return f"{words}, in linear layers"
    return words + (", gate and up fused" if any(a.layer.name == "gate_up_proj" for a in experts) else "")


def _rank_words(model: ModelSpec, expert_rank: int | str) -> str:
    """ "r", "r / 8" or "4"."""
    divisors = {"r/active": model.num_experts_per_tok, "r/all": model.num_experts}
    return f"r / {divisors[expert_rank]}" if expert_rank in divisors else str(expert_rank)


def _left_to_experts(model, adapted, requested):
    """Names of linear layers that PEFT takes for those of experts."""
    names, reached = not_rewritten(model, requested), {a.layer.path for a in adapted}
    if names == requested or not model.peft_remap:
        return ()
    wanted = Matcher(requested if requested != ALL_LINEAR else [layer.name for layer in model.layers])
    linear = [layer for layer in model.layers if layer.kind in LINEAR_KINDS and layer.path not in reached]
    return dict.fromkeys(layer.name for layer in linear if layer.name not in names and wanted.hits_path(layer.path))


MAPS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "q_a_proj", "kv_a_proj_with_mqa"), 1),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj", "in_proj_z", "out_proj"), 1),
    "in_proj_qkv": 3,
    **dict.fromkeys(("q_b_proj", "kv_b_proj", "in_proj_a", "in_proj_b", "shared_expert_gate"), 0),
}
"""How many pairs Tinker counts on a linear layer, by its name: q, k and v apart, no second MLA map, no gates."""
MAMBA_MAPS = 2
"""Of a Mamba mixer's in_proj: its two wide outputs, each as wide as what out_proj reads."""
MOST = 65_536
"""Ranks that are looked through."""


def shared_outer_per_rank(model: ModelSpec) -> int | None:
    """Tinker's trainable parameters per unit of r, on attention, MLP and unembedding; None where a layer is not known.

    Per layer of E experts, hidden size H and inner size I: 3H + 3·E·I, without a gate 2H + 2·E·I; routers are never
    counted. From shapes what get_lora_param_count stores (tinker_cookbook/hyperparam_utils.py), compared with it in
    tests/core/lora/test_lora.py.
    """
    inner = {layer.path.rsplit(".", 1)[0]: layer.in_features for layer in model.layers if layer.name == "out_proj"}
    total = model.vocab_size + model.hidden_size
    for layer in model.layers:
        if layer.kind in ("embedding", "lm_head", "router") or layer.part == "vision":
            continue
        if layer.kind == "experts":
            total += layer.count * _experts(layer, model.hidden_size)
        elif layer.name == "in_proj":
            total += layer.count * MAMBA_MAPS * (layer.in_features + inner[layer.path.rsplit(".", 1)[0]])
        elif layer.name in MAPS:
            maps = MAPS[layer.name]
            total += layer.count * (maps * layer.in_features + min(maps, 1) * layer.out_features)
        else:
            return None
    return total


def rank_of_size(parameters: Callable[[int], int], target: float) -> float:
    """The rank, seldom whole, at which an adapter has this many parameters, between those of its whole ranks.

    Args:
        parameters: Of the adapter at a rank from 1.
        target: Tinker's r = 32 on Qwen3-30B-A3B is r = 12.3 of Unsloth's adapter.
    """
    high = bisect_left(range(MOST), target, lo=1, key=parameters)
    if high == 1:
        return target / parameters(1)
    low = parameters(high - 1)
    return high - 1 + (target - low) / (parameters(high) - low)


def _experts(layer: LinearLayer, hidden: int) -> int:
    """gate_up_proj is two maps, whose inner sizes lie side by side."""
    maps = 2 if layer.name == "gate_up_proj" else 1
    return maps * hidden + layer.num_experts * (layer.in_features + layer.out_features - hidden)
