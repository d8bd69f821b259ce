"""Sentences on an adapter that someone should read before trusting its numbers.

PEFT is silent when a name hits nothing, or less than one would think. These notes are not. A caution says that
something is not trained, or trained otherwise, than the settings say.
"""

from collections.abc import Iterable, Iterator

from rankviz.core.lora.config import FLAGS, PEFT_VERSION, UNSLOTH_VERSION
from rankviz.core.lora.experts import expert_parameters, not_rewritten
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.saved import hits
from rankviz.core.lora.targets import ALL_LINEAR, FUSED_QKV, LINEAR_KINDS, Matcher, Route, listed, names_that_exist
from rankviz.core.model.spec import WHOLE
from rankviz.core.model.towers import offers_text_only
from rankviz.core.quantity import Caution

Names = tuple[str, ...] | str
OTHER_FLAG = {"attention": "finetune_mlp_modules", "mlp": "finetune_attention_modules"}
"""The flag to turn off to keep a preset to itself."""
FUSED_INTO = {"qkv": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
EXPERT_ALIASES = {"gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "w2", "gate"}
"""Names of transformers 4 that reach the experts' fused parameters."""


def notes(plan: AdapterPlan, *, preset: Names, requested: Names, moved: tuple[str, ...]) -> tuple[str, ...]:
    """All notes on a plan, those on flags aside, the most consequential first.

    preset: the target modules as given; requested: the names that they stand for. moved: those that Unsloth trains in
    full instead.
    """
    return (
        *_experts(plan, requested),
        *_missed(plan, requested),
        *_fused(preset, requested),
        *_unsloth_layers(plan, requested),
        *_strays(plan, preset),
        *_fewer_blocks(plan),
        *_tower(plan),
        *_embeddings(plan, moved),
    )


def flag_notes(preset: Names, requested: Names, ignored: tuple[str, ...], route: Route) -> tuple[str, ...]:
    """Notes on Unsloth's flags. ignored: those that do nothing here."""
    sentences = []
    if ignored:
        program = "Unsloth's CPU backend" if route.kind == "cpu" else route.framework.upper()
        sentences.append(f"{listed(ignored)}: these settings are Unsloth's on a GPU; {program} ignores {_it(ignored)}.")
    if preset == ALL_LINEAR and requested != ALL_LINEAR:
        sentences.append(
            f"Unsloth {UNSLOTH_VERSION} ignores its flags beside the word all-linear, so RankViz and its exports name "
            f"the layers instead: {listed(requested)}."
        )
    return tuple(sentences)


def _experts(plan: AdapterPlan, requested: Names) -> Iterator[str]:
    """Notes on whether and how experts carry LoRA, and under which versions."""
    model, scheme, route, given = plan.model, plan.scheme, plan.route, plan.expert_rank
    experts = [a for a in plan.adapted if a.is_expert]
    if scheme == "dense":
        if model.peft_remap and not route.unsloth_on_gpu:
            yield (
                f"PEFT {PEFT_VERSION} rewrites targets that name expert projections in {model.model_type} models. This "
                "one has no experts, so its dense layers with these names carry no LoRA."
            )
        return
    names = listed(name.rsplit(".", 1)[-1] for name in expert_parameters(model))
    if not experts:
        why = "these targets name none of them"
        if scheme == "linear-only":
            why = f"PEFT {PEFT_VERSION} reaches them only through target_parameters"
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
    divisors = {"r/active": model.num_experts_per_tok, "r/all": model.num_experts}
    rank = f"r / {divisors[given]}" if given in divisors else str(given)
    if any(a.rank_factor > a.layer.num_experts for a in experts):
        yield Caution(
            f"MoE scheme peft-remap: PEFT {PEFT_VERSION} on transformers 5 silently rewrites these targets. Each "
            f"expert's {reach} carry LoRA, gate_up_proj at rank {'2r' if rank == 'r' else f'2 · {rank}'}"
            + (", and so does the router" if any(a.layer.kind == "router" for a in plan.adapted) else "")
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
        left = _left_to_experts(plan, requested) if scheme == "unsloth" else ()
        if left:
            yield (
                f"{listed(left)} carry no LoRA outside the experts: PEFT {PEFT_VERSION} takes these names for those of "
                "experts and would train the experts at rank 2r, so RankViz and its exports leave the names out."
            )
    if given != "r":
        least = ", at least 1," if rank.startswith("r") else ""
        yield (
            f"expert_rank {given}: the experts have rank {rank}{least} and the alpha / r of the other layers, by "
            "PEFT's rank_pattern and alpha_pattern. PEFT's docs leave alpha: alpha / r of experts then differs."
            + ("" if experts[0].split else f" PEFT {PEFT_VERSION} warns that it ignores these patterns, and uses them.")
        )


def idle_expert_rank(plan: AdapterPlan, given: int | str) -> tuple[str, ...]:
    """That the expert rank given does nothing, where it does not."""
    if given == "r" or any(a.is_expert for a in plan.adapted):
        return ()
    why = "this model has no experts" if plan.scheme == "dense" else "these experts carry no LoRA"
    return (Caution(f"expert_rank has no effect here: {why}."),)


def _left_to_experts(plan: AdapterPlan, requested: Names) -> Iterable[str]:
    """Names of linear layers that PEFT takes for those of experts."""
    model = plan.model
    names, reached = not_rewritten(model, requested), {a.layer.path for a in plan.adapted}
    if names == requested or not model.peft_remap:
        return ()
    wanted = Matcher(requested if requested != ALL_LINEAR else [layer.name for layer in model.layers])
    linear = [layer for layer in model.layers if layer.kind in LINEAR_KINDS and layer.path not in reached]
    return dict.fromkeys(layer.name for layer in linear if layer.name not in names and wanted.hits_path(layer.path))


def experts_at(plan: AdapterPlan, r: int) -> str:
    """Describe how experts carry LoRA at one rank, for display beside a count; empty for a model without experts."""
    if plan.scheme == "dense":
        return ""
    experts = [a for a in plan.adapted if a.is_expert]
    if not experts:
        return "no LoRA on the experts"
    rank = plan.expert_rank_at(r)
    words = f"LoRA per expert at rank {rank}"
    if any(a.rank_factor > a.layer.num_experts for a in experts):
        return f"{words}, gate_up_proj at {2 * rank} (PEFT's remap)"
    if experts[0].split:
        return f"{words}, in linear layers"
    return words + (", gate and up fused" if any(a.layer.name == "gate_up_proj" for a in experts) else "")


def _missed(plan: AdapterPlan, requested: Names) -> Iterator[str]:
    """Names that hit nothing, with what the model has instead."""
    if requested == ALL_LINEAR:
        return
    adapted, exist = plan.adapted, names_that_exist(plan.model)
    hit = {a.layer.name for a in adapted} | {module.name for module in plan.saved}
    if any(a.is_expert for a in adapted):
        hit |= EXPERT_ALIASES
    paths = [path for a in adapted for path in (a.layer.path, a.layer.path.rpartition(".")[0])]
    missed = [
        name
        for name in requested
        if name.rsplit(".", 1)[-1] not in hit and not any(Matcher((name,)).hits_path(path) for path in paths)
    ]
    left = [name for name in missed if name.rsplit(".", 1)[-1] in exist] if plan.route.scoped else []
    if left:
        yield Caution(
            f"Unsloth {UNSLOTH_VERSION} leaves out {listed(left)}: its {plan.route.unsloth_class} trains linear layers "
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
    hold = "hold" if len(fused) > 1 else "holds"
    hint = f" {listed(fused)} {hold} them fused: name {_it(fused)} to train them." if fused else ""
    match = "match" if len(missed) > 1 else "matches"
    yield Caution(f"{listed(missed)} {match} nothing in this model, which has {', '.join(exist)}.{hint}")


def _fused(preset: Names, requested: Names) -> Iterator[str]:
    """Names that the preset "qv" stands for where there are no q_proj and v_proj."""
    if preset != "qv" or requested == ("q_proj", "v_proj"):
        return
    if len(requested) == 1:
        yield f"qv is {requested[0]} here: {requested[0]} holds queries, keys and values in one projection."
    else:
        yield f"qv is {listed(requested)} here: queries, keys and values pass through low-rank pairs (MLA)."


def _unsloth_layers(plan: AdapterPlan, requested: Names) -> Iterator[str]:
    """Layers that a name or "all-linear" means to PEFT, and Unsloth's pattern passes by."""
    route = plan.route
    if route.kind != "model" or plan.scheme == "peft-remap":
        return
    reached = {(a.layer.path, a.blocks) for a in plan.adapted}
    linear = [
        each for each in plan.model.layers if each.kind in LINEAR_KINDS and (each.path, each.blocks) not in reached
    ]
    if requested == ALL_LINEAR:
        if linear:
            left = listed(dict.fromkeys(layer.name for layer in linear))
            yield (
                f"Unsloth {UNSLOTH_VERSION}'s all-linear is a pattern of its own: it leaves out {left}, which "
                "PEFT's takes."
            )
    elif route.scoped:
        names, hit = Matcher(requested), set(plan.target_names)
        part = [layer for layer in linear if layer.name in hit and names.hits_path(layer.path)]
        if part:
            off = listed(flag for flag, on in zip(FLAGS, route.flags, strict=True) if not on)
            yield (
                f"Unsloth {UNSLOTH_VERSION} takes these names in some places only ({off} off): "
                f"{sum(layer.count for layer in part)} more modules that PEFT would adapt stay out, such as "
                f"{part[0].path.replace('{}', 'N')}."
            )


def _strays(plan: AdapterPlan, preset: Names) -> Iterator[str]:
    """Layers of another part that a preset reaches, since Unsloth's pattern takes last names only."""
    if not plan.route.scoped or preset not in OTHER_FLAG:
        return
    strays = [each for each in plan.layers if each.kind in LINEAR_KINDS and each.part not in (preset, "vision")]
    if strays:
        paths = listed(dict.fromkeys(".".join(layer.path.split(".")[-2:]) for layer in strays))
        yield (
            f"Preset {preset} also reaches {paths}, since Unsloth {UNSLOTH_VERSION} takes last names only. "
            f"Turn {OTHER_FLAG[preset]} off to leave out what it does not mean."
        )


def _fewer_blocks(plan: AdapterPlan) -> Iterator[str]:
    """Modules that not every block has."""
    every, blocks = plan.model.num_hidden_layers, {}
    for a in plan.adapted:
        if a.layer.part in ("attention", "mlp") and a.layer.kind in LINEAR_KINDS and a.blocks:
            blocks.setdefault(a.layer.name, set()).update(a.blocks)
    by_count: dict[int, list[str]] = {}
    for name, present in blocks.items():
        if len(present) < every:
            by_count.setdefault(len(present), []).append(name)
    for count, names in by_count.items():
        yield f"{listed(names)} {'exist' if len(names) > 1 else 'exists'} in {count} of {every} blocks."


def _tower(plan: AdapterPlan) -> Iterator[str]:
    model = plan.model
    if model.tower == "text tower":
        yield f"Text tower only. The whole model, other towers included, is {model.id.removesuffix(WHOLE)}{WHOLE}."
    elif model.is_whole:
        vision = sum(a.count for a in plan.adapted if a.layer.part == "vision")
        if vision:
            total = sum(a.count for a in plan.adapted)
            yield f"Whole model: {vision} of {total} targeted modules are outside the text tower."
        else:
            yield "The whole model is loaded. The adapter is in its text tower only."
        if model.tower == "whole for text" and plan.route.unsloth_on_gpu and offers_text_only(model):
            yield "Unsloth loads the other towers too. With text_only it loads the text model alone."


def _embeddings(plan: AdapterPlan, moved: tuple[str, ...]) -> Iterator[str]:
    model, saved = plan.model, plan.saved
    if moved:
        yield f"Unsloth trains {listed(moved)} in full (modules_to_save) instead of by LoRA."
    ends = tuple(filter(None, (model.input_embedding, model.output_embedding)))
    for name in plan.modules_to_save:
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
        elif not plan.route.unsloth_on_gpu or len(trained) == 1:
            yield Caution(
                "Embedding and head are tied in the base: what is trained in full is a copy, and the tie is lost."
            )


def _it(names: Iterable[str]) -> str:
    return "them" if len(list(names)) > 1 else "it"
