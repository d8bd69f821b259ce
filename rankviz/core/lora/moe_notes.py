"""Notes on the experts of a mixture-of-experts model: whether they carry LoRA, by which way, and at which rank."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.lora.moe import expert_parameters, not_rewritten
from rankviz.core.lora.route import Route
from rankviz.core.lora.targets import ALL_LINEAR, LINEAR_KINDS, Matcher, listed
from rankviz.core.model.spec import ModelSpec
from rankviz.core.note import Caution

if TYPE_CHECKING:
    from rankviz.core.lora.plan import Adapted, AdapterPlan


def moe_notes(
    model: ModelSpec,
    requested: tuple[str, ...] | str,
    adapted: Sequence["Adapted"],
    scheme: str,
    expert_rank: int | str,
    route: Route,
) -> Iterator[str]:
    """All that apply. scheme: one of core.lora.moe; "dense" of a model without experts."""
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
    """How experts carry LoRA at one rank, to stand beside a count; empty for a model without experts."""
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
