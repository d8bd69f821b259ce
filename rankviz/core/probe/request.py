"""What is asked of a probe, checked and settled for this device before it is queued."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from rankviz.core.cost.setup import CHECKPOINTING, OPTIMIZERS, PRECISIONS
from rankviz.core.lora.config import MAX_RANK, Framework, lora_alpha
from rankviz.core.model.periods import periods
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

TIME_LIMIT_SECONDS = 300.0
SHARED_TIME_LIMIT_SECONDS = 90.0
"""On a page that strangers share, where others wait."""
SHARED_MEMORY_LIMIT_BYTES = 4 * 2**30
SHARED_STEPS = 3
FREE_MEMORY_SHARE = 0.8
"""Of the memory that is free when a probe starts, so much it may take."""
TIMED_STEPS = 5
TIMED_SECONDS = 8.0
"""At each depth at least so many steps are timed, and more until so many seconds are full: the steps of a shallow model
are short, so that noise would weigh most in them."""
MOST_TIMED_STEPS = 50
BUSY_SHARE = 0.05
"""Where other programs had more of the CPU time than this while steps were timed, they are timed again, if there is
time. On two cores a busy program takes half; a twentieth moves a step by less than its noise."""
MOST_TRIES = 3
CPU_PRECISIONS = ("fp32", "bf16")
CPU_OPTIMIZERS = ("adamw_torch", "sgd")
MAX_TOKENS_A_STEP = 2**22
MAX_STEPS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRequest:
    """What was asked of a probe; "auto" is settled before (core.probe.request)."""

    probe_id: str
    created_at: float
    model_id: str
    """Of the ModelSpec: a catalogue id, a path or a Hub id."""
    total_depth: int
    """Blocks of the whole model."""
    depths: tuple[int, ...]
    """To be measured, in this order; total_depth among them to check the extrapolation."""
    r: int
    lora_alpha: float
    target_modules: str | tuple[str, ...] = "unsloth"
    use_rslora: bool = False
    use_dora: bool = False
    framework: str = "unsloth"
    precision: str = "fp32"
    optim: str = "adamw_torch"
    checkpointing: str = "none"
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    max_length: int = 256
    timed_steps: int = TIMED_STEPS
    """At least."""
    time_limit_seconds: float = TIME_LIMIT_SECONDS
    memory_limit_bytes: int | None = None
    """Of the process, baseline included; None takes FREE_MEMORY_SHARE of what is free. On a GPU the card is the limit
    too."""
    seed: int = 0

    @property
    def run_id(self) -> str:
        return self.probe_id

    @property
    def sweep_id(self) -> str:
        """Its own: a worker takes up one probe."""
        return self.probe_id

    @property
    def loss_path(self) -> str:
        """What each framework's own trainer does in the versions installed: Unsloth and TRL 1.15 never hold all logits,
        transformers' Trainer does."""
        return "full" if self.framework == "peft" else "fused"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeQuestion:
    """A probe as someone asks for it."""

    model_id: str
    r: int = 16
    alpha: str = "r"
    target_modules: str | tuple[str, ...] = "unsloth"
    use_rslora: bool = False
    use_dora: bool = False
    framework: Framework = "unsloth"
    precision: str = "auto"
    """"auto" is nf4-dq on a GPU and fp32 on a CPU."""
    optim: str = "auto"
    """"auto" is adamw_8bit on a GPU and adamw_torch on a CPU."""
    checkpointing: str = "auto"
    """"auto" is the framework's own on a GPU and none on a CPU, where memory is plenty."""
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    max_length: int = 256
    depths: tuple[int, ...] = ()
    """Of one's own; empty takes two that the model's pattern allows."""
    full: bool = False
    """Run the whole model too, to check the extrapolation."""
    timed_steps: int = TIMED_STEPS
    time_limit_seconds: float = TIME_LIMIT_SECONDS
    memory_limit_bytes: int | None = None


def settle(
    asked: ProbeQuestion, model: ModelSpec, *, cuda: bool, shared: bool, probe_id: str, created_at: float
) -> ProbeRequest:
    """The request that is queued; InvalidSettingError says what to change where it can't be.

    shared: strangers use this page, so time and memory are bounded more tightly, whatever was asked.
    """
    _validate(asked)
    if not cuda and asked.framework == "trl":
        # trl/kernels/chunked_logprob.py
        raise InvalidSettingError("TRL's loss is a Triton kernel, which needs a GPU: take framework unsloth or peft.")
    time_limit, memory_limit, steps = asked.time_limit_seconds, asked.memory_limit_bytes, asked.timed_steps
    if shared:
        time_limit = min(time_limit, SHARED_TIME_LIMIT_SECONDS)
        memory_limit = min(memory_limit or SHARED_MEMORY_LIMIT_BYTES, SHARED_MEMORY_LIMIT_BYTES)
        steps = min(steps, SHARED_STEPS)
    return ProbeRequest(
        probe_id=probe_id,
        created_at=created_at,
        model_id=model.id,
        total_depth=model.num_hidden_layers,
        depths=choose_depths(model, asked.depths, full=asked.full),
        r=asked.r,
        lora_alpha=lora_alpha(asked.alpha, asked.r),
        target_modules=asked.target_modules,
        use_rslora=asked.use_rslora,
        use_dora=asked.use_dora,
        framework=asked.framework,
        precision=_precision(asked, cuda),
        optim=_optim(asked, cuda),
        checkpointing=_checkpointing(asked, cuda),
        per_device_train_batch_size=asked.per_device_train_batch_size,
        gradient_accumulation_steps=asked.gradient_accumulation_steps,
        max_length=asked.max_length,
        timed_steps=steps,
        time_limit_seconds=time_limit,
        memory_limit_bytes=memory_limit,
    )


