"""What Unsloth 2026.10.9 does by itself, by model and card, and memory depends on.

Which families run its own blocks, which train in fp32 on a card without bf16, which experts it quantizes, what it
loads in 4 bit. Compared with the installed Unsloth in tests/core/cost/test_unsloth_rules.py.
"""

import math
from dataclasses import replace

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.device import Device
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import Habits, Stack
from rankviz.core.lora.config import Dtype
from rankviz.core.lora.route import OWN_FAMILIES, has_split_file
from rankviz.core.model.spec import LinearLayer, ModelSpec, PlainModule
from rankviz.core.quantity import Range

FORCED_FP32 = ("embedding_gemma2", "gemma3", "gemma4", "glm4_moe", "gpt_oss", "qwen3_5", "qwen3_moe")
"""How their model_types begin (unsloth_zoo/model_lists.py, models/loader.py): fp16 overflows in them."""
FP32_EMBEDDING = ("gemma3",)
"""Those of them whose embedding is raised too (unsloth_zoo/temporary_patches/gemma.py)."""
FP32_NORMS = (
    *("gemma3", "gemma4", "gpt_oss", "granitemoehybrid", "muse_glimmer", "olmo2", "olmo3", "qwen3_5", "qwen3_next"),
)
"""How the model_types begin whose norms are raised too: those of models/loader.py (UNSLOTH_HIGH_PRECISION_LAYERNORM),
and those whose norms multiply in fp32 (unsloth_zoo/compiler.py). Which modules those are is in models/vision.py."""
WITHOUT_FUSED_LOSS = ("Llama4ForConditionalGeneration",)
RESERVE_FACTOR = 1 + 1 / 16
RESERVE_BYTES_PER_PARAMETER = RESERVE_FACTOR * 16
"""fp32 weight and 12 more for each that trains (models/_utils.py, _training_reserve_bytes)."""
WINDOWED_EXPERTS = ("gpt_oss",)
"""model_types whose packed experts are unpacked in windows of at most half of what is free, on cards without bf16
(unsloth_zoo/temporary_patches/gpt_oss_grouped_qlora.py, _expert_window)."""
UNCOMPILED = ("gpt_oss",)
"""model_types whose blocks are never compiled (models/_block_compile.py, _SKIP)."""
EXPERT_PAIR = {"gate_up_proj", "down_proj"}
"""Names of the two fused parameters that Unsloth packs into 4 bit; experts under other names stay in 16 bit
(unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py, _is_expert_module)."""
PACKING_UNSLOTH_ZOO = (2026, 6, 2)
"""The first version of unsloth_zoo whose 4-bit loads pack them (PR #659)."""
UNHANDLED_EXPERTS = ("longcat_flash",)
"""model_types that have the pair and a forward pass that Unsloth does not take over (_expert_forward_is_handled)."""
FUSED_IN_FILES = ("gemma4", "gpt_oss", "llama4", "qwen3_5_moe", "qwen3_vl_moe")
"""How the model_types begin whose checkpoints hold stacks of experts; others have a tensor for each expert."""
KEPT_IN_16_BIT = (
    *("lm_head", "multi_modal_projector", "merger", "modality_projection", "mm_projector", "router", "mlp.gate"),
    *("block_sparse_moe.gate", "moe.gate", "mamba", "audio_tower", "vision_tower", "visual", "vision_embedder"),
    *("embed_vision", "embed_audio", "score", "classifier", "qa_outputs"),
)
"""Names that no quantizer touches under Unsloth, wherever they stand in a module's path. They replace transformers' own
list (unsloth_zoo/peft_utils.py, SKIP_QUANTIZATION_MODULES; patching_utils.py, _unsloth_should_convert_module)."""
ALSO_KEPT_IN_16_BIT = {
    "nemotron_h": ("out_proj",),
    "mamba": ("dt_proj",),
    "longcat_flash": ("q_b_proj", "kv_b_proj"),
    "longcat_flash_lsa": ("q_b_proj", "kv_b_proj"),
    "kimi_linear": ("self_attention_res_proj", "mlp_res_proj", "output_attn_res_proj"),
    "gemma3n": ("correction_coefs", "prediction_coefs", "altup_projections", "altup_unembed_projections"),
}
"""More of them by model_type (models/vision.py, _architecture_skip_modules)."""


