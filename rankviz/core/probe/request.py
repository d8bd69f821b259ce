"""What a probe is asked to measure, checked and settled for this device before it is queued."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from rankviz.core.bounds import Id, Items, Moment, Reference, named, number, one_of, whole
from rankviz.core.cost.device import Device
from rankviz.core.cost.setup import AUTO_FIELDS, TrainingSetup
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.targets import flags_not_followed
from rankviz.core.model.spec import ModelSpec, periods
from rankviz.core.runs.estimate import refuse_whole
from rankviz.core.runs.request import MAX_SEED
from rankviz.errors import InvalidSettingError

TIME_LIMIT_SECONDS = 300.0
MAX_TIME_LIMIT_SECONDS = 86_400
SHARED_TIME_LIMIT_SECONDS = 90.0
"""On a page that strangers share, where others wait."""
MIN_MEMORY_LIMIT_BYTES = 2**20
MAX_MEMORY_LIMIT_BYTES = 2**50
MAX_DEPTH = 10_000
MAX_DEPTHS = 1000
"""Of one probe."""
SHARED_MEMORY_LIMIT_BYTES = 4 * 2**30
SHARED_STEPS = 3
FREE_MEMORY_SHARE = 0.8
"""A probe may use at most this share of the memory that is free when it starts."""
TIMED_STEPS = 5
TIMED_SECONDS = 8.0
"""At each depth at least TIMED_STEPS steps are timed, and more until TIMED_SECONDS have passed: the steps of a shallow
model are short, so noise would weigh most in them."""
MOST_TIMED_STEPS = 50
BUSY_SHARE = 0.05
"""Where other programs had more of the CPU time than this while steps were timed, they are timed again, if there is
time. On two cores a busy program takes half; a twentieth moves a step by less than its noise."""
MOST_TRIES = 3
MIN_PROBE_LENGTH = 8
MAX_PROBE_LENGTH = 2**20
MAX_TOKENS_PER_STEP = 2**22
MAX_STEPS = 100
PROBE_TRAINING = TrainingSetup(
    precision="auto",
    optim="auto",
    gradient_checkpointing="auto",
    loss_path="auto",
    per_device_train_batch_size=1,
    gradient_accumulation_steps=1,
    max_length=256,
)
"""What a probe trains with unless something else is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRequest:
    """One probe, as request.json holds it."""

    probe_id: Id
    created_at: Moment
    model_id: Reference
    """Of the ModelSpec: a catalogue id, a path or a Hub id."""
    total_depth: int
    """Blocks of the whole model."""
    depths: Annotated[tuple[int, ...], Items(1, MAX_DEPTHS)]
    """To be measured, in this order; total_depth among them to check the extrapolation."""
    lora: LoraConfig
    training: TrainingSetup
    """Settled: nothing in it is "auto"."""
    timed_steps: int = TIMED_STEPS
    """At least."""
    time_limit_seconds: float = TIME_LIMIT_SECONDS
    memory_limit_bytes: int | None = None
    """Of the process, baseline included; None is FREE_MEMORY_SHARE of what is free. On a GPU the card is the limit
    too."""
    seed: int = 0

    def validate(self) -> None:
        """InvalidSettingError names the first setting that no probe could have asked for."""
        whole(self.total_depth, "Blocks", 1, MAX_DEPTH)
        whole(self.seed, "Seed", 0, MAX_SEED)
        ProbeQuestion(
            model_id=self.model_id,
            lora=self.lora,
            training=self.training,
            depths=self.depths,
            timed_steps=self.timed_steps,
            time_limit_seconds=self.time_limit_seconds,
            memory_limit_bytes=self.memory_limit_bytes,
        ).validate()

    @property
    def run_id(self) -> str:
        return self.probe_id

    @property
    def sweep_id(self) -> str:
        """Its own: a worker takes up one probe."""
        return self.probe_id


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeQuestion:
    """A probe before it is checked and settled."""

    model_id: str
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingSetup = PROBE_TRAINING
    depths: tuple[int, ...] = ()
    """Your own; empty for two that the model's pattern allows."""
    full: bool = False
    """Run the whole model too, to check the extrapolation."""
    timed_steps: int = TIMED_STEPS
    time_limit_seconds: float = TIME_LIMIT_SECONDS
    memory_limit_bytes: int | None = None

    def validate(self) -> None:
        """InvalidSettingError says what to change."""
        named(self.model_id, "Model")
        self.lora.validate()
        whole(self.training.max_length, "Maximum length", MIN_PROBE_LENGTH, MAX_PROBE_LENGTH)
        self.training.validate()
        if self.training.tokens_per_step > MAX_TOKENS_PER_STEP:
            raise InvalidSettingError(
                f"A probe trains at most {MAX_TOKENS_PER_STEP:,} tokens per step (got "
                f"{self.training.tokens_per_step:,}). Lower the batch size, the accumulation or the length."
            )
        whole(self.timed_steps, "Steps", 1, MAX_STEPS)
        number(self.time_limit_seconds, "Time limit in seconds", 1, MAX_TIME_LIMIT_SECONDS)
        if len(self.depths) > MAX_DEPTHS:
            raise InvalidSettingError(f"A probe has at most {MAX_DEPTHS:,} depths (got {len(self.depths):,}).")
        for depth in self.depths:
            whole(depth, "Depth", 1, MAX_DEPTH)
        if self.memory_limit_bytes is not None:
            whole(self.memory_limit_bytes, "Memory limit in bytes", MIN_MEMORY_LIMIT_BYTES, MAX_MEMORY_LIMIT_BYTES)


