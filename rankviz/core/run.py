"""A run: what was asked, what happened, and the fold that says where it stands.

An event is a frozen dataclass in the past tense; its JSON line in events.jsonl is {"event": class name, "time": unix
seconds, ...fields}. A record is a fold over a run's events: no code ever sets a state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum


class RunState(StrEnum):
    QUEUED = "queued"
    """Asked for; no worker has begun it."""
    RUNNING = "running"
    """A worker has begun it, and it has not ended."""
    COMPLETED = "completed"
    """Trained, evaluated and saved."""
    FAILED = "failed"
    """Ended without completing; the error says why. What was written stays."""
    CANCELLED = "cancelled"
    """Worker is not running, and was cancelled."""

    @property
    def ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What was asked of one run; request.json, written once."""

    run_id: str
    sweep_id: str
    created_at: float
    base: str
    """"embedded" (SmolLM2-135M-Instruct from its PyPI wheel), a local folder, or a Hub id."""
    data: str
    """A shipped sample's id ("phonemes", "syllables") or the path of a JSONL, CSV or Parquet file."""
    r: int
    lora_alpha: float
    target_modules: str | tuple[str, ...] = "unsloth"
    use_rslora: bool = False
    use_dora: bool = False
    learning_rate: float = 1e-3
    seed: int = 0
    max_steps: int = 40
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_length: int = 256
    held_out_examples: int = 64
    precision: str = "auto"
    """"auto" is nf4-dq where CUDA is there and fp32 on the CPU; or one of core.training.PRECISIONS."""
    optim: str = "auto"
    """"auto" is adamw_8bit where CUDA is there and adamw_torch on the CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    time: float
    environment: dict
    """device ("cuda"/"cpu"), device_name, driver, python, versions {library: version}, cpu_count, model_fingerprint,
    data_fingerprint, train_examples, held_out_examples, precision, optim, target_modules, total_parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReached:
    """What the worker is about to do, in words: "importing Unsloth", "loading the base", "evaluating the base"."""

    time: float
    stage: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterAttached:
    time: float
    trainable_parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """Mean held-out loss in nats a target token. when: "before" (adapter attached, untrained: the base) or "after"."""

    time: float
    when: str
    loss: float
    tokens: int
    examples: int
    seconds: float
    example_losses: tuple[float, ...] = ()


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


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailed:
    time: float
    error: str
    exit_code: int | None = None
    log_tail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelled:
    time: float


RunEvent = (
    RunStarted
    | StageReached
    | AdapterAttached
    | Evaluated
    | StepLogged
    | AdapterSaved
    | RunCompleted
    | RunFailed
    | RunCancelled
)

EVENT_TYPES: dict[str, type] = {t.__name__: t for t in RunEvent.__args__}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """Where a run stands: its request folded with its events."""

    request: RunRequest
    state: RunState = RunState.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    stage: str = ""
    environment: dict = field(default_factory=dict)
    trainable_parameters: int | None = None
    steps: tuple[StepLogged, ...] = ()
    loss_before: Evaluated | None = None
    loss_after: Evaluated | None = None
    adapter_path: str | None = None
    adapter_bytes: int | None = None
    completed: RunCompleted | None = None
    error: str = ""
    log_tail: str = ""

    @property
    def run_id(self) -> str:
        return self.request.run_id

    @property
    def gain(self) -> float | None:
        """Held-out loss of the base minus that of the trained adapter, nats a token."""
        if self.loss_before is None or self.loss_after is None:
            return None
        return self.loss_before.loss - self.loss_after.loss

    @property
    def tokens_per_second(self) -> float | None:
        """Over the training so far, from the last step logged."""
        if not self.steps or not self.steps[-1].seconds:
            return None
        return self.steps[-1].tokens / self.steps[-1].seconds

    @property
    def seconds_left(self) -> float | None:
        """Training seconds still to go at the pace so far; None before the second step."""
        if len(self.steps) < 2 or self.state is not RunState.RUNNING:
            return None
        last = self.steps[-1]
        return (self.request.max_steps - last.step) * last.seconds / last.step

    def after(self, event: RunEvent) -> "RunRecord":
        """The record once this has happened. An ended run stays ended."""
        if self.state.ended:
            return self
        match event:
            case RunStarted():
                return replace(self, state=RunState.RUNNING, started_at=event.time, environment=event.environment)
            case StageReached():
                return replace(self, state=RunState.RUNNING, started_at=self.started_at or event.time, stage=event.stage)
            case AdapterAttached():
                return replace(self, trainable_parameters=event.trainable_parameters)
            case Evaluated(when="before"):
                return replace(self, loss_before=event)
            case Evaluated():
                return replace(self, loss_after=event)
            case StepLogged():
                return replace(self, steps=(*self.steps, event))
            case AdapterSaved():
                return replace(self, adapter_path=event.path, adapter_bytes=event.file_bytes)
            case RunCompleted():
                return replace(self, state=RunState.COMPLETED, ended_at=event.time, completed=event)
            case RunFailed():
                return replace(
                    self, state=RunState.FAILED, ended_at=event.time, error=event.error, log_tail=event.log_tail
                )
            case RunCancelled():
                return replace(self, state=RunState.CANCELLED, ended_at=event.time)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRequest:
    """A sweep: every rank × learning rate × seed, on the same data in the same order, the base loaded once."""

    base: str = "embedded"
    data: str = "phonemes"
    ranks: tuple[int, ...] = (4, 16, 64)
    alpha: str = "32"
    """"r", "2r" or a number held fixed over the ranks."""
    learning_rates: tuple[float, ...] = (1e-3,)
    seeds: tuple[int, ...] = (0,)
    max_steps: int = 40
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_length: int = 256
    held_out_examples: int = 64
    target_modules: str | tuple[str, ...] = "unsloth"
    use_rslora: bool = False
    use_dora: bool = False
    precision: str = "auto"
    optim: str = "auto"

    def runs(self, *, sweep_id: str, created_at: float) -> Sequence[RunRequest]:
        """One request a run, in the order they will run."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Runs that belong together."""

    sweep_id: str
    runs: tuple[RunRecord, ...]
    recorded: bool = False
    """Shipped with RankViz, made by it elsewhere."""

    @property
    def ended(self) -> bool:
        return all(run.state.ended for run in self.runs)