def for_here(asked: ProbeQuestion, *, cuda: bool) -> tuple[ProbeQuestion, str]:
    """The question with what this device can't do left to it, and a sentence that says what was."""
    changes: dict[str, str] = {}
    if not cuda and asked.precision not in ("auto", *CPU_PRECISIONS):
        changes["precision"] = "auto"
    if not cuda and asked.optim not in ("auto", *CPU_OPTIMIZERS):
        changes["optim"] = "auto"
    if asked.checkpointing == "unsloth" and not (cuda and asked.framework == "unsloth"):
        changes["checkpointing"] = "auto"
    if not cuda and asked.framework == "unsloth" and asked.checkpointing == "hf":
        changes["checkpointing"] = "auto"
    settled = replace(asked, **changes)
    found = {"precision": _precision, "optim": _optim, "checkpointing": _checkpointing}
    said = [f"{name} {found[name](settled, cuda)} instead of {getattr(asked, name)}" for name in changes]
    return settled, f"There is no GPU here, so it measures {', '.join(said)}." if said and not cuda else ""


def choose_depths(model: ModelSpec, asked: Sequence[int], *, full: bool) -> tuple[int, ...]:
    """In rising order. Depths of one's own must leave whole periods of the pattern out, or they aren't on one line."""
    pattern = periods(model)
    blocks = pattern.blocks
    wrong = [d for d in asked if not pattern.prefix + pattern.period <= d <= blocks or (blocks - d) % pattern.period]
    if wrong:
        allowed = range(blocks - pattern.period, pattern.prefix + pattern.period - 1, -pattern.period)[::-1]
        said = ", ".join(str(d) for d in allowed[:6]) + (" ..." if len(allowed) > 6 else "")
        raise InvalidSettingError(
            f"{model.name} has {blocks} blocks that repeat every {pattern.period}"
            + (f" after the first {pattern.prefix}" if pattern.prefix else "")
            + f", so a probe can't be {wrong[0]} deep: take {said or blocks}."
        )
    depths = set(asked) or set(pattern.depths() or (blocks,))
    return tuple(sorted(depths | ({blocks} if full else set())))


def _precision(asked: ProbeQuestion, cuda: bool) -> str:
    precision = ("nf4-dq" if cuda else "fp32") if asked.precision == "auto" else asked.precision
    if not cuda and precision not in CPU_PRECISIONS:
        raise InvalidSettingError(
            f"There is no GPU here, and a CPU trains in {' or '.join(CPU_PRECISIONS)}, not {precision}."
        )
    if cuda and asked.framework == "unsloth" and precision == "nf4":
        raise InvalidSettingError("Unsloth quantizes to nf4-dq (double quantization): take that, or framework trl.")
    return precision


def _optim(asked: ProbeQuestion, cuda: bool) -> str:
    optim = ("adamw_8bit" if cuda else "adamw_torch") if asked.optim == "auto" else asked.optim
    if not cuda and optim not in CPU_OPTIMIZERS:
        raise InvalidSettingError(f"{optim} needs a GPU; without one take {' or '.join(CPU_OPTIMIZERS)}.")
    return optim


def _checkpointing(asked: ProbeQuestion, cuda: bool) -> str:
    if asked.checkpointing == "auto":
        return ("unsloth" if asked.framework == "unsloth" else "hf") if cuda else "none"
    if asked.checkpointing == "unsloth" and asked.framework != "unsloth":
        raise InvalidSettingError("Unsloth's checkpointing exists only in Unsloth: take hf or none.")
    if not cuda and asked.framework == "unsloth" and asked.checkpointing != "none":
        raise InvalidSettingError("On a CPU RankViz trains with Unsloth without checkpointing: take none.")
    return asked.checkpointing


def _validate(asked: ProbeQuestion) -> None:
    _whole("Rank", asked.r, 1, MAX_RANK)
    _whole("Batch size", asked.per_device_train_batch_size, 1, 4096)
    _whole("Gradient accumulation", asked.gradient_accumulation_steps, 1, 4096)
    _whole("Length", asked.max_length, 8, 2**20)
    _whole("Steps", asked.timed_steps, 1, MAX_STEPS)
    tokens = asked.per_device_train_batch_size * asked.gradient_accumulation_steps * asked.max_length
    if tokens > MAX_TOKENS_A_STEP:
        raise InvalidSettingError(f"{tokens:,} tokens a step are too many for a probe: lower batch or length.")
    if not asked.target_modules or not all(asked.target_modules):
        raise InvalidSettingError("Name at least one target module, or a preset such as all-linear.")
    _one_of("Framework", asked.framework, get_args(Framework))
    _one_of("Precision", asked.precision, ("auto", *PRECISIONS))
    _one_of("Optimizer", asked.optim, ("auto", *OPTIMIZERS))
    _one_of("Checkpointing", asked.checkpointing, ("auto", *CHECKPOINTING))
    if not 1 <= asked.time_limit_seconds <= 86_400:
        raise InvalidSettingError("A probe's time limit is between 1 second and a day.")
    if asked.memory_limit_bytes is not None and asked.memory_limit_bytes < 2**20:
        raise InvalidSettingError("A probe's memory limit is at least 1 MiB.")


def _whole(what: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidSettingError(f"{what} {value!r} can't be probed: give a whole number from {low:,} to {high:,}.")


def _one_of(what: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidSettingError(f"{what} {value!r} is not known: take one of {', '.join(known)}.")
