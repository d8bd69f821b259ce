"""Writes the notes of an estimate: facts behind its numbers that could surprise someone."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.blocks import blocks_of
from rankviz.core.cost.duration import peak_flops_per_second
from rankviz.core.cost.memory import MemoryEstimate, MemoryTerms
from rankviz.core.cost.predict import Prediction, predict
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Device, Gpu, Price, TrainingData, TrainingSetup, card, pads
from rankviz.core.cost.shapes import (
    BROADCASTS_KEYS,
    UNSLOTH_EAGER,
    UNSLOTH_FLEX_SINKS,
    WIDEST_FLASH,
    WITHOUT_FLASH,
    caps_compiled,
    head_dim,
    heaviest,
)
from rankviz.core.cost.stack import (
    PACKING_UNSLOTH_ZOO,
    WITHOUT_FUSED_LOSS,
    Stack,
    compute_dtype,
    forces_fp32,
    moved_table,
    settled,
    stays_16_bit,
)
from rankviz.core.cost.weights import dynamic_share, unsloth_bytes
from rankviz.core.lora.targets import has_split_file, listed
from rankviz.core.model.spec import ModelSpec, UnslothCheckpoint
from rankviz.core.quantity import Caution
from rankviz.units import memory_size


def in_fp32(where: str) -> str:
    """That Unsloth computes the model in fp32. where: "In fp16", "On a card without bf16, such as a T4,"."""
    return (
        f"{where} this model trains slower and takes more memory: its numbers overflow in fp16, so Unsloth computes it "
        "in fp32."
    )


def truncation(setup: TrainingSetup) -> Caution | None:
    """Caution on the share of the data that is cut off; None where no example is known to be longer than max_length."""
    data, limit = setup.data, setup.max_length
    if data is None or not data.truncates(limit):
        return None
    return Caution(
        f"Examples above the maximum length of {limit:,} tokens are truncated: {_truncated(data, limit)}. To learn "
        "them whole, raise the maximum length, which needs more memory, or split them."
    )


def _truncated(data: TrainingData, limit: int) -> str:
    """ "5 to 10 % of the examples and 2 to 9 % of all tokens; the longest has 8,000", as far as it is known."""
    examples = "the examples" if data.examples is None else f"the {data.examples:,} examples"
    shares = []
    for name, share in ((examples, data.truncated_examples(limit)), ("all tokens", data.truncated_tokens(limit))):
        if share and share.high > 0 and (share.low > 0 or share.high < 1):  # says more than that it is a share
            low, high = math.floor(100 * share.low + 1e-9), math.ceil(100 * share.high - 1e-9)
            about = "about " if data.lengths else ""
            span = f"{about}{high}" if low == high else f"{'up to' if low == 0 else f'{about}{low} to'} {high}"
            shares.append(f"{span} % of {name}")
    has = "may have up to" if data.longest_is_upper else "has"
    longest = f"the longest {has} {data.longest_tokens:,}" if data.longest_tokens else ""
    return "; ".join(filter(None, [" and ".join(shares), longest or f"the mean is {data.mean_tokens:,}"]))


def question_notes(
    model: ModelSpec, question: Question, gpu: Gpu | None, price: Price | None, assume: Assumptions
) -> list[str]:
    """Notes for any framework: on the card, the length, and what the framework does."""
    setup, notes = question.training, []
    unsloth, peft = setup.framework == "unsloth", setup.framework == "peft"
    if gpu is None:
        notes.append(
            "No GPU chosen: no fit, time or cost is estimated, and memory is estimated for a card with room to spare."
        )
    else:
        if gpu.usable_bytes is None:
            share = assume.range("usable-share-of-nominal")
            notes.append(
                f"{gpu.name}: usable memory was not measured; {100 * share.low:.0f} to {100 * share.high:.0f} % of its "
                "nominal GiB are assumed."
            )
        if peak_flops_per_second(gpu, setup) is None:
            why = "in fp32 are" if setup.precision == "fp32" else "are"
            notes.append(f"{gpu.name}: dense FLOP/s {why} not in the table, so time and cost are not known.")
        if price is None:
            notes.append(f"{gpu.name}: no price in the table. Enter your own price for a cost.")
    if not setup.has_length:
        notes.append("No length of training is given: time and cost are for one optimizer step, without loading.")
    notes += data_notes(model, setup)
    if not unsloth and setup.gradient_checkpointing == "unsloth":
        notes.append("Unsloth's checkpointing exists only in Unsloth. The estimate uses Hugging Face's.")
    if peft and setup.quantized:
        rest = "embeddings, head, norms and fused experts" if model.num_experts else "embeddings, head and norms"
        notes.append(f"The estimate assumes prepare_model_for_kbit_training with plain PEFT; it raises {rest} to fp32.")
    if peft and setup.loss_path == "fused":
        notes.append(
            "A fused loss in plain PEFT needs a package such as Liger; transformers' own loss is loss path full."
        )
    if question.lora.text_only and (not unsloth or model.tower != "text tower"):
        why = "this model has no other towers" if unsloth else "it is a setting of Unsloth"
        notes.append(Caution(f"text_only has no effect here: {why}."))
    checkpoint = model.unsloth_checkpoint
    if not unsloth and checkpoint and checkpoint.dynamic and checkpoint.is_named(question.model_id):
        notes.append(_dynamic_elsewhere(model, setup, checkpoint, assume))
    if setup.framework == "trl" and model.architecture in WITHOUT_FUSED_LOSS:
        notes.append(
            Caution(
                f"TRL 1.15 stops in its first step with {model.architecture}: its loss looks for the model inside, and "
                "transformers names none. Choose the text tower, or the framework unsloth or peft."
            )
        )
    if "conv1d" in model.refused_names:
        notes.append(
            Caution(
                "This model has Mamba blocks. The estimate assumes the packages mamba-ssm and causal-conv1d; without "
                "them transformers computes these blocks in plain torch, which takes gigabytes more at usual lengths."
            )
        )
    if model.is_whole:
        notes.append(
            "Memory and time are for text only: the weights of the other tower are counted, its activations are not."
        )
    return notes


def _dynamic_elsewhere(
    model: ModelSpec, setup: TrainingSetup, checkpoint: UnslothCheckpoint, assume: Assumptions
) -> str:
    """That the repository asked for is dynamic 4-bit, where a program other than Unsloth loads it."""
    rest = f"It is loaded in 4 bit, but the estimate is for {setup.precision}: choose precision nf4-dq."
    if setup.precision in ("nf4", "nf4-dq"):
        stack = Stack(setup=TrainingSetup(), use_dora=False, assume=assume)
        parts = unsloth_bytes(model, settled(stack, model, card(None)))
        share = dynamic_share(model, assume).times(100 * parts["linears"] / sum(parts.values()))
        weighs = f"about {share.expected:.0f} % more than plain NF4 (at most {share.high:.0f} %)"
        if checkpoint.file_bytes is not None:
            weighs = f"{memory_size(checkpoint.file_bytes)} in all"
        rest = f"Its weights take {weighs}, but the estimate is for plain NF4."
    return f"{checkpoint.repository} is dynamic 4-bit: some layers stay in 16 bit. {rest}"


def data_notes(model: ModelSpec, setup: TrainingSetup) -> list[str]:
    """Notes on how the data set time and memory; none without data."""
    data, notes = setup.data, []
    if data is None:
        return []
    if data.mean_tokens is not None:
        padded, tokens = pads(setup.framework, model), setup.computed_tokens(model)
        span = f"{tokens.low:,.0f} to {tokens.high:,.0f}" if padded else f"{tokens.expected:,.0f}"
        why = "an example may be padded to the longest of its batch" if padded else "Unsloth trains without padding"
        notes.append(f"Time is for {span} tokens per example: {why}.")
    elif data.examples is not None:
        notes.append(
            f"The mean length of the examples is not known: time counts {setup.fitted_length:,} tokens for each. It is "
            "lower for shorter examples."
        )
    if truncated := truncation(setup):
        notes.append(truncated)
    elif setup.fitted_length < setup.max_length:
        notes.append(
            f"Memory is for batches of the longest example: {setup.fitted_length:,} tokens instead of the maximum "
            f"length of {setup.max_length:,}."
        )
    return notes


def unsloth_notes(
    model: ModelSpec,
    question: Question,
    stack: Stack,
    device: Device,
    ranks: Mapping[int, MemoryEstimate],
    predicted: Prediction,
) -> list[str]:
    """Notes on decisions that Unsloth makes by itself for this model on this card."""
    setup, notes, checkpoint, terms = stack.setup, [], model.unsloth_checkpoint, predicted.memory
    if not stack.habits.unsloth_kernels:
        return []
    if stays_16_bit(model, setup):
        notes.append(
            "Unsloth loads this model in 16 bit: it never quantizes a repository whose name ends in -BF16. "
            "The estimate is for 16 bit."
        )
    elif checkpoint and setup.precision in ("nf4", "nf4-dq"):
        notes.append(_about_checkpoint(checkpoint, question.model_id, terms))
    if setup.precision == "nf4":
        notes.append("Unsloth's load_in_4bit always quantizes with double quantization: the estimate is for nf4-dq.")
    as_loaded = settled(stack, model, device)
    if as_loaded.habits.quantizes_experts and not has_split_file(model):
        older = sum(unsloth_bytes(model, as_loaded.with_habits(quantizes_experts=False)).values())
        notes.append(
            f"Experts are counted in 4 bit, as unsloth_zoo {'.'.join(map(str, PACKING_UNSLOTH_ZOO))} and newer load "
            "them. Older versions with transformers 5 keep them in 16 bit, which takes "
            f"{memory_size(older - terms.checkpoint_bytes)} more."
        )
        if terms.loading:
            at = memory_size(terms.while_loading().high)
            notes.append(f"While loading, Unsloth holds experts in 16 bit beside the base: {at} at most.")
    if forces_fp32(model, setup.precision, device):
        notes.append(_forced_fp32(model, question, stack, device, predicted))
    short = [r for r, memory in ranks.items() if memory.base_weights < terms.base_weights]
    if short:
        some = len(short) < len(ranks)
        where = f" at r = {min(short)} and above" if some else ""
        below = " At a lower rank it stays on the card, so a higher rank can need less memory." if some else ""
        stays = memory_size(ranks[min(short)].device + terms.embedding)
        notes.append(
            f"The card is short of room{where}, so Unsloth moves the {moved_table(model)} "
            f"({memory_size(terms.embedding)}) to host memory. If it stayed on the card, memory at r = {min(short)} "
            f"would be {stays}.{below}"
        )
    loading = {r: memory.while_loading for r, memory in ranks.items() if memory.fuller_while_loading}
    if loading:
        where = "" if len(loading) == len(ranks) else f" at r = {max(loading)} and below"
        notes.append(
            Caution(
                f"Loading takes {memory_size(max(loading.values()))}, more than training{where}, and decides whether "
                "it fits: rank, batch and length do not change it."
            )
        )
    return notes


def _forced_fp32(model: ModelSpec, question: Question, stack: Stack, device: Device, predicted: Prediction) -> Caution:
    """What fp32 hidden states take: this training beside the same one in bf16. How much slower it is, was never
    measured."""
    gpu, setup, r = device.gpu, stack.setup, question.ranks[0]
    able = card(replace(gpu, supports_bf16=True)) if gpu else device
    in_bf16 = replace(stack, setup=replace(setup, precision="bf16" if setup.precision == "fp16" else setup.precision))
    plain = predict(model, question.lora_at(r), in_bf16, able, usable_bytes=gpu and gpu.usable_bytes)
    more = predicted.memory_at(r).device - plain.memory_at(r).device
    takes = f" It takes {memory_size(more)} more than in bf16, which the estimate includes." if more > 0 else ""
    where = f"On {gpu.name}, which has no bf16," if gpu and not gpu.supports_bf16 else "In fp16"
    return Caution(f"{in_fp32(where)}{takes} How much slower it is, no measured run says.")


def both_ends_notes(predicted: Prediction, elsewhere: Sequence[Prediction], ranks: Iterable[int]) -> tuple[str, ...]:
    """That the memory range covers more than one card, where that changes it."""
    if all(there.memory_at(r) == predicted.memory_at(r) for there in elsewhere for r in ranks):
        return ()
    return (
        "Unsloth uses more of a card that has more: the memory range covers the smallest and the largest usable memory "
        "assumed, and the verdict compares each with what is used there.",
    )


def _about_checkpoint(checkpoint: UnslothCheckpoint, name: str, terms: MemoryTerms) -> str:
    """Which repository is loaded for a name, and what of its size is known and was added."""
    instead = "" if checkpoint.is_named(name) else " in place of this model"
    which, extra, plain = f"Unsloth loads {checkpoint.repository}{instead}.", terms.base_extra, terms.checkpoint_bytes
    if not checkpoint.quantized:
        return f"{which} It is in 16 bit, and Unsloth quantizes it as it loads it."
    if not checkpoint.dynamic:
        return f"{which} It is plain NF4."
    if checkpoint.file_bytes is not None:
        return (
            f"{which} It is dynamic 4-bit: it keeps some layers in 16 bit and weighs "
            f"{memory_size(checkpoint.file_bytes)}, {memory_size(extra.expected)} more than plain NF4."
        )
    most = checkpoint.at_most_bytes
    seen = f", since a load of it took {memory_size(most)} at most" if most is not None else ""
    return (
        f"{which} It is dynamic 4-bit: it keeps some layers in 16 bit, and its size is not known here: the estimate "
        f"adds {100 * extra.expected / plain:.0f} % to the size of plain NF4, the upper estimate "
        f"{100 * extra.high / plain:.0f} %{seen}."
    )


CLASSES = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""quant_method of config.json: the class of transformers that dequantizes it with dequantize=True."""
FAMILIES = (
    (r"(openai|unsloth)/gpt-oss(-safeguard)?-\d+b", "mxfp4"),
    (r"(deepseek-ai|unsloth)/deepseek-(v3(\.\d)?|r1)(-base|-0324|-0528|-zero|-terminus|-exp)?", "fp8"),
    (r"mistralai/ministral-3-\d+b-instruct-2512", "fp8"),
    (r"unsloth/ministral-3-\d+b-instruct-2512-fp8", "fp8"),
    (r"(qwen|unsloth)/qwen3[^/]*-fp8", "fp8"),
)
"""The whole Hub id in lower case: quant_method, for checkpoints whose names do not always tell. Sources: for gpt-oss
and Ministral 3 the scales in the published totals (assets/models, "note" and "source"), for Ministral 3 and Qwen3 also
the 8-bit rows of Unsloth's models/mapper.py, for DeepSeek transformers' page on fine-grained FP8. Checked 2026-11-26.
"""
OTHER_FORMATS = re.compile(r"(^|[-_.])(fp8|awq|gptq|nvfp4|mxfp4|w4a16|w8a8)([-_.]|$)")
"""Parts of names of checkpoints quantized by another tool."""


