"""Translates a training set-up into the names of torch, Unsloth and the trainers."""

import os
from dataclasses import dataclass
from typing import Literal

from rankviz.core.cost.device import Device
from rankviz.core.cost.setup import TrainingSetup

CPU_OPTIMIZERS = {"adamw_torch": "adamw_torch_fused"}
"""Requested name to the one used on a CPU: Unsloth's backend takes the fused AdamW, the same update in one kernel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One set-up on one device. training: settled, so nothing in it is "auto"."""

    training: TrainingSetup
    cuda: bool

    @property
    def optim(self) -> str:
        """Name of the optimizer that the trainer is given."""
        optim = self.training.optim
        return optim if self.cuda else CPU_OPTIMIZERS.get(optim, optim)

    @property
    def gradient_checkpointing(self) -> Literal["unsloth"] | bool:
        """As Unsloth takes it: its own, transformers' own (True), or none."""
        checkpointing = self.training.gradient_checkpointing
        return "unsloth" if checkpointing == "unsloth" else checkpointing == "hf"

    @property
    def dtype_name(self) -> str | None:
        """torch dtype of weights that are not quantized; None leaves it to Unsloth (bf16 where the GPU has it)."""
        return {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(self.training.precision)

    @property
    def evaluation_dtype(self) -> str | None:
        """torch dtype in which a forward pass runs; None is fp32 throughout."""
        if self.training.quantized:
            import torch

            return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return None if self.training.precision == "fp32" else self.dtype_name

    @property
    def autocast(self) -> dict[str, bool]:
        """bf16 and fp16 of the trainer; empty leaves both to Unsloth."""
        if not self.training.quantized:
            return {"bf16": self.training.precision == "bf16", "fp16": self.training.precision == "fp16"}
        return {} if self.training.framework == "unsloth" else {"bf16": True}

    @property
    def checkpointing_arguments(self) -> dict[str, bool]:
        """Of the trainer. On a GPU Unsloth's trainer has its own default."""
        if self.cuda and self.training.framework == "unsloth":
            return {}
        on_cpu = {} if self.cuda else {"use_cpu": True}
        return {"gradient_checkpointing": self.gradient_checkpointing is True, **on_cpu}


def settle(training: TrainingSetup, *, cuda: bool) -> Settings:
    """The set-up on this machine; InvalidSettingError where it cannot train so: nothing is replaced in silence."""
    device = Device(cuda=cuda, cpu_count=os.cpu_count() or 1)
    return Settings(training=training.settle(device), cuda=cuda)
