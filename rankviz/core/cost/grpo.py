"""Estimates GRPO: the program that generates completions, beside the trainer's step, and the time of both.

The trainer's step is that of core.cost.memory, with the loss of core.cost.blocks for log-probabilities of completions.
Sources, read and not measured: TRL 1.15 (trainer/grpo_trainer.py, generation/vllm_generation.py) and unsloth_zoo
2026.10.9 (vllm_utils.py, rl_replacements.py). A new adapter needs no reference model: it is switched off for that pass.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypedDict

from rankviz.core.cost.duration import DurationEstimate, peak_flops_per_second
from rankviz.core.cost.memory import MemoryEstimate
from rankviz.core.cost.predict import Prediction
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.shapes import cache_bytes, head_dim, key_heads, why_too_long
from rankviz.core.from_json import shape as shape_of
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.targets import listed
from rankviz.core.lora.vllm import Facts, loading, ranks_of, slot_numbers
from rankviz.core.quantity import Caution, Range
from rankviz.errors import InvalidSettingError
from rankviz.units import counted, memory_size

OWN_UTILIZATION = {"trl": 0.3, "unsloth": 0.5}
"""Share of the GPU that vLLM takes by default: TRL's vllm_gpu_memory_utilization (trainer/grpo_config.py), Unsloth's
gpu_memory_utilization (models/loader.py)."""
STANDBY_UTILIZATION = ((40, 0.925), (25, 0.9), (20, 0.825), (14, 0.8), (10, 0.775), (0, 0.75))
"""(least GiB of the card, share that vLLM takes) with Unsloth's standby, whatever is set; times STANDBY_FACTOR since
vLLM 0.11 (load_vllm, standby_target_gpu_util)."""
STANDBY_FACTOR = 0.95
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of max_lora_rank to which Unsloth rounds a rank up (determine_max_lora_rank)."""
MOST_EXPERT_RANK = 128
"""Largest rank of an adapter with experts that Unsloth hands to vLLM (_moe_expert_lora_refusal_reason)."""
FUSED_BY_UNSLOTH = ("Qwen3MoeForCausalLM", "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration")
"""Architectures in which Unsloth makes vLLM take experts' fused tensors (patch_vllm_stacked_moe_lora, and
empty_model.py)."""
GRAPHS, FEWEST_GRAPH_BYTES, MOST_GRAPH_BYTES = 172, 0.15 * 2**30, 2**30
"""CUDA graphs of vLLM as Unsloth counts them: 4 · H bytes for each block and graph, within these bounds
(approximate_vllm_memory_usage)."""
RolloutJSON = TypedDict(
    "RolloutJSON",
    {
        **dict.fromkeys(("trainer_bytes", "engine_bytes"), shape_of(Range)),
        **dict.fromkeys(("shared_bytes", "kv_cache_bytes", "completions_at_once"), int),
        "gpu_memory_utilization": float | None,
        **dict.fromkeys(("generation_seconds", "training_seconds"), shape_of(Range) | None),
    },
)
RolloutJSON.__doc__ = """Parts of a GRPO step: memory of the trainer alone and of the program that generates (vLLM, or
transformers' KV cache), of which the trainer shares `shared_bytes`; seconds of one step's generation and training."""


def kv_cache_bytes(predicted: Prediction, tokens: int) -> float:
    """Bytes of the keys and values of one completion in 16 bit: vLLM's, or those of transformers, which holds
    2 · 2 · K for each token and block with attention (in latent attention the full keys), at most the window's."""
    stack, model = predicted.stack, predicted.plan.model
    if stack.setup.grpo.vllm_mode != "none":
        return cache_bytes(model, Range(tokens, tokens, tokens), Range(1, 1, 1), stack.assume).expected
    window, kinds = model.sliding_window or tokens, [each for each in predicted.shape.kinds if each.attention_width]
    widths = ((each, 4.0 * each.count * key_heads(each, model) * head_dim(each, model)) for each in kinds)
    return sum(width * min(tokens, window if each.sliding else tokens) for each, width in widths)


