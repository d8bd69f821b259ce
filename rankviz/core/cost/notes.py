"""Writes the notes of an estimate: facts behind its numbers that could surprise a user."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from rankviz.core.cost import stack as stacks
from rankviz.core.cost.blocks import Block
from rankviz.core.cost.cards import SeveralGpus
from rankviz.core.cost.duration import peak_flops_per_second
from rankviz.core.cost.memory import MemoryEstimate, MemoryTerms
from rankviz.core.cost.predict import Prediction
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Device, Gpu, Price, TrainingSetup, card, pads
from rankviz.core.cost.shapes import BROADCASTS_KEYS, caps_compiled, heaviest
from rankviz.core.images import ASSUMED_SIZE, seen_by, sides_of
from rankviz.core.lora.targets import has_split_file
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Assumptions, Caution, Range
from rankviz.units import counted, memory_size, memory_span

FEW_EXAMPLES = 200
"""Number of examples below which a caution warns of overfitting; a choice, since it depends on the task."""


def in_fp32(where: str) -> str:
    """Return a sentence that Unsloth computes the model in fp32. where: Start of the sentence, such as "In fp16"."""
    return f"{where} this model's numbers overflow fp16: Unsloth computes it in fp32, slower and with more memory."


def truncation(setup: TrainingSetup) -> Caution | None:
    """Return a caution on truncated examples; None where no example is known to be longer than max_length, and with
    images, which have a caution of their own."""
    data, limit = setup.data, setup.max_length
    if data is None or setup.images is not None or not data.truncates(limit):
        return None
    named = zip(data.truncated_shares(limit), ("the examples", "all tokens"), strict=True)
    shares = [f"{math.ceil(100 * share - 1e-9)} % of {name}" for share, name in named if share < 1]
    which = f", up to {' and '.join(shares)}" if shares else ""
    longest = f"the longest has {data.longest_tokens:,}" if data.longest_tokens else f"the mean is {data.mean_tokens:,}"
    return Caution(
        f"Examples above the maximum length of {limit:,} tokens are truncated{which}; {longest}. To learn them whole, "
        "raise the maximum length, which needs more memory, or split them."
    )


def above_limit(model: ModelSpec, setup: TrainingSetup) -> Caution | None:
    """Return a caution on examples above the model's own limit of tokens; None where that is not known, and for GRPO
    with vLLM, which has a caution of its own."""
    limit, tokens = model.max_position_embeddings, setup.fitted_length
    if limit is None or tokens <= limit or (setup.grpo and setup.grpo.vllm_mode != "none"):
        return None
    # One row for each position; OPT has two more. GPT-J and CodeGen have a table of the same size.
    rows = (x.in_features for x in model.layers if x.kind == "embedding" and x.path != model.input_embedding)
    happens = "the model was not trained on later positions and may do badly there"
    if model.model_type in ("codegen", "gptj") or any(limit <= number <= limit + 2 for number in rows):
        happens = "training stops with an index error at a longer example"
    return Caution(
        f"This model takes at most {limit:,} tokens (max_position_embeddings in its config.json), and examples may "
        f"have {tokens:,}: {happens}. Choose a maximum length of at most {limit:,}."
    )


def data_cautions(setup: TrainingSetup) -> Iterator[Caution]:
    """Yield cautions on truncated examples, and on fewer examples than FEW_EXAMPLES."""
    if caution := truncation(setup):
        yield caution
    number = setup.data.examples if setup.data else None
    if number is not None and number < FEW_EXAMPLES:
        yield Caution(
            f"{counted(number, 'example')} are few: the adapter may learn them by heart (overfitting). Train few "
            "epochs, watch the held-out loss, and add examples if you can."
        )


def question_notes(
    model: ModelSpec, question: Question, gpu: Gpu | None, price: Price | None, assume: Assumptions
) -> list[str]:
    """Return the notes for any framework: on the card, the training's length, and what the framework does."""
    setup, known = question.training, gpu and not gpu.is_mac  # notes on a Mac: mlx_notes
    name, share = gpu.name if gpu else "", assume.range("usable-share-of-nominal").times(100)
    sentences = {
        "No GPU chosen: only memory is estimated, for a card with room to spare.": gpu is None,
        f"{name}: usable memory was not measured; {share.low:.0f} to {share.high:.0f} % of its size is assumed.": (
            known and gpu.usable_bytes is None
        ),
        f"{name}: dense FLOP/s are not in the table, so time and cost are not known.": (
            known and peak_flops_per_second(gpu, setup) is None
        ),
        f"{name}: no price in the table. Enter your own price for a cost.": known and price is None,
        "No length of training is given: time and cost are for one optimizer step, without loading.": (
            not setup.has_length and setup.framework != "mlx"
        ),
        **dict.fromkeys(filter(None, [above_limit(model, setup)]), True),
        **dict.fromkeys(data_notes(model, setup), True),
        **dict.fromkeys(image_notes(model, setup), True),
        "Unsloth's checkpointing exists only in Unsloth. The estimate uses Hugging Face's.": (
            setup.framework != "unsloth" and setup.gradient_checkpointing == "unsloth"
        ),
        "Plain PEFT counts with prepare_model_for_kbit_training, which raises all that is not quantized to fp32.": (
            setup.framework == "peft" and setup.quantized
        ),
        Caution(
            f"TRL 1.15 stops in its first step with {model.architecture}. Choose the text tower, or unsloth or peft."
        ): setup.framework == "trl" and model.architecture in stacks.WITHOUT_FUSED_LOSS,
        Caution(
            "Mamba blocks need the packages mamba-ssm and causal-conv1d: without them, they take gigabytes more."
        ): "conv1d" in model.refused_names,
        "Memory and time are for text only: the weights of the other tower are counted, its activations are not.": (
            model.is_whole and setup.images is None
        ),
    }
    return [sentence for sentence, applies in sentences.items() if applies]


