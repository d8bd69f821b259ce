"""Translates a training set-up into the names of torch, Unsloth and the trainers."""

import os
from dataclasses import dataclass
from typing import Any, Literal

from rankviz.core.cost.setup import Checkpointing, Device, TrainingSetup
from rankviz.core.cost.stack import compute_dtype
from rankviz.errors import InvalidSettingError
from rankviz.worker import device

CPU_OPTIMIZERS = {"adamw_torch": "adamw_torch_fused"}
"""Requested name to the one used on a CPU: Unsloth's backend takes the fused AdamW, the same update in one kernel."""
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""torch's names."""
LEAST_OFFLOADED_LENGTH = 512
"""Below this length Unsloth's checkpointing keeps layer inputs on the card, as transformers' own does
(apply_unsloth_gradient_checkpointing in unsloth/models/_utils.py)."""
ONE_CARD = {"": 0}
"""Device map with the whole model on the first visible card. Left alone, Unsloth spreads a base that is too large over
other cards or the CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """One set-up on one device. training: settled, so nothing in it is "auto". model_type: of the base's config.json,
    for TRL and PEFT, which do not look at it by themselves."""

    training: TrainingSetup
    cuda: bool
    model_type: str = ""

    @property
    def _unsloth_on_cuda(self) -> bool:
        return self.cuda and self.training.framework == "unsloth"

    @property
    def optim(self) -> str:
        """The trainer's name of the optimizer."""
        optim = self.training.optim
        return optim if self.cuda else CPU_OPTIMIZERS.get(optim, optim)

    @property
    def gradient_checkpointing(self) -> Literal["unsloth"] | bool:
        """As Unsloth takes it: its own, transformers' own (True), or none."""
        checkpointing = self.training.gradient_checkpointing
        return "unsloth" if checkpointing == "unsloth" else checkpointing == "hf"

    @property
    def effective_checkpointing(self) -> Checkpointing:
        """Checkpointing that the run really does: Unsloth offloads from 512 tokens only."""
        checkpointing, short = self.training.gradient_checkpointing, self.training.max_length < LEAST_OFFLOADED_LENGTH
        return "hf" if checkpointing == "unsloth" and short else checkpointing

    @property
    def placement(self) -> dict[str, Any]:
        """Arguments of from_pretrained that say where the base goes."""
        return {"device_map": ONE_CARD} if self.cuda else {}

    @property
    def dtype_name(self) -> str | None:
        """torch dtype of weights that are not quantized; None leaves it to Unsloth (bf16 where the GPU has it)."""
        return DTYPES.get(self.training.precision)

    @property
    def compute_dtype(self) -> str:
        """torch dtype in which a quantized base is multiplied."""
        return DTYPES[compute_dtype(self.model_type, self.training, bf16=not self.cuda or device.has_bf16())]

    @property
    def mixed_precision(self) -> str | None:
        """torch dtype that the trainer's autocast uses, so that evaluation runs in it too; None is no autocast.

        Not always the precision of the base: on a GPU, Unsloth trains an fp32 base under bf16 autocast where the card
        has bf16 (models/rl.py). Known once the base is loaded. Compared with the trainer's own arguments in
        tests/worker/test_emulated_cuda.py.
        """
        if self._unsloth_on_cuda and device.forces_fp32():
            return None
        if self.training.quantized:
            return self.compute_dtype
        if self.training.precision != "fp32":
            return self.dtype_name
        return "bfloat16" if self._unsloth_on_cuda and device.has_bf16() else None

    @property
    def autocast(self) -> dict[str, bool]:
        """bf16 and fp16 of the trainer; empty leaves both to Unsloth."""
        if self.training.quantized and self.training.framework == "unsloth":
            return {}
        dtype = self.compute_dtype if self.training.quantized else self.dtype_name
        return {"bf16": dtype == "bfloat16", "fp16": dtype == "float16"}

    @property
    def checkpointing_arguments(self) -> dict[str, bool]:
        """Arguments of the trainer. On a GPU Unsloth's trainer has its own default."""
        if self._unsloth_on_cuda:
            return {}
        on_cpu = {} if self.cuda else {"use_cpu": True}
        return {"gradient_checkpointing": self.gradient_checkpointing is True, **on_cpu}

    @property
    def facts(self) -> dict[str, Any]:
        """Entries of a run's environment; to be read once the base is loaded."""
        return {
            "precision": self.training.precision,
            "mixed_precision": self.mixed_precision or "none",
            "optim": self.optim,
            "gradient_checkpointing": self.effective_checkpointing,
        }


def settle(training: TrainingSetup, *, cuda: bool, model_type: str = "") -> WorkerSettings:
    """Return the set-up on this machine; InvalidSettingError where it cannot train so: nothing is replaced in
    silence."""
    settled = training.settle(Device(cuda=cuda, cpu_count=os.cpu_count() or 1))
    if cuda and settled.precision == "bf16" and not device.has_bf16():
        # Unsloth would load fp16 weights instead, and the trainer would then refuse its own arguments.
        raise InvalidSettingError(
            "This GPU does not support bf16, which needs compute capability 8.0. Choose precision fp16 or nf4-dq."
        )
    return WorkerSettings(training=settled, cuda=cuda, model_type=model_type)
