"""Describes the device, the data and the settings of a training. Names are TRL's, transformers' and Unsloth's."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rankviz.core.bounds import number, one_of, whole
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.lora.config import QUANTIZED, Framework
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

UtilisationGroup = Literal["turing", "a100", "hopper", "workstation", "geforce"]
"""Cards that reach a similar share of their dense FLOP/s when training; the shares are rows of assumptions.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    usd_per_hour: float
    provider: str
    source: str
    checked: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One card. None is "not known", never zero."""

    id: str
    name: str
    device_names: tuple[str, ...] = ()
    """What the driver calls this card, and no other one (NVIDIA's list: open-gpu-kernel-modules,
    g_nv_name_released.h)."""
    memory_bytes: int
    """Nominal, as sold (10^9 bytes a GB)."""
    usable_bytes: int | None
    """What torch reports as total_memory, the lowest seen."""
    usable_source: str
    bf16_flops_per_second: float | None
    """Dense, fp32 accumulate."""
    fp16_flops_per_second: float | None
    fp32_flops_per_second: float | None = None
    """Of the CUDA cores, for products of fp32 operands."""
    flops_source: str
    bandwidth_bytes_per_second: float | None
    bandwidth_source: str = ""
    supports_bf16: bool
    compute_capability: float | None = None
    """As NVIDIA lists it (developer.nvidia.com/cuda-gpus): 7.5 is Turing, 8.0 to 8.9 Ampere and Ada, 9.0 Hopper."""
    utilisation_group: UtilisationGroup = "workstation"
    prices: tuple[Price, ...] = ()
    """The first is `price`; the rest are what others ask."""
    source: str = ""
    checked: str = ""
    note: str = ""

    @property
    def price(self) -> Price | None:
        """The one price that lists, estimates and orders use; None where none is known."""
        return self.prices[0] if self.prices else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A GPU, or the CPUs of a machine without one."""

    cuda: bool = False
    gpu: Gpu | None = None
    """Its row of the table, where it has one."""
    memory_bytes: int | None = None
    """Of the GPU, as its driver reports it; None is not known. A card without a row has this alone."""
    cpu_count: int = 1
    cpu_bf16: bool | None = None
    """Whether the processor is made for bf16; None is not known."""

    @property
    def has_bf16(self) -> bool:
        """The GPU multiplies bf16; one that is not in the table is taken for one that does."""
        return self.gpu is None or self.gpu.supports_bf16

    @property
    def usable_bytes(self) -> int | None:
        """GPU memory that torch can use, else what the driver reports; None is not known."""
        return self.gpu.usable_bytes if self.gpu and self.gpu.usable_bytes else self.memory_bytes


def card(gpu: Gpu | None) -> Device:
    """A machine with this GPU; None is a GPU that is not in the table."""
    return Device(cuda=True, gpu=gpu)


