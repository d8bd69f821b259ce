"""How one trains: the settings that memory and time depend on. Names are TRL's, transformers' and Unsloth's."""

from dataclasses import dataclass
from typing import Literal

from rankviz.core.lora.config import QUANTIZED

Precision = Literal["bf16", "fp16", "fp32", "nf4", "nf4-dq", "int8"]
Checkpointing = Literal["unsloth", "hf", "none"]
LossPath = Literal["fused", "triton", "full", "chunked"]
Attention = Literal["sdpa", "flash", "eager"]

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32", "nf4", "nf4-dq", "int8")
OPTIMIZERS = ("adamw_8bit", "adamw_torch", "paged_adamw_8bit", "sgd")
CHECKPOINTING: tuple[Checkpointing, ...] = ("unsloth", "hf", "none")
LOSS_PATHS: tuple[LossPath, ...] = ("fused", "triton", "full")
ATTENTION: tuple[Attention, ...] = ("sdpa", "flash", "eager")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSetup:
    """One training set-up. Defaults are Unsloth's own notebooks'."""

    precision: Precision = "nf4-dq"
    optim: str = "adamw_8bit"
    per_device_train_batch_size: int = 2
    gradient_accumulation_steps: int = 4
    max_length: int = 2048
    checkpointing: Checkpointing = "unsloth"
    """"unsloth" moves layer inputs to host memory and exists only in Unsloth; elsewhere it counts as "hf"."""
    loss_path: LossPath = "fused"
    """"fused" never holds all logits, "triton" holds them once in 16 bit, "full" as transformers' own loss does.
    "chunked" keeps all of them and works on some at a time; no program that RankViz offers does, so it can't be asked
    for."""
    attn_implementation: Attention = "sdpa"
    """Only "eager" holds the attention matrix."""
    steps: int | None = None
    tokens: int | None = None
    """Length of the training: steps, or tokens (padding included); neither means one step."""

    @property
    def quantized(self) -> bool:
        return self.precision in QUANTIZED

    @property
    def tokens_per_micro_step(self) -> int:
        return self.per_device_train_batch_size * self.max_length

    @property
    def tokens_per_step(self) -> int:
        return self.tokens_per_micro_step * self.gradient_accumulation_steps

    @property
    def total_steps(self) -> int:
        """Optimizer steps: as asked, or tokens over tokens a step, rounded up."""
        if self.steps is not None:
            return self.steps
        if self.tokens is not None:
            return max(1, -(-self.tokens // self.tokens_per_step))
        return 1
