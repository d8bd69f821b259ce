"""Defines the events of a run; those of attempts and of probes are in files of their own. Names are in the past tense.

An event's JSON line in events.jsonl is {"event": class name, "time": unix seconds, ...fields}. What a field may hold
when it is read is said beside it (core.bounds); a line that does not fit is no event.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import gt
from typing import Annotated, Literal, NamedTuple

from rankviz.core.bounds import (
    Between,
    Bytes,
    Count,
    Items,
    Loss,
    Moment,
    PathInside,
    Prose,
    Seconds,
    Word,
)
from rankviz.core.quantity import middle
from rankviz.core.runs.attempts import AttemptEvent, AttemptPlaced, RunRequeued
from rankviz.core.runs.environment import Environment
from rankviz.core.runs.probe_events import DepthDidNotFit, DepthMeasured, DepthSkipped, ProbeCompleted

GPU_LOST = 75
"""Exit code of a worker whose GPU has failed for good; a new process may find it well (EX_TEMPFAIL of sysexits.h)."""
DISK_FULL = 74
"""Exit code of a worker that could not write because the disk is full (EX_IOERR of sysexits.h)."""
YIELD_FILE = "worker.yield"
"""In the runs folder: asks the worker to end before its next run, since somebody else waits."""
YIELD_VARIABLE = "WORKER_YIELD_FILE"
"""Of the environment of a worker that has another name for it."""
MODELS_VARIABLE = "WORKER_MODELS_FOLDER"
"""Of the environment of a worker that keeps the embedded base elsewhere than in its runs folder, for other jobs too."""
MAX_ANSWER_CHARACTERS = 1000
MAX_ERROR_CHARACTERS = 4000
MAX_LOG_CHARACTERS = 8000
When = Literal["before", "after"]
Tokens = Annotated[int, Between(1, 10**12)]
"""Of one example or more: none has no target token."""
Answer = Annotated[str, Prose(MAX_ANSWER_CHARACTERS, controls=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted(AttemptEvent):
    time: Moment
    environment: Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReached(AttemptEvent):
    """What the worker is about to do, in words: "importing Unsloth", "loading the base", "evaluating the base"."""

    time: Moment
    stage: Word


@dataclass(frozen=True, kw_only=True, slots=True)
class StageProgressed(AttemptEvent):
    """How far the current stage is. Written at most about once a second, so a short stage has none; of training,
    StepLogged says it."""

    time: Moment
    done: Count
    total: Count | None
    """None where it is not known, such as the bytes of a download whose length nobody said."""
    unit: Word
    """What is counted: "bytes", "examples", "rows", "modules", "steps"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterAttached(AttemptEvent):
    time: Moment
    trainable_parameters: Count


class Matches(NamedTuple):
    """Prompts that were answered, and those whose answer is the reference."""

    answered: int
    right: int


