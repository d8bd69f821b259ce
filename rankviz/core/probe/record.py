"""A probe: true training steps on the chosen model's layers with random weights, at small depths, and where it stands.

Peak memory, step time and tokens a second come out, measured here, without a download. Blocks repeat, so two small
depths give the whole model (core.model.periods, core.probe.extrapolate); the full depth can be run to check. A probe
is kept as a run is: request.json, a journal, and a record that is the fold of its events.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rankviz.core.probe.extrapolate import Extrapolation, extrapolate
from rankviz.core.probe.request import MAX_DEPTHS, ProbeRequest
from rankviz.core.runs.attempts import Attempted, AttemptPlaced
from rankviz.core.runs.environment import Environment
from rankviz.core.runs.events import (
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
from rankviz.core.runs.record import RunState


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRecord(Attempted):
    """Where a probe stands: its request folded with its events."""

    request: ProbeRequest
    state: RunState = RunState.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    stage: str = ""
    environment: Environment = field(default_factory=Environment)
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
    def attempt_seconds(self) -> float | None:
        if self.started_at is None:
            return None
        lines = [each.time for each in (*self.measured, *self.did_not_fit, *self.skipped)]
        last = max([self.started_at, *lines]) if self.ended_at is None else self.ended_at
        return max(0.0, last - self.started_at)

    @property
    def peak_kind(self) -> str | None:
        """What the peak is of; None before a depth was measured."""
        return self.measured[0].peak_kind if self.measured else None

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
        """The record once this has happened. An ended probe stays ended, and what another attempt wrote, or what is
        here already, changes nothing."""
        if (begun := self.another(event, ended=self.state.ended)) is not None:
            return ProbeRecord(request=self.request, unreadable_lines=self.unreadable_lines, **begun)
        if self.state.ended or not self.counts(event):
            return self
        record = self._folded(event)
        return replace(record, copied_bytes=event.offset) if event.offset else record

    def _folded(self, event: RunEvent) -> "ProbeRecord":
        match event:
            case AttemptPlaced():
                return replace(self, place=event)
            case RunStarted():
                begun = replace(self, environment=event.environment)
                return replace(begun, state=RunState.RUNNING, started_at=self.started_at or event.time)
            case StageReached():
                begun = replace(self, stage=event.stage)
                return replace(begun, state=RunState.RUNNING, started_at=self.started_at or event.time)
            case DepthMeasured() if len(self.measured) < MAX_DEPTHS and event.depth <= self.request.total_depth:
                return replace(self, measured=(*self.measured, event))
            case DepthDidNotFit() if len(self.did_not_fit) < MAX_DEPTHS:
                return replace(self, did_not_fit=(*self.did_not_fit, event))
            case DepthSkipped() if len(self.skipped) < MAX_DEPTHS:
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
