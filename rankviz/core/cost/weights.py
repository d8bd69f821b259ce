"""Bytes of weights in the memory estimate: of the base, of what is trained, and copies of them.

Every function says where its formula was read.
"""

from typing import Literal, NamedTuple, get_args

from rankviz.core.cost.blocks import dequantized_width, own_blocks
from rankviz.core.cost.shapes import ModelShape
from rankviz.core.cost.stack import (
    FUSED_IN_FILES,
    Stack,
    fp32_tensors,
    is_quantized,
    reads_quantized_experts,
    rebuilds_experts,
)
from rankviz.core.model.spec import LinearLayer, ModelSpec

SLICED_FROM = 2**31
"""Weights of a stack of experts that Unsloth quantizes in slices, and then without double quantization
(unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py, _quantize_expert_stack_in_slices)."""


class TrainedBytes(NamedTuple):
    """Bytes for each trainable parameter."""

    weight: float
    gradient: float
    optimizer: float
    temporary: float
    """Copies that the optimizer's step makes and drops."""


def trained_bytes(stack: Stack, weight_bytes: int) -> TrainedBytes:
    """Weight, gradient and optimizer states of one parameter, in the parameter's dtype.

    AdamW keeps two states; bitsandbytes' 8-bit form two bytes and two fp32 maxima for each 256 parameters. Plain PEFT
    on a 16-bit base: 4 + 4 + 8 = 16; Unsloth with adamw_8bit: 4 + 4 + 2.03. Left out: tensors under 4,096 elements
    keep fp32 states in bitsandbytes; paged states may sit in host memory.
    """
    states = {
        "adamw_torch": weight_bytes * stack.assume.value("adam-states"),
        "adamw_8bit": stack.assume.value("adam-8bit-bytes"),
        "paged_adamw_8bit": stack.assume.value("adam-8bit-bytes"),
        "sgd": 0.0,
    }
    copies = stack.assume.value("adam-temporary-copies") if stack.setup.optim == "adamw_torch" else 0.0
    return TrainedBytes(
        weight=weight_bytes,
        gradient=weight_bytes,
        optimizer=states[stack.setup.optim],
        temporary=copies * weight_bytes,
    )


def raised_bytes(model: ModelSpec, stack: Stack) -> int:
    """What an embedding in fp32 takes more than the checkpoint's 16 bit."""
    return 2 * model.vocab_size * model.hidden_size if stack.habits.fp32_embedding else 0


def base_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> int:
    """Frozen weights as a checkpoint holds them: what a quantizer reaches at its width, the rest (embeddings, head,
    norms) in 16 bit or, after PEFT's k-bit preparation, in fp32. NF4 is 4 bits and an fp32 maximum for 64 weights,
    double quantization makes that maximum 8 bits (bitsandbytes functional.quantize_4bit); int8 keeps an fp32 scale for
    each output row. What Unsloth raises after loading is `raised_bytes`.
    """
    setup, habits = stack.setup, stack.habits
    if habits.unsloth_kernels:
        return sum(unsloth_bytes(model, stack).values())
    embedding = model.vocab_size * model.hidden_size
    head = embedding if habits.unties_head and model.tie_word_embeddings else 0
    if not setup.quantized:
        return (model.total_parameters + head) * stack.compute_bytes
    left_alone = _unquantized(model, stack)
    quantized = model.total_parameters + head - left_alone
    width = habits.weight_bytes or stack.assume.value(f"weight-bytes-{setup.precision}")
    scales = 4 * shape.linear_rows if setup.precision == "int8" else 0
    return round(quantized * width) + scales + left_alone * (4 if habits.raised == "all" else stack.compute_bytes)


Component = Literal["towers", "linears", "experts", "embeddings", "head", "rest"]
"""Parts of a loaded base. Towers are all that is not the text model, projectors too; the rest are norms, biases,
routers that are no linear layers, and other small tensors."""