def image_notes(model: ModelSpec, setup: TrainingSetup) -> Iterator[str]:
    """Yield notes on the images of an example: their tokens, what the tower computes, and a length that is too short;
    none without images. setup: As predict.with_images returns it."""
    if setup.images is None:
        return
    unsloth, rule, asked = setup.framework == "unsloth", model.image_processor, setup.image_size or ASSUMED_SIZE
    image, (width, height) = seen_by(model, asked, unsloth=unsloth), sides_of(asked)
    shrunk = ""
    if (width, height) != (image.width, image.height):
        shrunk = (
            f', which Unsloth\'s collator first makes {image.width:,} x {image.height:,} (its resize="max" does not),'
        )
    marks = f", and {image.marks} more enclose it" if image.marks else ""
    yield (
        f"An image of {width:,} x {height:,} pixels{shrunk} is {image.tokens:,} tokens{marks}, so an "
        f"example's images are {setup.image_tokens:,} tokens. Counted as {rule['processor']} of transformers 5.17 "
        f"does; its values: {rule['values_of']}."
    )
    yield "No measured run has images: the errors behind the memory range are those of training on text."
    if image.patches:
        yield f"The vision tower computes {image.tiles * image.patches:,} patches of an image: the ranges are wide."
        norms = (each for each in model.plain_modules if each.is_norm and each.part == "vision")
        biased = any(t.name == "bias" for each in norms for t in each.tensors)
        if setup.framework == "trl" and setup.quantized and biased:
            yield "On a quantized base the tower's activations are larger than on a 16-bit one: they are in fp32."
    else:
        yield Caution("What this model's vision tower holds and takes is not counted: it is not made of patches.")
    if "note" in rule:
        yield Caution(rule["note"])
    if setup.longest > setup.max_length:
        yield Caution(
            f"An example with its images has {setup.longest:,} tokens; training stops above the maximum length of "
            f"{setup.max_length:,}. Raise it, or give fewer or smaller images. Estimated for {setup.longest:,} tokens."
        )
    elif setup.data is None:
        yield f"Every example counts as {setup.max_length:,} tokens with its images; give tokens per example for fewer."


def data_notes(model: ModelSpec, setup: TrainingSetup) -> Iterator[str]:
    """Yield notes on how the training data determine time and memory; none without data."""
    data = setup.data
    if data is None or setup.grpo:
        return
    if setup.framework == "mlx":
        pass  # no time is estimated
    elif data.mean_tokens is not None:
        padded, tokens = pads(setup.framework, model), setup.computed_tokens(model)
        span = f"{tokens.low:,.0f} to {tokens.high:,.0f}" if padded else f"{tokens.expected:,.0f}"
        why = "an example may be padded to the longest of its batch" if padded else "Unsloth trains without padding"
        yield f"Time is for {span} tokens per example: {why}."
    elif data.examples is not None:
        yield f"The mean length of the examples is not known: time counts {setup.fitted_length:,} tokens for each."
    yield from data_cautions(setup)
    if not truncation(setup) and setup.fitted_length < setup.max_length:
        yield f"Memory is for batches of the longest example: {setup.fitted_length:,} tokens."


