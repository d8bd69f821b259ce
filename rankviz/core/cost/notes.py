"""Writes the notes of an estimate: what its numbers rest on that someone could trip over."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import peak_flops_per_second
from rankviz.core.cost.memory import MemoryEstimate, MemoryTerms, while_loading
from rankviz.core.cost.predict import Prediction, predict
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Device, Gpu, Price, TrainingData, TrainingSetup, card, pads
from rankviz.core.cost.stack import (
    PACKING_UNSLOTH_ZOO,
    WITHOUT_FUSED_LOSS,
    Stack,
    dynamic_share,
    forces_fp32,
    moved_table,
    settled,
    stays_16_bit,
)
from rankviz.core.cost.weights import unsloth_bytes
from rankviz.core.lora.targets import has_split_file
from rankviz.core.model.spec import ModelSpec, UnslothCheckpoint
from rankviz.core.quantity import Caution, Range


def in_fp32(where: str) -> str:
    """where: what keeps it from bf16, as "In fp16" or "On a card without bf16, such as a T4,"."""
    return (
        f"{where} this model trains slower and takes more memory: its numbers overflow in fp16, so Unsloth computes it "
        "in fp32."
    )


def truncation(setup: TrainingSetup) -> Caution | None:
    """None where no example is known to be longer."""
    data, limit = setup.data, setup.max_length
    if data is None or not data.truncates(limit):
        return None
    return Caution(
        f"Examples above the maximum length of {limit:,} tokens are truncated: {truncated_in_words(data, limit)}. To "
        "learn them whole, raise the maximum length, which needs more memory, or split them."
    )


def truncated_in_words(data: TrainingData, limit: int) -> str:
    """ "5 to 10 % of the examples and 2 to 9 % of all tokens; the longest has 8,000", as far as it is known."""
    of = {_examples(data): data.truncated_examples(limit), "all tokens": data.truncated_tokens(limit)}
    shares = [f"{_share(share, data)} of {name}" for name, share in of.items() if share and _is_known(share)]
    has = "may have up to" if data.longest_is_upper else "has"
    longest = (
        f"the longest {has} {data.longest_tokens:,}" if data.longest_tokens else f"the mean is {data.mean_tokens:,}"
    )
    return "; ".join(filter(None, [" and ".join(shares), longest]))


def _is_known(share: Range) -> bool:
    """Whether it says more than that it is a share."""
    return share.high > 0 and (share.low > 0 or share.high < 1)


def _examples(data: TrainingData) -> str:
    return "the examples" if data.examples is None else f"the {data.examples:,} examples"


def _share(share: Range, data: TrainingData) -> str:
    """In whole percent, widened; "about" where lengths are estimated from characters."""
    low, high = math.floor(100 * share.low + 1e-9), math.ceil(100 * share.high - 1e-9)
    about = "about " if data.lengths else ""
    return f"{about}{high} %" if low == high else f"{'up to' if low == 0 else f'{about}{low} to'} {high} %"


def question_notes(
    model: ModelSpec, question: Question, gpu: Gpu | None, price: Price | None, assume: Assumptions
) -> list[str]:
    """Notes for any framework: on the card, the length, and what the framework does."""
    setup = question.training
    notes = []
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
    if setup.framework != "unsloth" and setup.gradient_checkpointing == "unsloth":
        notes.append("Unsloth's checkpointing exists only in Unsloth. The estimate uses Hugging Face's.")
    if setup.framework == "peft" and setup.quantized:
        rest = "embeddings, head, norms and fused experts" if model.num_experts else "embeddings, head and norms"
        notes.append(f"The estimate assumes prepare_model_for_kbit_training with plain PEFT; it raises {rest} to fp32.")
    if setup.framework == "peft" and setup.loss_path == "fused":
        notes.append(
            "A fused loss in plain PEFT needs a package such as Liger; transformers' own loss is loss path full."
        )
    if question.lora.text_only and (setup.framework != "unsloth" or model.tower != "text tower"):
        why = "it is a setting of Unsloth" if setup.framework != "unsloth" else "this model has no other towers"
        notes.append(Caution(f"text_only has no effect here: {why}."))
    notes += _about_dynamic(model, question, assume)
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


def _about_dynamic(model: ModelSpec, question: Question, assume: Assumptions) -> list[str]:
    """That the repository asked for is dynamic 4-bit, where a program other than Unsloth loads it."""
    checkpoint, setup = model.unsloth_checkpoint, question.training
    if setup.framework == "unsloth" or not checkpoint or not checkpoint.dynamic:
        return []
    if not checkpoint.is_named(question.model_id):
        return []
    if setup.precision in ("nf4", "nf4-dq"):
        share = _dynamic_share(model, assume)
        takes = f"about {100 * share.expected:.0f} % more than plain NF4 (at most {100 * share.high:.0f} %)"
        size = checkpoint.file_bytes
        weighs = takes if size is None else f"{units.memory_size(size)} in all"
        rest = f"Its weights take {weighs}, but the estimate is for plain NF4."
    else:
        rest = f"It is loaded in 4 bit, but the estimate is for {setup.precision}: choose precision nf4-dq."
    return [f"{checkpoint.repository} is dynamic 4-bit: some layers stay in 16 bit. {rest}"]


def _dynamic_share(model: ModelSpec, assume: Assumptions) -> Range:
    """By how much a dynamic checkpoint is larger than plain NF4, where its own size is not known."""
    stack = Stack(setup=TrainingSetup(), use_dora=False, assume=assume)
    parts = unsloth_bytes(model, settled(stack, model, card(None)))
    return dynamic_share(model, assume).times(parts["linears"] / sum(parts.values()))


def data_notes(model: ModelSpec, setup: TrainingSetup) -> list[str]:
    """Notes on how the data set time and memory; none without data."""
    data = setup.data
    if data is None:
        return []
    notes, limit = [], setup.max_length
    if data.mean_tokens is not None:
        padded = pads(setup.framework, model)
        tokens = setup.computed_tokens(model)
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
    elif setup.fitted_length < limit:
        notes.append(
            f"Memory is for batches of the longest example: {setup.fitted_length:,} tokens instead of the maximum "
            f"length of {limit:,}."
        )
    return notes


def unsloth_notes(
    model: ModelSpec,
    question: Question,
    stack: Stack,
    device: Device,
    ranks: Mapping[int, MemoryEstimate],
    predicted: Prediction,
    elsewhere: Sequence[Prediction],
) -> list[str]:
    """What Unsloth does of its own accord with this model on this card."""
    setup, notes, checkpoint = stack.setup, [], model.unsloth_checkpoint
    if not stack.habits.unsloth_kernels:
        return []
    if stays_16_bit(model, setup):
        notes.append(
            "Unsloth loads this model in 16 bit: it never quantizes a repository whose name ends in -BF16. "
            "The estimate is for 16 bit."
        )
    elif checkpoint and setup.precision in ("nf4", "nf4-dq"):
        notes.append(_about_checkpoint(checkpoint, question.model_id, predicted.memory))
    if setup.precision == "nf4":
        notes.append("Unsloth's load_in_4bit always quantizes with double quantization: the estimate is for nf4-dq.")
    notes += _about_experts(model, settled(stack, model, device), predicted.memory)
    if forces_fp32(model, setup.precision, device):
        notes.append(_forced_fp32(model, question, stack, device, predicted))
    short = [r for r, memory in ranks.items() if memory.base_weights < predicted.memory.base_weights]
    if short:
        some = len(short) < len(ranks)
        where = f" at r = {min(short)} and above" if some else ""
        below = " At a lower rank it stays on the card, so a higher rank can need less memory." if some else ""
        moved = units.memory_size(predicted.memory.embedding)
        table = moved_table(model)
        stays = units.memory_size(ranks[min(short)].device + predicted.memory.embedding)
        notes.append(
            f"The card is short of room{where}, so Unsloth moves the {table} ({moved}) to host memory. If it stayed on "
            f"the card, memory at r = {min(short)} would be {stays}.{below}"
        )
    return [*notes, *_about_loading(ranks), *_about_both_ends(predicted, elsewhere, ranks)]


def _about_experts(model: ModelSpec, stack: Stack, memory: MemoryTerms) -> list[str]:
    """For which versions the experts are in 4 bit, and what loading them takes."""
    if not stack.habits.quantizes_experts or has_split_file(model):
        return []
    older = replace(stack, measured_habits=replace(stack.habits, quantizes_experts=False))
    more = sum(unsloth_bytes(model, older).values()) - memory.checkpoint_bytes
    version = ".".join(map(str, PACKING_UNSLOTH_ZOO))
    notes = [
        f"Experts are counted in 4 bit, as unsloth_zoo {version} and newer load them. Older versions with "
        f"transformers 5 keep them in 16 bit, which takes {units.memory_size(more)} more."
    ]
    if memory.loading:
        at = units.memory_size(while_loading(memory).high)
        notes.append(f"While loading, Unsloth holds experts in 16 bit beside the base: {at} at most.")
    return notes


def _about_loading(ranks: Mapping[int, MemoryEstimate]) -> Iterable[str]:
    """That loading decides what fits, where it takes more than training."""
    loading = [memory for memory in ranks.values() if memory.fuller_while_loading]
    if loading:
        most = max(loading, key=lambda memory: memory.while_loading)
        highest = max(r for r, memory in ranks.items() if memory.fuller_while_loading)
        where = "" if len(loading) == len(ranks) else f" at r = {highest} and below"
        yield Caution(
            f"Loading takes {units.memory_size(most.while_loading)}, more than training{where}, and decides whether it "
            "fits: rank, batch and length do not change it."
        )


def _forced_fp32(model: ModelSpec, question: Question, stack: Stack, device: Device, predicted: Prediction) -> Caution:
    """What fp32 hidden states take, as the estimate has it: this training beside the same one in bf16. That it is
    slower was never measured here."""
    gpu, setup, r = device.gpu, stack.setup, question.ranks[0]
    able = card(replace(gpu, supports_bf16=True)) if gpu else device
    in_bf16 = replace(stack, setup=replace(setup, precision="bf16" if setup.precision == "fp16" else setup.precision))
    plain = predict(model, question.lora_at(r), in_bf16, able, usable_bytes=gpu and gpu.usable_bytes)
    more = predicted.memory_at(r).device - plain.memory_at(r).device
    takes = f" It takes {units.memory_size(more)} more than in bf16, which the estimate includes." if more > 0 else ""
    where = f"On {gpu.name}, which has no bf16," if gpu and not gpu.supports_bf16 else "In fp16"
    return Caution(f"{in_fp32(where)}{takes} How much slower it is, no measured run says.")


def _about_both_ends(predicted: Prediction, elsewhere: Sequence[Prediction], ranks: Iterable[int]) -> Sequence[str]:
    """That the memory range covers more than one card, where that changes it."""
    if all(there.memory_at(r) == predicted.memory_at(r) for there in elsewhere for r in ranks):
        return ()
    return (
        "Unsloth uses more of a card that has more: the memory range covers the smallest and the largest usable memory "
        "assumed, and the verdict compares each with what is used there.",
    )


def _about_checkpoint(checkpoint: UnslothCheckpoint, name: str, memory: MemoryTerms) -> str:
    """Which repository is loaded for a name, and what of its size is known and was added."""
    instead = "" if checkpoint.is_named(name) else " in place of this model"
    which = f"Unsloth loads {checkpoint.repository}{instead}."
    if not checkpoint.quantized:
        return f"{which} It is in 16 bit, and Unsloth quantizes it as it loads it."
    if not checkpoint.dynamic:
        return f"{which} It is plain NF4."
    if checkpoint.file_bytes is not None:
        more = units.memory_size(memory.base_extra.expected)
        return (
            f"{which} It is dynamic 4-bit: it keeps some layers in 16 bit and weighs "
            f"{units.memory_size(checkpoint.file_bytes)}, {more} more than plain NF4."
        )
    expected, high = (
        100 * more / memory.checkpoint_bytes for more in (memory.base_extra.expected, memory.base_extra.high)
    )
    most = checkpoint.at_most_bytes
    seen = f", since a load of it took {units.memory_size(most)} at most" if most is not None else ""
    return (
        f"{which} It is dynamic 4-bit: it keeps some layers in 16 bit, and its size is not known here: the estimate "
        f"adds {expected:.0f} % to the size of plain NF4, the upper estimate {high:.0f} %{seen}."
    )