def unsloth_bytes(model: ModelSpec, stack: Stack) -> dict[Component, int]:
    """Frozen weights by component as Unsloth loads them, compared with its real loader by `make test-counts`.

    Quantized layers are counted tensor by tensor, whose maxima are rounded up to whole blocks.
    """
    parts: dict[Component, int] = dict.fromkeys(get_args(Component), 0)
    counted = 0
    for layer in model.layers:
        if layer.kind == "lm_head" and model.tie_word_embeddings:
            continue
        parts[component_of(layer)] += layer.count * _copy_bytes(model, layer, stack)
        counted += layer.parameters
    small = sum(layer.count * layer.out_features for layer in model.layers if layer.bias and layer.part == "vision")
    for module in model.plain_modules:
        raised = fp32_tensors(model, module, four_bit=stack.setup.precision == "nf4-dq")
        copies = len(module.blocks) or 1
        parts["towers" if module.part == "vision" else "rest"] += (4 - stack.compute_bytes) * copies * raised
        if module.part == "vision":
            small += copies * module.parameters
    parts["towers"] += stack.compute_bytes * small
    parts["rest"] += stack.compute_bytes * (model.total_parameters - counted - small)
    return parts


def component_of(layer: LinearLayer) -> Component:
    if layer.part == "vision":
        return "towers"
    named: dict[str, Component] = {"experts": "experts", "embedding": "embeddings", "lm_head": "head", "router": "rest"}
    return named.get(layer.kind, "linears")


def _copy_bytes(model: ModelSpec, layer: LinearLayer, stack: Stack) -> int:
    """Bytes of one copy of a layer's weight."""
    weights = layer.num_experts * layer.in_features * layer.out_features
    packed = stack.habits.quantizes_experts if layer.kind == "experts" else is_quantized(model, layer)
    if not (stack.setup.quantized and packed):
        return stack.compute_bytes * weights
    if stack.setup.precision == "int8":
        return weights + 4 * layer.out_features
    stacked = layer.kind == "experts" and not stack.habits.one_expert_at_a_time
    return nf4_bytes(weights, nested=not (stacked and (weights >= SLICED_FROM or rebuilds_experts(model))))


