"""Describes a training stack: the settings, the training program's own behaviour, and decisions of Unsloth."""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from rankviz.core.cost.setup import Device, Gpu, TrainingSetup
from rankviz.core.lora.config import Dtype, adapter_dtype, saved_dtype
from rankviz.core.lora.resolve import PACKED_EXPERTS
from rankviz.core.lora.targets import OWN_FAMILIES, has_split_file
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Assumptions

DTYPE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
UnslothLoss = Literal["chunked", "func", "func-2025", "cut"]
"""Versions of Unsloth's fused loss: "chunked" is the current one, in chunks of rows; "func" the previous one
(UNSLOTH_CHUNKED_CE=0); "func-2025" its form of 2025, with a memory budget four times as large; "cut" Apple's cut
cross-entropy of 2024, without logits."""
OFFLOAD_MIN_LENGTH = 512
"""Tokens per example below which Unsloth checkpoints as transformers does (apply_unsloth_gradient_checkpointing)."""


class Litgpt(NamedTuple):
    """Behaviour in which litgpt of 2023 and 2024 on Fabric (finetune/lora.py, lora.py, model.py) differs: LoRA dropout
    0.05, inputs of 4-bit layers kept (bitsandbytes before 0.43), adapters of a fused qkv projection padded to its
    width, an untied head. The fields were found because its measured rows did not fit the formulas
    (assumptions.json)."""

    logit_bytes: float = 2  # of the logits that the loss gets (Fabric's convert_output)
    quantizes_head: bool = False  # Lightning's bitsandbytes quantizes every nn.Linear
    unpacked_copies: float = 1  # of a quantized weight at once
    keeps_previous_graph: bool = False  # of the last micro-step, until the next forward pass is over, with its logits


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """Behaviour of a training program that memory depends on and that is not a setting."""

    on_cpu: bool = False
    unsloth_kernels: bool = False  # Unsloth's loss, checkpointing and LoRA functions
    fast_blocks: bool = True
    """With Unsloth, True for its own families, whose blocks compute the MLP in place and recompute x·A
    (kernels/fast_lora.py). Other families run transformers' classes."""
    fp32_residual: bool = False  # hidden states are fp32 while products stay in 16 bit: Unsloth's forced fp32
    fp32_compute: bool = False  # a quantized base is multiplied in fp32, and the rest is in fp32
    fp32_embedding: bool = False  # the embedding is held in fp32, and with it a tied head
    moves_embedding: bool = False
    """True where Unsloth may move an untied input embedding to host memory on a card short of room (models/_utils.py,
    offload_embedding_if_tight)."""
    triton_kernels: bool = False  # norms, rotary embeddings and losses in fused kernels, the rest transformers' own
    autocast: bool = True  # as the Trainer has it; PEFT's fp32 copy of an input is then kept in 16 bit
    raised: Literal["none", "norms", "all"] = "none"
    """Tensors that prepare_model_for_kbit_training (peft utils/other.py) has cast to fp32: "all" that are not
    quantized, or the "norms". Hidden states are fp32 in both cases."""
    adapter_parameter_bytes: int = 4
    saved_parameter_bytes: int = 2  # a weight of modules_to_save
    quantizes_experts: bool = False
    packs_experts: bool = True  # this version of Unsloth can quantize stacks of experts (PACKING_UNSLOTH_ZOO)
    one_expert_at_a_time: bool = False  # before transformers 5 each expert was its own nn.Linear, run one by one
    litgpt: Litgpt | None = None
    dropout: bool = False  # on the inputs of adapters, which keeps a copy and a mask of each
    own_models: bool = False
    """True for a program with its own model code (litgpt, torchtune), which calls SDPA so that a fused kernel runs. In
    such a program, attention with a soft cap on its scores holds the attention matrix."""
    rebinds_logits: bool = False
    """True for transformers before 4.46, which freed the 16-bit logits once their fp32 copy existed, and for Trainers
    of that time, which freed the model's output once the loss was known."""
    unsloth_loss: UnslothLoss = "chunked"
    ampere: bool = True  # the card is of Ampere or newer, which Unsloth's loss has tiles for
    windows_experts: bool = False  # packed experts are unpacked some at a time, in at most half of what is free
    loads_plain_nf4: bool = False  # Unsloth before dynamic 4-bit checkpoints, or a row that names none
    holds_logits: bool = False  # the output, or as much in its place, is referenced until the backward pass is over
    mlx: bool = False
    """True for MLX LM: its compiled graph casts an input once to fp32 for all adapters that read it, training attention
    always holds its matrix, and 4- and 8-bit weights, embeddings among them, are never unpacked."""
    copies_keys: bool = False  # keys and values are copied to every query head before SDPA, whatever kernel runs
    weight_bytes: float | None = None  # of a quantized weight, where the format is none of RankViz's