class Published(NamedTuple):
    """The format of a checkpoint that is published quantized."""

    name: str
    """"MXFP4"."""
    config_class: str
    """Class of transformers to give dequantize=True; empty where RankViz knows none."""


def by_name(model_id: str) -> Published | None:
    """The format of a published quantized checkpoint; None for one in 16 or 32 bit, or of bitsandbytes.

    model_id: Hub id.
    """
    name = model_id.lower()
    for pattern, method in FAMILIES:
        if re.fullmatch(pattern, name):
            return Published(method.upper(), CLASSES[method])
    match = OTHER_FORMATS.search(name.split("/")[-1])
    return Published(match[2].upper(), "") if match else None


def by_method(method: str) -> Published | None:
    """The format by quant_method of config.json, empty where it has none; None as in by_name."""
    return None if method in ("", "bitsandbytes") else Published(method.upper(), CLASSES.get(method, ""))


def as_stored(model: ModelSpec, model_id: str, stored: Published | None, training: TrainingSetup) -> tuple[str, ...]:
    """A sentence on a checkpoint that is published quantized."""
    if stored is None:
        return ()
    if not stored.config_class:
        return (
            f"{model_id} is published in {stored.name}. RankViz does not know how transformers loads it for training. "
            "Choose the 16-bit checkpoint of this model instead.",
        )
    size = memory_size(2 * model.total_parameters)
    text = f"{model_id} is published in {stored.name}. Training loads it dequantized to 16 bit: {size} of weights."
    if training.quantized:
        bits = "8" if training.precision == "int8" else "4"
        text += f" transformers cannot load it in {bits} bit, so the estimate of memory does not apply."
        pattern = r"(?:mistralai|unsloth)/(ministral-3-\d+b-instruct-2512)(?:-fp8)?"  # also published in 16 bit
        if match := re.fullmatch(pattern, model_id, re.IGNORECASE):
            text += f" For {bits} bit, choose unsloth/{match[1]}."
    return (text,)


