"""Bytes of a base's weights in memory, as each program loads them. Every function says where its formula was read."""

import math
from typing import Literal, get_args

from rankviz.core.cost.shapes import ModelShape
from rankviz.core.cost.stack import Litgpt, Stack
from rankviz.core.lora.targets import has_split_file
from rankviz.core.model.spec import LinearLayer, ModelSpec, PlainModule
from rankviz.core.quantity import Range

FP32_NORMS = (
    *("gemma3", "gemma4", "gpt_oss", "granitemoehybrid", "muse_glimmer", "olmo2", "olmo3", "qwen3_5", "qwen3_next"),
)
"""Beginnings of model_types whose norms Unsloth raises to fp32: by name in models/loader.py
(UNSLOTH_HIGH_PRECISION_LAYERNORM), or because they multiply in fp32 (unsloth_zoo/compiler.py)."""
FUSED_IN_FILES = ("gemma4", "gpt_oss", "llama4", "qwen3_5_moe", "qwen3_vl_moe")
"""Beginnings of model_types whose checkpoints hold stacks of experts; others have a tensor for each expert."""
KEPT_IN_16_BIT = (
    *("lm_head", "score", "classifier", "qa_outputs", "multi_modal_projector", "merger", "modality_projection"),
    *("mm_projector", "router", "mlp.gate", "block_sparse_moe.gate", "moe.gate", "mamba", "audio_tower"),
    *("vision_tower", "visual", "vision_embedder", "embed_vision", "embed_audio"),
)
"""Names anywhere in a module's path that no quantizer touches under Unsloth, in place of transformers' own list
(unsloth_zoo/peft_utils.py, SKIP_QUANTIZATION_MODULES; patching_utils.py, _unsloth_should_convert_module)."""
ALSO_KEPT_IN_16_BIT = {
    "nemotron_h": ("out_proj",),
    "mamba": ("dt_proj",),
    "longcat_flash": ("q_b_proj", "kv_b_proj"),
    "longcat_flash_lsa": ("q_b_proj", "kv_b_proj"),
    "kimi_linear": ("self_attention_res_proj", "mlp_res_proj", "output_attn_res_proj"),
    "gemma3n": ("correction_coefs", "prediction_coefs", "altup_projections", "altup_unembed_projections"),
}
"""More names that Unsloth does not quantize, by model_type (models/vision.py, _architecture_skip_modules)."""
SLICED_FROM = 2**31
"""Number of weights from which on Unsloth quantizes a stack of experts in slices, without double quantization
(unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py, _quantize_expert_stack_in_slices)."""
Component = Literal["towers", "linears", "experts", "embeddings", "head", "rest"]
"""Parts of a loaded base. "towers" is all outside the text model, projectors too; "rest" is norms, biases, routers
that are no linear layers, and other small tensors."""


def base_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> int:
    """Bytes of the frozen weights as a checkpoint holds them: quantized weights at their width, the rest (embeddings,
    head, norms) in 16 bit or, after PEFT's k-bit preparation, in fp32. NF4 is 4 bits and an fp32 maximum for 64
    weights, double quantization makes that maximum 8 bits (bitsandbytes functional.quantize_4bit); int8 keeps an fp32
    scale for each output row. Left out: an embedding that Unsloth raises to fp32 after loading."""
    setup, habits = stack.setup, stack.habits
    if habits.unsloth_kernels:
        return sum(unsloth_bytes(model, stack).values())
    total, table = model.total_parameters, model.vocab_size * model.hidden_size
    total += table if habits.litgpt and model.tie_word_embeddings else 0
    if not setup.quantized:
        return total * stack.compute_bytes
    experts = sum(layer.parameters for layer in model.layers if layer.kind == "experts")
    left_alone = model.unquantized_parameters - (experts if habits.quantizes_experts else 0)
    if habits.litgpt and habits.litgpt.quantizes_head:
        linear = sum(each.parameters for each in model.layers if each.kind in ("linear", "conv1d", "experts"))
        left_alone = max(0, model.total_parameters - linear - (0 if model.tie_word_embeddings else table))
    quantized = total - left_alone
    width = habits.weight_bytes or stack.assume.value(f"weight-bytes-{setup.precision}")
    scales = 4 * shape.linear_rows if setup.precision == "int8" else 0
    return round(quantized * width) + scales + left_alone * (4 if habits.raised == "all" else stack.compute_bytes)


def unsloth_bytes(model: ModelSpec, stack: Stack) -> dict[Component, int]:
    """Bytes of the frozen weights by component as Unsloth loads them (`make test-counts` compares with its loader).
    Quantized layers are counted tensor by tensor, since each tensor's maxima are rounded up to whole blocks."""
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
    """Return the component that a layer belongs to."""
    if layer.part == "vision":
        return "towers"
    named: dict[str, Component] = {"experts": "experts", "embedding": "embeddings", "lm_head": "head", "router": "rest"}
    return named.get(layer.kind, "linears")


def _copy_bytes(model: ModelSpec, layer: LinearLayer, stack: Stack) -> int:
    """Bytes of one copy of a layer's weight."""
    weights = _weights(layer)
    packed = stack.habits.quantizes_experts if layer.kind == "experts" else is_quantized(model, layer)
    if not (stack.setup.quantized and packed):
        return stack.compute_bytes * weights
    if stack.setup.precision == "int8":
        return weights + 4 * layer.out_features
    stacked = layer.kind == "experts" and not stack.habits.one_expert_at_a_time
    # A file with a tensor for each quantized expert is rebuilt into stacks whose maxima are in fp32
    # (unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py).
    rebuilt = reads_quantized_experts(model) and not has_split_file(model)
    return nf4_bytes(weights, nested=not (stacked and (weights >= SLICED_FROM or rebuilt)))


