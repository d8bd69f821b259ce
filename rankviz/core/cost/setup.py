"""The device, the data and the settings of a training. Names are TRL's, transformers' and Unsloth's.

"auto" leaves a setting to the device: `without_auto` replaces it, `settle` also refuses what RankViz cannot train.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rankviz.core.bounds import flag, number, one_of, plain_text, whole
from rankviz.core.images import MAX_IMAGES, sides_of
from rankviz.core.lora.config import QUANTIZED, Framework
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError

UtilisationGroup = Literal["turing", "a100", "hopper", "workstation", "geforce", "mac"]
"""Groups of cards that reach a similar share of their dense FLOP/s in training (shares: assumptions.json). No time is
estimated for "mac"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Hourly price of one card at one provider, with its source and the date when it was read."""

    usd_per_hour: float
    provider: str
    source: str
    checked: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU model. None means "not known"."""

    id: str
    name: str
    device_names: tuple[str, ...] = ()
    """Names that the driver gives to this card and to no other (open-gpu-kernel-modules, g_nv_name_released.h)."""
    memory_bytes: int
    """Nominal size, as sold (10^9 bytes per GB)."""
    usable_bytes: int | None
    """Lowest total_memory that torch reported for such a card."""
    usable_source: str
    bf16_flops_per_second: float | None
    """Rate of dense bf16 products with fp32 accumulation."""
    fp16_flops_per_second: float | None
    fp32_flops_per_second: float | None = None
    """Rate of fp32 products on the CUDA cores."""
    flops_source: str
    bandwidth_bytes_per_second: float | None
    bandwidth_source: str = ""
    supports_bf16: bool
    compute_capability: float | None = None
    """7.5 is Turing, 8.0 to 8.9 Ampere and Ada, 9.0 Hopper (developer.nvidia.com/cuda-gpus)."""
    utilisation_group: UtilisationGroup = "workstation"
    link: Literal["nvlink", "pcie", "none"] = "pcie"
    """Connection between such cards in one machine."""
    prices: tuple[Price, ...] = ()
    """Prices of all providers, the default one first."""
    source: str = ""
    checked: str = ""
    note: str = ""

    @property
    def is_mac(self) -> bool:
        """True for the GPU of a Mac, which shares the memory with all programs and trains with MLX LM."""
        return self.utilisation_group == "mac"

    @property
    def price(self) -> Price | None:
        """Price for lists, estimates and orders; None where none is known."""
        return self.prices[0] if self.prices else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A GPU, or the CPUs of a machine without one."""

    cuda: bool = False
    gpu: Gpu | None = None
    memory_bytes: int | None = None
    """GPU memory as the driver reports it; None where not known."""
    cpu_count: int = 1
    cpu_bf16: bool | None = None
    """True where the processor has bf16 instructions; None where not known."""

    @property
    def has_bf16(self) -> bool:
        """True where the GPU multiplies bf16; assumed for a card outside the table."""
        return self.gpu is None or self.gpu.supports_bf16

    @property
    def usable_bytes(self) -> int | None:
        """GPU memory that torch can use, else the driver's figure; None where neither is known."""
        return self.gpu.usable_bytes if self.gpu and self.gpu.usable_bytes else self.memory_bytes


def card(gpu: Gpu | None) -> Device:
    """Return a machine with this GPU. gpu: None for a GPU outside the table."""
    return Device(cuda=True, gpu=gpu)