def engine_at(predicted: Prediction, r: int, usable_bytes: float | None) -> dict[str, Any]:
    """Return the parts of the program that generates, in bytes: weights, of which `shared` are the trainer's own, LoRA
    buffers, CUDA graphs, KV cache, the least that it starts with, and the total as a range; also the share of the GPU
    and the number of completions at once. usable_bytes: Memory of the card; None gives vLLM what one step's completions
    need."""
    stack, model, shape = predicted.stack, predicted.plan.model, predicted.shape
    setup, grpo, own = stack.setup, stack.setup.grpo, stack.habits.unsloth_kernels
    one, rows = max(1.0, kv_cache_bytes(predicted, setup.max_length)), setup.rows_per_step
    parts: dict[str, Any] = dict.fromkeys(("weights", "shared", "graphs", "least"), 0.0) | {"lora": Range(0, 0, 0)}
    parts |= {"share": None, "at_once": rows, "cache": rows * one if grpo.vllm_mode == "none" else 0.0}
    if grpo.vllm_mode != "colocate":
        return {**parts, "total": stack.assume.range("generate-cache-slack").times(parts["cache"])}
    base = predicted.memory.base_weights
    weights = base if own or setup.quantized else 2 * model.total_parameters
    slot_rank = next((rank for rank in LORA_RANKS if rank >= r), r) if own else 0  # one slot
    lora = slot_numbers(model, unsloths(stack.assume.serving)).times(2 * slot_rank)
    graphs = min(max(4.0 * GRAPHS * model.hidden_size * shape.blocks, FEWEST_GRAPH_BYTES), MOST_GRAPH_BYTES)
    least = weights + lora.expected + one
    share, taken = grpo.vllm_gpu_memory_utilization or OWN_UTILIZATION[setup.framework], least + (rows - 1) * one
    if usable_bytes is not None:
        if own and grpo.vllm_enable_sleep_mode:
            share = STANDBY_FACTOR * next(part for gib, part in STANDBY_UTILIZATION if usable_bytes >= gib * 2**30)
        # TRL's engine gets a share of the card, Unsloth's of what is free before the model is loaded
        taken = share * (usable_bytes - (predicted.memory.context.expected if own else 0.0))
    held = taken if taken >= least else least + (rows - 1) * one
    cache = held - weights - lora.expected
    return {
        **{"weights": weights, "shared": weights if own else 0.0, "lora": lora, "graphs": graphs, "least": least},
        **{"share": share if usable_bytes is not None else None, "cache": cache, "too_small": taken < least},
        "at_once": max(1, min(rows, int(cache / one))),
        "total": Range(held, held, held + graphs),
    }


def with_rollout(
    predicted: Prediction, r: int, usable_bytes: float | None
) -> tuple[MemoryEstimate, DurationEstimate | None, dict[str, Any]]:
    """Return memory and time of GRPO at rank r, and the parts of both by the keys of RolloutJSON.

    Colocated vLLM stays beside the trainer. Asleep, it leaves the card to the trainer's step (but for graphs and LoRA
    buffers), and the larger of two moments counts: the step, or the awake engine beside weights and optimizer states.
    transformers' KV cache is freed before the step. A server's memory is on another GPU. The width of the trainer's
    range is that of GRPO's own measured rows.
    """
    memory, grpo, terms = predicted.memory_at(r), predicted.stack.setup.grpo, predicted.memory
    engine = engine_at(predicted, r, usable_bytes)
    waiting = float(memory.base_weights + memory.adapter + memory.optimizer)
    idle = Range(waiting, waiting, waiting).multiplied(terms.slack_static).plus(terms.context)
    working = max(0.0, memory.device_band.expected - idle.expected)
    step = idle.plus(predicted.stack.assume.range("grpo-working-share").times(working))
    shared = Range(*3 * (-engine["shared"],))
    beside = engine["total"].plus(shared)
    left, device = engine["lora"].plus(Range(0, 0, engine["graphs"])), step.plus(beside)
    if grpo.vllm_mode == "none" or grpo.vllm_enable_sleep_mode:
        device = step.plus(left).reached_by(idle.plus(beside))
    duration, generation, training = _seconds(predicted, r, engine["at_once"])
    parts = {"trainer_bytes": step, "engine_bytes": engine["total"], "completions_at_once": engine["at_once"]}
    parts |= {"shared_bytes": round(engine["shared"]), "kv_cache_bytes": round(engine["cache"])}
    parts |= {"generation_seconds": generation, "training_seconds": training, "gpu_memory_utilization": engine["share"]}
    return replace(memory, device_band=device), duration, parts