def nf4_bytes(weights: int, *, nested: bool) -> int:
    """Bytes of one tensor in NF4: half a byte a weight and a maximum for each 64 of them; nested, as double
    quantization has it, in 8 bit with an fp32 maximum for each 256 (bitsandbytes functional.quantize_4bit)."""
    maxima = -(-weights // 64)
    return -(-weights // 2) + (maxima + 4 * -(-maxima // 256) if nested else 4 * maxima)


def _unquantized(model: ModelSpec, stack: Stack) -> int:
    """Parameters that the program's quantizer leaves in 16 bit."""
    habits = stack.habits
    if habits.quantizes_every_linear:
        linear = sum(each.parameters for each in model.layers if each.kind in ("linear", "conv1d", "experts"))
        own_head = 0 if model.tie_word_embeddings else model.vocab_size * model.hidden_size
        return max(0, model.total_parameters - linear - own_head)
    experts = sum(layer.parameters for layer in model.layers if layer.kind == "experts")
    return model.unquantized_parameters - (experts if habits.quantizes_experts else 0)


def movable_embedding_bytes(model: ModelSpec, stack: Stack, trained: frozenset[str]) -> int:
    """The embeddings that Unsloth may move to host memory: the input embedding, where the head does not share it, and
    other large tables, such as Gemma 4's of its layers (models/vision.py, _input_side_embeddings).

    trained: paths of modules that are trained in full, which stay.
    """
    if not stack.habits.moves_embedding:
        return 0
    tables = [each for each in model.layers if each.kind == "embedding" and each.path not in trained]
    width = stack.compute_bytes
    return sum(
        width * each.parameters
        for each in tables
        if (not model.tie_word_embeddings if each.path == model.input_embedding else width * each.parameters >= 2**28)
    )


def loading_bytes(model: ModelSpec, stack: Stack) -> float:
    """What is there beside the base at the fullest moment of loading it: a stack of experts in 16 bit that Unsloth is
    about to quantize, once fused and once as the file's tensor for each expert; where the file has it fused, the stack
    and its quantized copy. Counted while tiny checkpoints were loaded on a CPU; 0 where no stack is quantized."""
    if not stack.habits.quantizes_experts or reads_quantized_experts(model):
        return 0.0
    stacks = [
        each.num_experts * each.in_features * each.out_features for each in model.layers if each.kind == "experts"
    ]
    return 2.0 * (1.25 if model.model_type.startswith(FUSED_IN_FILES) else 2.0) * max(stacks, default=0)


def dequantized_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """One whole weight in 16 bit, which bitsandbytes makes for each product and drops after it; of quantized experts
    the larger of a block's two stacks, since a backward pass unpacks them anew
    (unsloth_zoo/temporary_patches/moe_utils.py, _moe_recompute_enabled)."""
    if not stack.setup.quantized:
        return 0.0
    largest = shape.largest_linear
    if stack.habits.quantizes_experts and not stack.habits.one_expert_at_a_time:
        stacks = (e.num_experts * e.in_features * e.out_features for e in model.layers if e.kind == "experts")
        largest = max(largest, *stacks)
    return float(dequantized_width(stack) * largest)


def standing_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """What is allocated once and stays: cuBLAS's workspaces, and in Unsloth's own families tables of sines and cosines,
    and the buffer that weights with an adapter are unpacked into, of the size of the largest (kernels/utils.py,
    _SCRATCH)."""
    if stack.habits.on_cpu:
        return 0.0
    large = "-hopper" if 9 <= stack.compute_capability < 11 else ""
    workspaces = stack.assume.value(f"cublas-workspace-bytes{large}")
    if not own_blocks(stack):
        return workspaces
    unpacked = stack.compute_bytes * shape.largest_targeted if stack.setup.precision in ("nf4", "nf4-dq") else 0
    return workspaces + rotary_bytes(model) + unpacked


def rotary_bytes(model: ModelSpec) -> float:
    """Two tables of Unsloth's own families: 32,768 rows in 16 bit, or Gemma's 8,192 rows in fp32 (models/llama.py and
    gemma.py). Models with a shorter context have less."""
    row = 8192 * 4 if model.model_type.startswith("gemma") else 32_768 * 2
    return 2.0 * row * model.head_dim


def merged_bytes(shape: ModelShape, stack: Stack) -> float:
    """PEFT's merged experts.

    ParamWrapper adds the adapter to each whole expert parameter (peft lora/layer.py), and its gradient is as large. The
    backward pass has the gradient of one parameter at a time, the last one's first, and lets go of that one's merged
    weight then: so the smaller of a pair beside both, or the larger beside its own gradient. Without checkpointing the
    merged weights of all blocks stay. All are in fp32 where k-bit preparation has raised the experts.
    """
    if stack.habits.unsloth_kernels or not shape.targeted_experts:
        return 0.0
    smallest, largest, every = shape.targeted_experts[0], shape.targeted_experts[-1], sum(shape.targeted_experts)
    weights = max(every + smallest, 2 * largest)
    if stack.setup.gradient_checkpointing == "none":
        weights = every * shape.expert_blocks + smallest
    return float((4 if stack.habits.raised == "all" else stack.compute_bytes) * weights)


def dora_norm_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """What DoRA makes for the norm of one module's merged weight, in each forward pass: the identity matrix that goes
    through A and B, with its 16-bit copy, then B·A, the weight and their sum (peft tuners/lora/dora.py)."""
    if not stack.use_dora:
        return 0.0
    identity = max(kind.targeted_mlp_hidden or model.hidden_size for kind in shape.kinds) ** 2
    before, after = stack.assume.value("dora-identity-bytes"), stack.assume.value("dora-norm-bytes")
    half = stack.compute_bytes
    return max(before * identity + half * shape.largest_targeted, half * identity + after * shape.largest_targeted)