TORCH = 7.5
FLASH_ATTENTION = 8.0
BF16 = 8.0
STORED = {"FP8": 8.9, "MXFP4": 7.5}
"""Compute capability that the kernels of published formats need."""


def card_notes(
    model: ModelSpec, question: Question, gpu: Gpu | None, cards: Sequence[Gpu], stored_in: str
) -> tuple[str, ...]:
    """Notes on features of this training that the chosen card is too old for.

    cards: the table, to name all that are too old. stored_in: "FP8", "MXFP4" or another format that the checkpoint
    which is loaded was published in; empty for 16 or 32 bit.
    """
    setup, notes = question.training, []

    def too_old(each: Gpu, need: float) -> bool:
        return each.compute_capability is not None and each.compute_capability < need

    def needs(need: float) -> str:
        names = [each.name for each in cards if too_old(each, need)]
        return f"compute capability {need} or newer{f'; too old: {listed(names)}' if names else ''}"

    if gpu and too_old(gpu, TORCH):
        notes.append(
            Caution(
                f"torch for CUDA 13, the default, needs compute capability {TORCH} or newer, and {gpu.name} has "
                f"{gpu.compute_capability}. Install a torch for CUDA 12.6, at most 2.14."
            )
        )
    if setup.attn_implementation == "flash" and (gpu is None or too_old(gpu, FLASH_ATTENTION)):
        text = f"FlashAttention 2 needs {needs(FLASH_ATTENTION)}."
        notes.append(Caution(f"{text} Choose sdpa attention.") if gpu else text)
    if setup.framework != "unsloth" and forces_fp32(model, setup.precision, card(gpu)):
        name, instead = setup.framework.upper(), f"in bf16 ({needs(BF16)})"
        notes.append(
            Caution(
                f"fp16 overflows in this model and {gpu.name} has no bf16, so RankViz's {name} script computes in fp32 "
                f"and so does the estimate: more memory, and slower. Train {instead}, or with Unsloth."
                if compute_dtype(model.model_type, setup, bf16=card(gpu).has_bf16) == "fp32"
                else f"fp16 overflows in this model, and {name} does not prevent it. Train {instead} or in fp32."
            )
        )
    if stored_in in STORED:
        notes.append(f"Without dequantizing it, {stored_in} needs {needs(STORED[stored_in])}.")
    return tuple(notes)