Form = Literal["messages", "conversations", "prompt-completion", "instruction", "text"]
"""As rankviz.dataset tells them apart."""
Trait = Literal["role", "from", "user", "human", "assistant", "gpt", "uneven", "lists", "json", "numbers", "no-input"]
"""Something that a row of a file has, as rankviz.dataset.rows finds it: keys of messages, names of roles, turns that do
not alternate up to an answer, lists as prompts, lists in a text cell, numbers; or that no row has an input."""
MAX_EXAMPLES = 10**12
MAX_EXAMPLE_TOKENS = 4_194_304
MAX_EPOCHS = 10_000
MAX_FILE_NAME = 200
LENGTH_SHARES = tuple(step / 20 for step in range(21))
"""Shares of the examples, from the shortest on, at which the lengths of a measured file are kept."""
LENGTH_STEP = 64
"""Lengths are rounded up to multiples of it where a setting is made of them."""
ALWAYS_PADDED = ("gemma2", "gpt_oss")
"""Model types that Unsloth pads (unsloth 2026.10.9, trainer.py, PADDING_FREE_BLOCKLIST)."""
RECURRENT = ("linear_attention", "conv", "mamba")
"""Kinds of block whose state would run from one example into the next; Unsloth pads where it has no kernel for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """The data of one training. None is not known."""

    examples: int | None = None
    """Different training examples."""
    mean_tokens: int | None = None
    """Tokens of an example on average, chat template included."""
    longest_tokens: int | None = None
    """Tokens of the longest example."""
    epochs: float | None = None
    """How often each example is seen; None where steps or tokens are given, or no length at all."""
    form: Form | None = None
    """How the rows look, for an export that reads them."""
    traits: tuple[Trait, ...] = ()
    """Of a measured file, what a program with an own reader must know; else empty."""
    file_name: str | None = None
    """Of the file that holds the rows, without folders, for an export that reads it."""
    longest_is_upper: bool = False
    """Whether longest_tokens is the upper end of an estimate."""
    lengths: tuple[int, ...] = ()
    """Estimated tokens of the examples at LENGTH_SHARES; empty where no file was measured."""

    def validate(self) -> None:
        """InvalidSettingError says which value to change, and its limits."""
        for value, name, high in (
            (self.examples, "Examples", MAX_EXAMPLES),
            (self.mean_tokens, "Tokens per example", MAX_EXAMPLE_TOKENS),
            (self.longest_tokens, "Longest example", MAX_EXAMPLE_TOKENS),
        ):
            if value is not None:
                whole(value, name, 1, high)
        if self.form is not None:
            one_of(self.form, "Form of the data", get_args(Form))
        for trait in self.traits:
            one_of(trait, "Trait of the data", get_args(Trait))
        if self.file_name is not None and not is_file_name(self.file_name):
            raise InvalidSettingError("The name of the data's file must be a plain name of at most 200 characters.")
        if self.epochs is not None:
            number(self.epochs, "Epochs", 0, MAX_EPOCHS, above=True)
            if self.examples is None:
                raise InvalidSettingError("Epochs need the number of examples. Give examples, or steps.")
        if self.mean_tokens and self.longest_tokens and self.mean_tokens > self.longest_tokens:
            raise InvalidSettingError(
                f"The longest example has {self.longest_tokens:,} tokens, fewer than the mean of "
                f"{self.mean_tokens:,}. Raise the longest example or lower the tokens per example."
            )

    @property
    def has_length(self) -> bool:
        """Whether examples and epochs say how long the training is."""
        return self.examples is not None and self.epochs is not None

    def steps(self, examples_per_step: int) -> int:
        """Optimizer steps of all epochs, as transformers' Trainer counts them. Examples and epochs must be known."""
        return max(1, math.ceil(self.epochs * math.ceil(self.examples / examples_per_step)))

    def fitted(self, max_length: int) -> int:
        """The maximum length that this data needs: the longest example rounded up, and no more than max_length."""
        if self.longest_tokens is None:
            return max_length
        return min(max_length, LENGTH_STEP * math.ceil(self.longest_tokens / LENGTH_STEP))

    def truncates(self, max_length: int) -> bool:
        """Whether the longest example is known to be longer than max_length. It is no shorter than the mean."""
        return max(self.longest_tokens or 0, self.mean_tokens or 0) > max_length

    def truncated_examples(self, max_length: int) -> Range | None:
        """Share of the examples that are longer than max_length, from 0 to 1; None where too little is known.

        Of a mean m and a longest example L: at least (m − M) / (L − M), at most m / M (Markov's inequality).
        """
        if self.lengths:
            within = [share for share, length in zip(LENGTH_SHARES, self.lengths, strict=True) if length <= max_length]
            return _range(max(0, 1 - within[-1] - LENGTH_SHARES[1]), 1 - within[-1]) if within else _range(1, 1)
        if self.mean_tokens is None or self.longest_tokens is None:
            return None
        above = max(1, self.longest_tokens - max_length)
        return _range(max(0, self.mean_tokens - max_length) / above, min(1, self.mean_tokens / max_length))

    def truncated_tokens(self, max_length: int) -> Range | None:
        """Share of all tokens that is cut off, from 0 to 1; None where too little is known.

        Of a mean m and a longest example L: at least (m − M) / m, at most (L − M) / L, since each example x loses no
        more than x · (L − M) / L.
        """
        if self.lengths:
            cut = [max(0, length - max_length) for length in self.lengths]
            total, steps = sum(self.lengths[1:]) + sum(self.lengths[:-1]), len(self.lengths) - 1
            mean = self.mean_tokens or total / (2 * steps)
            return _range(sum(cut[:-1]) / steps / mean, min(1, sum(cut[1:]) / steps / mean))
        if self.mean_tokens is None:
            return None
        most = max(0, self.longest_tokens - max_length) / self.longest_tokens if self.longest_tokens else 1
        return _range(max(0, self.mean_tokens - max_length) / self.mean_tokens, most)

    def kept_tokens(self, max_length: int) -> int | None:
        """Tokens of an example on average that are trained on, at most; None where the mean is not known."""
        return None if self.mean_tokens is None else min(self.mean_tokens, max_length)

    def computed_tokens(self, batch: int, max_length: int, *, padded: bool) -> Range:
        """Tokens of an example that a step computes, on average.

        padded: whether the trainer pads, or may; the range then covers both. Where the mean is not known, each example
        counts as long as the longest. Truncated examples leave at least the share of the mean that is kept of the
        longest.
        """
        longest = float(min(max_length, self.longest_tokens or max_length))
        kept = self.kept_tokens(max_length)
        if kept is None:
            return Range(longest, longest, longest)
        mean = min(float(kept), longest)
        least = min(mean, self.mean_tokens * longest / self.longest_tokens) if self.longest_tokens else mean
        if not padded:
            return Range(least, mean, mean)
        most = longest * (1 - (1 - mean / longest) ** batch)
        return Range(least, (mean + most) / 2, most)


