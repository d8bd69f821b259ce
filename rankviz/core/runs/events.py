"""Defines the events of runs, of their attempts and of probes, with the stages they go through."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import gt
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from rankviz import units
from rankviz.core.bounds import Between, Bytes, BytesMoved, Count, Items, Loss, Moment, PathInside, Prose, Seconds, Word
from rankviz.core.quantity import median_error, middle
from rankviz.core.runs.request import RunRequest

LOCAL, HF_JOBS, RAY, SLURM = "local", "hf-jobs", "ray", "slurm"
"""Engines: this machine, machines that Hugging Face rents out by the minute, a Ray cluster and a Slurm cluster."""
MAX_ATTEMPTS = 10**6
MAX_REASON_CHARACTERS = 1000
AttemptNumber = Annotated[int, Between(0, MAX_ATTEMPTS)]


class Attempt(NamedTuple):
    """One try of one run, as a worker is given it: "RUN_ID@2"."""

    run_id: str
    number: int = 0
    """0: the current one, whichever that is."""

    @classmethod
    def parse(cls, text: str) -> "Attempt":
        """Read "RUN_ID" or "RUN_ID@NUMBER". ValueError where the number is none."""
        run_id, _, number = text.partition("@")
        return cls(run_id, int(number or 0))

    def __str__(self) -> str:
        return f"{self.run_id}@{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptEvent:
    """Fields that all events have."""

    time: Moment
    attempt: AttemptNumber = 0
    """Number of the attempt that wrote it; 0: the current one, as in journals of before attempts were counted."""
    offset: Count = 0
    """For an event that an engine brought from elsewhere: the bytes of that attempt's own journal up to the end of its
    line. What has been brought before counts once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptPlaced(AttemptEvent):
    """An engine has an attempt. Written before the engine starts it, and again when more is known of where it is. A
    number above the current one begins that attempt."""

    engine: Word
    where: Word = ""
    """For people: "GPU 1", "node-3", "l4x1"."""
    job: Word = ""
    """The engine's name of the job that carries it."""
    waits: Annotated[str, Prose(MAX_REASON_CHARACTERS)] = ""
    """Reason why it has not begun there, as a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequeued(AttemptEvent):
    """A run is asked for again, and its next attempt begins; what it wrote before no longer counts."""

    lost: Annotated[str, Prose(MAX_REASON_CHARACTERS)] = ""
    """Reason why the last attempt was lost; empty where somebody asked again."""


def queued_at(record: Any) -> float:
    """Return when somebody last asked for a run or a probe, by its record; unix seconds."""
    return record.request.created_at if record.requeued_at is None else record.requeued_at


def counting(events: Iterable[AttemptEvent], attempt: int) -> Iterator[AttemptEvent]:
    """The events that count, where so many attempts have begun before them."""
    for event in events:
        if isinstance(event, AttemptPlaced):
            attempt = max(attempt, event.attempt)
        if event.attempt in (0, attempt):
            yield event
            if isinstance(event, RunRequeued):
                attempt = following(attempt)


def following(attempt: int) -> int:
    """The number of the attempt after this one."""
    return min(attempt + 1, MAX_ATTEMPTS)


Processors = Annotated[int, Between(1, 100_000)]


class Environment(TypedDict, total=False):
    """The machine, versions and data of a run or probe; other plain values may stand beside these. None is not
    known."""

    device: Literal["cuda", "cpu"]
    device_name: Word | None
    device_memory_bytes: Bytes | None
    driver: Word | None
    cuda: Word | None
    capability: Word | None
    block_compile: bool
    cpu_count: Processors | None
    cpu_bf16: bool | None
    threads: Processors
    python: Word
    platform: Word
    rankviz: Word
    versions: dict[Word, Word | None]
    """By library."""
    base: Word
    loaded_from: Word
    base_dtype: Word
    model_fingerprint: Word
    data_fingerprint: Word
    total_parameters: Count
    train_examples: Count
    held_out_examples: Count
    precision: Word
    optim: Word
    target_modules: Annotated[tuple[Word, ...], Items(0, 10_000)] | Word
    load_average: Annotated[float, Between(0, 10**6)] | None
    """Processes that ran or waited over the minute before the base began to load, or before the run where an earlier
    one had it loaded."""
    loading_own_cpu_seconds: Seconds | None
    """Of the run that loaded the base, and so is the next; as in StepLogged."""
    loading_waited_cpu_seconds: Seconds | None


def fingerprints(environments: Iterable[Environment]) -> frozenset[str]:
    """Return the known fingerprints of the data that was read in these environments."""
    return frozenset(where.get("data_fingerprint", "") for where in environments) - {""}


MAX_TIMED_STEPS = 10_000
MAX_REASON = 4000
StepSeconds = Annotated[float, Between(1e-9, 10**7)]
Moments = Literal["forward", "backward", "optimizer"]
NoRoom = Literal["memory limit", "GPU", "system"]
Blocks = Annotated[int, Between(1, 10_000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthMeasured(AttemptEvent):
    """A probe ran true training steps on the model cut to so many blocks."""

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
    """Peak of torch's caching allocator; None on a CPU."""
    attn_implementation: Word = ""
    """Choice of transformers: "sdpa", "eager", ..."""
    busy_elsewhere: Annotated[float, Between(0, 1)] = 0.0
    """The share of the machine's CPU time that other processes had while steps were timed."""

    @property
    def peak_bytes(self) -> int:
        """Over the steps, above the baseline."""
        return max(self.moments.values())

    @property
    def counts_exactly(self) -> bool:
        """True where the counter is the allocator's own, which knows what is in use from what it only keeps."""
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
class DepthDidNotFit(AttemptEvent):
    """Memory ran out: a result."""

    depth: Blocks
    limit_bytes: Bytes
    """Available memory."""
    short_bytes: Bytes
    """At least so much more was needed."""
    stage: Word
    """Stage in which memory ran out."""
    why: NoRoom
    """Source of the limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSkipped(AttemptEvent):
    depth: Blocks
    reason: Annotated[str, Prose(MAX_REASON)]
    """A sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeCompleted(AttemptEvent):
    """The probe has ended well."""