CPU_HABITS = Habits(on_cpu=True, autocast=False)
"""Habits without a GPU: of Unsloth's CPU backend, of TRL and of PEFT."""


def habits_of(setup: TrainingSetup, gpu: Gpu | None = None) -> Habits:
    """Return the habits of a current framework: Unsloth, TRL's SFTTrainer, or PEFT with its k-bit preparation under
    transformers' Trainer or a plain loop. All train under 16-bit autocast and free the model's output before the
    backward pass (transformers 5.17 Trainer.training_step; assets/templates/train.py.jinja)."""
    framework, compute = setup.framework, "bf16" if gpu is None or gpu.supports_bf16 else "fp16"
    if framework == "mlx":
        return Habits(mlx=True, autocast=False)
    return Habits(
        unsloth_kernels=framework == "unsloth",
        raised="all" if framework == "peft" and setup.quantized else "none",
        moves_embedding=framework == "unsloth",
        unsloth_loss="func" if setup.loss_path == "fused-func" else "chunked",
        adapter_parameter_bytes=DTYPE_BYTES[adapter_dtype(framework, setup.precision, compute=compute)],
        saved_parameter_bytes=DTYPE_BYTES[saved_dtype(framework, setup.precision, compute=compute)],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """All that memory and time depend on besides the model: settings, program and card."""

    setup: TrainingSetup  # without "auto"
    use_dora: bool
    assume: Assumptions
    measured_habits: Habits | None = None  # of the program that a measured row comes from; None is the framework's
    gpu: Gpu | None = None  # row of the card in the table; None is a card of Ampere or newer
    habits: Habits = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "habits", self.measured_habits or habits_of(self.setup, self.gpu))

    def with_habits(self, **changes: object) -> "Stack":
        """Return a copy with some habits changed."""
        return replace(self, measured_habits=replace(self.habits, **changes))

    @property
    def kind(self) -> str:
        """Kind of setting, whose measured rows give the width of bands; of several GPUs whether they share the base."""
        if self.setup.gpus > 1:
            return "several-sharded" if self.setup.sharded else "several-copies"
        return self.kind_with(matrix=self.setup.attn_implementation == "eager")

    def kind_with(self, *, matrix: bool) -> str:
        """Return the kind of setting for `Stack.kind`. matrix: True where blocks hold the attention matrix."""
        kernels = "unsloth" if self.habits.unsloth_kernels else "hf"
        if self.habits.on_cpu or self.habits.mlx:
            return "cpu" if self.habits.on_cpu else "mlx"
        return kernels + ("-eager" if matrix else "" if self.checkpoints else "-none")

    @property
    def time_kind(self) -> str:
        """Kind of setting for timings: "fused" where operators are fused, "mlx", or "hf"."""
        fused = self.habits.unsloth_kernels or self.habits.triton_kernels
        return "fused" if fused else "mlx" if self.habits.mlx else "hf"

    @property
    def checkpoints(self) -> bool:
        return self.setup.gradient_checkpointing != "none"

    @property
    def own_blocks(self) -> bool:
        """True for blocks of Unsloth's own families."""
        return self.habits.unsloth_kernels and self.habits.fast_blocks

    @property
    def computes_fp32(self) -> bool:
        """True where matrix products are in fp32."""
        return self.setup.precision == "fp32" or self.habits.fp32_compute

    @property
    def compute_bytes(self) -> int:
        """Bytes of one operand of a matrix product: 2, with quantized bases too; 4 in fp32."""
        return 4 if self.computes_fp32 else 2

    @property
    def activation_bytes(self) -> int:
        """Bytes of one activation between products; 4 also where hidden states were cast to fp32."""
        return 4 if self.habits.raised != "none" else self.compute_bytes

    @property
    def autocasts(self) -> bool:
        """True where matrix products cast their fp32 operands to 16 bit."""
        return self.habits.autocast and self.compute_bytes == 2

    @property
    def copies_inputs(self) -> bool:
        """True where each adapter casts its input to another dtype and keeps the copy. bitsandbytes leaves the cast to
        autocast (peft tuners/lora/bnb.py, requires_conversion), unless kernels replace PEFT's."""
        by_autocast = self.setup.quantized and self.autocasts and not self.habits.triton_kernels
        wider = self.habits.adapter_parameter_bytes > self.activation_bytes and not by_autocast
        return (wider or (self.autocasts and self.activation_bytes == 4)) and not self.habits.unsloth_kernels

    @property
    def attention_bytes(self) -> int:
        """Bytes of one element of queries, keys and values in the attention kernel."""
        return 2 if self.autocasts else self.activation_bytes

    @property
    def compute_capability(self) -> float:
        """Compute capability of the card; where unknown, the lowest that fits its bf16 support."""
        known = self.gpu and self.gpu.compute_capability
        return known or (8.0 if self.gpu is None or self.gpu.supports_bf16 else 7.5)

    @property
    def residual_bytes(self) -> int:
        """Bytes of one element of the hidden states between blocks."""
        return 4 if self.habits.fp32_residual else self.activation_bytes