def _range(low: float, high: float) -> Range:
    return Range(min(low, high), (low + high) / 2, high)


def is_file_name(name: str) -> bool:
    """Whether this is a file's plain name: no folders, and nothing that cannot be printed."""
    plain = 0 < len(name) <= MAX_FILE_NAME and name.isprintable()
    return plain and name not in (".", "..") and not set(name) & set("/\\:")


def pads(framework: Framework, model: ModelSpec) -> bool:
    """Whether this trainer pads examples to the longest of a micro-step, or may."""
    plain = not model.is_whole and model.model_type not in ALWAYS_PADDED
    return framework != "unsloth" or not plain or not set(RECURRENT).isdisjoint(model.layer_types)


KINDS = {
    "letter": re.compile(r"[a-z]+"),
    "capital": re.compile(r"[A-Z]+"),
    "digit": re.compile(r"[0-9]+"),
    "symbol": re.compile(r"[!-/:-@\[-`{-~]+"),
    "east-asian": re.compile(r"[\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
    "other": re.compile(r"[^\x00-\x7f\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]+"),
}
"""Kinds of character, white space aside."""
ASCII_SHARE = 0.95
"""Text with at least this share of ASCII characters is taken for English, code or numbers."""


def characters(text: str) -> dict[str, int]:
    """Count the characters of a text by kind, and all of them under "all"."""
    counts = {name: sum(map(len, pattern.findall(text))) for name, pattern in KINDS.items()}
    return {**counts, "all": len(text)}


def token_range(counts: Mapping[str, int], messages: float, assume: Assumptions) -> Range:
    """Tokens of a text with these counts of `characters`, and of the template around so many messages."""
    expected = sum(counts[kind] * assume.value(f"tokens-per-{kind}") for kind in KINDS)
    foreign = counts["east-asian"] + counts["other"]
    script = "ascii" if foreign <= (1 - ASCII_SHARE) * counts["all"] else "other-scripts"
    text = assume.range(f"tokens-from-characters-{script}").times(expected)
    chat = assume.range("tokens-per-chat").times(min(1.0, messages))
    return text.plus(chat).plus(assume.range("tokens-per-message").times(messages))


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