GPU_LOST = 75
"""Exit code of a worker whose GPU has failed for good; a new process may find it well (EX_TEMPFAIL of sysexits.h)."""
DISK_FULL = 74
"""Exit code of a worker that could not write because the disk is full (EX_IOERR of sysexits.h)."""
MODELS_VARIABLE = "WORKER_MODELS_FOLDER"
"""Variable of a worker that keeps the embedded base elsewhere than in its runs folder, for other jobs too."""
MAX_ANSWER_CHARACTERS = 1000
MAX_ERROR_CHARACTERS = 4000
MAX_LOG_CHARACTERS = 8000
When = Literal["before", "after"]
Tokens = Annotated[int, Between(1, 10**12)]
"""Number of target tokens of one example or more; none has no target token."""
Answer = Annotated[str, Prose(MAX_ANSWER_CHARACTERS, controls=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted(AttemptEvent):
    environment: Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReached(AttemptEvent):
    """Next work of the worker, in words: "importing Unsloth", "loading the base", "evaluating the base"."""

    stage: Word


@dataclass(frozen=True, kw_only=True, slots=True)
class StageProgressed(AttemptEvent):
    """Progress of the current stage. Written at most about once a second, so a short stage has none; of training,
    StepLogged says it."""

    done: Count
    total: Count | None
    """None where it is not known, such as the bytes of a download whose length nobody said."""
    unit: Word
    """Unit of the count: "bytes", "examples", "rows", "modules", "steps"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterAttached(AttemptEvent):
    trainable_parameters: Count


class Matches(NamedTuple):
    """Prompts that were answered, and those whose answer is the reference."""

    answered: int
    right: int


def matches_of(examples: Sequence[int | None]) -> Matches:
    """Count the values of example_exact_matches; a list that is on the disk (store/journal.py) has them in memory."""
    known = getattr(examples, "summary", None)
    return known or Matches(sum(match is not None for match in examples), sum(filter(None, examples)))


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
    """For each held-out example, 1 where the greedy answer to its prompt is the reference, else 0; None where the
    prompt was not answered."""
    exact_match_seconds: Seconds | None = None
    """Time of answering; not part of an evaluation's own seconds."""

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
        return right / answered if answered and not math.isnan(self.loss) else None

    def contradiction(self) -> str:
        """Return why the counts cannot be of the same examples; empty where they can."""
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

    when: When
    seconds: Seconds
    """Seconds of the pass that loss and token accuracy come from."""
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

    when: When
    answers: Annotated[tuple[GreedyAnswer, ...], Items(0, 100)]
    seconds: Seconds
    reused: bool = False
    """The base's, answered by an earlier run of the same worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLogged(AttemptEvent):
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
    """Seconds in which its threads were ready but other programs had the processors; None where not counted."""


def median_seconds(steps: Sequence[StepLogged]) -> float | None:
    """Return the median seconds of the steps after the first; None of fewer than two."""
    ends = [step.seconds for step in steps]
    return middle([later - earlier for earlier, later in pairwise(ends)]) if len(ends) > 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterCut(HeldOut):
    """The trained adapter, cut to a lower rank, was evaluated: a point of a fast curve."""

    r: Annotated[int, Between(1, 65_536)]
    seconds: Seconds
    """Cutting, recovery and evaluation, answers among it."""
    example_losses: tuple[Loss, ...]
    recovery_steps: Count = 0
    """Steps that it and the higher cuts it was made of were trained on before it was evaluated."""
    path: PathInside = ""
    """Folder of its adapter, relative to the run's directory, where it was trained on; any other is a resize away."""
    file_bytes: Bytes | None = None
    """Size of adapter_model.safetensors there; None in journals of earlier versions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSaved(AttemptEvent):
    path: PathInside
    """Relative to the run's directory."""
    file_bytes: Bytes
    """Size of adapter_model.safetensors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleted(AttemptEvent):
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
    error: Annotated[str, Prose(MAX_ERROR_CHARACTERS)]
    exit_code: Annotated[int, Between(-(2**31), 2**32)] | None = None
    log_tail: Annotated[str, Prose(MAX_LOG_CHARACTERS)] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled(AttemptEvent):
    by_admin: bool = False
    """True where the admin of a shared page cancelled another's run."""


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


READING_DATA = "reading the data"
GETTING_BASE = "getting the base"
IMPORTING = "importing Unsloth"
LOADING = "loading the base"
TOKENIZING = "tokenizing the data"
ATTACHING = "attaching the adapter"
EVALUATING_BASE = "evaluating the base"
PREPARING = "preparing the training rows"
TRAINING = "training"
EVALUATING_ADAPTER = "evaluating the adapter"
SAVING = "saving the adapter"
DECOMPOSING = "decomposing the adapter"

DOWNLOADING = "downloading the base"
UNPACKING = "checking and unpacking the download"
IMPORTING_TRANSFORMERS = "importing Transformers"
CONVERTING = "converting the base"
INTERRUPTIONS = (DOWNLOADING, UNPACKING, IMPORTING_TRANSFORMERS, CONVERTING)
"""Stages of a first time, within getting or loading the base, which then goes on."""

MODULES = "Python modules"
"""Unit of what an import has loaded. Its total is what the import usually loads, so about right."""

LOADING_STAGES = (READING_DATA, GETTING_BASE, IMPORTING, LOADING, TOKENIZING)
"""Stages of the first run of a worker only."""


def counting_exact(prompts: int) -> str:
    """Answering held-out prompts, to count exact matches."""
    return f"answering {units.counted(prompts, 'held-out prompt')}"


def answering(prompts: int) -> str:
    """Answering the few held-out prompts whose answers are kept as text."""
    return f"writing {units.counted(prompts, 'held-out answer')}"


def kind_of(stage: str) -> str:
    """The stage without the number of its prompts, which may be fewer than were requested."""
    first = stage.partition(" ")[0]
    return first if first in ("answering", "writing") else stage


def truncating(r: int) -> str:
    """Truncating the trained adapter to a lower rank, training it a few steps, and evaluating it."""
    return f"truncating to r = {r}"


def stages_of(request: RunRequest, *, loads: bool) -> Iterator[str]:
    """Yield the stages of a run. loads: whether it is the first run of its worker, which loads the base and evaluates
    it. Numbers of prompts are those requested; data with fewer prompts has other words."""
    exact, shown = (
        [words(count)] if count else []
        for words, count in ((counting_exact, request.answered_examples), (answering, request.shown_answers))
    )
    if loads:
        yield from LOADING_STAGES
    yield ATTACHING
    if loads:
        yield from (EVALUATING_BASE, *exact, *shown)
    yield from (PREPARING, TRAINING, EVALUATING_ADAPTER, *exact, *shown, SAVING)
    if request.cut_ranks:
        yield DECOMPOSING
    for r in request.cut_ranks:
        yield from (truncating(r), *exact)
