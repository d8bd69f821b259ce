"""A probe: true training steps on the chosen model's layers with random weights, at small depths, and where it stands.

Peak memory, step time and tokens a second come out, measured here, without a download. Blocks repeat, so two small
depths give the whole model (core.periods, core.extrapolate); the full depth can be run to check. A probe is kept as
a run is: request.json, a journal, and a record that is the fold of its events.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rankviz.core.events import (
    DepthDidNotFit,
    DepthMeasured,
    DepthSkipped,
    ProbeCompleted,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunStarted,
    StageReached,
)
from rankviz.core.extrapolate import Extrapolation, extrapolate
from rankviz.core.run import RunState

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


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRequest:
    """What was asked of a probe; "auto" is settled before (core.probe_settings)."""

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
class ProbeRecord:
    """Where a probe stands: its request folded with its events."""

    request: ProbeRequest
    state: RunState = RunState.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    stage: str = ""
    environment: dict = field(default_factory=dict)
    measured: tuple[DepthMeasured, ...] = ()
    did_not_fit: tuple[DepthDidNotFit, ...] = ()
    skipped: tuple[DepthSkipped, ...] = ()
    error: str = ""
    exit_code: int | None = None
    log_tail: str = ""
    unreadable_lines: int = 0

    @property
    def run_id(self) -> str:
        return self.request.probe_id

    @property
    def full(self) -> DepthMeasured | None:
        """The whole model, where it was run."""
        return next((each for each in self.measured if each.depth == self.request.total_depth), None)

    @property
    def extrapolated(self) -> Extrapolation | None:
        """The whole model from the shallower depths; None before two of them are there."""
        shallow = [each for each in self.measured if each.depth < self.request.total_depth]
        return extrapolate(shallow, self.request.total_depth)

    def after(self, event: RunEvent) -> "ProbeRecord":
        """The record once this has happened. An ended probe stays ended."""
        if self.state.ended:
            return self
        match event:
            case RunStarted():
                begun = replace(self, environment=event.environment)
                return replace(begun, state=RunState.RUNNING, started_at=self.started_at or event.time)
            case StageReached():
                begun = replace(self, stage=event.stage)
                return replace(begun, state=RunState.RUNNING, started_at=self.started_at or event.time)
            case DepthMeasured():
                return replace(self, measured=(*self.measured, event))
            case DepthDidNotFit():
                return replace(self, did_not_fit=(*self.did_not_fit, event))
            case DepthSkipped():
                return replace(self, skipped=(*self.skipped, event))
            case ProbeCompleted():
                return replace(self, state=RunState.COMPLETED, ended_at=event.time)
            case RunFailed():
                failed = replace(self, error=event.error, exit_code=event.exit_code, log_tail=event.log_tail)
                return replace(failed, state=RunState.FAILED, ended_at=event.time)
            case RunCancelled():
                return replace(self, state=RunState.CANCELLED, ended_at=event.time)
        return self

    def after_all(self, events: Iterable[RunEvent]) -> "ProbeRecord":
        record = self
        for event in events:
            record = record.after(event)
        return record