def unsloth_notes(
    model: ModelSpec,
    question: Question,
    stack: stacks.Stack,
    device: Device,
    ranks: Mapping[int, MemoryEstimate],
    terms: MemoryTerms,
) -> Iterator[str]:
    """Yield notes on decisions that Unsloth makes by itself for this model on this card."""
    setup, checkpoint, gpu = stack.setup, model.unsloth_checkpoint, device.gpu
    if not stack.habits.unsloth_kernels:
        return
    if stacks.stays_16_bit(model, setup):
        yield "Unsloth loads this model in 16 bit, as its name ends in -BF16: the estimate is for 16 bit."
    elif checkpoint and setup.precision in ("nf4", "nf4-dq"):
        is_named = f"/{checkpoint.repository}".lower().endswith(f"/{question.model_id.strip().lower()}")  # owner or not
        instead = "" if is_named else " in place of this model"
        kind = "plain NF4" if checkpoint.quantized else "in 16 bit, and Unsloth quantizes it as it loads it"
        if checkpoint.quantized and checkpoint.dynamic:
            extra = "" if checkpoint.file_bytes is not None else f" (up to {memory_size(terms.base_extra.high)})"
            kind = f"dynamic 4-bit, {memory_size(terms.base_extra.expected)} more than plain NF4{extra}"
        yield f"Unsloth loads {checkpoint.repository}{instead}. It is {kind}."
    if setup.precision == "nf4":
        yield "Unsloth's load_in_4bit always quantizes with double quantization: the estimate is for nf4-dq."
    if stacks.settled(stack, model, device).habits.quantizes_experts and not has_split_file(model):
        yield (
            f"Experts are counted in 4 bit, as unsloth_zoo {'.'.join(map(str, stacks.PACKING_UNSLOTH_ZOO))} and newer "
            "load them. Older versions with transformers 5 keep them in 16 bit, which takes about four times as much."
        )
    if stacks.forces_fp32(model, setup.precision, device):
        where = f"On {gpu.name}, which has no bf16," if gpu and not gpu.supports_bf16 else "In fp16"
        yield Caution(f"{in_fp32(where)} The memory is in the estimate; how much slower it is, no measured run says.")
    moved = {r: memory for r, memory in ranks.items() if memory.base_weights < terms.base_weights}
    if moved:
        r, size = min(moved), memory_size(terms.embedding)
        table = "per-layer embeddings" if model.tie_word_embeddings else "input embedding"  # never a tied one
        where = f" at r = {r} and above" if len(moved) < len(ranks) else ""
        yield (
            f"The card is short of room{where}, so Unsloth moves the {table} ({size}) to host memory. On the card, "
            f"r = {r} would take {memory_size(moved[r].device + terms.embedding)}."
        )
    loading = {r: memory.while_loading for r, memory in ranks.items() if memory.fuller_while_loading}
    if loading:
        where = "" if len(loading) == len(ranks) else f" at r = {max(loading)} and below"
        yield Caution(
            f"Loading takes {memory_size(max(loading.values()))}, more than training{where}: rank, batch and length do "
            "not change whether it fits."
        )


def mlx_notes(predicted: Prediction, gpu: Gpu | None, usable: Range | None) -> Iterator[str]:
    """Yield notes on training on a Mac: basis of the estimate, usable memory, and MLX LM's defaults."""
    stack, plan = predicted.stack, predicted.plan
    if not stack.habits.mlx or gpu is None or usable is None:
        return
    yield Caution(
        "Not measured: sizes on a Mac come from the code of MLX and MLX LM, with wide ranges; no time or cost."
    )
    if not plan.alike_in_blocks:
        own = "experts in its own way" if plan.trains_experts else "the same linear layers in every block"
        yield Caution(
            f"MLX LM adapts {own}, and the export format mlx refuses it: choose other targets, such as attention. "
            "Counts and memory are of PEFT's adapter."
        )
    yield (
        f"By default macOS lets the GPU use {memory_span(usable)}, by its version. "
        "`sudo sysctl iogpu.wired_limit_mb=N` sets another limit until the next start. All programs share this memory."
    )
    matrix = max((Block(kind, plan.model, stack).matrix() for kind in predicted.shape.kinds), default=0)
    if matrix:
        yield f"MLX holds attention's matrix of length × length for each head: up to {memory_size(matrix)} a block."
    if stack.setup.quantized:
        bits, kind = ("8.5", "8") if stack.setup.precision == "int8" else ("4.5", "4")
        yield f"MLX's {kind}-bit base has groups of 64 with a scale and a bias: {bits} bits a weight, embeddings too."
    differ = "MLX LM's defaults differ: linear layers of the last 16 blocks alone, r = 8, scale 20, no grad_checkpoint."
    if plan.alike_in_blocks:
        written = "num_layers -1, the modules as keys, alpha / r"
        differ += f" The export format mlx writes its configuration for these counts: {written}."
    yield differ