def settled(stack: Stack, model: ModelSpec, device: Device) -> Stack:
    """The stack with what Unsloth decides once it sees the model and the card; any other program's as it is."""
    habits = stack.habits
    if not habits.unsloth_kernels:
        return stack
    setup = _as_loaded(stack.setup, model, device)
    four_bit = setup.precision == "nf4-dq"
    forced = forces_fp32(model, setup.precision, device)
    if model.architecture in WITHOUT_FUSED_LOSS and setup.loss_path in ("fused", "fused-func"):
        setup = replace(setup, loss_path="full")
    own = replace(
        habits,
        fast_blocks=model.model_type in OWN_FAMILIES and setup.precision != "int8",
        autocast=not forced,
        fp32_residual=forced,
        fp32_embedding=forced and model.model_type.startswith(FP32_EMBEDDING),
        quantizes_experts=four_bit and _packs_experts(habits, model),
        ampere=device.has_bf16,
        windows_experts=forced and model.model_type in WINDOWED_EXPERTS,
    )
    return replace(stack, setup=setup, measured_habits=own)


def compiles_blocks(model: ModelSpec, stack: Stack) -> bool:
    """Whether torch.compile makes each block's code: not after forced fp32, nor in Unsloth of 2025 and before
    (models/_block_compile.py)."""
    habits = stack.habits
    today = habits.unsloth_kernels and habits.unsloth_loss not in ("func-2025", "cut")
    return today and not habits.fp32_residual and model.model_type not in UNCOMPILED


def _packs_experts(habits: Habits, model: ModelSpec) -> bool:
    """Whether the version of Unsloth that the habits are of has the experts in 4 bit: as linear layers, which is how
    transformers 4 and the checkpoints of gpt-oss have them, or packed."""
    if habits.one_expert_at_a_time or has_split_file(model):
        return True
    return habits.packs_experts and quantizes_experts(model)


def stays_16_bit(model: ModelSpec, setup: TrainingSetup) -> bool:
    """Whether Unsloth loads the model in 16 bit though it is asked to quantize it."""
    checkpoint = model.unsloth_checkpoint
    return setup.framework == "unsloth" and setup.quantized and checkpoint is not None and checkpoint.stays_16_bit


def _as_loaded(setup: TrainingSetup, model: ModelSpec, device: Device) -> TrainingSetup:
    """The setup with the precision that Unsloth really loads: load_in_4bit quantizes the maxima too."""
    if not stays_16_bit(model, setup):
        return replace(setup, precision="nf4-dq") if setup.precision == "nf4" else setup
    return replace(setup, precision="bf16" if device.has_bf16 else "fp16")


def forces_fp32(model: ModelSpec, precision: str, device: Device) -> bool:
    """Whether the model trains in fp32 where fp16 is asked for or the card has no bf16."""
    half = precision == "fp16" or (precision != "fp32" and not device.has_bf16)
    return half and overflows_in_fp16(model.model_type)


def overflows_in_fp16(model_type: str) -> bool:
    """Whether fp16 is too small for the numbers of these models."""
    return model_type.startswith(FORCED_FP32)


def compute_dtype(model_type: str, setup: TrainingSetup, *, bf16: bool) -> Dtype:
    """Dtype that RankViz's scripts and probes compute in, on a card with bf16 or without: there fp32 for a model that
    overflows in fp16, unless fp16 itself is asked for. Unsloth keeps products in fp16 then (models/vision.py)."""
    if setup.precision in ("fp16", "fp32"):
        return setup.precision
    if bf16:
        return "bf16"
    return "fp32" if setup.framework != "unsloth" and overflows_in_fp16(model_type) else "fp16"


def quantizes_experts(model: ModelSpec) -> bool:
    """Whether a 4-bit load packs the fused experts: the pair of gate_up_proj and down_proj, so not Nemotron-H's."""
    handled = model.model_type not in UNHANDLED_EXPERTS
    return handled and EXPERT_PAIR <= {layer.name for layer in model.layers if layer.kind == "experts"}


def moved_table(model: ModelSpec) -> str:
    """What Unsloth moves to host memory on a card that is short of room, in words: a tied embedding stays."""
    return "per-layer embeddings" if model.tie_word_embeddings else "input embedding"