Form = Literal["messages", "conversations", "prompt-completion", "instruction", "text", "prompt"]
"""Forms of training data (rankviz.dataset); "prompt" has no answers to learn, for GRPO."""
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")
"""Encodings of files besides UTF-8, by Python's names."""
DELIMITERS: dict["Trait", str] = {"semicolons": ";", "tabs": "\t"}
"""Signs between the cells of a CSV file besides the comma."""
Trait = Literal[
    *("role", "from", "user", "human", "assistant", "gpt", "uneven", "lists", "json", "numbers", "no-input", "system"),
    *ENCODINGS,
    *("semicolons", "tabs"),
]
"""Features of a file on which some exports depend (rankviz.dataset): keys of messages, names of roles, turns that do
not alternate up to an answer, lists as prompts, lists in a text cell, numbers, rows without any input, system messages
beside instructions; the file's encoding, and the sign between its cells."""
MAX_EXAMPLES, MAX_EXAMPLE_TOKENS, MAX_EPOCHS = 10**12, 4_194_304, 10_000
LENGTH_SHARES = tuple(step / 20 for step in range(21))
"""Shares of the examples, sorted by length, at which the tokens of a measured file's examples are stored."""
LENGTH_STEP = 64
"""Step in tokens to which a length computed from data is rounded up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """Training data of one run. None means "not known"."""

    examples: int | None = None
    mean_tokens: int | None = None
    """Mean tokens of an example, with the chat template."""
    longest_tokens: int | None = None
    num_train_epochs: float | None = None
    """Passes over the examples; None where the length is given in steps or tokens, or not at all."""
    form: Form | None = None
    traits: tuple[Trait, ...] = ()
    """Features of a measured file's rows; empty where no file was measured."""
    file_name: str | None = None
    """Name of the data file without folders, for exports that read the file."""
    columns: str = ""
    """Columns of the file by RankViz's names (rankviz.dataset.rows.columns_of); empty where they are the same."""
    longest_is_upper: bool = False
    """True where longest_tokens is estimated, and its upper end is given."""
    lengths: tuple[int, ...] = ()
    """Estimated tokens of an example at each of LENGTH_SHARES; empty where no file was measured."""

    def validate(self) -> None:
        """Raise InvalidSettingError for an invalid value; the message says which value to change, and its limits."""
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
        name = self.file_name
        plain = name is None or (0 < len(name) <= 200 and name.isprintable() and not set(name) & set("/\\:"))
        if not plain or name in (".", ".."):
            raise InvalidSettingError("The name of the data's file must be a plain name of at most 200 characters.")
        plain_text(self.columns, "Columns")
        if self.num_train_epochs is not None:
            number(self.num_train_epochs, "Epochs", 0, MAX_EPOCHS, above=True)
            if self.examples is None:
                raise InvalidSettingError("Epochs need the number of examples. Give examples, or steps.")
        if self.mean_tokens and self.longest_tokens and self.mean_tokens > self.longest_tokens:
            raise InvalidSettingError(
                f"The longest example has {self.longest_tokens:,} tokens, fewer than the mean of "
                f"{self.mean_tokens:,}. Raise the longest example or lower the tokens per example."
            )

    def steps(self, examples_per_step: int) -> int | None:
        """Return the optimizer steps of all epochs, as the Trainer counts; None without examples or epochs."""
        if self.examples is None or self.num_train_epochs is None:
            return None
        return max(1, math.ceil(self.num_train_epochs * math.ceil(self.examples / examples_per_step)))

    def truncates(self, max_length: int) -> bool:
        """Return True where an example is known to be longer than max_length."""
        return max(self.longest_tokens or 0, self.mean_tokens or 0) > max_length

    def truncated_shares(self, max_length: int) -> tuple[float, float]:
        """Return upper bounds, 0 to 1, of the share of examples longer than max_length M, and of the share of all
        tokens that truncation removes; 1 where too little is known. Without measured lengths, with mean m and longest
        L: m / M (Markov's inequality), and (L − M) / L, since an example of x tokens loses at most x · (L − M) / L."""
        if not self.lengths:
            tokens = max(0, self.longest_tokens - max_length) / self.longest_tokens if self.longest_tokens else 1.0
            return min(1.0, (self.mean_tokens or max_length) / max_length), tokens if self.mean_tokens else 1.0
        within = [share for share, length in zip(LENGTH_SHARES, self.lengths, strict=True) if length <= max_length]
        steps = len(self.lengths) - 1
        mean = self.mean_tokens or (sum(self.lengths[1:]) + sum(self.lengths[:-1])) / (2 * steps)
        cut = sum(max(0, length - max_length) for length in self.lengths[1:]) / steps
        return 1 - within[-1] if within else 1.0, min(1.0, cut / mean)

    def computed_tokens(self, batch: int, max_length: int, *, padded: bool) -> Range:
        """Return the mean tokens per example that a step computes. padded: True where the trainer may pad; the range
        then covers both cases. Without a known mean, every example counts as the longest. Truncation keeps at least the
        same share of the mean as of the longest example."""
        longest = float(min(max_length, self.longest_tokens or max_length))
        if self.mean_tokens is None:
            return Range(longest, longest, longest)
        mean = min(float(self.mean_tokens), longest)
        least = min(mean, self.mean_tokens * longest / self.longest_tokens) if self.longest_tokens else mean
        if not padded:
            return Range(least, mean, mean)
        most = longest * (1 - (1 - mean / longest) ** batch)
        return Range(least, (mean + most) / 2, most)


