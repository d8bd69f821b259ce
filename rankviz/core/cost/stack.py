"""Describes a training stack: the settings, and the defaults of the program that trains.

RankViz offers three programs (core.lora.config.Framework). Published measurements come from more of them, so their
habits are here too, each with where it was read; `core.accuracy.predicted` predicts their rows with the same formulas.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.device import Device
from rankviz.core.cost.gpu import Gpu
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import adapter_dtype, saved_dtype

DTYPE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
Raised = Literal["none", "norms", "all"]
UnslothLoss = Literal["chunked", "func", "func-2025", "cut"]
"""Unsloth's fused loss: today's, in chunks of rows; the one before, which UNSLOTH_CHUNKED_CE=0 still asks for; that one
as it was in 2025, which allowed itself four times its budget; and Apple's cut cross-entropy of 2024, without logits."""
OFFLOAD_MIN_LENGTH = 512
"""Below it Unsloth checkpoints as transformers does (models/_utils.py, apply_unsloth_gradient_checkpointing)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """What a program does that memory depends on and that no setting says."""

    on_cpu: bool = False
    unsloth_kernels: bool = False
    """Unsloth's loss, checkpointing and LoRA functions."""
    fast_blocks: bool = True
    """With Unsloth: blocks of its own families, whose MLP works in place and recomputes x·A (kernels/fast_lora.py).
    Other families run transformers' classes."""
    fp32_residual: bool = False
    """Hidden states between blocks are fp32 while products stay in 16 bit: Unsloth's forced fp32."""
    fp32_compute: bool = False
    """A quantized base is multiplied in fp32, and all that isn't quantized is in fp32."""
    fp32_embedding: bool = False
    """The embedding is held in fp32, and with it a tied head."""
    moves_embedding: bool = False
    """Unsloth moves an untied input embedding to host memory where the card is short of room (models/_utils.py,
    offload_embedding_if_tight)."""
    triton_kernels: bool = False
    """Norms, rotary embeddings and losses in fused kernels, the rest transformers' own."""
    autocast: bool = True
    """16-bit autocast, as the Trainer has it; PEFT's fp32 copy of an input is then kept in 16 bit."""
    raised: Raised = "none"
    """What prepare_model_for_kbit_training (peft utils/other.py) left in fp32: everything that isn't quantized, or, as
    some programs have it, the norms alone. Hidden states are fp32 either way."""
    adapter_bytes: int = 4
    saved_bytes: int = 2
    """Bytes a weight of modules_to_save."""
    lora_dropout: bool = False
    """Each adapter keeps a dropped copy of its input and a mask."""
    keeps_quantized_inputs: bool = False
    """bitsandbytes before 0.43 kept the input of each 4-bit layer (autograd/_functions.py, MatMul4Bit.forward)."""
    quantizes_experts: bool = False
    """Experts are quantized with the rest."""
    packs_experts: bool = True
    """This version of Unsloth can quantize stacks of experts (core.cost.unsloth.PACKING_UNSLOTH_ZOO)."""
    one_expert_at_a_time: bool = False
    """transformers before 5 had each expert as its own nn.Linear, run one after the other."""
    quantizes_every_linear: bool = False
    """Any nn.Linear is quantized, the head and subclasses included; transformers 5 takes plain ones and no head."""
    unties_head: bool = False
    """The head is a weight of its own even where the checkpoint ties it to the embedding."""
    fp32_logits: bool = False
    """Logits are made in 16 bit and handed to the loss in fp32 (Fabric's convert_output)."""
    keeps_previous_graph: bool = False
    """The last micro-step's logits, and with them the graph behind them, live until the next forward pass is over."""
    dequantizes_twice: bool = False
    """A weight is unpacked to fp16, then copied to bf16, and both are there for a moment (Lightning's bitsandbytes)."""
    own_models: bool = False
    """Model code of the program's own (litgpt, torchtune), which gives SDPA what a fused kernel takes; attention with a
    soft cap on its scores holds the attention matrix."""
    rebinds_logits: bool = False
    """transformers before 4.46 let the 16-bit logits go once their fp32 copy was there, and Trainers of that time the
    output once the loss was known."""
    unsloth_loss: UnslothLoss = "chunked"
    """Which of Unsloth's fused losses."""
    ampere: bool = True
    """The card is of Ampere or newer, which Unsloth's loss has tiles for."""
    windows_experts: bool = False
    """Packed experts are unpacked some at a time, in at most half of what is free."""
    loads_plain_nf4: bool = False
    """Unsloth of before it had dynamic 4-bit checkpoints, or a row that says that it loaded none."""
    holds_logits: bool = False
    """The model's output, logits and all, stays referenced until the backward pass is over, or as much in its place."""
    copies_keys: bool = False
    """Keys and values are copied to every query head before SDPA, whatever kernel takes them."""
    weight_bytes: float | None = None
    """Of a quantized weight, where the format is none of RankViz's."""
    pads_adapters: bool = False
    """Adapters of a fused qkv projection are padded to its width, and the padding keeps its source."""

    @property
    def fuses_operators(self) -> bool:
        return self.unsloth_kernels or self.triton_kernels


CPU_HABITS = Habits(on_cpu=True, autocast=False)
"""Of Unsloth's CPU backend, and of TRL and PEFT where there is no card."""


