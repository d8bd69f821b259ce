"""Defines the training settings that memory and time depend on. Names are TRL's, transformers' and Unsloth's.

"auto" leaves a setting to the device. `settle` is the only place that decides what it stands for, and that refuses
what a device cannot train.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from rankviz.core.bounds import one_of, whole
from rankviz.core.cost.data import TrainingData, pads
from rankviz.core.cost.device import Device
from rankviz.core.lora.config import QUANTIZED, Framework
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

Precision = Literal["bf16", "fp16", "fp32", "nf4", "nf4-dq", "int8"]
Checkpointing = Literal["unsloth", "hf", "none"]
LossPath = Literal["fused", "fused-func", "triton", "full", "chunked"]
Attention = Literal["sdpa", "flash", "eager"]
Auto = Literal["auto"]

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32", "nf4", "nf4-dq", "int8")
OPTIMIZERS = ("adamw_8bit", "adamw_torch", "paged_adamw_8bit", "sgd")
CHECKPOINTING: tuple[Checkpointing, ...] = ("unsloth", "hf", "none")
LOSS_PATHS: tuple[LossPath, ...] = ("fused", "fused-func", "triton", "full")
ATTENTION: tuple[Attention, ...] = ("sdpa", "flash", "eager")
AUTO_FIELDS = ("precision", "optim", "gradient_checkpointing", "loss_path")
"""The fields that may be "auto"."""
CPU_PRECISIONS = ("fp32", "bf16")
CPU_OPTIMIZERS = ("adamw_torch", "sgd")

MAX_BATCH = 4096
MAX_ACCUMULATION = 65_536
MAX_LENGTH = 4_194_304
MAX_TOKENS_PER_MICRO_STEP = 2**26
MAX_TRAINING_TOKENS = 10**14


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSetup:
    """One training set-up. Defaults are Unsloth's own notebooks'."""

    framework: Framework = "unsloth"
    precision: Precision | Auto = "nf4-dq"
    """"auto" is nf4-dq on a GPU and fp32 on a CPU."""
    optim: str = "adamw_8bit"
    """"auto" is adamw_8bit on a GPU and adamw_torch on a CPU."""
    per_device_train_batch_size: int = 2
    gradient_accumulation_steps: int = 4
    max_length: int = 2048
    gradient_checkpointing: Checkpointing | Auto = "unsloth"
    """"unsloth" moves layer inputs to host memory and exists only in Unsloth; elsewhere it counts as "hf". "auto" is
    the framework's own on a GPU and "none" on a CPU, where recomputing costs a third of the time."""
    loss_path: LossPath | Auto = "fused"
    """"fused" never holds all logits, "triton" holds them once in 16 bit, "full" as transformers' own loss does.
    "fused-func" is Unsloth's fused loss of before, in larger pieces: UNSLOTH_CHUNKED_CE=0. "auto" is what the
    framework's own trainer does. "chunked" keeps all of them and works on some at a time; only measured rows of other
    programs have it."""
    attn_implementation: Attention = "sdpa"
    """"sdpa" runs the kernel that core.cost.shapes.attention_of says; "eager" always holds the attention matrix."""
    max_steps: int | None = None
    tokens: int | None = None
    """Length of the training: optimizer steps, or tokens (padding included where no data are given). Neither means the
    epochs of the data, or one step."""
    data: TrainingData | None = None
    """The data, as far as they are known; None counts every example as max_length tokens."""

    @property
    def quantized(self) -> bool:
        return self.precision in QUANTIZED

    @property
    def tokens_per_micro_step(self) -> int:
        return self.per_device_train_batch_size * self.max_length

    @property
    def rows_per_step(self) -> int:
        """Examples of one optimizer step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step: the mean examples of the data without padding, or full rows of max_length."""
        kept = self.data.kept_tokens(self.max_length) if self.data else None
        return self.rows_per_step * (self.max_length if kept is None else kept)

    @property
    def fitted_length(self) -> int:
        """The length that memory is for: max_length, or the longest example of the data, rounded up, where that is
        less."""
        return self.data.fitted(self.max_length) if self.data else self.max_length

    @property
    def fitted(self) -> "TrainingSetup":
        """The set-up with max_length no longer than its data need."""
        length = self.fitted_length
        return self if length == self.max_length else replace(self, max_length=length)

    @property
    def mixes_lengths(self) -> bool:
        """Whether examples of one micro-step are known to differ in length. Truncated ones do not."""
        data, limit = self.data, self.max_length
        if data is None or data.mean_tokens is None or data.truncates(limit) or self.per_device_train_batch_size == 1:
            return False
        return data.mean_tokens < min(data.longest_tokens or limit, limit)

    def computed_tokens(self, model: ModelSpec) -> Range:
        """Tokens of an example that a step of this model computes, padding included; max_length without data."""
        data = self.data or TrainingData()
        padded = pads(self.framework, model)
        return data.computed_tokens(self.per_device_train_batch_size, self.max_length, padded=padded)

    @property
    def data_steps(self) -> int | None:
        """Optimizer steps of the epochs over the data, which neither steps nor tokens replace; None without them."""
        if self.data is None or not self.data.has_length or self.max_steps is not None or self.tokens is not None:
            return None
        return self.data.steps(self.rows_per_step)

    @property
    def has_length(self) -> bool:
        """Whether steps, tokens or epochs of known data are given."""
        of_data = self.data is not None and self.data.has_length
        return self.max_steps is not None or self.tokens is not None or of_data

    @property
    def total_steps(self) -> int:
        """Optimizer steps: as given, or tokens over tokens per step, rounded up, or all epochs of the data."""
        if self.max_steps is not None:
            return self.max_steps
        if self.tokens is not None:
            return max(1, -(-self.tokens // self.tokens_per_step))
        return self.data_steps or 1

    def validate(self) -> None:
        """InvalidSettingError says which value to change, and its limits."""
        one_of(self.framework, "Framework", get_args(Framework))
        one_of(self.precision, "Precision", ("auto", *PRECISIONS))
        one_of(self.optim, "Optimizer", ("auto", *OPTIMIZERS))
        one_of(self.gradient_checkpointing, "Gradient checkpointing", ("auto", *CHECKPOINTING))
        one_of(self.loss_path, "Loss path", ("auto", *LOSS_PATHS))
        one_of(self.attn_implementation, "Attention", ATTENTION)
        if self.loss_path == "fused-func" and self.framework != "unsloth":
            raise InvalidSettingError(
                f"Loss path fused-func exists only in Unsloth. Choose fused or full with framework {self.framework}."
            )
        whole(self.per_device_train_batch_size, "Batch size", 1, MAX_BATCH)
        whole(self.gradient_accumulation_steps, "Gradient accumulation", 1, MAX_ACCUMULATION)
        whole(self.max_length, "Maximum length", 1, MAX_LENGTH)
        if self.tokens_per_micro_step > MAX_TOKENS_PER_MICRO_STEP:
            raise InvalidSettingError(
                f"Batch {self.per_device_train_batch_size:,} × length {self.max_length:,} is "
                f"{self.tokens_per_micro_step:,} tokens at once; the limit is {MAX_TOKENS_PER_MICRO_STEP:,}. "
                "Lower the batch size or the length."
            )
        if self.max_steps is not None and self.tokens is not None:
            raise InvalidSettingError("Steps and tokens are both given. Give only one of them.")
        if self.max_steps is not None:
            whole(self.max_steps, "Steps", 1, MAX_TRAINING_TOKENS)
        if self.tokens is not None:
            whole(self.tokens, "Tokens", 1, MAX_TRAINING_TOKENS)
        if self.data is not None:
            self._validate_data(self.data)

    def _validate_data(self, data: TrainingData) -> None:
        data.validate()
        if data.epochs is not None and (self.max_steps is not None or self.tokens is not None):
            given = "Steps" if self.max_steps is not None else "Tokens"
            raise InvalidSettingError(f"{given} and epochs are both given. Give only one of them.")
        if self.data_steps is not None:
            whole(self.data_steps, "Steps of all epochs", 1, MAX_TRAINING_TOKENS)

    def without_auto(self, device: Device) -> "TrainingSetup":
        """The set-up with every "auto" replaced by what it stands for on this device. Nothing is refused: an estimate
        may be of what no program here can train."""
        if "auto" not in (self.precision, self.optim, self.gradient_checkpointing, self.loss_path):
            return self
        cuda, own = device.cuda, self.framework == "unsloth"
        meant = {
            "precision": "nf4-dq" if cuda else "fp32",
            "optim": "adamw_8bit" if cuda else "adamw_torch",
            "gradient_checkpointing": ("unsloth" if own else "hf") if cuda else "none",
            "loss_path": _own_loss_path(self.framework),
        }
        return replace(self, **{name: value for name, value in meant.items() if getattr(self, name) == "auto"})

    def settle(self, device: Device) -> "TrainingSetup":
        """The set-up as RankViz trains it on this device; InvalidSettingError says what it cannot train, and what to
        choose instead."""
        settled = self.without_auto(device)
        _refuse_device(settled, device)
        _refuse_framework(settled, device)
        return settled


def _own_loss_path(framework: Framework) -> LossPath:
    """What each framework's own trainer does in the versions installed: Unsloth and TRL 1.15 never hold all logits,
    transformers' Trainer does."""
    return "full" if framework == "peft" else "fused"


def _refuse_device(setup: TrainingSetup, device: Device) -> None:
    if device.cuda:
        if device.gpu is not None:
            refuse_bf16(setup, device)
        return
    if setup.framework == "trl":
        # trl/kernels/chunked_logprob.py
        raise InvalidSettingError(
            "TRL's loss is a Triton kernel, which needs a GPU. Choose framework unsloth or peft on a CPU."
        )
    if setup.precision not in CPU_PRECISIONS:
        raise InvalidSettingError(
            f"There is no GPU here. On a CPU, precision must be {' or '.join(CPU_PRECISIONS)} (got {setup.precision})."
        )
    if setup.optim not in CPU_OPTIMIZERS:
        raise InvalidSettingError(
            f"{setup.optim} needs a GPU. On a CPU, the optimizer must be {' or '.join(CPU_OPTIMIZERS)}."
        )


def refuse_bf16(setup: TrainingSetup, device: Device) -> None:
    """InvalidSettingError where the card has no bf16 and the base is to be held in it."""
    if setup.precision == "bf16" and device.gpu is not None and not device.gpu.supports_bf16:
        raise InvalidSettingError(
            f"{device.gpu.name} does not support bf16. Choose precision fp16, nf4 or nf4-dq, or another GPU."
        )


def _refuse_framework(setup: TrainingSetup, device: Device) -> None:
    """What the programs that RankViz starts do not offer."""
    unsloth = setup.framework == "unsloth"
    if unsloth and setup.precision == "nf4":
        raise InvalidSettingError(
            "Unsloth always quantizes to nf4-dq (double quantization). Choose precision nf4-dq, or framework trl."
        )
    if setup.gradient_checkpointing == "unsloth" and not unsloth:
        raise InvalidSettingError(
            f"Unsloth's checkpointing exists only in Unsloth. Choose hf or none with framework {setup.framework}."
        )
    if unsloth and not device.cuda and setup.gradient_checkpointing != "none":
        raise InvalidSettingError(
            "On a CPU, RankViz trains with Unsloth without gradient checkpointing. Choose auto or none."
        )
    own = _own_loss_path(setup.framework)
    if setup.loss_path != own:
        raise InvalidSettingError(
            f"The trainer of {setup.framework} computes the loss on the path {own} (got {setup.loss_path}). "
            "Choose auto."
        )
    if setup.attn_implementation != "sdpa":
        raise InvalidSettingError(f"RankViz trains with sdpa attention (got {setup.attn_implementation}).")
