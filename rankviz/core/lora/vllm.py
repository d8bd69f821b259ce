"""vLLM's slots for an adapter, and what it refuses in one, by the rules of assets/serving.json."""

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from rankviz.core.lora.plan import Adapted, AdapterPlan
from rankviz.core.lora.targets import LINEAR_KINDS, listed
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range

MERGE = "Merge it into the base and serve the merged model."
Facts = Mapping[str, Any]
Refused = TypedDict("Refused", dict.fromkeys(("feature", "why", "instead"), str))
Refused.__doc__ = "What a server refuses in an adapter, why, and what to do instead."


def ranks_of(plan: AdapterPlan, r: int) -> Iterator[tuple[Adapted, int]]:
    """Yield each adapted layer with the rank of its pair, of one expert for experts, as PEFT's rank_pattern has it."""
    for each in plan.adapted:
        factor = each.rank_factor // each.layer.num_experts if each.is_expert else 1
        yield each, factor * (plan.expert_rank_at(r) if each.is_expert else r)


def slot_numbers(model: ModelSpec, facts: Facts, *, towers: bool = False) -> Range:
    """Return the numbers that one slot holds for each unit of max_lora_rank. Exact for an architecture that has a row
    in assets/serving.json. Else between the least, with experts' fused tensors, and the most, with embedding, head and
    routers and a share more (`unknown`) for slices that other architectures have. towers: True to add linear layers of
    other towers, from none (where vLLM has no LoRA on them) to all and that share more: these modules were not read."""
    plain, rule = facts["unknown"], facts["architectures"].get(model.architecture)
    beside = (each for each in model.layers if towers and each.part == "vision" and each.kind in LINEAR_KINDS)
    more = sum(each.count * (each.in_features + each.out_features) for each in beside)
    tower = Range(0, more, plain["most"] * more)
    if rule:
        return tower.plus(Range(*[numbers_per_rank(model, rule)] * 3))
    low, high = ({"fused_experts": True}, {"wraps": [layer.name for layer in model.layers]})
    ends = [numbers_per_rank(model, {**plain, **change}) for change in (low, {}, high)]
    return tower.plus(Range(ends[0], ends[1], plain["most"] * ends[2]))


def numbers_per_rank(model: ModelSpec, rule: Facts) -> int:
    """Return the numbers that one slot holds for each unit of max_lora_rank: in + out of every linear layer of the
    language model, also of those that the adapter leaves out (lora/model_manager.py, _create_lora_modules).

    rule: `wraps` names the embedding, head and routers that vLLM wraps too. A layer holds an A for each slice of vLLM's
    fused layer (lora/layers/column_parallel_linear.py): several in a row of `slices`, and two for the experts'
    gate_up_proj, unless `fused_experts` (lora/layers/fused_moe.py). `convolutions` are depthwise ones that vLLM has as
    linear layers, from kernel to channels. tests/core/test_serving.py compares with vLLM's own modules.
    """
    total = 0
    for layer in model.layers:
        into, out = layer.in_features, layer.out_features
        if layer.part == "vision":
            continue
        if layer.kind == "experts":
            second = model.hidden_size if layer.name == "gate_up_proj" and not rule["fused_experts"] else 0
            total += layer.count * layer.num_experts * (into + out + second)
        elif layer.kind in LINEAR_KINDS or layer.name in rule["wraps"]:
            total += layer.count * (rule["slices"].get(layer.name, 1) * into + out)
    for module in model.plain_modules:
        name = module.path.rpartition(".")[2]
        if name in rule["convolutions"]:
            channels, _, kernel = module.tensors[0].shape
            total += len(module.blocks) * (channels + rule["slices"].get(name, 1) * kernel)
    keys, values = ([each for each in model.layers if each.name == f"{kind}_proj"] for kind in "kv")
    taken = {block for layer in values if layer.part != "vision" for block in layer.blocks}
    for layer in keys if taken else ():  # Gemma 4's global blocks take k for v; vLLM's qkv_proj has both
        alone = sum(block not in taken for block in layer.blocks) if layer.part != "vision" else 0
        total += alone * (layer.in_features + layer.out_features)
    return total


def loading(plan: AdapterPlan, r: int, facts: Facts) -> tuple[int | None, list[Refused]]:
    """Return the max_lora_rank to set, None where the adapter must be merged or resized, and what vLLM refuses in it
    (lora/peft_helper.py, lora/lora_model.py, lora/layers/logits_processor.py), each with what to do."""
    model, vllm = plan.model, facts["vllm"]
    rule = facts["architectures"].get(model.architecture, facts["unknown"])
    highest, most = max(rank for _, rank in ranks_of(plan, r)), vllm["ranks"][-1]
    found: list[tuple[str, str, str]] = []
    if not rule["lora"]:
        found.append((model.architecture, "vLLM has no LoRA for this architecture", MERGE))
    if highest > most:
        found.append((f"rank {highest}", f"the largest slot has rank {most}", f"Resize it to r = {most}, or merge it."))
    if plan.use_dora:
        found.append(("DoRA", "vLLM has no magnitude vectors", MERGE))
    full = {module.name for module in plan.saved if not module.frozen_copy} - set(vllm["saved"])
    if full:
        why = f"vLLM loads whole modules named {listed(vllm['saved'])} only, and not {listed(sorted(full))}"
        found.append(("modules_to_save", why, MERGE))
    text = [each for each in plan.adapted if each.layer.part != "vision"]
    extra = {each.layer.name for each in text if each.layer.kind not in (*LINEAR_KINDS, "experts")} - {*rule["wraps"]}
    odd = sorted(extra | {each.layer.name for each in text} & {*rule["refuses"]})
    experts = [each for each in text if each.is_expert]
    if model.architecture not in facts["architectures"]:
        odd, experts = [], []  # not known
    if odd:
        found.append((listed(odd), "vLLM has no LoRA on it in this architecture", MERGE))
    if any(each.layer.kind == "lm_head" for each in text) and model.vocab_size > vllm["largest_vocabulary"]:
        why = f"LoRA on a head ends at {vllm['largest_vocabulary']:,} tokens, and this has {model.vocab_size:,}"
        found.append(("lm_head", why, MERGE))
    if any(each.split for each in experts):
        found.append(("experts", "vLLM knows their linear layers by other names", MERGE))
    elif experts and not rule["fused_experts"]:
        found.append(("experts", vllm["fused_experts"]["why"], vllm["fused_experts"]["instead"]))
    elif len({each.layer.name for each in experts}) == 1:
        found.append(("experts", "vLLM loads LoRA on both of the experts' tensors or on none", MERGE))
    merged = any(instead != vllm["fused_experts"]["instead"] for _, _, instead in found)
    slot_rank = None if merged else next(rank for rank in vllm["ranks"] if rank >= highest)
    return slot_rank, [Refused(feature=feature, why=why, instead=instead) for feature, why, instead in found]