FUSED_FROM = "2.14"
"""The torch from which the memory-efficient kernel takes grouped keys."""


def attention_notes(predicted: Prediction) -> list[str]:
    """A sentence where flash attention was asked for and is refused, and where blocks hold the matrix, or would without
    padding, though nobody asked for eager attention."""
    model, shape, stack = predicted.plan.model, predicted.shape, predicted.stack
    attention, setup = heaviest(model, shape, stack), stack.setup
    if stack.habits.on_cpu or attention is None:
        return []
    if setup.attn_implementation == "flash":
        why = _refused(predicted)
        return [Caution(f"FlashAttention 2 does not run here: {why}. Choose sdpa attention.")] if why else []
    if setup.attn_implementation != "sdpa":
        return []

    def size(stack: Stack) -> str:
        return memory_size(max(block.matrix() for block in blocks_of(model, shape, stack)))

    if attention.kernel == "eager":
        return [
            Caution(
                f"{_eager(model, stack)}: it holds a matrix of length × length for each head, {size(stack)} in one "
                f"block. {_instead(model, stack)}"
            )
        ]
    if attention.kernel == "math":
        return [
            Caution(
                "Attention runs torch's math kernel, which holds an fp32 matrix of length × length for each head: "
                f"{size(stack)} in one block. {_why_math(model, stack)}"
            )
        ]
    equal = replace(stack, setup=replace(setup, data=None))
    if setup.mixes_lengths and (without := heaviest(model, shape, equal)) and without.kernel == "math":
        return [
            Caution(
                "The estimate assumes padded batches, for which attention runs a memory-efficient kernel. A batch with "
                f"examples of one length runs torch's math kernel, with an fp32 matrix of {size(equal)} in one block. "
                f"Unsloth and torch {FUSED_FROM} or newer avoid it."
            )
        ]
    return []


