"""The components of the memory estimate: bytes of each part, worked out from shapes and settings.

Every function says where its formula was read. H is the hidden size, Q, K and M the widths of queries, keys and MLP,
T the tokens of a micro-step after padding, V the vocabulary, p the trainable parameters, r the rank.
"""

from dataclasses import dataclass

from rankviz.core.assumptions import Assumptions
from rankviz.core.blocks import BlockKind, ModelShape
from rankviz.core.lora import Framework, adapter_dtype, saved_dtype
from rankviz.core.model import ModelSpec
from rankviz.core.training import TrainingSetup

DTYPE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """What the parts depend on besides the model."""

    framework: Framework
    setup: TrainingSetup
    use_dora: bool
    assume: Assumptions

    @property
    def compute_bytes(self) -> int:
        """Of one activation: 4-bit and 8-bit bases compute in 16 bit."""
        return 4 if self.setup.precision == "fp32" else 2

    @property
    def kbit_fp32(self) -> bool:
        """PEFT's prepare_model_for_kbit_training (utils/other.py) raised what isn't quantized, and so the hidden
        states, to fp32. Plain PEFT scripts call it; TRL 1.15 and Unsloth don't."""
        return self.framework == "peft" and self.setup.quantized

    @property
    def offloads(self) -> bool:
        """Unsloth moves layer inputs to pinned host memory (unsloth_zoo/gradient_checkpointing.py)."""
        return self.framework == "unsloth" and self.setup.checkpointing == "unsloth"

    @property
    def adapter_dtype_bytes(self) -> int:
        """In memory as in the file: core.lora.adapter_dtype."""
        return DTYPE_BYTES[adapter_dtype(self.framework, self.setup.precision)]

    @property
    def saved_dtype_bytes(self) -> int:
        """Of modules_to_save: core.lora.saved_dtype, but fp32 once PEFT's k-bit preparation has raised them."""
        return 4 if self.kbit_fp32 else DTYPE_BYTES[saved_dtype(self.framework, self.setup.precision)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedBytes:
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


def base_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> int:
    """Frozen weights: what a quantizer reaches at its width, the rest (embeddings, head, norms) in 16 bit or, after
    PEFT's k-bit preparation, in fp32. NF4 is 4 bits and an fp32 maximum for 64 weights, double quantization makes
    that maximum 8 bits (bitsandbytes functional.quantize_4bit); int8 keeps an fp32 scale for each output row.
    """
    if not stack.setup.quantized:
        return model.total_parameters * stack.compute_bytes
    quantized = model.total_parameters - model.unquantized_parameters
    width = stack.assume.value(f"weight-bytes-{stack.setup.precision}")
    scales = 4 * shape.linear_rows if stack.setup.precision == "int8" else 0
    return round(quantized * width) + scales + model.unquantized_parameters * (4 if stack.kbit_fp32 else 2)


def checkpoint_bytes(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Each block's input, kept for the backward pass: blocks · T · H · 2, or · 4 where hidden states are fp32. None on
    the GPU where Unsloth moves them to host memory, none without checkpointing."""
    if stack.setup.checkpointing == "none" or stack.offloads:
        return 0.0
    width = 4 if stack.kbit_fp32 else stack.compute_bytes
    return float(shape.blocks * stack.setup.tokens_per_micro_step * model.hidden_size * width)


def block_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> tuple[float, float]:
    """Working set of one block in its backward pass, and its growth with each unit of rank.

    transformers and PEFT:  2T(6H + 2Q + 2K + 3M + 2·(inputs of targeted modules) + 2M + 2H); the inputs are PEFT's
    fp32 copies, made where adapters are fp32 and the rest 16-bit.
    Unsloth:  2T(12H + 2Q + 2K + 3M); its kernels recompute x·A and copy no input (kernels/fast_lora.py).
    Without checkpointing only the gradients are new, 2T(2M + 2H); the rest is in `kept_bytes`.
    Eager attention adds the batch · heads · S² matrix several times.
    """
    tokens, width = stack.setup.tokens_per_micro_step, stack.compute_bytes
    hidden = model.hidden_size
    gradients = 2 * kind.mlp_hidden + 2 * hidden
    if stack.setup.checkpointing == "none":
        return float(tokens * width * gradients), 0.0
    if stack.framework == "unsloth":
        elements = 12 * hidden + kind.attention + kind.mlp
        return tokens * width * elements + _eager_bytes(kind, model, stack), float(tokens * width)
    fixed, slope = kept_bytes(kind, model, stack)
    return fixed + tokens * width * gradients, slope


def kept_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> tuple[float, float]:
    """What one block keeps for its backward pass, and its growth with each unit of rank (x·A of each module).

    transformers and PEFT: 2T(6H + 2Q + 2K + 3M + 2·inputs). Unsloth: 2T(4H + 2Q + 2K + 2M), since its MLP works in
    place. Compared with published rows only without Unsloth.
    """
    tokens, width = stack.setup.tokens_per_micro_step, stack.compute_bytes
    eager = _eager_bytes(kind, model, stack)
    if stack.framework == "unsloth":
        elements = 4 * model.hidden_size + kind.attention + kind.mlp - kind.mlp_hidden
        return tokens * width * elements + eager, 0.0
    elements = 6 * model.hidden_size + kind.attention + kind.mlp
    copies = 4 * kind.targeted_inputs if stack.adapter_dtype_bytes > width else 0
    return tokens * (width * elements + copies) + eager, float(tokens * width * kind.targeted_modules)


def _eager_bytes(kind: BlockKind, model: ModelSpec, stack: Stack) -> float:
    if stack.setup.attn_implementation != "eager" or not kind.attention_width:
        return 0.0
    copies = stack.assume.value("eager-attention-bytes-kbit" if stack.kbit_fp32 else "eager-attention-bytes")
    setup = stack.setup
    return copies * setup.per_device_train_batch_size * model.num_attention_heads * setup.max_length**2


def logits_bytes(model: ModelSpec, stack: Stack) -> float:
    """The loss: bytes a logit times T · V. Unsloth's fused loss is capped further by what is free on the card;
    TRL's "nll" (and Liger's) hold one tile of logits and the gradient of the hidden states."""
    tokens = stack.setup.tokens_per_micro_step
    logits = tokens * model.vocab_size
    assume = stack.assume
    match stack.setup.loss_path:
        case "fused" if stack.framework == "unsloth":
            return assume.value("logits-bytes-unsloth-fused") * logits
        case "fused":
            tile = min(logits, assume.value("trl-loss-tile-logits"))
            return stack.compute_bytes * tile + 4.0 * tokens * model.hidden_size
        case "triton":
            return assume.value("logits-bytes-triton") * logits
    if stack.setup.precision == "fp32":
        return assume.value("logits-bytes-full-fp32") * logits
    return assume.value("logits-bytes-full-kbit" if stack.kbit_fp32 else "logits-bytes-full") * logits


def scratch_bytes(shape: ModelShape, stack: Stack) -> float:
    """One de-quantized weight (bitsandbytes' backward), DoRA's merged weight for its norm, and PEFT's merged experts
    (ParamWrapper adds the adapter to the whole expert parameter, and its gradient is as large)."""
    scratch = stack.compute_bytes * shape.largest_linear if stack.setup.quantized else 0.0
    if stack.use_dora:
        scratch += stack.assume.value("dora-norm-bytes") * shape.largest_targeted
    if stack.framework != "unsloth":
        experts = [kind.targeted_expert_weights for kind in shape.kinds]
        if stack.setup.checkpointing == "none":
            most = sum(kind.count * kind.targeted_expert_weights for kind in shape.kinds)
        else:
            most = max(experts, default=0)
        scratch += stack.assume.value("merged-experts-copies") * stack.compute_bytes * most
    return scratch


def dynamic_extra_bytes(base: int, stack: Stack) -> float:
    """What Unsloth's dynamic 4-bit checkpoints, to which short names resolve, may weigh more than plain NF4."""
    if stack.framework != "unsloth" or stack.setup.precision not in ("nf4", "nf4-dq"):
        return 0.0
    return base * stack.assume.range("unsloth-dynamic-4bit-extra").high


def working_width(model: ModelSpec, shape: ModelShape, stack: Stack) -> float:
    """Half-width of the band around activations, logits and scratch, as a share: the setting's own and, for what the
    formula only approximates, more, added as independent errors."""
    checkpointing = stack.setup.checkpointing
    setting = "unsloth" if stack.framework == "unsloth" else "hf"
    names = [f"width-{setting}-none" if checkpointing == "none" else f"width-{setting}"]
    if model.num_experts:
        names.append("width-experts")
    if any(not kind.attention_width for kind in shape.kinds):
        names.append("width-no-attention")
    if stack.use_dora:
        names.append("width-dora")
    if stack.setup.precision in ("int8", "fp32"):
        names.append("width-int8-fp32")
    return sum(stack.assume.value(name) ** 2 for name in names) ** 0.5