def norm_in_fp32(model: ModelSpec, module: PlainModule) -> bool:
    """Whether Unsloth raises this module to fp32, as it does with norms of some families: by name, or of torch's own
    classes, which have a bias."""
    name = module.path
    named = name.endswith(("norm", "norm1", "norm2", "norm3", "norm4")) or "layernorm" in name or "layer_norm" in name
    own_class = module.is_norm and any(tensor.name == "bias" for tensor in module.tensors)
    return module.has_weight and (named or own_class) and model.model_type.startswith(FP32_NORMS)


def fp32_tensors(model: ModelSpec, module: PlainModule, *, four_bit: bool) -> int:
    """Parameters of one copy of a module that Unsloth raises to fp32: norms of some families, and the biases of
    gpt-oss's experts unless they are loaded in 4 bit (models/loader.py)."""
    if norm_in_fp32(model, module):
        return module.parameters
    if model.model_type != "gpt_oss" or four_bit:
        return 0
    return sum(math.prod(tensor.shape) for tensor in module.tensors if tensor.name.endswith("_proj_bias"))


def is_quantized(model: ModelSpec, layer: LinearLayer) -> bool:
    """Whether a 4-bit or 8-bit load by Unsloth converts this linear layer."""
    if layer.kind not in ("linear", "conv1d", "lm_head") or layer.subclass:
        return False
    kept = (*KEPT_IN_16_BIT, *ALSO_KEPT_IN_16_BIT.get(model.model_type.removesuffix("_text"), ()))
    path = layer.path
    return not any(path.startswith(name) or path.endswith(name) or f".{name}." in f".{path}." for name in kept)


def extra_bytes(model: ModelSpec, stack: Stack, plain: int, linear: int) -> Range:
    """What the checkpoint that a 4-bit load fetches weighs more than plain NF4 of the same model.

    plain, linear: bytes of the model's own checkpoint in NF4, so without what is raised to fp32 after loading, and of
    its linear layers, experts left out.

    A dynamic checkpoint keeps some layers in 16 bit, and which ones only its files say: its known size, or what other
    dynamic checkpoints weigh more, and no more than it was seen to take. Plain checkpoints, and models that Unsloth
    quantizes as it loads them, add nothing.
    """
    nothing = Range(0.0, 0.0, 0.0)
    checkpoint = model.unsloth_checkpoint
    four_bit = stack.habits.unsloth_kernels and stack.setup.precision in ("nf4", "nf4-dq")
    if not four_bit or checkpoint is None or not checkpoint.dynamic or stack.habits.loads_plain_nf4:
        return nothing
    if checkpoint.file_bytes is not None:
        more = max(0.0, float(checkpoint.file_bytes - plain))
        return Range(more, more, more)
    more = dynamic_share(model, stack.assume).times(linear)
    if checkpoint.at_most_bytes is None:
        return more
    most = max(0.0, float(checkpoint.at_most_bytes - plain))
    return Range(min(more.low, most), min(more.expected, most), min(more.high, most))


def dynamic_share(model: ModelSpec, assume: Assumptions) -> Range:
    """By how much of the linear layers' bytes in NF4 a dynamic checkpoint is larger than a plain one."""
    return assume.range(f"unsloth-dynamic-4bit-extra{'-moe' if model.has_experts else ''}")


def reads_quantized_experts(model: ModelSpec) -> bool:
    """Whether the file that a 4-bit load fetches holds the experts in 4 bit already."""
    return model.unsloth_checkpoint is not None and model.unsloth_checkpoint.quantized


def rebuilds_experts(model: ModelSpec) -> bool:
    """Whether it holds a tensor for each expert, which Unsloth rebuilds into stacks whose maxima are in fp32
    (unsloth_zoo/temporary_patches/moe_utils_bnb4bit.py)."""
    return reads_quantized_experts(model) and not has_split_file(model)


def training_reserve_bytes(model: ModelSpec, stack: Stack) -> float:
    """What Unsloth wants free before it leaves an untied embedding on the card, the adapter's own needs aside: 48 bytes
    a token and hidden unit, fp32 logits of at most 2,048 tokens, a sixteenth more and 256 MiB (unsloth_zoo
    block_swap.py, estimate_training_reserve_bytes). One row is reckoned with, whatever the batch."""
    length = stack.setup.max_length
    return RESERVE_FACTOR * (48.0 * length * model.hidden_size + 4.0 * min(length, 2048) * model.vocab_size) + 2**28