def settle(
    question: ProbeQuestion, model: ModelSpec, *, device: Device, shared: bool, probe_id: str, created_at: float
) -> ProbeRequest:
    """The request that is queued; InvalidSettingError says what to change.

    shared: strangers use this page, so time and memory are bounded more tightly.
    """
    question.validate()
    by_unsloth_on_gpu = device.cuda and question.training.framework == "unsloth"
    if model.tower == "whole model" and not by_unsloth_on_gpu:
        refuse_whole(model, "A probe" if device.cuda else "A probe without a GPU")
    if off := _flags_not_followed(question, device):
        raise InvalidSettingError(
            f"{off[0]} is a setting of Unsloth on a GPU, and this probe would ignore it. Leave it out."
        )
    if not _attaches(question, device):
        one_of(question.lora.moe_scheme, "MoE scheme of an Unsloth probe without a GPU", ("default",))
    time_limit, memory_limit, steps = question.time_limit_seconds, question.memory_limit_bytes, question.timed_steps
    if shared:
        time_limit = min(time_limit, SHARED_TIME_LIMIT_SECONDS)
        memory_limit = min(memory_limit or SHARED_MEMORY_LIMIT_BYTES, SHARED_MEMORY_LIMIT_BYTES)
        steps = min(steps, SHARED_STEPS)
    return ProbeRequest(
        probe_id=probe_id,
        created_at=created_at,
        model_id=model.id,
        total_depth=model.num_hidden_layers,
        depths=choose_depths(model, question.depths, full=question.full),
        lora=question.lora,
        training=question.training.settle(device),
        timed_steps=steps,
        time_limit_seconds=time_limit,
        memory_limit_bytes=memory_limit,
    )


def for_here(question: ProbeQuestion, device: Device) -> tuple[ProbeQuestion, str]:
    """The question with each setting that this device cannot train set to "auto", and a sentence that names them."""
    training = question.training
    if not _trains(replace(training, **dict.fromkeys(AUTO_FIELDS, "auto")), device):
        return question, ""  # the framework itself cannot train here, which the start says
    free = replace(training, attn_implementation="sdpa", **dict.fromkeys(AUTO_FIELDS, "auto"))
    changed = [
        name
        for name in AUTO_FIELDS
        if getattr(training, name) != "auto" and not _trains(replace(free, **{name: getattr(training, name)}), device)
    ]
    here = replace(training, **dict.fromkeys(changed, "auto"))
    settled = here.without_auto(device)
    instead = [f"{name} {getattr(settled, name)} instead of {getattr(training, name)}" for name in changed]
    where = "" if device.cuda else "There is no GPU here. "
    lora = question.lora
    if not _attaches(question, device):
        instead.append(f"MoE scheme default instead of {lora.moe_scheme}")
        lora = replace(lora, moe_scheme="default")
    if off := _flags_not_followed(question, device):
        instead += [f"{flag} on instead of off" for flag in off]
        lora = replace(lora, **dict.fromkeys(off))
    note = f"{where}The probe uses {', '.join(instead)}." if instead else ""
    return replace(question, training=here, lora=lora), note


def _attaches(question: ProbeQuestion, device: Device) -> bool:
    """Whether the MoE scheme can be had: Unsloth's CPU backend knows its own only, as a run does."""
    return device.cuda or question.training.framework != "unsloth" or question.lora.moe_scheme == "default"


def _flags_not_followed(question: ProbeQuestion, device: Device) -> tuple[str, ...]:
    return flags_not_followed(question.lora, question.training.framework, cuda=device.cuda)


def _trains(training: TrainingSetup, device: Device) -> bool:
    try:
        training.settle(device)
    except InvalidSettingError:
        return False
    return True


def choose_depths(model: ModelSpec, wanted: Sequence[int], *, full: bool) -> tuple[int, ...]:
    """In rising order. wanted: your own depths, which must leave out whole periods of the pattern, or they do not lie
    on one line."""
    pattern = periods(model)
    blocks = pattern.blocks
    wrong = [d for d in wanted if not pattern.prefix + pattern.period <= d <= blocks or (blocks - d) % pattern.period]
    if wrong:
        allowed = range(blocks - pattern.period, pattern.prefix + pattern.period - 1, -pattern.period)[::-1]
        depths = ", ".join(str(d) for d in allowed[:6]) + (" ..." if len(allowed) > 6 else "")
        raise InvalidSettingError(
            f"{model.name} has {blocks} blocks that repeat every {pattern.period}"
            + (f" after the first {pattern.prefix}" if pattern.prefix else "")
            + f". The depth of a probe must be one of {depths or blocks} (got {wrong[0]})."
        )
    chosen = set(wanted) or set(pattern.depths() or (blocks,))
    return tuple(sorted(chosen | ({blocks} if full else set())))
