"""Defines the events of a run and of a probe. Their names are in the past tense.

An event's JSON line in events.jsonl is {"event": class name, "time": unix seconds, ...fields}.
"""

import math
from dataclasses import dataclass
from typing import Any

from rankviz.core.quantity import median_error, middle

GPU_LOST = 75
"""Exit code of a worker whose GPU has failed for good; a new process may find it well (EX_TEMPFAIL of sysexits.h)."""
DISK_FULL = 74
"""Exit code of a worker that could not write because the disk is full (EX_IOERR of sysexits.h)."""
YIELD_FILE = "worker.yield"
"""In the runs folder: asks the worker to end before its next run, since somebody else waits."""
MAX_ANSWER_CHARACTERS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    time: float
    environment: dict[str, Any]
    """device ("cuda"/"cpu"), device_name, driver, python, versions {library: version}, cpu_count, model_fingerprint,
    data_fingerprint, train_examples, held_out_examples, precision, optim, target_modules, total_parameters.
    load_average (processes that ran or waited over the minute before the base began to load, or before the run where an
    earlier one had it loaded) and, of the run that loaded it, loading_own_cpu_seconds and loading_waited_cpu_seconds
    (as in StepLogged)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReached:
    """What the worker is about to do, in words: "importing Unsloth", "loading the base", "evaluating the base"."""

    time: float
    stage: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageProgressed:
    """How far the current stage is. Written at most about once a second, so a short stage has none; of training,
    StepLogged says it."""

    time: float
    done: int
    total: int | None
    """None where it is not known, such as the bytes of a download whose length nobody said."""
    unit: str
    """What is counted: "bytes", "examples", "rows", "modules", "steps"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterAttached:
    time: float
    trainable_parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """The held-out examples under an adapter. Counts of what was not measured are None or empty, never 0: no run of
    before 26 November 2026 counted tokens, and answers are counted only where they were requested."""

    loss: float
    """Mean in nats a target token."""
    tokens: int
    """Target tokens."""
    examples: int
    correct_tokens: int | None = None
    """Target tokens that the model gives the highest probability, after the true tokens before them."""
    example_tokens: tuple[int, ...] = ()
    """Target tokens of each held-out example, in the order of the held-out set."""
    example_correct_tokens: tuple[int, ...] = ()
    """The correct ones among them."""
    example_exact_matches: tuple[int | None, ...] = ()
    """Of each held-out example, 1 where the greedy answer to its prompt is the reference, else 0; None where the
    prompt was not answered."""
    exact_match_seconds: float | None = None
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated(HeldOut):
    """The held-out set was evaluated. when: "before" (adapter attached, untrained: the base) or "after"."""

    time: float
    when: str
    seconds: float
    """Of the pass that loss and token accuracy come from."""
    example_losses: tuple[float, ...] = ()
    """Mean of each held-out example, in the order of the held-out set."""
    reused: bool = False
    """Measured by an earlier run of the same worker: with B = 0 the adapter adds nothing, so the base's loss is one."""
    own_cpu_seconds: float | None = None
    """As in StepLogged, and so is the next."""
    waited_cpu_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GreedyAnswer:
    """A held-out prompt and the model's greedy answer to it, as text of at most MAX_ANSWER_CHARACTERS each."""

    place: int
    """Among the held-out examples."""
    prompt: str
    reference: str
    text: str
    ended: bool
    """Whether the model ended it; else it was cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A few held-out prompts were answered, the same ones in all runs of a sweep, to be read. when: as in Evaluated."""

    time: float
    when: str
    answers: tuple[GreedyAnswer, ...]
    seconds: float
    reused: bool = False
    """The base's, answered by an earlier run of the same worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLogged:
    time: float
    step: int
    loss: float
    learning_rate: float
    tokens: int
    """Tokens trained on so far, padding left out."""
    seconds: float
    """Training seconds so far."""
    memory_bytes: int
    """Now in use: GPU allocated, or the worker's resident set."""
    own_cpu_seconds: float | None = None
    """Processor time of the worker in `seconds`, added over its threads. Read each second and at the last step: None at
    other steps, and in journals of before 26 November 2026."""
    waited_cpu_seconds: float | None = None
    """How long its threads were ready in `seconds` while other programs had the processors; None where not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterCut(HeldOut):
    """The trained adapter, cut to a lower rank, was evaluated: a point of a fast curve."""

    time: float
    r: int
    seconds: float
    """Cutting, recovery and evaluation, answers among it."""
    example_losses: tuple[float, ...]
    recovery_steps: int = 0
    """Steps that it and the higher cuts it was made of were trained on before it was evaluated."""
    path: str = ""
    """Of its adapter, relative to the run's directory, where it was trained on; any other is a resize away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSaved:
    time: float
    path: str
    """Relative to the run's directory."""
    file_bytes: int
    """Of adapter_model.safetensors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleted:
    time: float
    train_seconds: float
    peak_memory_bytes: int
    peak_memory_kind: str
    """"GPU allocated" or "process resident"."""
    baseline_memory_bytes: int | None = None
    """The same counter just before the adapter was attached."""
    peak_reserved_bytes: int | None = None
    own_cpu_seconds: float | None = None
    """As in StepLogged, and so is the next; both since the run started."""
    waited_cpu_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailed:
    time: float
    error: str
    exit_code: int | None = None
    log_tail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled:
    time: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequeued:
    """A run that had failed or been cancelled is asked for again; what it wrote before no longer counts."""

    time: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthMeasured:
    """A probe ran true training steps on the model cut to so many blocks."""

    time: float
    depth: int
    baseline_bytes: int
    """Just before the base was loaded: the resident set, or what the GPU's allocator held."""
    load_peak_bytes: int
    """The peak while the base was loaded, above the baseline."""
    moments: dict[str, int]
    """{"forward", "backward", "optimizer": the peak in that part of a step, bytes above the baseline}."""
    peak_kind: str
    """"resident above baseline" or "allocated"."""
    timed_steps: tuple[float, ...]
    """Seconds of each step after the first, which warms up."""
    first_step_seconds: float
    tokens_per_step: int
    trainable_parameters: int
    total_parameters: int
    took_seconds: float
    """From the start of the process to its end."""
    static_bytes: int | None = None
    """Base and adapter, before the first step, above the baseline; None in probes of before 26 November 2026."""
    peak_reserved_bytes: int | None = None
    """What torch's caching allocator held at most; None on a CPU."""
    attn_implementation: str = ""
    """What transformers chose: "sdpa", "eager", ..."""
    busy_elsewhere: float = 0.0
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

    time: float
    depth: int
    limit_bytes: int
    """What could be had."""
    short_bytes: int
    """At least so much more was needed."""
    stage: str
    """What was being done."""
    why: str
    """Who said no: "memory limit", "GPU" or "system"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSkipped:
    time: float
    depth: int
    reason: str
    """A sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeCompleted:
    time: float


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