def _refused(predicted: Prediction) -> str:
    """Why FlashAttention 2 refuses this model or dtype; what it needs of the card is in card_notes."""
    model, stack = predicted.plan.model, predicted.stack
    widest = max(head_dim(kind, model) for kind in predicted.shape.kinds)
    if model.model_type.startswith(WITHOUT_FLASH):
        return f"transformers does not offer it for {model.model_type}"
    if widest > WIDEST_FLASH:
        return f"it takes at most {WIDEST_FLASH} elements per head, and this model has heads of {widest}"
    in_fp32 = stack.attention_bytes == 4 and not stack.habits.unsloth_kernels
    return "it needs fp16 or bf16, and attention is computed in fp32" if in_fp32 else ""


def _why_math(model: ModelSpec, stack: Stack) -> str:
    if model.model_type in BROADCASTS_KEYS:
        return "No fused kernel takes this model's single key head. A shorter length or a smaller batch needs less."
    name = stack.gpu.name if stack.gpu else "The card"
    lacks = "fp32 has no flash kernel" if stack.attention_bytes == 4 else f"{name} has no flash kernel"
    grouped = f"and torch before {FUSED_FROM} has no other fused one for grouped keys"
    return f"{lacks}, {grouped}. Unsloth, torch {FUSED_FROM} or newer, or padded batches avoid it."


def _eager(model: ModelSpec, stack: Stack) -> str:
    if caps_compiled(model, stack):
        return f"Unsloth has no fused attention with {model.model_type}'s soft cap unless flash-attn is installed"
    if stack.habits.unsloth_kernels and model.model_type.startswith(UNSLOTH_EAGER):
        return f"Unsloth runs eager attention for {model.model_type}"
    return f"transformers has no SDPA for {model.model_type}, so attention is eager"


def _instead(model: ModelSpec, stack: Stack) -> str:
    if caps_compiled(model, stack) and stack.compute_capability >= 8:
        return "flash-attn 2.6.3 or newer, which no export installs, avoids it; so does a shorter length in part."
    if model.model_type in UNSLOTH_FLEX_SINKS:
        return "Unsloth uses flex attention, which holds none."
    return "A shorter length or a smaller batch needs less."