def stack_on(device: Device, training: TrainingSetup, use_dora: bool, assume: Assumptions) -> Stack:
    """Return the stack for these settings on this device. On a CPU all frameworks train plain PEFT modules without
    autocast, and with transformers' own loss, since other losses are GPU kernels."""
    setup = training.without_auto(device)
    if device.cuda:
        return Stack(setup=setup, use_dora=use_dora, assume=assume, gpu=device.gpu)
    plain = replace(setup, framework="peft", loss_path="full")
    return Stack(setup=plain, use_dora=use_dora, assume=assume, measured_habits=CPU_HABITS)


FORCED_FP32 = ("embedding_gemma2", "gemma3", "gemma4", "glm4_moe", "gpt_oss", "qwen3_5", "qwen3_moe")
"""Beginnings of model_types that overflow in fp16 (unsloth_zoo/model_lists.py, models/loader.py)."""
FP32_EMBEDDING = ("gemma3",)
"""Beginnings of those of FORCED_FP32 whose embedding is fp32 too (unsloth_zoo/temporary_patches/gemma.py)."""
WITHOUT_FUSED_LOSS = ("Llama4ForConditionalGeneration",)
PACKING_UNSLOTH_ZOO = (2026, 6, 2)
"""First version of unsloth_zoo whose 4-bit loads quantize fused experts (PR #659)."""


def settled(stack: Stack, model: ModelSpec, device: Device) -> Stack:
    """Return the stack with Unsloth's decisions for this model and card; unchanged for other programs."""
    habits, setup = stack.habits, stack.setup
    if not habits.unsloth_kernels:
        return stack
    if stays_16_bit(model, setup):
        setup = replace(setup, precision="bf16" if device.has_bf16 else "fp16")
    elif setup.precision == "nf4":  # load_in_4bit quantizes the maxima too
        setup = replace(setup, precision="nf4-dq")
    if model.architecture in WITHOUT_FUSED_LOSS and setup.loss_path in ("fused", "fused-func"):
        setup = replace(setup, loss_path="full")
    forced = forces_fp32(model, setup.precision, device)
    # Experts are in 4 bit as linear layers, as transformers 4 and the checkpoints of gpt-oss have them, or packed.
    linear_experts = habits.one_expert_at_a_time or has_split_file(model)
    decided = replace(
        habits,
        fast_blocks=model.model_type in OWN_FAMILIES and setup.precision != "int8",
        autocast=not forced,
        fp32_residual=forced,
        fp32_embedding=forced and model.model_type.startswith(FP32_EMBEDDING),
        quantizes_experts=setup.precision == "nf4-dq"
        and (linear_experts or (habits.packs_experts and quantizes_experts(model))),
        ampere=device.has_bf16,
        # unsloth_zoo/temporary_patches/gpt_oss_grouped_qlora.py, _expert_window
        windows_experts=forced and model.model_type == "gpt_oss",
    )
    return replace(stack, setup=setup, measured_habits=decided)


def stays_16_bit(model: ModelSpec, setup: TrainingSetup) -> bool:
    """Return True where Unsloth loads the model in 16 bit although the settings ask for a quantized base."""
    checkpoint = model.unsloth_checkpoint
    return setup.framework == "unsloth" and setup.quantized and checkpoint is not None and checkpoint.stays_16_bit


def forces_fp32(model: ModelSpec, precision: str, device: Device) -> bool:
    """Return True where Unsloth trains in fp32: the model overflows in fp16, and there is no bf16."""
    half = precision == "fp16" or (precision != "fp32" and not device.has_bf16)
    return half and overflows_in_fp16(model.model_type)


def overflows_in_fp16(model_type: str) -> bool:
    """Return True for a model_type whose activations are too large for fp16."""
    return model_type.startswith(FORCED_FP32)


def compute_dtype(model_type: str, setup: TrainingSetup, *, bf16: bool) -> Dtype:
    """Return the dtype in which RankViz's scripts and probes compute. Without bf16, a model that overflows in fp16
    computes in fp32, unless fp16 is set or Unsloth trains (models/vision.py)."""
    if setup.precision in ("fp16", "fp32"):
        return setup.precision
    if bf16:
        return "bf16"
    return "fp32" if setup.framework != "unsloth" and overflows_in_fp16(model_type) else "fp16"


def quantizes_experts(model: ModelSpec) -> bool:
    """Return True where Unsloth's 4-bit load quantizes the fused experts, which must be gate_up_proj and down_proj."""
    handled = model.model_type != "longcat_flash"  # left to transformers' code (_expert_forward_is_handled)
    return handled and PACKED_EXPERTS <= {layer.name for layer in model.layers if layer.kind == "experts"}