STRATEGY_NAMES = {"ddp": "DDP", "fsdp": "FSDP (full shard)", "zero2": "ZeRO-2", "zero3": "ZeRO-3"}
"""Names of the strategies for several GPUs."""


def several_notes(several: SeveralGpus | None, setup: TrainingSetup, gpu: Gpu | None) -> Iterator[str]:
    """Yield notes on several GPUs: what each holds, host memory, and the pace; none for one GPU."""
    if several is None:
        return
    n, base = several.gpus, memory_size(several.base_bytes)
    link = "NVLink" if gpu and gpu.link == "nvlink" else "PCIe, from an old mainboard to 16 lanes of PCIe 4.0"
    yield (
        f"Memory is that of each of {n} GPUs with {STRATEGY_NAMES[setup.strategy]}; time and cost are those of all "
        f"together. Batch size and accumulation are those of each: a step has {setup.rows_per_step:,} examples."
    )
    if setup.sharded:
        where = f"in host memory, except for {base} of it" if setup.offload else f"divided, {base} on each GPU"
        yield f"The base is {where}. While a block computes, a GPU gathers {memory_size(several.gathered_bytes)} of it."
    else:
        saved = " but that of optimizer states" if setup.strategy == "zero2" else ""
        yield f"Each GPU holds the whole base ({base}): several GPUs save time, and no memory{saved}."
    if several.host_bytes:
        low, most = memory_size(several.host_bytes.low), memory_size(several.host_bytes.high)
        yield Caution(
            f"Offload needs about {memory_size(several.host_bytes.expected)} of host memory: at least {low}, and up to "
            f"{most} while the base is loaded."
        )
    if several.efficiency:
        low, usual, most = (
            f"{n * end:.1f}" for end in (several.efficiency.low, several.efficiency.expected, several.efficiency.high)
        )
        yield f"{n} GPUs do {low} to {most} times the work of one, {usual} expected, if connected by {link}."
    if setup.strategy == "fsdp" and setup.quantized and setup.optim == "paged_adamw_8bit":
        yield Caution("With FSDP and a quantized base, paged_adamw_8bit stops at a checkpoint. Choose another.")


CLASSES = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""transformers class that dequantizes a checkpoint (with dequantize=True), by quant_method of config.json."""
FAMILIES = (
    (r"((openai|unsloth)/)?gpt-oss(-safeguard)?-\d+b", "mxfp4"),
    (r"((deepseek-ai|unsloth)/)?deepseek-(v3(\.\d)?|r1)(-base|-0324|-0528|-zero|-terminus|-exp)?", "fp8"),
    (r"(mistralai/)?ministral-3-\d+b-instruct-2512", "fp8"),
    (r"(unsloth/)?ministral-3-\d+b-instruct-2512-fp8", "fp8"),
    (r"((qwen|unsloth)/)?qwen3[^/]*-fp8", "fp8"),
)
"""(pattern of a Hub id in lower case, quant_method) for quantized checkpoints whose names do not say so. Sources: for
gpt-oss and Ministral 3 the scales in the published totals (assets/models, "note" and "source"), for Ministral 3 and
Qwen3 also Unsloth's models/mapper.py, for DeepSeek transformers' page on fine-grained FP8. Checked 2026-11-26."""
OTHER_FORMATS = re.compile(r"(^|[-_.])(fp8|awq|gptq|nvfp4|mxfp4|w4a16|w8a8)([-_.]|$)")
"""Pattern of the parts of a model's name that mark a checkpoint quantized by another tool."""


class Published(NamedTuple):
    """Format of a checkpoint that its owner published quantized."""

    name: str
    config_class: str
    """transformers class that dequantizes it (with dequantize=True); empty where RankViz knows none."""


@lru_cache(maxsize=64)
def by_name(model_id: str) -> Published | None:
    """Return the format of a checkpoint published quantized, by Hub id; None for 16 bit, 32 bit and bitsandbytes."""
    name = model_id.lower().removesuffix(":whole")
    known = next((method for pattern, method in FAMILIES if re.fullmatch(pattern, name)), "")
    match = OTHER_FORMATS.search(name.rpartition("/")[2])
    return by_method(known) or (Published(match[2].upper(), "") if match else None)


