"""Defines the events of a run and of a probe. Their names are in the past tense.

An event's JSON line in events.jsonl is {"event": class name, "time": unix seconds, ...fields}. What a field may hold
when it is read is said beside it (core.bounds); a line that does not fit is no event.
"""

import math
from dataclasses import dataclass
from operator import gt
from typing import Annotated, Literal

from rankviz.core.bounds import (
    Between,
    Bytes,
    BytesMoved,
    Count,
    Items,
    Loss,
    Moment,
    PathInside,
    Prose,
    Seconds,
    Word,
)
from rankviz.core.quantity import median_error, middle
from rankviz.core.runs.environment import Environment

GPU_LOST = 75
"""Exit code of a worker whose GPU has failed for good; a new process may find it well (EX_TEMPFAIL of sysexits.h)."""
DISK_FULL = 74
"""Exit code of a worker that could not write because the disk is full (EX_IOERR of sysexits.h)."""
YIELD_FILE = "worker.yield"
"""In the runs folder: asks the worker to end before its next run, since somebody else waits."""
MAX_ANSWER_CHARACTERS = 1000
MAX_ERROR_CHARACTERS = 4000
MAX_LOG_CHARACTERS = 8000
MAX_TIMED_STEPS = 10_000
StepSeconds = Annotated[float, Between(1e-9, 10**7)]
Moments = Literal["forward", "backward", "optimizer"]
When = Literal["before", "after"]
NoRoom = Literal["memory limit", "GPU", "system"]
Blocks = Annotated[int, Between(1, 10_000)]
Tokens = Annotated[int, Between(1, 10**12)]
"""Of one example or more: none has no target token."""
Answer = Annotated[str, Prose(MAX_ANSWER_CHARACTERS, controls=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    time: Moment
    environment: Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReached:
    """What the worker is about to do, in words: "importing Unsloth", "loading the base", "evaluating the base"."""

    time: Moment
    stage: Word


@dataclass(frozen=True, kw_only=True, slots=True)
class StageProgressed:
    """How far the current stage is. Written at most about once a second, so a short stage has none; of training,
    StepLogged says it."""

    time: Moment
    done: Count
    total: Count | None
    """None where it is not known, such as the bytes of a download whose length nobody said."""
    unit: Word
    """What is counted: "bytes", "examples", "rows", "modules", "steps"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterAttached:
    time: Moment
    trainable_parameters: Count


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
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
        return sum(match is not None for match in self.example_exact_matches)

    @property
    def exact_match(self) -> float | None:
        """Share of answered prompts whose answer is the reference; None where none was answered."""
        if not self.answered or math.isnan(self.loss):
            return None
        return sum(filter(None, self.example_exact_matches)) / self.answered

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
class Answered:
    """A few held-out prompts were answered, the same ones in all runs of a sweep, to be read. when: as in Evaluated."""

    time: Moment
    when: When
    answers: Annotated[tuple[GreedyAnswer, ...], Items(0, 100)]
    seconds: Seconds
    reused: bool = False
    """The base's, answered by an earlier run of the same worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLogged:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSaved:
    time: Moment
    path: PathInside
    """Relative to the run's directory."""
    file_bytes: Bytes
    """Of adapter_model.safetensors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleted:
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
class RunFailed:
    time: Moment
    error: Annotated[str, Prose(MAX_ERROR_CHARACTERS)]
    exit_code: Annotated[int, Between(-(2**31), 2**32)] | None = None
    log_tail: Annotated[str, Prose(MAX_LOG_CHARACTERS)] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled:
    time: Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequeued:
    """A run that had failed or been cancelled is asked for again; what it wrote before no longer counts."""

    time: Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthMeasured:
    """A probe ran true training steps on the model cut to so many blocks."""

    time: Moment
    depth: Blocks
    baseline_bytes: Bytes
    """Just before the base was loaded: the resident set, or what the GPU's allocator held."""
    load_peak_bytes: BytesMoved
    """The peak while the base was loaded, above the baseline."""
    moments: Annotated[dict[Moments, Annotated[int, Between(1, 2**60)]], Items(1, 3)]
    """{"forward", "backward", "optimizer": the peak in that part of a step, bytes above the baseline}."""
    peak_kind: Word
    """"resident above baseline" or "allocated"."""
    timed_steps: Annotated[tuple[StepSeconds, ...], Items(1, MAX_TIMED_STEPS)]
    """Seconds of each step after the first, which warms up."""
    first_step_seconds: Seconds
    tokens_per_step: Count
    trainable_parameters: Count
    total_parameters: Count
    took_seconds: Seconds
    """From the start of the process to its end."""
    static_bytes: BytesMoved | None = None
    """Base and adapter, before the first step, above the baseline; None in probes of before 26 November 2026."""
    peak_reserved_bytes: Bytes | None = None
    """What torch's caching allocator held at most; None on a CPU."""
    attn_implementation: Word = ""
    """What transformers chose: "sdpa", "eager", ..."""
    busy_elsewhere: Annotated[float, Between(0, 1)] = 0.0
    """The share of the machine's CPU time that other processes had while steps were timed."""

    @property
    def peak_bytes(self) -> int:
        """Over the steps, above the baseline."""
        return max(self.moments.values())

    @property
    def counts_exactly(self) -> bool:
        """Whether the counter is the allocator's own, which knows what is in use from what it only keeps."""
        return self.peak_kind == "allocated"

    @property
    def step_seconds(self) -> float:
        """Median of the timed steps."""
        return middle(self.timed_steps)

    @property
    def step_noise_seconds(self) -> float:
        """Standard error of that median."""
        return median_error(self.timed_steps)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_step / self.step_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthDidNotFit:
    """Memory ran out: a result."""

    time: Moment
    depth: Blocks
    limit_bytes: Bytes
    """What could be had."""
    short_bytes: Bytes
    """At least so much more was needed."""
    stage: Word
    """What was being done."""
    why: NoRoom
    """Who said no."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSkipped:
    time: Moment
    depth: Blocks
    reason: Annotated[str, Prose(MAX_ERROR_CHARACTERS)]
    """A sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeCompleted:
    time: Moment


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
    | DepthMeasured
    | DepthDidNotFit
    | DepthSkipped
    | ProbeCompleted
)

EVENT_TYPES: dict[str, type] = {t.__name__: t for t in RunEvent.__args__}