def pads(framework: Framework, model: ModelSpec) -> bool:
    """Return True where this trainer pads, or may pad, examples to the longest of a micro-step."""
    # unsloth 2026.10.9, trainer.py, PADDING_FREE_BLOCKLIST
    plain = not model.is_whole and model.model_type not in ("gemma2", "gpt_oss")
    # the state of these blocks would run from one example into the next, unless a kernel prevents it
    recurrent = not {"linear_attention", "conv", "mamba"}.isdisjoint(model.layer_types)
    return framework != "unsloth" or not plain or recurrent


Precision = Literal["bf16", "fp16", "fp32", "nf4", "nf4-dq", "int8"]
Checkpointing = Literal["unsloth", "hf", "none"]
LossPath = Literal["fused", "fused-func", "triton", "full", "chunked"]
Attention = Literal["sdpa", "flash", "eager"]
Strategy = Literal["ddp", "fsdp", "zero2", "zero3"]
Auto = Literal["auto"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
OPTIMIZERS = ("adamw_8bit", "adamw_torch", "paged_adamw_8bit", "sgd")
SAME: dict[str, dict[bool | str, str]] = {
    "optim": {"adamw_torch_fused": "adamw_torch", "adamw_bnb_8bit": "adamw_8bit"},
    "gradient_checkpointing": {True: "hf", False: "none"},
}
"""Value that transformers' TrainingArguments has for the same, by field: it holds as much memory, or a little less."""
CHECKPOINTING: tuple[Checkpointing, ...] = get_args(Checkpointing)
LOSS_PATHS: tuple[LossPath, ...] = ("fused", "fused-func", "triton", "full")
ATTENTION: tuple[Attention, ...] = get_args(Attention)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
SHARDED = ("fsdp", "zero3")
"""Strategies that divide the base; "zero2" divides the optimizer's states alone, and "ddp" nothing."""
MAX_GPUS, MAX_BATCH, MAX_ACCUMULATION, MAX_LENGTH = 64, 4096, 65_536, 4_194_304
MAX_TOKENS_PER_MICRO_STEP, MAX_TRAINING_TOKENS = 2**26, 10**14
VllmMode = Literal["none", "colocate", "server"]
MAX_GENERATIONS, MAX_BETA = 1024, 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Grpo:
    """Settings of GRPO (reinforcement learning from rewards), with TRL's names."""

    num_generations: int = 8
    """Completions of one prompt, which are compared with each other."""
    max_prompt_length: int = 512
    """Tokens of the longest prompt. TRL has no such setting since 0.28: RankViz's script leaves longer prompts out."""
    max_completion_length: int = 512
    vllm_mode: VllmMode = "colocate"
    """Program that generates completions: "none" is transformers' generate in the trainer (TRL's use_vllm=False),
    "colocate" is vLLM in the trainer's process, "server" is vLLM on another GPU."""
    vllm_gpu_memory_utilization: float | None = None
    """Share of the GPU that colocated vLLM takes; None is the framework's default (core.cost.grpo)."""
    vllm_enable_sleep_mode: bool = False
    """True where colocated vLLM frees memory while the trainer updates the adapter; Unsloth's name is standby."""
    beta: float = 0.0
    """Weight of the KL term; above 0 the base computes log-probabilities too, with the adapter switched off."""

    def validate(self, framework: Framework, precision: str, completions: int) -> None:
        """Raise InvalidSettingError for an invalid setting. completions: Number in one optimizer step."""
        one_of(self.vllm_mode, "vllm_mode", get_args(VllmMode))
        whole(self.num_generations, "num_generations", 2, MAX_GENERATIONS)
        flag(self.vllm_enable_sleep_mode, "vllm_enable_sleep_mode")
        number(self.beta, "beta", 0, MAX_BETA)
        if self.vllm_gpu_memory_utilization is not None:
            number(self.vllm_gpu_memory_utilization, "vllm_gpu_memory_utilization", 0, 1, above=True)
        problems = {
            "GRPO needs a trainer that has it: choose framework unsloth or trl (got peft).": framework == "peft",
            "Unsloth's GRPO generates in its own process: choose vllm_mode colocate or none, or framework trl.": (
                framework == "unsloth" and self.vllm_mode == "server"
            ),
            "vLLM cannot load an int8 base beside TRL: choose another precision, or vllm_mode none or server.": (
                framework == "trl" and precision == "int8" and self.vllm_mode == "colocate"
            ),
            "vllm_enable_sleep_mode and vllm_gpu_memory_utilization are settings of vllm_mode colocate. Choose it, or "
            "leave them out.": self.vllm_mode != "colocate"
            and (self.vllm_enable_sleep_mode or self.vllm_gpu_memory_utilization is not None),
            f"Batch size × accumulation is {completions:,} completions, not whole groups of {self.num_generations:,}. "
            "Choose a multiple of num_generations.": completions % self.num_generations != 0,
        }
        _refuse(problems)


def _refuse(problems: Mapping[str, bool]) -> None:
    """Raise InvalidSettingError with the first message that applies."""
    if message := next((message for message, applies in problems.items() if applies), ""):
        raise InvalidSettingError(message)


METHODS = ("sft", "grpo")


def grpo_of(method: str, settings: Mapping[str, Any], fixed: Iterable[str]) -> Grpo | None:
    """Return the settings of GRPO; None for supervised training. fixed: Names of given settings that GRPO lacks."""
    one_of(method, "method", METHODS)
    if method != "grpo":
        if settings:
            raise InvalidSettingError(f"Settings of GRPO: {', '.join(settings)}. Add method grpo, or drop them.")
        return None
    if names := ", ".join(fixed):
        raise InvalidSettingError(f"GRPO has no {names}: give max_prompt_length and max_completion_length instead.")
    return Grpo(**settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSetup:
    """Settings of one training. Defaults are those of Unsloth's notebooks."""

    framework: Framework = "unsloth"
    precision: Precision | Auto = "nf4-dq"
    """Precision of the base; "auto" is nf4-dq on a GPU and fp32 on a CPU."""
    optim: str = "adamw_8bit"
    """Optimizer; "auto" is adamw_8bit on a GPU and adamw_torch on a CPU."""
    per_device_train_batch_size: int = 2
    gradient_accumulation_steps: int = 4
    max_length: int = 2048
    gradient_checkpointing: Checkpointing | Auto = "unsloth"
    """"unsloth" moves layer inputs to host memory; frameworks other than Unsloth treat it as "hf". "auto" is the
    framework's own on a GPU, and "none" on a CPU, where recomputation costs a third of the time."""
    loss_path: LossPath | Auto = "fused"
    """Computation of the loss; "auto" is the framework's own. "fused" never holds all logits, "triton" holds them once
    in 16 bit, "full" is transformers' own loss. "fused-func" is Unsloth's previous fused loss, in larger pieces
    (UNSLOTH_CHUNKED_CE=0). "chunked", only in measured rows, keeps all logits and works on some at a time."""
    attn_implementation: Attention = "sdpa"
    """"sdpa" runs the kernel that core.cost.shapes.attention_of returns; "eager" always holds the attention matrix."""
    max_steps: int | None = None
    tokens: int | None = None
    """Length of the training in tokens, instead of max_steps. Without data, padding counts too. Where neither is given,
    the length is the epochs of the data, or one step."""
    data: TrainingData | None = None
    """Training data; None assumes max_length tokens for every example."""
    images: int | None = None
    """Images in every example; None for text alone."""
    image_size: str | None = None
    """Width x height of an image in pixels; without one, 1024x768 is assumed."""
    image_tokens: int = 0
    """Tokens of an example's images; `estimate` counts them for its model and framework."""
    gpus: int = 1
    """GPUs of one machine that train together; batch size and accumulation are those of each."""
    strategy: Strategy = "ddp"
    """Division of base, adapter and states over several GPUs (core.cost.cards)."""
    offload: bool = False
    """True where the shards of fsdp or zero3 are in host memory between their uses."""
    grpo: Grpo | None = None
    """Settings of GRPO; None is supervised training. With GRPO, an example is a prompt, max_length is the longest
    prompt and completion together, and lengths of the data do not count."""

    def __post_init__(self):
        for name, meant in SAME.items():
            if isinstance(value := getattr(self, name), bool | str) and value in meant:
                object.__setattr__(self, name, meant[value])
        if self.grpo is not None:
            if not isinstance(self.grpo, Grpo):
                raise InvalidSettingError("grpo must be settings of GRPO, such as {'num_generations': 8}.")
            for name in ("max_prompt_length", "max_completion_length"):
                whole(getattr(self.grpo, name), name, 1, MAX_LENGTH)
            object.__setattr__(self, "max_length", self.grpo.max_prompt_length + self.grpo.max_completion_length)
            unknown = {"mean_tokens": None, "longest_tokens": None, "longest_is_upper": False, "lengths": ()}
            object.__setattr__(self, "data", self.data and replace(self.data, **unknown))

    @property
    def quantized(self) -> bool:
        return self.precision in QUANTIZED

    @property
    def tokens_per_micro_step(self) -> int:
        return self.per_device_train_batch_size * self.max_length

    @property
    def rows_per_step(self) -> int:
        """Examples, or completions with GRPO, in one optimizer step: batch size × accumulation × GPUs."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.gpus

    @property
    def sharded(self) -> bool:
        """True where the base is divided over several GPUs."""
        return self.gpus > 1 and self.strategy in SHARDED

    @property
    def examples_per_step(self) -> int:
        """Examples in one optimizer step; with GRPO the number of prompts."""
        return self.rows_per_step // self.grpo.num_generations if self.grpo else self.rows_per_step

    @property
    def whole_data(self) -> TrainingData | None:
        """Training data with the tokens of images added to every example."""
        data, more = self.data, self.image_tokens
        if data is None or not more:
            return data
        counts = {"mean_tokens": data.mean_tokens, "longest_tokens": data.longest_tokens}
        added = {name: count and count + more for name, count in counts.items()}
        return replace(data, **added, lengths=tuple(length + more for length in data.lengths))

    @property
    def longest(self) -> int:
        """Most tokens of an example: max_length, or with images all of its tokens, since images cannot be truncated."""
        if not self.image_tokens:
            return self.max_length
        data = self.whole_data or TrainingData()
        return max(self.max_length, data.longest_tokens or data.mean_tokens or self.image_tokens)

    @property
    def tokens_per_step(self) -> int:
        """Tokens in one optimizer step: examples × their mean tokens without padding, or × max_length without data."""
        mean = self.whole_data.mean_tokens if self.data else None
        return self.rows_per_step * (self.longest if mean is None else min(mean, self.longest))

    @property
    def fitted_length(self) -> int:
        """Tokens per example for the memory estimate: max_length, or the rounded longest example if shorter."""
        if self.data is None or self.data.longest_tokens is None:
            return self.longest
        return min(self.longest, LENGTH_STEP * math.ceil(self.whole_data.longest_tokens / LENGTH_STEP))

    @property
    def fitted(self) -> "TrainingSetup":
        """Copy with max_length lowered to fitted_length."""
        length = self.fitted_length
        return self if length == self.max_length else replace(self, max_length=length)

    @property
    def mixes_lengths(self) -> bool:
        """True where the estimate takes the examples of a micro-step to differ in length: with a batch above 1 and a
        mean below the longest example, or below max_length if the longest is not known. False with truncated ones. True
        with GRPO, which pads prompts and completions."""
        data, limit = self.whole_data, self.longest
        if self.grpo:
            return True
        if data is None or data.mean_tokens is None or data.truncates(limit) or self.per_device_train_batch_size == 1:
            return False
        return data.mean_tokens < min(data.longest_tokens or limit, limit)

    def computed_tokens(self, model: ModelSpec) -> Range:
        """Return the mean tokens per example that a step computes, with padding; max_length without data."""
        data, padded = self.whole_data or TrainingData(), pads(self.framework, model)
        return data.computed_tokens(self.per_device_train_batch_size, self.longest, padded=padded)

    @property
    def data_steps(self) -> int | None:
        """Optimizer steps of the data's epochs; None without epochs, or where max_steps or tokens is given."""
        given = self.max_steps is not None or self.tokens is not None
        return None if given or self.data is None else self.data.steps(self.examples_per_step)

    @property
    def has_length(self) -> bool:
        """True where the length of training is known: from max_steps, tokens, or the data's epochs."""
        data = self.data
        of_data = data is not None and None not in (data.examples, data.num_train_epochs)
        return self.max_steps is not None or self.tokens is not None or of_data

    @property
    def total_steps(self) -> int:
        """Optimizer steps: max_steps, or tokens over tokens per step (rounded up), or the data's epochs."""
        if self.max_steps is not None:
            return self.max_steps
        if self.tokens is not None:
            return max(1, -(-self.tokens // self.tokens_per_step))
        return self.data_steps or 1

    @property
    def trained_tokens(self) -> int:
        """Tokens of the whole training, or of one step without a length. Padding counts only without data."""
        return self.tokens if self.tokens is not None else self.total_steps * self.tokens_per_step

    def validate(self) -> None:
        """Raise InvalidSettingError for an invalid setting; the message says which value to change, and its limits."""
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
        whole(self.image_tokens, "Tokens of images", 0, MAX_LENGTH)
        if self.images is not None:
            whole(self.images, "Images per example", 1, MAX_IMAGES)
        if self.image_size:
            sides_of(self.image_size)
            if self.images is None:
                raise InvalidSettingError("An image size needs the number of images per example: give images too.")
        if (tokens := self.per_device_train_batch_size * self.longest) > MAX_TOKENS_PER_MICRO_STEP:
            raise InvalidSettingError(
                f"Batch {self.per_device_train_batch_size:,} × length {self.longest:,} is {tokens:,} tokens at once; "
                f"the limit is {MAX_TOKENS_PER_MICRO_STEP:,}. Lower the batch size or the length."
            )
        if self.grpo:
            self.grpo.validate(self.framework, self.precision, self.rows_per_step)
            if self.images is not None:
                raise InvalidSettingError("GRPO is estimated for text alone. Leave the images out.")
        lengths = {"Steps": self.max_steps, "Tokens": self.tokens, "Epochs": self.data and self.data.num_train_epochs}
        given = [name for name, value in lengths.items() if value is not None]
        if len(given) > 1:
            raise InvalidSettingError(f"{given[0]} and {given[1].lower()} are both given. Give only one of them.")
        whole(self.gpus, "GPUs", 1, MAX_GPUS)
        one_of(self.strategy, "Strategy", STRATEGIES)
        flag(self.offload, "offload")
        # int8: FSDP and DeepSpeed shard floating-point numbers alone (peft docs/source/accelerate/fsdp.md)
        _refuse(
            {
                f"Strategy {self.strategy} needs several GPUs. Give gpus 2 or more, or leave the strategy out.": (
                    self.gpus == 1 and self.strategy != "ddp"
                ),
                "Offload moves the shards of fsdp and zero3 to host memory. Choose one of them with gpus 2 or more, or "
                "leave offload out.": self.offload and not self.sharded,
                f"RankViz knows Unsloth on several GPUs with ddp alone, a whole base on each (got {self.strategy}). "
                "Choose strategy ddp, or framework trl.": self.framework == "unsloth" and self.strategy != "ddp",
                "GRPO is estimated for one GPU. Leave gpus out, or the method.": self.grpo and self.gpus > 1,
                "RankViz's loop for plain PEFT trains on one GPU. Choose framework trl for several.": (
                    self.framework == "peft" and self.gpus > 1
                ),
                f"An int8 base cannot be sharded with {self.strategy}. Choose precision nf4-dq or bf16, or strategy "
                "ddp.": self.precision == "int8" and self.sharded,
            }
        )
        if self.data is not None:
            self.data.validate()
        for name, value in {**lengths, "Epochs": None, "Steps of all epochs": self.data_steps}.items():
            if value is not None:
                whole(value, name, 1, MAX_TRAINING_TOKENS)

    def without_auto(self, device: Device) -> "TrainingSetup":
        """Return a copy with every "auto" replaced for this device, even if no program can train it there."""
        cuda, own = device.cuda, self.framework == "unsloth"
        meant = {
            "precision": "nf4-dq" if cuda else "fp32",
            "optim": "adamw_8bit" if cuda else "adamw_torch",
            "gradient_checkpointing": ("unsloth" if own else "hf") if cuda else "none",
            "loss_path": "full" if self.framework == "peft" else "fused",
        }
        auto = {name: value for name, value in meant.items() if getattr(self, name) == "auto"}
        if device.gpu is not None and device.gpu.is_mac:  # MLX LM, whatever framework was chosen for a card
            ways = {"optim": "sgd" if self.optim == "sgd" else "adamw_torch", "loss_path": "full"}
            checkpointing = "none" if self.gradient_checkpointing == "none" else "hf"
            auto |= {"framework": "mlx", **ways, "gradient_checkpointing": checkpointing, "attn_implementation": "sdpa"}
        return replace(self, **auto) if auto else self

    def settle(self, device: Device) -> "TrainingSetup":
        """Return a copy as RankViz trains it on this device; raise InvalidSettingError where RankViz cannot."""
        setup = self.without_auto(device)
        refuse_bf16(setup, device)
        if why := _refusal(setup, device):
            raise InvalidSettingError(why)
        return setup


def refuse_bf16(setup: TrainingSetup, device: Device) -> None:
    """Raise InvalidSettingError where the base is in bf16 but the card has no bf16."""
    if setup.precision == "bf16" and not device.has_bf16:
        raise InvalidSettingError(
            f"{device.gpu.name} does not support bf16. Choose precision fp16, nf4 or nf4-dq, or another GPU."
        )


def _refusal(setup: TrainingSetup, device: Device) -> str:
    """Return why RankViz's programs cannot train this set-up, and what to choose instead; empty where they can."""
    if setup.gpus > 1:
        return f"A run or a probe of RankViz trains on one GPU (got {setup.gpus}). Export a script to train on several."
    unsloth, cuda = setup.framework == "unsloth", device.cuda
    if setup.framework == "mlx":
        return "RankViz does not train with MLX. Choose framework unsloth, trl or peft."
    if setup.grpo:
        return "RankViz trains on examples, without rewards. Export a script instead: rankviz export --method grpo."
    if setup.images is not None:
        return "RankViz's own runs train on text alone. Leave the images out."
    if not cuda and setup.framework == "trl":  # trl/kernels/chunked_logprob.py
        return "TRL's loss is a Triton kernel, which needs a GPU. Choose framework unsloth or peft on a CPU."
    on_gpu = [each for each in PRECISIONS if each != "nf4" or not unsloth]  # Unsloth always quantizes to nf4-dq
    checkpointing = CHECKPOINTING if unsloth and cuda else ("none",) if unsloth else ("hf", "none")
    for what, value, choices in (
        ("precision", setup.precision, on_gpu if cuda else ("fp32", "bf16")),
        ("the optimizer", setup.optim, OPTIMIZERS if cuda else ("adamw_torch", "sgd")),
        ("gradient checkpointing", setup.gradient_checkpointing, checkpointing),
        ("the loss path", setup.loss_path, ("full" if setup.framework == "peft" else "fused",)),
        ("attention", setup.attn_implementation, ("sdpa",)),
    ):
        if value not in choices:
            where = f"With {setup.framework} on a {'GPU' if cuda else 'CPU'}"
            return f"{where}, {what} must be {' or '.join(choices)} (got {value})."
    return ""