def by_method(method: str) -> Published | None:
    """Return the format by quant_method of config.json ("" where missing); None for 16 bit, 32 bit and bitsandbytes."""
    return None if method in ("", "bitsandbytes") else Published(method.upper(), CLASSES.get(method, ""))


def as_stored(model: ModelSpec, model_id: str, stored: Published | None, training: TrainingSetup) -> tuple[str, ...]:
    """Return a one-sentence note for a checkpoint published quantized; empty for other checkpoints."""
    if stored is None:
        return ()
    text = f"{model_id} is published in {stored.name}."
    if not stored.config_class:
        return (f"{text} How transformers loads it to train is not known: choose the 16-bit checkpoint.",)
    text += f" Training loads it dequantized to 16 bit: {memory_size(2 * model.total_parameters)} of weights."
    if training.quantized:
        bits = "8" if training.precision == "int8" else "4"
        text += f" transformers cannot load it in {bits} bit, so it trains in 16 bit, and the estimate is of that."
    return (text,)


TORCH, FLASH_ATTENTION = 7.5, 8.0
"""Lowest compute capabilities of a card: for torch built for CUDA 13, and for FlashAttention 2."""


def card_notes(model: ModelSpec, question: Question, gpu: Gpu | None) -> tuple[str, ...]:
    """Return cautions on features of this training that the chosen card is too old for."""
    setup, notes = question.training, []
    capability = gpu and gpu.compute_capability
    needs = "needs compute capability {} or newer, and {} has {}. {}."
    if capability is not None and capability < TORCH:
        instead = "Install a torch for CUDA 12.6, at most 2.14"
        notes.append(f"torch for CUDA 13, the default, {needs.format(TORCH, gpu.name, capability, instead)}")
    if setup.attn_implementation == "flash" and capability is not None and capability < FLASH_ATTENTION:
        choose = "Choose sdpa attention"
        notes.append(f"FlashAttention 2 {needs.format(FLASH_ATTENTION, gpu.name, capability, choose)}")
    if setup.framework != "unsloth" and stacks.forces_fp32(model, setup.precision, card(gpu)):
        name = setup.framework.upper()
        notes.append(
            f"fp16 overflows in this model and {gpu.name} has no bf16, so RankViz's {name} script computes in fp32 "
            "and so does the estimate: more memory, and slower. Train in bf16 on a newer card, or with Unsloth."
            if stacks.compute_dtype(model.model_type, setup, bf16=card(gpu).has_bf16) == "fp32"
            else f"fp16 overflows in this model, and {name} does not prevent it. Train in bf16 or fp32."
        )
    return tuple(map(Caution, notes))


FUSED_FROM = "2.14"
"""First torch version whose memory-efficient attention kernel accepts grouped keys."""


def attention_notes(predicted: Prediction) -> Iterator[Caution]:
    """Yield a caution where the default attention holds its matrix, or would in batches without padding."""
    model, shape, stack = predicted.plan.model, predicted.shape, predicted.stack
    attention, setup = heaviest(model, shape, stack), stack.setup
    if stack.habits.on_cpu or stack.habits.mlx or attention is None or setup.attn_implementation != "sdpa":
        return
    equal = replace(stack, setup=replace(setup, data=None))

    def size(stack: stacks.Stack) -> str:
        return f"{memory_size(max(Block(kind, model, stack).matrix() for kind in shape.kinds))} in one block"

    avoid = f"Unsloth, torch {FUSED_FROM} or newer, or padded batches avoid it."
    if attention.holds_matrix:
        kernel = "is eager" if attention.kernel == "eager" else "runs torch's math kernel"
        if caps_compiled(model, stack):
            avoid = "flash-attn 2.6.3 or newer avoids it."
        elif attention.kernel == "eager" or model.model_type in BROADCASTS_KEYS:
            avoid = "A shorter length or a smaller batch needs less."
        yield Caution(f"Attention {kernel} here and holds a length × length matrix a head: {size(stack)}. {avoid}")
    elif setup.mixes_lengths and (without := heaviest(model, shape, equal)) and without.kernel == "math":
        yield Caution(
            "Padded batches are assumed. A batch of one length runs torch's math kernel, with an fp32 matrix of "
            f"{size(equal)}. Unsloth and torch {FUSED_FROM} or newer avoid it."
        )
