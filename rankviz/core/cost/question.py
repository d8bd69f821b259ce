"""What someone asks of an estimate, and the one place that says what can't be asked."""

import math
from dataclasses import dataclass, field
from typing import get_args

from rankviz.core.cost.gpu import Gpu
from rankviz.core.cost.setup import ATTENTION, CHECKPOINTING, LOSS_PATHS, OPTIMIZERS, PRECISIONS, TrainingSetup
from rankviz.core.lora.config import MAX_RANK, PRESETS, Framework, LoraConfig, MoeScheme, lora_alpha
from rankviz.errors import InvalidSettingError

MAX_BATCH = 4096
MAX_ACCUMULATION = 65_536
MAX_LENGTH = 4_194_304
MAX_TOKENS_PER_MICRO_STEP = 2**26
MAX_TRAINING_TOKENS = 10**14


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One model, some ranks, and everything else that the answer depends on."""

    model_id: str
    ranks: tuple[int, ...] = (16,)
    targets: str | tuple[str, ...] = "unsloth"
    """A preset of core.lora.config.PRESETS, or module names as PEFT matches them."""
    alpha: str = "r"
    """"r", "2r" or a number, as written."""
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    moe_scheme: MoeScheme = "default"
    framework: Framework = "unsloth"
    training: TrainingSetup = field(default_factory=TrainingSetup)
    gpu: str | None = None
    """Id or name of a row of gpus.json; None asks for no time, price or fit."""
    usd_per_hour: float | None = None
    """One's own price; None takes the table's."""


def lora_config(question: Question, r: int) -> LoraConfig:
    """The adapter of the question at one rank."""
    return LoraConfig(
        r=r,
        lora_alpha=lora_alpha(question.alpha, r),
        target_modules=question.targets,
        use_rslora=question.use_rslora,
        use_dora=question.use_dora,
        modules_to_save=question.modules_to_save,
        moe_scheme=question.moe_scheme,
        framework=question.framework,
    )


def validate(question: Question, gpu: Gpu | None = None) -> None:
    """Raise InvalidSettingError with what to change, or return."""
    _validate_adapter(question)
    _validate_training(question.training)
    if question.usd_per_hour is not None:
        validate_price(question.usd_per_hour)
    if gpu is not None and question.training.precision == "bf16" and not gpu.supports_bf16:
        raise InvalidSettingError(f"{gpu.name} has no bf16: choose precision fp16, nf4 or nf4-dq, or another GPU.")


def validate_price(usd_per_hour: object, of: str = "") -> None:
    """of: the GPU's name, where several have prices of one's own."""
    if not (_is_number(usd_per_hour) and 0 <= usd_per_hour < math.inf):
        whose = f" for the {of}" if of else ""
        raise InvalidSettingError(
            f"A price of {usd_per_hour} USD an hour{whose} can't be: give 0 or more, or leave it out."
        )


def _validate_adapter(question: Question) -> None:
    if not question.ranks:
        raise InvalidSettingError("No rank given: give at least one, such as 16.")
    for r in question.ranks:
        _whole(r, "Rank", 1, MAX_RANK)
    lora_alpha(question.alpha, question.ranks[0])
    targets = question.targets
    if not targets or (not isinstance(targets, str) and not all(targets)):
        raise InvalidSettingError(f"No target modules given: name some, or take one of {', '.join(PRESETS)}.")
    _one_of(question.framework, "Framework", get_args(Framework))
    _one_of(question.moe_scheme, "MoE scheme", get_args(MoeScheme))


def _validate_training(setup: TrainingSetup) -> None:
    _one_of(setup.precision, "Precision", PRECISIONS)
    _one_of(setup.optim, "Optimizer", OPTIMIZERS)
    _one_of(setup.checkpointing, "Checkpointing", CHECKPOINTING)
    _one_of(setup.loss_path, "Loss path", LOSS_PATHS)
    _one_of(setup.attn_implementation, "Attention", ATTENTION)
    _whole(setup.per_device_train_batch_size, "Batch size", 1, MAX_BATCH)
    _whole(setup.gradient_accumulation_steps, "Gradient accumulation", 1, MAX_ACCUMULATION)
    _whole(setup.max_length, "Length", 1, MAX_LENGTH)
    if setup.tokens_per_micro_step > MAX_TOKENS_PER_MICRO_STEP:
        raise InvalidSettingError(
            f"Batch {setup.per_device_train_batch_size:,} × length {setup.max_length:,} is "
            f"{setup.tokens_per_micro_step:,} tokens at once, more than any GPU holds: lower one of them."
        )
    if setup.steps is not None and setup.tokens is not None:
        raise InvalidSettingError("Both steps and tokens given: keep one of them.")
    if setup.steps is not None:
        _whole(setup.steps, "Steps", 1, MAX_TRAINING_TOKENS)
    if setup.tokens is not None:
        _whole(setup.tokens, "Tokens", 1, MAX_TRAINING_TOKENS)


def _whole(value: object, what: str, low: int, high: int) -> None:
    if value is None:
        raise InvalidSettingError(f"{what} is not given: give {low:,} to {high:,}.")
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidSettingError(f"{what} {value!r} is not a whole number: give one from {low:,} to {high:,}.")
    if not low <= value <= high:
        raise InvalidSettingError(f"{what} {value:,} is out of range: give {low:,} to {high:,}.")


def _one_of(value: object, what: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidSettingError(f"{what} {value!r} is not known: take one of {', '.join(known)}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
