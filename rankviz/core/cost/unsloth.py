"""What Unsloth 2026.10.9 does by itself, by model and card, and memory depends on.

Which families run its own blocks, which train in fp32 on a card without bf16, which experts it quantizes, what it
loads in 4 bit. Compared with the installed Unsloth in tests/core/cost/test_unsloth_rules.py.
"""

from dataclasses import replace

from rankviz.core.cost.device import Device
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import Stack
from rankviz.core.lora.route import OWN_FAMILIES
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range

FORCED_FP32 = ("embedding_gemma2", "gemma3", "gemma4", "glm4_moe", "gpt_oss", "qwen3_5", "qwen3_moe")
"""How their model_types begin (unsloth_zoo/model_lists.py, models/loader.py): fp16 overflows in them."""
FP32_EMBEDDING = ("gemma3",)
"""Those of them whose embedding is raised too (unsloth_zoo/temporary_patches/gemma.py)."""
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


def settled(stack: Stack, model: ModelSpec, device: Device) -> Stack:
    """The stack with what Unsloth decides once it sees the model and the card; any other program's as it is."""
    habits = stack.habits
    if not habits.unsloth_kernels:
        return stack
    setup = _as_loaded(stack.setup, model, device)
    four_bit = setup.precision in ("nf4", "nf4-dq")
    forced = forces_fp32(model, setup.precision, device)
    if model.architecture in WITHOUT_FUSED_LOSS and setup.loss_path in ("fused", "fused-func"):
        setup = replace(setup, loss_path="full")
    own = replace(
        habits,
        fast_blocks=model.model_type in OWN_FAMILIES and setup.precision != "int8",
        autocast=not forced,
        fp32_residual=forced,
        fp32_embedding=forced and model.model_type.startswith(FP32_EMBEDDING),
        quantizes_experts=four_bit and quantizes_experts(model),
        ampere=device.gpu is None or device.gpu.supports_bf16,
        windows_experts=forced and model.model_type in WINDOWED_EXPERTS,
    )
    return replace(stack, setup=setup, measured_habits=own)


def compiles_blocks(model: ModelSpec, stack: Stack) -> bool:
    """Whether torch.compile makes each block's code: not after forced fp32, nor in Unsloth of 2025 and before
    (models/_block_compile.py)."""
    habits = stack.habits
    today = habits.unsloth_kernels and habits.unsloth_loss not in ("func-2025", "cut")
    return today and not habits.fp32_residual and model.model_type not in UNCOMPILED


def stays_16_bit(model: ModelSpec, setup: TrainingSetup) -> bool:
    """Whether Unsloth loads the model in 16 bit though it is asked to quantize it."""
    checkpoint = model.unsloth_checkpoint
    return setup.framework == "unsloth" and setup.quantized and checkpoint is not None and checkpoint.stays_16_bit


def _as_loaded(setup: TrainingSetup, model: ModelSpec, device: Device) -> TrainingSetup:
    """The setup with the precision that Unsloth really loads."""
    if not stays_16_bit(model, setup):
        return setup
    half = "bf16" if device.gpu is None or device.gpu.supports_bf16 else "fp16"
    return replace(setup, precision=half)


def forces_fp32(model: ModelSpec, precision: str, device: Device) -> bool:
    """Whether the model trains in fp32 where fp16 is asked for or the card has no bf16."""
    without_bf16 = device.gpu is not None and not device.gpu.supports_bf16
    half = precision == "fp16" or (without_bf16 and precision != "fp32")
    return half and model.model_type.startswith(FORCED_FP32)


def quantizes_experts(model: ModelSpec) -> bool:
    """Whether a 4-bit load packs the fused experts: the pair of gate_up_proj and down_proj, so not Nemotron-H's."""
    return EXPERT_PAIR <= {layer.name for layer in model.layers if layer.kind == "experts"}


def extra_bytes(model: ModelSpec, stack: Stack, plain: int) -> Range:
    """What the checkpoint that a 4-bit load fetches weighs more than plain NF4 of the same model.

    plain: bytes of the model's own checkpoint in NF4, so without what is raised to fp32 after loading.

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
    more = stack.assume.range("unsloth-dynamic-4bit-extra").times(plain)
    if checkpoint.at_most_bytes is None:
        return more
    most = max(0.0, float(checkpoint.at_most_bytes - plain))
    return Range(min(more.low, most), min(more.expected, most), min(more.high, most))


def training_reserve_bytes(model: ModelSpec, stack: Stack) -> float:
    """What Unsloth wants free before it leaves an untied embedding on the card, the adapter's own needs aside: 48 bytes
    a token and hidden unit, fp32 logits of at most 2,048 tokens, a sixteenth more and 256 MiB (unsloth_zoo
    block_swap.py, estimate_training_reserve_bytes). One row is reckoned with, whatever the batch."""
    length = stack.setup.max_length
    return RESERVE_FACTOR * (48.0 * length * model.hidden_size + 4.0 * min(length, 2048) * model.vocab_size) + 2**28