def _seconds(predicted: Prediction, r: int, at_once: int) -> tuple[DurationEstimate | None, Range | None, Range | None]:
    """Return the duration of GRPO, and seconds of one step's generation and training; None for a GPU of unknown speed.

    Generation makes max_completion_length tokens one after the other for `at_once` completions, in as many rounds as
    all need; the last has those that are left. A token takes the time to read the weights (4-bit ones are unpacked
    first) and the KV cache, at a share of the bandwidth, plus the products, plus the program's own time for a token.
    Training adds a forward pass for the reference, and one for the policy that generated where vLLM did so under TRL.
    Left out: rewards, the adapter's way to vLLM, and waking it.
    """
    stack, model, shape, duration = predicted.stack, predicted.plan.model, predicted.shape, predicted.duration_at(r)
    if duration is None:
        return None, None, None
    setup, grpo, assume, gpu = stack.setup, stack.setup.grpo, stack.assume, stack.gpu
    own, by_vllm, head = stack.habits.unsloth_kernels, grpo.vllm_mode != "none", model.vocab_size * model.hidden_size
    width = stack.compute_bytes
    if setup.quantized:
        width = 2 * stack.compute_bytes + assume.value(f"weight-bytes-{setup.precision}")
    text = sum(x.parameters for x in model.layers if x.kind not in ("embedding", "lm_head") and x.part != "vision")
    always = stack.compute_bytes * head + (0 if by_vllm and not own else 4 * r * shape.active_adapter_parameters)
    cache = kv_cache_bytes(predicted, grpo.max_prompt_length + grpo.max_completion_length // 2)
    peak = peak_flops_per_second(gpu, setup, fp32=stack.computes_fp32)
    rate = peak * assume.value(f"matmul-efficiency-{gpu.utilisation_group}")
    products = 2 * (shape.active_weights + head) / rate
    own_time = assume.range("vllm-token-seconds")
    if not by_vllm:  # a forward pass is a third of a micro-step's launches
        own_time = assume.range("floor-seconds-per-block").times(shape.blocks / 3)
    share, (full, rest) = assume.range("completion-share"), divmod(setup.rows_per_step, at_once)
    prompts = setup.rows_per_step * grpo.max_prompt_length * products
    generation = Range(prompts, prompts, 2 * prompts)
    for rounds, rows in ((full, at_once), (min(rest, 1), rest)):
        read = always + width * min(text, shape.active_weights * rows) + rows * cache
        token = Range(*3 * (read / gpu.bandwidth_bytes_per_second,)).over(assume.range("decode-bandwidth-share"))
        token = token.plus(own_time).plus(Range(*3 * (rows * products,)))
        generation = generation.plus(token.multiplied(share).times(rounds * grpo.max_completion_length))
    forwards = (grpo.beta > 0) + (by_vllm and not own)
    longer = grpo.max_completion_length / setup.max_length
    tokens = Range(*(1 - longer + longer * part for part in (share.low, share.expected, share.high)))
    training = duration.step.multiplied(tokens).times(1 + forwards / (3 if stack.checkpoints else 2))
    step = training.plus(generation)
    load = duration.load.plus(assume.range("vllm-start-seconds")) if grpo.vllm_mode == "colocate" else duration.load
    total = step.times(setup.total_steps)
    total = load.plus(total) if setup.has_length else total
    return replace(duration, step=step, load=load, total=total), generation, training


def grpo_notes(predicted: Prediction, r: int, usable_bytes: float | None) -> Iterator[str]:
    """Yield notes on the memory and the time of GRPO at rank r, and cautions on what the programs refuse."""
    stack, plan = predicted.stack, predicted.plan
    setup, grpo, own = stack.setup, stack.setup.grpo, stack.habits.unsloth_kernels
    engine, trainer = engine_at(predicted, r, usable_bytes), memory_size(predicted.memory_at(r).device)
    too_small = engine.get("too_small")
    if refused := why_not(predicted, r, usable_bytes):
        yield Caution(refused)
    yield from (caution for caution in grpo_cautions(plan, setup) if caution not in refused)
    cache = f"a KV cache of {memory_size(engine['cache'])} for {counted(engine['at_once'], 'completion')} at once"
    if grpo.vllm_mode == "colocate":
        part = f", {100 * engine['share']:.0f} % of the GPU" if engine["share"] and not too_small else ""
        weights = f"{memory_size(engine['weights'])} of weights{', shared with the trainer' if own else ''}"
        lora = f", {memory_size(engine['lora'].expected)} for an adapter of rank {r}" if own else ""
        takes = "would take" if too_small else "takes"
        yield (
            f"vLLM in the trainer's process {takes} {memory_size(engine['total'].expected)}{part}: {weights}{lora} and "
            f"{cache}. The trainer alone takes {trainer}; compare this with a measurement, since nvidia-smi shows the "
            "share that vLLM was given."
        )
    elif grpo.vllm_mode == "none":
        yield f"transformers generates in the trainer, with {cache}; a step of the trainer takes {trainer}."
    else:
        one = kv_cache_bytes(predicted, setup.max_length)
        yield (
            f"vLLM's own GPU is not in memory and cost. It needs {memory_size(2 * plan.model.total_parameters)} of "
            f"weights and {memory_size(one)} of KV cache for each completion at once. Time is for a GPU like this one."
        )
    yield (
        f"One step has {counted(setup.rows_per_step, 'completion')} of {counted(setup.examples_per_step, 'prompt')}. "
        "More generations take time and KV cache, not memory of the trainer, which holds "
        f"{counted(setup.per_device_train_batch_size, 'completion')} at once, each of full length. "
        "The range of the trainer's memory is as wide as its errors in published runs of GRPO."
    )
    share = stack.assume.range("completion-share")
    yield (
        f"Time is generation and training, for completions of {100 * share.low:.0f} to {100 * share.high:.0f} % of "
        f"{grpo.max_completion_length:,} tokens ({100 * share.expected:.0f} % expected), without the time of rewards. "
        "Reading weights and KV cache sets the pace of generation. No measured step of GRPO checks it."
    )


def unsloths(facts: Facts) -> Facts:
    """Return the content of serving.json with what Unsloth changes in vLLM."""
    rules = facts["architectures"]
    return {**facts, "architectures": rules | {x: rules[x] | {"fused_experts": True} for x in FUSED_BY_UNSLOTH}}


def why_not(predicted: Prediction, r: int, usable_bytes: float | None) -> str:
    """Return why vLLM does not start or refuses the adapter of rank r, so that nothing trains; empty otherwise."""
    plan, stack, reasons = predicted.plan, predicted.stack, []
    engine, setup = engine_at(predicted, r, usable_bytes), stack.setup
    if setup.framework == "unsloth" and setup.grpo.vllm_mode == "colocate":  # TRL merges the adapter first
        refused = [f"{each['feature']} ({each['why']})" for each in loading(plan, r, unsloths(stack.assume.serving))[1]]
        if any(each.is_expert for each in plan.adapted):
            highest = max(rank for _, rank in ranks_of(plan, r))
            refused += ["experts of a 4-bit or 8-bit base"] * setup.quantized
            refused += [f"experts above r = {MOST_EXPERT_RANK}"] * (highest > MOST_EXPERT_RANK)
        if refused:
            reasons.append(
                f"Unsloth hands the adapter to vLLM, which refuses {listed(refused)}. Choose vllm_mode none, or "
                "framework trl, which merges the adapter first."
            )
    if setup.grpo.vllm_mode != "none" and plan.model.max_position_embeddings:
        reasons += filter(None, [why_too_long(plan.model, setup.max_length)])
    if engine.get("too_small"):
        reasons.append(
            f"vLLM does not start with {100 * engine['share']:.0f} % of the {stack.gpu.name}: weights and the KV cache "
            f"of one completion need {memory_size(engine['least'])}. Raise vllm_gpu_memory_utilization, or choose "
            f"shorter completions or a larger GPU; the estimate is for the {memory_size(engine['total'].low)} of all "
            "completions of a step at once."
        )
    return " ".join(reasons)


def grpo_cautions(plan: AdapterPlan, setup: TrainingSetup) -> Iterator[Caution]:
    """Yield cautions on what the programs refuse or ignore at any rank, for estimates and exports; raise
    InvalidSettingError for a setting that the program would not run as estimated."""
    grpo, own, data = setup.grpo, setup.framework == "unsloth", setup.data
    asleep = own and grpo.vllm_enable_sleep_mode
    if own and grpo.vllm_mode == "colocate" and plan.model.model_type == "gpt_oss":
        raise InvalidSettingError("Unsloth runs gpt-oss without vLLM. Choose vllm_mode none, or framework trl.")
    if asleep and plan.model.is_whole:
        raise InvalidSettingError(
            "Unsloth turns standby off for models with a vision tower. Leave vllm_enable_sleep_mode out, or choose "
            "framework trl."
        )
    sentences = {
        "RankViz has not run TRL's vLLM with a quantized base, and Unsloth's code refuses to send such weights to that "
        "engine. Try a few steps first, or choose a 16-bit base or framework unsloth.": not own
        and grpo.vllm_mode != "none"
        and setup.quantized,
        "Unsloth's standby sets vLLM's share of the GPU itself and ignores vllm_gpu_memory_utilization.": asleep
        and grpo.vllm_gpu_memory_utilization is not None,
        why_too_long(plan.model, setup.max_length): grpo.vllm_mode != "none",
        f"A step takes {setup.examples_per_step:,} prompts, and there are only {data.examples if data else 0}: the "
        "trainer would make no step. Lower batch or accum, or give more prompts.": data
        and data.examples is not None
        and data.examples < setup.examples_per_step,
    }
    yield from (Caution(sentence) for sentence, applies in sentences.items() if sentence and applies)