def matches_of(examples: Sequence[int | None]) -> Matches:
    """Of example_exact_matches. A list that is left on the disk (store/memory/long_lists.py) keeps them in memory."""
    if (kept := getattr(examples, "matches", None)) is not None:
        return kept
    return Matches(sum(match is not None for match in examples), sum(filter(None, examples)))


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut(AttemptEvent):
    """The held-out examples under an adapter. Counts of what was not measured are None or empty, never 0: no run of
    before 26 November 2026 counted tokens, and answers are counted only where they were requested."""

    loss: Loss
    """Mean in nats a target token."""
    tokens: Tokens
    """Target tokens."""
    examples: Annotated[int, Between(1, 10**9)]
    correct_tokens: Count | None = None
    """Target tokens that the model gives the highest probability, after the true tokens before them."""
    example_tokens: tuple[Tokens, ...] = ()
    """Target tokens of each held-out example, in the order of the held-out set."""
    example_correct_tokens: tuple[Count, ...] = ()
    """The correct ones among them."""
    example_exact_matches: tuple[Annotated[int, Between(0, 1)] | None, ...] = ()
    """Of each held-out example, 1 where the greedy answer to its prompt is the reference, else 0; None where the
    prompt was not answered."""
    exact_match_seconds: Seconds | None = None
    """What answering took; not part of an evaluation's own seconds."""

    @property
    def token_accuracy(self) -> float | None:
        """Share of target tokens that are correct; None also of a diverged run, whose loss is not a number."""
        if self.correct_tokens is None or math.isnan(self.loss):
            return None
        return self.correct_tokens / self.tokens

    @property
    def answered(self) -> int:
        """Prompts that were answered."""
        return matches_of(self.example_exact_matches).answered

    @property
    def exact_match(self) -> float | None:
        """Share of answered prompts whose answer is the reference; None where none was answered."""
        answered, right = matches_of(self.example_exact_matches)
        return None if not answered or math.isnan(self.loss) else right / answered

    def contradiction(self) -> str:
        """Why the counts cannot be of the same examples; empty where they can."""
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
    """The held-out set was evaluated. when: "before" (adapter attached, untrained: the base) or "after"."""

    time: Moment
    when: When
    seconds: Seconds
    """Of the pass that loss and token accuracy come from."""
    example_losses: tuple[Loss, ...] = ()
    """Mean of each held-out example, in the order of the held-out set."""
    reused: bool = False
    """Measured by an earlier run of the same worker: with B = 0 the adapter adds nothing, so the base's loss is one."""
    own_cpu_seconds: Seconds | None = None
    """As in StepLogged, and so is the next."""
    waited_cpu_seconds: Seconds | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GreedyAnswer:
    """A held-out prompt and the model's greedy answer to it, as text of at most MAX_ANSWER_CHARACTERS each."""

    place: Count
    """Among the held-out examples."""
    prompt: Answer
    reference: Answer
    text: Answer
    ended: bool
    """Whether the model ended it; else it was cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered(AttemptEvent):
    """A few held-out prompts were answered, the same ones in all runs of a sweep, to be read. when: as in Evaluated."""

    time: Moment
    when: When
    answers: Annotated[tuple[GreedyAnswer, ...], Items(0, 100)]
    seconds: Seconds
    reused: bool = False
    """The base's, answered by an earlier run of the same worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLogged(AttemptEvent):
    time: Moment
    step: Annotated[int, Between(1, 10**9)]
    loss: Loss
    learning_rate: Annotated[float, Between(0, 10)]
    tokens: Count
    """Tokens trained on so far, padding left out."""
    seconds: Seconds
    """Training seconds so far."""
    memory_bytes: Bytes
    """Now in use: GPU allocated, or the worker's resident set."""
    own_cpu_seconds: Seconds | None = None
    """Processor time of the worker in `seconds`, added over its threads. Read each second and at the last step: None at
    other steps, and in journals of before 26 November 2026."""
    waited_cpu_seconds: Seconds | None = None
    """How long its threads were ready in `seconds` while other programs had the processors; None where not counted."""


def median_seconds(steps: Sequence[StepLogged]) -> float | None:
    """Of the steps after the first; None of fewer than two. Steps that are left on the disk
    (store/memory/left_on_disk.py) keep it in memory."""
    ends = [step.seconds for step in steps]
    return middle([later - earlier for earlier, later in pairwise(ends)]) if len(ends) > 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterCut(HeldOut):
    """The trained adapter, cut to a lower rank, was evaluated: a point of a fast curve."""

    time: Moment
    r: Annotated[int, Between(1, 65_536)]
    seconds: Seconds
    """Cutting, recovery and evaluation, answers among it."""
    example_losses: tuple[Loss, ...]
    recovery_steps: Count = 0
    """Steps that it and the higher cuts it was made of were trained on before it was evaluated."""
    path: PathInside = ""
    """Of its adapter, relative to the run's directory, where it was trained on; any other is a resize away."""
    file_bytes: Bytes | None = None
    """Of adapter_model.safetensors there; None in journals of earlier versions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSaved(AttemptEvent):
    time: Moment
    path: PathInside
    """Relative to the run's directory."""
    file_bytes: Bytes
    """Of adapter_model.safetensors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleted(AttemptEvent):
    time: Moment
    train_seconds: Seconds
    peak_memory_bytes: Bytes
    peak_memory_kind: Word
    """"GPU allocated" or "process resident"."""
    baseline_memory_bytes: Bytes | None = None
    """The same counter just before the adapter was attached."""
    peak_reserved_bytes: Bytes | None = None
    own_cpu_seconds: Seconds | None = None
    """As in StepLogged, and so is the next; both since the run started."""
    waited_cpu_seconds: Seconds | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailed(AttemptEvent):
    time: Moment
    error: Annotated[str, Prose(MAX_ERROR_CHARACTERS)]
    exit_code: Annotated[int, Between(-(2**31), 2**32)] | None = None
    log_tail: Annotated[str, Prose(MAX_LOG_CHARACTERS)] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled(AttemptEvent):
    time: Moment
    by_admin: bool = False
    """Whether it was the admin of a shared page who cancelled another's run."""


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
"""Events that end an attempt, as a worker writes them."""

EVENT_TYPES: dict[str, type] = {t.__name__: t for t in RunEvent.__args__}