def habits_of(setup: TrainingSetup, gpu: Gpu | None = None) -> Habits:
    """Of the programs that RankViz offers: Unsloth, TRL's SFTTrainer, and transformers' Trainer or a plain loop with
    PEFT's k-bit preparation. All train under 16-bit autocast and let the model's output go before the backward pass
    (transformers 5.17 Trainer.training_step; export.code.peft_loop). Dtypes: core.lora.adapter_dtype, saved_dtype."""
    framework, compute = setup.framework, "bf16" if gpu is None or gpu.supports_bf16 else "fp16"
    raised = "all" if framework == "peft" and setup.quantized else "none"
    return Habits(
        unsloth_kernels=framework == "unsloth",
        raised=raised,
        moves_embedding=framework == "unsloth",
        unsloth_loss="func" if setup.loss_path == "fused-func" else "chunked",
        adapter_bytes=DTYPE_BYTES[adapter_dtype(framework, setup.precision, compute=compute)],
        saved_bytes=DTYPE_BYTES[saved_dtype(framework, setup.precision, compute=compute)],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """What the parts of memory and time depend on besides the model."""

    setup: TrainingSetup
    """With no "auto" in it."""
    use_dora: bool
    assume: Assumptions
    measured_habits: Habits | None = None
    """Of the program that a measured row comes from; None is that of the framework."""
    gpu: Gpu | None = None
    """The card, where it is in the table; None is one of Ampere or newer."""
    habits: Habits = field(init=False, repr=False, compare=False)
    """Made once: each block of a model asks for them."""

    def __post_init__(self):
        object.__setattr__(self, "habits", self.measured_habits or habits_of(self.setup, self.gpu))

    @property
    def kind(self) -> str:
        """The kind of setting whose measured rows speak for this one, by what was asked for."""
        return self.kind_with(matrix=self.setup.attn_implementation == "eager")

    def kind_with(self, *, matrix: bool) -> str:
        """The same by which kernels run and what makes the peak. matrix: whether blocks hold the attention matrix."""
        if self.habits.on_cpu:
            return "cpu"
        kernels = "unsloth" if self.habits.unsloth_kernels else "hf"
        if matrix:
            return f"{kernels}-eager"
        return f"{kernels}-none" if self.setup.gradient_checkpointing == "none" else kernels

    @property
    def time_kind(self) -> str:
        """The same for timings: whether operators are fused."""
        return "fused" if self.habits.fuses_operators else "hf"

    @property
    def computes_fp32(self) -> bool:
        """Matrix products are in fp32."""
        return self.setup.precision == "fp32" or self.habits.fp32_compute

    @property
    def compute_bytes(self) -> int:
        """Of one operand of a matrix product: 4-bit and 8-bit bases compute in 16 bit where their numbers allow it."""
        return 4 if self.computes_fp32 else 2

    @property
    def activation_bytes(self) -> int:
        """Of one activation between products: fp32 too where hidden states were raised."""
        return 4 if self.habits.raised != "none" else self.compute_bytes

    @property
    def autocasts(self) -> bool:
        """Products turn their fp32 operands to 16 bit."""
        return self.habits.autocast and self.compute_bytes == 2

    @property
    def copies_inputs(self) -> bool:
        """Each adapter turns its input into another dtype, and keeps the copy. On bitsandbytes' layers that is left to
        autocast (peft tuners/lora/bnb.py, requires_conversion), but for programs with kernels in PEFT's place."""
        by_autocast = self.setup.quantized and self.autocasts and not self.habits.triton_kernels
        wider = self.habits.adapter_bytes > self.activation_bytes and not by_autocast
        return (wider or (self.autocasts and self.activation_bytes == 4)) and not self.habits.unsloth_kernels

    @property
    def attention_bytes(self) -> int:
        """Of one element of queries, keys and values as the attention kernel gets them."""
        return 2 if self.autocasts else self.activation_bytes

    @property
    def compute_capability(self) -> float:
        """Of the card, or the least that bf16 or its absence speaks for."""
        gpu = self.gpu
        if gpu is not None and gpu.compute_capability is not None:
            return gpu.compute_capability
        return 8.0 if gpu is None or gpu.supports_bf16 else 7.5

    @property
    def in_fp16(self) -> bool:
        """Products in 16 bit are in fp16 rather than bf16."""
        return self.setup.precision == "fp16" or self.compute_capability < 8

    @property
    def residual_bytes(self) -> int:
        """Of one element of the hidden states between blocks."""
        return 4 if self.habits.fp32_residual else self.activation_bytes

    @property
    def offloads(self) -> bool:
        """Unsloth moves layer inputs to pinned host memory (unsloth_zoo/gradient_checkpointing.py)."""
        setup = self.setup
        is_set = setup.framework == "unsloth" and setup.gradient_checkpointing == "unsloth"
        return is_set and setup.max_length >= OFFLOAD_MIN_LENGTH


def stack_on(device: Device, training: TrainingSetup, use_dora: bool, assume: Assumptions) -> Stack:
    """The stack that trains this set-up on this device.

    On a CPU all frameworks train plain PEFT modules, and losses that are kernels of a GPU do not exist: Unsloth's CPU
    backend runs under the Trainer without autocast, so that nothing holds the logits once the loss is known.
    """
    setup = training.without_auto(device)
    if device.cuda:
        return Stack(setup=setup, use_dora=use_dora, assume=assume, gpu=device.gpu)
    plain = replace(setup, framework="peft", loss_path="full")
    return Stack(setup=plain, use_dora=use_dora, assume=assume, measured_habits=CPU_HABITS)
