"""Defines the events in journals of runs and probes: attempts, stages, measurements and ends."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import gt
from statistics import median
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from rankviz.core.bounds import Between, Bytes, BytesMoved, Count, Items, Loss, Moment, PathInside, Prose, Seconds, Word

LOCAL, HF_JOBS, RAY, SLURM = "local", "hf-jobs", "ray", "slurm"
"""Engines: this machine, Hugging Face Jobs (rented by the minute), a Ray cluster and a Slurm cluster."""
TITLES = {LOCAL: "this machine", HF_JOBS: "Hugging Face Jobs", RAY: "Ray cluster", SLURM: "Slurm cluster"}
MAX_ATTEMPTS = 10**6
MAX_REASON_CHARACTERS = 1000


class Attempt(NamedTuple):
    """One attempt at one run; written "RUN_ID@2" in a worker's arguments."""

    run_id: str
    number: int = 0
    """Number of the attempt, from 1; 0 is the current attempt."""

    @classmethod
    def parse(cls, text: str) -> "Attempt":
        """Parse "RUN_ID" or "RUN_ID@NUMBER"; raise ValueError where NUMBER is not a number."""
        run_id, _, number = text.partition("@")
        return cls(run_id, int(number or 0))

    def __str__(self) -> str:
        return f"{self.run_id}@{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptEvent:
    """Base class of all events, with their common fields."""

    time: Moment
    attempt: Annotated[int, Between(0, MAX_ATTEMPTS)] = 0
    """Number of the attempt that wrote the event; 0 for the current attempt, as in old journals without numbers."""
    offset: Count = 0
    """Byte position after this event's line in the other machine's journal that it was copied from; 0 for an event
    written here. A record skips events up to the offset that it has already copied."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptPlaced(AttemptEvent):
    """An engine accepted an attempt. Written before the attempt starts, and again when more is known of its location. A
    number above that of the current attempt begins a new attempt."""

    engine: Word
    where: Word = ""
    """Name of the location to show: "GPU 1", "node-3", "l4x1"."""
    job: Word = ""
    """Name of the engine's job that executes the attempt."""
    waits: Annotated[str, Prose(MAX_REASON_CHARACTERS)] = ""
    """Reason why the engine has not begun the attempt, as a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequeued(AttemptEvent):
    """A run was queued again: its next attempt begins, and events of earlier attempts no longer count."""

    lost: Annotated[str, Prose(MAX_REASON_CHARACTERS)] = ""
    """Reason why the last attempt was lost; empty where a person queued the run again."""


def queued_at(record: Any) -> float:
    """Return the unix seconds at which a person last queued a run or probe, from its record."""
    return record.request.created_at if record.requeued_at is None else record.requeued_at


def following(attempt: int) -> int:
    """Return the number of the attempt after this one, at most MAX_ATTEMPTS."""
    return min(attempt + 1, MAX_ATTEMPTS)


class Environment(TypedDict, total=False):
    """Machine, library versions and data of a run or probe; other plain values may be added. None is "not known"."""

    device: Literal["cuda", "cpu"]
    device_name: Word | None
    device_memory_bytes: Bytes | None
    cuda: Word | None
    cpu_count: Annotated[int, Between(1, 100_000)] | None
    cpu_bf16: bool | None
    rankviz: Word
    versions: dict[Word, Word | None]
    model_fingerprint: Word
    data_fingerprint: Word
    target_modules: Annotated[tuple[Word, ...], Items(0, 10_000)] | Word


def fingerprints(environments: Iterable[Environment]) -> frozenset[str]:
    """Return the fingerprints of the training data that these environments name."""
    return frozenset(where.get("data_fingerprint", "") for where in environments) - {""}


Moments = Literal["forward", "backward", "optimizer"]
Blocks = Annotated[int, Between(1, 10_000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthMeasured(AttemptEvent):
    """A probe measured training steps of the model truncated to `depth` blocks."""

    depth: Blocks
    baseline_bytes: Bytes
    """Memory just before the base was loaded: the process's resident set, or bytes allocated on the GPU."""
    load_peak_bytes: BytesMoved
    """Peak memory while the base was loaded, above the baseline."""
    moments: Annotated[dict[Moments, Annotated[int, Between(1, 2**60)]], Items(1, 3)]
    """Peak memory above the baseline, by part of a training step ("forward", "backward", "optimizer")."""
    peak_kind: Word
    """Counter of the peaks: "resident above baseline", or "allocated" by torch, which leaves out cached memory."""
    timed_steps: Annotated[tuple[Annotated[float, Between(1e-9, 10**7)], ...], Items(1, 10_000)]
    """Seconds of each step but the first, which is warm-up."""
    first_step_seconds: Seconds
    tokens_per_step: Count
    trainable_parameters: Count
    total_parameters: Count
    took_seconds: Seconds
    """Seconds from the start of the probe's process to its end."""
    static_bytes: BytesMoved | None = None
    """Memory of base and adapter before the first step, above the baseline; None before 26 November 2026."""
    peak_reserved_bytes: Bytes | None = None
    """Peak memory that torch's caching allocator reserved; None on a CPU."""
    attn_implementation: Word = ""
    """Attention that transformers chose: "sdpa", "eager", ..."""

    @property
    def peak_bytes(self) -> int:
        """Highest of the peaks of all parts of a step, above the baseline."""
        return max(self.moments.values())

    @property
    def step_seconds(self) -> float:
        """Median of the timed steps."""
        return median(self.timed_steps)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.step_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthDidNotFit(AttemptEvent):
    """Memory ran out at this depth, which is a result of the probe, not a failure."""

    depth: Blocks
    limit_bytes: Bytes
    short_bytes: Bytes
    """Lower limit of the bytes that were missing; 0 where not known."""
    stage: Word
    why: Literal["memory limit", "GPU", "system"]
    """Limit that was reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSkipped(AttemptEvent):
    depth: Blocks
    reason: Annotated[str, Prose(4000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeCompleted(AttemptEvent):
    """The probe ended without an error."""


GPU_LOST = 75
"""Exit code of a worker whose GPU stopped working; a new process may succeed (EX_TEMPFAIL of sysexits.h)."""
DISK_FULL = 74
"""Exit code of a worker that could not write because the disk is full (EX_IOERR of sysexits.h)."""
MODELS_VARIABLE = "WORKER_MODELS_FOLDER"
"""Environment variable of a worker: folder for the embedded base, where jobs share one outside the runs folder."""
MAX_ANSWER_CHARACTERS = 1000
When = Literal["before", "after"]
Tokens = Annotated[int, Between(1, 10**12)]
"""Number of target tokens, of one example or of several."""
Answer = Annotated[str, Prose(MAX_ANSWER_CHARACTERS, controls=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted(AttemptEvent):
    environment: Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReached(AttemptEvent):
    """A worker began a stage: "loading the base", "evaluating the base"."""

    stage: Word


@dataclass(frozen=True, kw_only=True, slots=True)
class StageProgressed(AttemptEvent):
    """A stage made progress: about once a second, not in shorter stages nor in training (see StepLogged)."""

    done: Count
    total: Count | None
    """Value of `done` at the stage's end; None where not known, as for a download of unknown length."""
    unit: Word
    """Unit of `done` and `total`: "bytes", "examples", "rows", "modules", "steps"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterAttached(AttemptEvent):
    trainable_parameters: Count


def matches_of(examples: Sequence[int | None]) -> tuple[int, int]:
    """Return the number of answered prompts, and how many of the answers equal the reference. examples: As
    example_exact_matches; a list on disk (store/journal.py) has both numbers as its `summary`."""
    known = getattr(examples, "summary", None)
    return known or (sum(match is not None for match in examples), sum(filter(None, examples)))


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut(AttemptEvent):
    """Results on the held-out examples. A count that was not measured is None or empty, never 0: runs before 26
    November 2026 did not count tokens, and answers are counted only on request."""

    loss: Loss
    """Mean loss in nats per target token."""
    tokens: Tokens
    """Number of target tokens."""
    examples: Annotated[int, Between(1, 10**9)]
    correct_tokens: Count | None = None
    """Number of target tokens to which the model gives the highest probability, given the true tokens before them."""
    example_tokens: tuple[Tokens, ...] = ()
    """Number of target tokens of each held-out example, in the order of the held-out set."""
    example_correct_tokens: tuple[Count, ...] = ()
    example_exact_matches: tuple[Annotated[int, Between(0, 1)] | None, ...] = ()
    """1 for each held-out example whose answer equals the reference, else 0; None for unanswered prompts."""
    exact_match_seconds: Seconds | None = None
    """Seconds for answering the prompts, not included in the seconds of an evaluation."""

    @property
    def token_accuracy(self) -> float | None:
        """Share of target tokens that are correct; None where tokens were not counted or the loss is NaN."""
        if self.correct_tokens is None or math.isnan(self.loss):
            return None
        return self.correct_tokens / self.tokens

    @property
    def answered(self) -> int:
        """Number of answered prompts."""
        return matches_of(self.example_exact_matches)[0]

    @property
    def exact_match(self) -> float | None:
        """Share of answers that equal the reference; None where no prompt was answered or the loss is NaN."""
        answered, right = matches_of(self.example_exact_matches)
        return right / answered if answered and not math.isnan(self.loss) else None

    def contradiction(self) -> str:
        """Return the reason why the counts contradict each other; empty where they agree."""
        losses = getattr(self, "example_losses", ())
        counts = (losses, self.example_tokens, self.example_correct_tokens, self.example_exact_matches)
        if len({len(each) for each in counts if each}) > 1:
            return "the example_ lists have different lengths"
        if self.correct_tokens is not None and self.correct_tokens > self.tokens:
            return f"correct_tokens is {self.correct_tokens:,} of {self.tokens:,} tokens"
        if self.example_correct_tokens and not self.example_tokens:
            return "example_correct_tokens is given without example_tokens"
        if any(map(gt, self.example_correct_tokens, self.example_tokens)):
            return "an example has more correct tokens than tokens"
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated(HeldOut):
    """The held-out set was evaluated. when: "before" training (which gives the base's loss, since B = 0) or "after"."""

    when: When
    seconds: Seconds
    """Seconds of the evaluation of loss and token accuracy."""
    example_losses: tuple[Loss, ...] = ()
    """Mean loss of each held-out example in nats per token, in the order of the held-out set."""
    reused: bool = False
    """True where an earlier run of this worker evaluated the base: before training, all runs have the base's loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GreedyAnswer:
    """The model's greedy answer to a held-out prompt, both as text of at most MAX_ANSWER_CHARACTERS."""

    place: Count
    """Index of the prompt among the held-out examples."""
    prompt: Answer
    reference: Answer
    text: Answer
    ended: bool
    """True where the model ended its answer itself; False where the answer was cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered(AttemptEvent):
    """Some held-out prompts, the same in all runs of a sweep, were answered for people to read. when: See Evaluated."""

    when: When
    answers: Annotated[tuple[GreedyAnswer, ...], Items(0, 100)]
    seconds: Seconds
    reused: bool = False
    """True where the base's answers were written in an earlier run of the same worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLogged(AttemptEvent):
    step: Annotated[int, Between(1, 10**9)]
    loss: Loss
    learning_rate: Annotated[float, Between(0, 10)]
    tokens: Count
    """Tokens trained on since the run's start, without padding."""
    seconds: Seconds
    """Seconds of training since the run's start."""
    memory_bytes: Bytes
    """Memory in use after the step: allocated on the GPU, or the worker's resident set."""


def median_seconds(steps: Sequence[StepLogged]) -> float | None:
    """Return the median seconds of all steps but the first; None for fewer than two steps."""
    ends = [step.seconds for step in steps]
    return median([later - earlier for earlier, later in pairwise(ends)]) if len(ends) > 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterCut(HeldOut):
    """The trained adapter was truncated to a lower rank and evaluated: one point of a fast curve."""

    r: Annotated[int, Between(1, 65_536)]
    seconds: Seconds
    """Seconds of truncation, recovery steps, evaluation and answers."""
    example_losses: tuple[Loss, ...]
    recovery_steps: Count = 0
    """Training steps between truncation and evaluation, including those of the higher ranks on the way down."""
    path: PathInside = ""
    """Folder of the adapter in the run's folder; empty without recovery steps: a resize makes the same one."""
    file_bytes: Bytes | None = None
    """Bytes of adapter_model.safetensors in that folder; None in journals of earlier versions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSaved(AttemptEvent):
    path: PathInside
    """Folder of the adapter, relative to the run's folder."""
    file_bytes: Bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleted(AttemptEvent):
    train_seconds: Seconds
    peak_memory_bytes: Bytes
    peak_memory_kind: Word
    """Counter of the peak: "GPU allocated" or "process resident"."""
    baseline_memory_bytes: Bytes | None = None
    """Memory just before the adapter was attached, by the same counter as the peak."""
    peak_reserved_bytes: Bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailed(AttemptEvent):
    error: Annotated[str, Prose(4000)]
    exit_code: Annotated[int, Between(-(2**31), 2**32)] | None = None
    log_tail: Annotated[str, Prose(8000)] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled(AttemptEvent):
    by_admin: bool = False
    """True where the admin of a shared page cancelled another visitor's run."""


RunEvent = (
    RunStarted
    | StageReached
    | StageProgressed
    | AdapterAttached
    | Evaluated
    | Answered
    | StepLogged
    | AdapterCut
    | AdapterSaved
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunRequeued
    | AttemptPlaced
    | DepthMeasured
    | DepthDidNotFit
    | DepthSkipped
    | ProbeCompleted
)

LAST = (RunCompleted, RunFailed, ProbeCompleted)
"""Events with which a worker ends an attempt."""

EVENT_TYPES: dict[str, type] = {t.__name__: t for t in RunEvent.__args__}


DOWNLOADING, UNPACKING = "downloading the base", "checking and unpacking the download"
CONVERTING, IMPORTING = "converting the base", "loading libraries"
LOADING, TRAINING = "loading the base", "training"
"""Stages that more than one module names."""