def _weights(layer: LinearLayer) -> int:
    return layer.num_experts * layer.in_features * layer.out_features


def nf4_bytes(weights: int, *, nested: bool) -> int:
    """Bytes of one tensor in NF4: half a byte per weight and an fp32 maximum for each 64 weights; nested (double
    quantization): the maxima in 8 bit, with an fp32 maximum for each 256 (bitsandbytes functional.quantize_4bit)."""
    maxima = -(-weights // 64)
    return -(-weights // 2) + (maxima + 4 * -(-maxima // 256) if nested else 4 * maxima)


def is_quantized(model: ModelSpec, layer: LinearLayer) -> bool:
    """Return True where a 4-bit or 8-bit load by Unsloth converts this linear layer."""
    if layer.kind not in ("linear", "conv1d", "lm_head") or layer.subclass:
        return False
    kept = (*KEPT_IN_16_BIT, *ALSO_KEPT_IN_16_BIT.get(model.model_type.removesuffix("_text"), ()))
    path = layer.path
    return not any(path.startswith(name) or path.endswith(name) or f".{name}." in f".{path}." for name in kept)


def fp32_tensors(model: ModelSpec, module: PlainModule, *, four_bit: bool) -> int:
    """Number of parameters in one copy of a module that Unsloth raises to fp32: norms of some families, by name or of
    torch's own classes, which have a bias (models/vision.py), and biases of gpt-oss's experts not in 4 bit
    (loader.py)."""
    name = module.path
    named = name.endswith(("norm", "norm1", "norm2", "norm3", "norm4")) or "layernorm" in name or "layer_norm" in name
    own_class = module.is_norm and any(tensor.name == "bias" for tensor in module.tensors)
    if module.has_weight and (named or own_class) and model.model_type.startswith(FP32_NORMS):
        return module.parameters
    if model.model_type != "gpt_oss" or four_bit:
        return 0
    return sum(math.prod(tensor.shape) for tensor in module.tensors if tensor.name.endswith("_proj_bias"))


def extra_bytes(model: ModelSpec, stack: Stack, plain: int, linear: int) -> Range:
    """Bytes by which the checkpoint that a 4-bit load fetches exceeds plain NF4 of the model; 0 for most checkpoints.

    A dynamic checkpoint keeps some layers in 16 bit, and only its files say which: its size counts where known, else
    what other dynamic checkpoints weigh more, limited by a measured load.

    plain, linear: bytes of the model in plain NF4, and of its linear layers without experts.
    """
    checkpoint, habits = model.unsloth_checkpoint, stack.habits
    four_bit = habits.unsloth_kernels and not habits.loads_plain_nf4 and stack.setup.precision in ("nf4", "nf4-dq")
    if not (four_bit and checkpoint and checkpoint.dynamic):
        return Range(0.0, 0.0, 0.0)
    if checkpoint.file_bytes is not None:
        more = max(0.0, float(checkpoint.file_bytes - plain))
        return Range(more, more, more)
    more = stack.assume.range(f"unsloth-dynamic-4bit-extra{'-moe' if model.has_experts else ''}").times(linear)
    most = math.inf if checkpoint.at_most_bytes is None else max(0.0, float(checkpoint.at_most_bytes - plain))
    return Range(min(more.low, most), min(more.expected, most), min(more.high, most))


def reads_quantized_experts(model: ModelSpec) -> bool:
    """Return True where the file that a 4-bit load fetches already holds the experts in 4 bit."""
    return bool(model.unsloth_checkpoint and model.unsloth_checkpoint.quantized)


def movable_embedding_bytes(model: ModelSpec, stack: Stack, trained: frozenset[str]) -> int:
    """Bytes of the embeddings that Unsloth may move to host memory: the input embedding, where the head does not share
    it, and other large tables, such as Gemma 4's per-layer embeddings (models/vision.py, _input_side_embeddings).
    trained: paths of modules that are trained in full, which stay."""
    if not stack.habits.moves_embedding:
        return 0
    tables = [each for each in model.layers if each.kind == "embedding" and each.path not in trained]
    sizes = {each.path: stack.compute_bytes * each.parameters for each in tables}
    first = 0 if model.tie_word_embeddings else sizes.get(model.input_embedding, 0)
    return first + sum(size for path, size in sizes.items() if path != model.input_embedding and size >= 2**28)


def loading_bytes(model: ModelSpec, stack: Stack) -> float:
    """Bytes beside the base at the fullest moment of loading it: a stack of experts in 16 bit that Unsloth is about to
    quantize, once fused and once as the file's tensor for each expert; where the file has it fused, the stack and its
    quantized copy. Counted while tiny checkpoints were loaded on a CPU; 0 where no stack is quantized."""
    if not stack.habits.quantizes_experts or reads_quantized_experts(model):
        return 0.0
    largest = max((_weights(each) for each in model.layers if each.kind == "experts"), default=0)
    return 2.0 * (1.25 if model.model_type.startswith(FUSED_IN_FILES) else 2.0) * largest


def dequantized_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Bytes of one whole weight in 16 bit, which bitsandbytes makes for each product and then drops; of quantized
    experts the larger of a block's two stacks, since a backward pass unpacks them again
    (unsloth_zoo/temporary_patches/moe_utils.py, _moe_recompute_enabled)."""
    if not stack.setup.quantized:
        return 0.0
    largest = shape.largest_linear
    if stack.habits.quantizes_experts and not stack.habits.one_expert_at_a_time:
        largest = max([largest, *(_weights(each) for each in model.layers if each.kind == "experts")])
    return float(stack.compute_bytes * largest * (stack.habits.litgpt or Litgpt()).unpacked_copies)
