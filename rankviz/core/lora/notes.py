"""Writes the notes on an adapter that a user should read before relying on its numbers.

A caution is a note on a module that is not trained, or is trained in another way than the settings say.
"""

from collections.abc import Iterator

from rankviz.core.lora.config import PEFT_VERSION, UNSLOTH_VERSION, LoraConfig
from rankviz.core.lora.experts import expert_parameters
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.saved import hits
from rankviz.core.lora.targets import ALL_LINEAR, FUSED_QKV, LINEAR_KINDS, Matcher, listed, names_that_exist
from rankviz.core.model.spec import WHOLE
from rankviz.core.model.towers import offers_text_only
from rankviz.core.quantity import Caution

Names = tuple[str, ...] | str
FUSED_INTO = {**dict.fromkeys(FUSED_QKV, ("q_proj", "k_proj", "v_proj")), "gate_up_proj": ("gate_proj", "up_proj")}
EXPERT_ALIASES = {"gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "w2", "gate"}
"""Module names of transformers 4 that select the experts' fused parameters."""


def notes(
    plan: AdapterPlan, lora: LoraConfig, *, requested: Names, moved: tuple[str, ...], ignored: tuple[str, ...]
) -> Iterator[str]:
    """Yield the notes on a plan, the most important first. requested: Module names of the preset in `lora`. moved:
    Modules that Unsloth trains in full instead of by LoRA. ignored: Unsloth's flags without effect here."""
    preset, route = lora.target_modules, plan.route
    if ignored:
        program = "Unsloth's CPU backend" if route.kind == "cpu" else route.framework.upper()
        yield f"{listed(ignored)}: these settings are Unsloth's on a GPU; {program} ignores them."
    if preset == ALL_LINEAR and requested != ALL_LINEAR:
        yield f"Unsloth {UNSLOTH_VERSION} ignores flags beside all-linear, so layers are named: {listed(requested)}."
    if lora.expert_rank != "r" and not plan.trains_experts:
        why = "this model has no experts" if plan.scheme == "dense" else "these experts carry no LoRA"
        yield Caution(f"expert_rank has no effect here: {why}.")
    yield from _experts(plan)
    yield from _missed(plan, requested)
    if preset == "qv" and requested != ("q_proj", "v_proj"):
        yield f"qv is {listed(requested)} here: this model has no q_proj and v_proj of its own."
    reached = {(a.layer.path, a.blocks) for a in plan.adapted}
    if route.kind == "model" and plan.scheme != "peft-remap" and requested == ALL_LINEAR:
        linear = (layer for layer in plan.model.layers if layer.kind in LINEAR_KINDS)
        left = dict.fromkeys(layer.name for layer in linear if (layer.path, layer.blocks) not in reached)
        if left:
            yield f"Unsloth {UNSLOTH_VERSION}'s all-linear leaves out {listed(left)}, which PEFT's takes."
    yield from _tower(plan)
    yield from _embeddings(plan, moved)


def _experts(plan: AdapterPlan) -> Iterator[str]:
    """Yield notes on whether experts carry LoRA, how, and with which library versions."""
    model, scheme, route, given = plan.model, plan.scheme, plan.route, plan.expert_rank
    experts = [a for a in plan.adapted if a.is_expert]
    if scheme == "dense":
        if model.peft_remap and not route.unsloth_on_gpu:
            yield f"PEFT {PEFT_VERSION} takes names of expert projections for experts': they carry no LoRA here."
        return
    if not experts:
        names = listed(name.rpartition(".")[2] for name in expert_parameters(model))
        why = "these targets name none of them"
        if scheme == "linear-only":
            why = f"PEFT {PEFT_VERSION} reaches them only through target_parameters"
        yield Caution(f"No adapter on the experts: {names} are fused, and {why}. Attention and dense layers only.")
        return
    reach = listed(dict.fromkeys(a.layer.name for a in experts))
    divisor = {"r/active": model.num_experts_per_tok, "r/all": model.num_experts}.get(given)
    rank = f"r / {divisor}" if divisor else str(given)
    program = f"Unsloth {UNSLOTH_VERSION}" if route.unsloth_on_gpu else f"PEFT {PEFT_VERSION}"
    if any(a.rank_factor > a.layer.num_experts for a in experts):
        yield Caution(
            f"MoE scheme peft-remap: {program} on transformers 5 silently rewrites these targets. Each expert's "
            f"{reach} carry LoRA, gate_up_proj at rank {'2r' if rank == 'r' else f'2 · {rank}'}; shared experts and "
            "dense first layers lose theirs."
        )
    else:
        how = "in linear layers of their own, as its 4-bit checkpoint has" if experts[0].split else "as parameters"
        yield f"MoE scheme {scheme}: {program} trains each expert's {reach} at rank {rank} an expert, {how}."


def experts_at(plan: AdapterPlan, r: int) -> str:
    """Describe how experts carry LoRA at one rank, as text beside a count; empty for a model without experts."""
    if not plan.trains_experts:
        return "" if plan.scheme == "dense" else "no LoRA on the experts"
    experts = [a for a in plan.adapted if a.is_expert]
    rank, fused = plan.expert_rank_at(r), any(a.layer.name == "gate_up_proj" for a in experts)
    how = ", in linear layers" if experts[0].split else ", gate and up fused" if fused else ""
    if any(a.rank_factor > a.layer.num_experts for a in experts):
        how = f", gate_up_proj at {2 * rank} (PEFT's remap)"
    return f"LoRA per expert at rank {rank}{how}"


def _missed(plan: AdapterPlan, requested: Names) -> Iterator[str]:
    """Yield cautions on target names that match no module, with the names that the model has instead."""
    if requested == ALL_LINEAR:
        return
    adapted, exist = plan.adapted, names_that_exist(plan.model)
    hit = {a.layer.name for a in adapted} | {module.name for module in plan.saved}
    if any(a.is_expert for a in adapted):
        hit |= EXPERT_ALIASES
    paths = [path for a in adapted for path in (a.layer.path, a.layer.path.rpartition(".")[0])]
    unhit = (name for name in requested if name.rpartition(".")[2] not in hit)
    missed = [name for name in unhit if not any(Matcher((name,)).hits_path(path) for path in paths)]
    left = [name for name in missed if name.rpartition(".")[2] in exist] if plan.route.scoped else []
    if left:
        yield Caution(
            f"Unsloth {UNSLOTH_VERSION} leaves out {listed(left)}: its {plan.route.unsloth_class} trains linear layers "
            "inside attention and MLP modules that its flags turn on."
        )
        missed = [name for name in missed if name not in left]
    if missed:
        fused = [name for name in exist if set(missed).intersection(FUSED_INTO.get(name, ()))]
        hint = f" Name {listed(fused)} instead, which holds them fused." if fused else ""
        match = "match" if len(missed) > 1 else "matches"
        yield Caution(f"{listed(missed)} {match} nothing in this model, which has {', '.join(exist)}.{hint}")


def _tower(plan: AdapterPlan) -> Iterator[str]:
    model = plan.model
    if model.tower == "text tower":
        yield f"Text tower only. The whole model, other towers included, is {model.id.removesuffix(WHOLE)}{WHOLE}."
    elif model.is_whole:
        counts = [(a.count, a.layer.part) for a in plan.adapted]
        vision, total = sum(n for n, part in counts if part == "vision"), sum(n for n, _ in counts)
        yield f"The whole model is loaded: {vision or 'none'} of {total} targeted modules are outside its text tower."
        if model.tower == "whole for text" and plan.route.unsloth_on_gpu and offers_text_only(model):
            yield "Unsloth loads the other towers too. With text_only it loads the text model alone."


def _embeddings(plan: AdapterPlan, moved: tuple[str, ...]) -> Iterator[str]:
    model, saved = plan.model, plan.saved
    if moved:
        yield f"Unsloth trains {listed(moved)} in full (modules_to_save) instead of by LoRA."
    ends = tuple(filter(None, (model.input_embedding, model.output_embedding)))
    for name in plan.modules_to_save:
        if next(hits(model, (name,)), None) is None:
            yield f"modules_to_save names {name}, which has no parameters here. Embedding and head are {listed(ends)}."
    if frozen := [module.name for module in saved if module.frozen_copy]:
        yield f"PEFT saves the frozen weight of {listed(frozen)} with the adapter, since a target names an embedding."
    if idle := {m.name: 0 for m in saved if not (m.trained or m.frozen_copy or m.path in ends)}:
        yield Caution(f"Unsloth {UNSLOTH_VERSION} saves {listed(idle)} in full, without training.")
    trained = [module for module in saved if not module.frozen_copy and module.path in ends]
    if model.tie_word_embeddings and trained:
        if len(trained) == 2 and not all(module.trained for module in trained):
            yield "Embedding and head are tied: Unsloth trains one set of weights and saves it twice."
        elif not plan.route.unsloth_on_gpu or len(trained) == 1:
            yield Caution("Embedding and head are tied in the base: a copy is trained in full, and the tie is lost.")
