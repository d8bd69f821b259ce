"""The record of a run, computed from its request and events, and titles, labels and waiting reasons of runs and sweeps.
No code ever sets a state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from typing import Any, NamedTuple, Self

from rankviz.core.lora.config import MAX_RANK
from rankviz.core.quantity import brief
from rankviz.core.runs import events
from rankviz.core.runs.request import MAX_SHOWN_ANSWERS, RunRequest
from rankviz.units import counted


class HeldOutAnswer(NamedTuple):
    """A held-out prompt with its reference, and the answers before and after training."""

    place: int
    """Index of the prompt among the held-out examples; the same in all runs of a sweep."""
    prompt: str
    reference: str
    before: events.GreedyAnswer | None
    """Answer of the base; None where the base did not answer this prompt."""
    after: events.GreedyAnswer | None
    """Answer of the trained adapter; None until training has ended."""


def readable(text: str) -> str:
    """Return the start of a text, with lone surrogates replaced, which JSON can express but pages and files cannot."""
    shown = text if len(text) <= events.MAX_ANSWER_CHARACTERS else text[: events.MAX_ANSWER_CHARACTERS - 1] + "…"
    return shown.encode("utf-8", "replace").decode("utf-8")


def _by_place(answered: events.Answered | None) -> dict[int, events.GreedyAnswer]:
    """Return answers by index of their prompt, limited in number and length because a journal may be imported."""
    answers = sorted(answered.answers, key=lambda each: each.place)[:MAX_SHOWN_ANSWERS] if answered else ()
    texts = ("prompt", "reference", "text")
    return {each.place: replace(each, **{name: readable(getattr(each, name)) for name in texts}) for each in answers}


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    """Ended before completion; files written so far are kept."""
    CANCELLED = "cancelled"
    """Cancelled by a person; no worker runs it."""

    @property
    def ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded(ABC):
    """Common base class of the records of runs and probes: a request, and the state after its events."""

    request: Any
    state: RunState = RunState.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    last_at: float = 0.0
    """Unix seconds of the worker's last event in the current attempt."""
    stage: str = ""
    """The current stage; for an ended attempt, the last one."""
    environment: events.Environment = field(default_factory=events.Environment)
    error: str = ""
    exit_code: int | None = None
    log_tail: str = ""
    cancelled_by_admin: bool = False
    """True where the admin of a shared page cancelled another visitor's run."""
    unreadable_lines: int = 0
    """Number of ignored journal lines: invalid events, and steps that do not follow the step before."""
    attempt: int = 1
    """Number of the current attempt; events of earlier attempts do not count."""
    lost_attempts: int = 0
    """Number of attempts in a row that were lost with their machine; 0 again after a person queues the run."""
    lost: str = ""
    """Reason why the previous attempt was lost, as a sentence; empty where it was not lost."""
    place: events.AttemptPlaced | None = None
    """Location of the current attempt; None before an engine accepts it, and in journals older than engines."""
    copied_bytes: int = 0
    """Bytes of the current attempt's journal on another machine that have been copied here."""
    requeued_at: float | None = None
    """Unix seconds at which a person last queued the run again; None where nobody has."""
    earlier_seconds: float = 0.0
    """Seconds of earlier attempts together, each from its first event to its last."""
    earlier_attempts: int = 0
    """Number of earlier attempts that had begun."""

    @property
    def attempt_seconds(self) -> float | None:
        """Seconds of the current attempt up to its end, or its last event so far; None before it begins."""
        if self.started_at is None:
            return None
        return max(0.0, (self.ended_at or max(self.started_at, self.last_at)) - self.started_at)

    @property
    def engine(self) -> str:
        """Name of the engine that has the current attempt; empty where none has."""
        return self.place.engine if self.place else ""

    @property
    def where(self) -> str:
        """Name of the current attempt's location to show; empty where not known, or no engine has the attempt."""
        return self.place.where if self.place else ""

    @property
    def waits(self) -> str:
        """Reason why the engine has not begun the attempt, as a sentence; empty where there is none."""
        return self.place.waits if self.place else ""

    @property
    def begun_attempts(self) -> int:
        """Number of attempts that have begun, the current one included."""
        return self.earlier_attempts + (self.attempt_seconds is not None)

    @property
    def shown_attempt(self) -> int:
        """Number of the current attempt for people, which skips attempts that ended before they began."""
        return 1 + self.earlier_attempts

    def counts(self, event: events.AttemptEvent) -> bool:
        """Tell whether an event belongs to the current attempt and is not a copy of an event already counted."""
        return event.attempt in (0, self.attempt) and (not event.offset or event.offset > self.copied_bytes)

    def another(self, event: events.AttemptEvent) -> dict[str, Any] | None:
        """Return the first fields of a new record if this event begins another attempt; else None. After a run has
        ended, only RunRequeued begins another attempt."""
        fields = {"lost_attempts": self.lost_attempts, "lost": self.lost, "requeued_at": self.requeued_at}
        if isinstance(event, events.AttemptPlaced) and event.attempt > self.attempt and not self.state.ended:
            fields |= {"attempt": event.attempt, "place": event}
        elif isinstance(event, events.RunRequeued) and self.counts(event):
            fields |= {"attempt": events.following(self.attempt), "lost": event.lost}
            fields |= {"lost_attempts": self.lost_attempts + 1 if event.lost else 0}
            fields |= {} if event.lost else {"requeued_at": event.time}
        else:
            return None
        fields |= {"earlier_seconds": self.earlier_seconds, "earlier_attempts": self.earlier_attempts}
        if (seconds := self.attempt_seconds) is not None:
            fields["earlier_seconds"] += seconds
            fields["earlier_attempts"] += 1
        return fields

    @property
    def run_id(self) -> str:
        return self.request.run_id

    def after(self, event: events.RunEvent) -> Self:
        """Return the record after one more event. An ended run stays ended until it is queued again. Events of other
        attempts and events already copied change nothing."""
        if (begun := self.another(event)) is not None:
            return type(self)(request=self.request, unreadable_lines=self.unreadable_lines, **begun)
        if self.state.ended or not self.counts(event):
            return self
        by_worker = not isinstance(event, events.AttemptPlaced)
        times = {"last_at": max(self.last_at, event.time)} if by_worker else {}
        return replace(self._folded(event), **times, copied_bytes=event.offset or self.copied_bytes)

    def after_all(self, journal: Iterable[events.RunEvent]) -> Self:
        """Return the record after all events of a journal."""
        return reduce(type(self).after, journal, self)

    @abstractmethod
    def _folded(self, event: events.RunEvent) -> Self:
        """Return the record after one event of the current attempt."""

    def _ended(self, event: events.RunFailed | events.RunCancelled) -> Self:
        if isinstance(event, events.RunFailed):
            failed = {"error": event.error, "exit_code": event.exit_code, "log_tail": event.log_tail}
            return replace(self, state=RunState.FAILED, ended_at=event.time, **failed)
        return replace(self, state=RunState.CANCELLED, ended_at=event.time, cancelled_by_admin=event.by_admin)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord(Recorded):
    """The state of a run: its request and the result of all its events."""

    __repr__ = brief

    request: RunRequest
    loaded_at: float | None = None
    """Unix seconds at which the base was loaded, so that the run itself began."""
    load_seconds: float = 0.0
    """Seconds from the start until the base was loaded, without its download and conversion."""
    stage_progress: events.StageProgressed | None = None
    """Latest progress of the current stage; None where the stage has reported none."""
    trainable_parameters: int | None = None
    steps: tuple[events.StepLogged, ...] = ()
    loss_before: events.Evaluated | None = None
    loss_after: events.Evaluated | None = None
    answered_before: events.Answered | None = None
    """Answers of the base; None where none were requested, and in journals older than answers."""
    answered_after: events.Answered | None = None
    cuts: tuple[events.AdapterCut, ...] = ()
    """Evaluations of the trained adapter at lower ranks, for a fast curve."""
    adapter_path: str | None = None
    adapter_bytes: int | None = None
    completed: events.RunCompleted | None = None

    @property
    def gain(self) -> float | None:
        """Held-out loss of the base minus the trained adapter's, nats per token; None until both are measured."""
        if self.loss_before is None or self.loss_after is None:
            return None
        return self.loss_before.loss - self.loss_after.loss

    @property
    def loss_or_inf(self) -> float:
        """Held-out loss of the trained adapter, to sort by; inf where it was not measured or is NaN."""
        loss = self.loss_after.loss if self.loss_after else math.inf
        return loss if math.isfinite(loss) else math.inf

    @property
    def answers(self) -> tuple[HeldOutAnswer, ...]:
        """Held-out prompts with the answers of the base and of the trained adapter; empty where none were written."""
        before, after = _by_place(self.answered_before), _by_place(self.answered_after)
        every = {**after, **before}
        return tuple(
            HeldOutAnswer(place, each.prompt, each.reference, before.get(place), after.get(place))
            for place, each in sorted(every.items())
        )

    @property
    def steps_done(self) -> int:
        return self.steps[-1].step if self.steps else 0

    @property
    def first_step_seconds(self) -> float | None:
        """Seconds of the first step, in which kernels are compiled too; None before it ends."""
        return self.steps[0].seconds if self.steps and self.steps[0].step == 1 else None

    @property
    def step_seconds(self) -> float | None:
        """Median seconds of all steps but the first; None before the second step ends."""
        return (
            self.steps.summary.median_seconds if hasattr(self.steps, "summary") else events.median_seconds(self.steps)
        )

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second over all steps so far; None before the first step ends."""
        if not self.steps or not self.steps[-1].seconds:
            return None
        return self.steps[-1].tokens / self.steps[-1].seconds

    def _folded(self, event: events.RunEvent) -> "RunRecord":
        changes: dict[str, Any] = {}
        fetches = self.stage in (events.DOWNLOADING, events.UNPACKING, events.CONVERTING)
        if self.started_at is not None and self.loaded_at is None and not fetches:
            changes["load_seconds"] = self.load_seconds + max(0.0, event.time - self.last_at)
        if isinstance(event, events.RunStarted | events.StageReached):
            changes |= {"state": RunState.RUNNING, "started_at": self.started_at or event.time}
            if self.place and self.place.waits and self.started_at is None:
                changes["place"] = replace(self.place, waits="")  # outdated once the worker writes
        match event:
            case events.AttemptPlaced():
                changes["place"] = event
            case events.RunStarted():
                changes |= {"loaded_at": self.loaded_at or event.time, "environment": event.environment}
            case events.StageReached():
                changes |= {"stage": event.stage, "stage_progress": None}
            case events.StageProgressed():
                changes["stage_progress"] = event
            case events.AdapterAttached():
                changes["trainable_parameters"] = event.trainable_parameters
            case events.Evaluated():
                changes[f"loss_{event.when}"] = event
            case events.Answered():
                changes[f"answered_{event.when}"] = event
            case events.StepLogged():
                return self._with_steps([event])
            case events.AdapterCut() if len(self.cuts) < MAX_RANK:
                changes["cuts"] = (*self.cuts, event)
            case events.AdapterSaved():
                changes |= {"adapter_path": event.path, "adapter_bytes": event.file_bytes}
            case events.RunCompleted():
                changes |= {"state": RunState.COMPLETED, "ended_at": event.time, "completed": event}
            case events.RunFailed() | events.RunCancelled():
                return self._ended(event)
        return replace(self, **changes) if changes else self

    def after_all(self, journal: Iterable[events.RunEvent]) -> "RunRecord":
        """Return the record after all events of a journal. Steps are added in one pass, so the time is linear."""
        record, steps = self, []
        for event in journal:
            if isinstance(event, events.StepLogged):
                if record.counts(event) and not record.state.ended:
                    steps.append(event)
                continue
            if record.another(event) is not None:
                record, steps = record._with_steps(steps), []
            record = record.after(event)
        return record._with_steps(steps)

    def _with_steps(self, steps: list[events.StepLogged]) -> "RunRecord":
        """Return the record with more steps, without copies of one another. Steps whose number, seconds or tokens go
        down are ignored and counted."""
        if not steps:
            return self
        known, left_out, copied_bytes = list(self.steps), 0, 0
        for step in steps:
            if 0 < step.offset <= copied_bytes:
                continue
            copied_bytes, last = max(copied_bytes, step.offset), known[-1] if known else None
            if last and (step.step <= last.step or step.seconds < last.seconds or step.tokens < last.tokens):
                left_out += 1
            else:
                known.append(step)
        return replace(
            self,
            steps=tuple(known),
            unreadable_lines=self.unreadable_lines + left_out,
            copied_bytes=max(self.copied_bytes, copied_bytes),
            last_at=max(self.last_at, *(step.time for step in steps)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Runs that were started together to be compared."""

    __repr__ = brief

    sweep_id: str
    runs: tuple[RunRecord, ...]
    recorded: bool = False
    """True for a sweep that ships with RankViz."""

    @property
    def ended(self) -> bool:
        return all(run.state.ended for run in self.runs)

    @property
    def running(self) -> RunRecord | None:
        return next((run for run in self.runs if run.state is RunState.RUNNING), None)

    @property
    def resumable(self) -> tuple[RunRecord, ...]:
        """Runs that failed or were cancelled, and so can be queued again."""
        return tuple(run for run in self.runs if run.state in (RunState.FAILED, RunState.CANCELLED))

    @property
    def seconds_in_runs(self) -> float:
        """Sum of the seconds of ended runs, without pauses between runs."""
        spans = [run.ended_at - run.started_at for run in self.runs if run.started_at and run.ended_at]
        return sum(max(0.0, span) for span in spans)


def sweep_title(sweep: Sweep) -> str:
    """Return "SmolLM2-135M-Instruct on phonemes, r = 4, 16"; for a fast curve with "(r = 16 truncated to 1, 2)"."""
    request = sweep.runs[0].request
    ranks = tuple(dict.fromkeys(run.request.r for run in sweep.runs))
    lower = next((run.request.cut_ranks for run in sweep.runs if run.request.cut_ranks), ())
    title = f"{base_name(request.base)} on {data_name(request.data)}, r = {', '.join(map(str, ranks))}"
    truncated = f" (r = {max(ranks)} truncated to {', '.join(map(str, sorted(lower)))})" if lower else ""
    return f"{title}{truncated}"


def still_training(sweep: Sweep) -> str:
    """Say that a sweep cannot be judged yet, with its number of ended runs; empty where all have ended."""
    if sweep.ended:
        return ""
    ended = sum(run.state.ended for run in sweep.runs)
    return f"Still training: {ended} of {counted(len(sweep.runs), 'run')} ended. Ranks are compared when all have."


def told_apart(sweeps: Sequence[Sweep], *names: Callable[[Sweep], str]) -> Mapping[str, str]:
    """Return a distinct name for each sweep, by sweep id. names: Functions that make a name, from short to long. The
    first one with different names for all sweeps is used; if there is none, the last one with the id appended."""
    for name in (*names, lambda sweep: f"{names[-1](sweep)} ({sweep.sweep_id})"):
        by_id = {sweep.sweep_id: name(sweep) for sweep in sweeps}
        if len(set(by_id.values())) == len(by_id):
            break
    return by_id


def base_name(base: str) -> str:
    """Return a model's own name, without owner or folder."""
    return "SmolLM2-135M-Instruct" if base == "embedded" else base.rstrip("/").rsplit("/", 1)[-1]


def data_name(data: str) -> str:
    """Return a sample's id, or a file's name without the fingerprint that the store puts before it."""
    name = data.rsplit("/", 1)[-1]
    digest, _, rest = name.partition("-")
    return rest if rest and len(digest) == 16 else name


def run_labels(sweep: Sweep) -> Mapping[str, str]:
    """Return short labels of a sweep's runs, by run id."""
    by_rate = len({run.request.learning_rate for run in sweep.runs}) > 1
    by_seed = len({run.request.seed for run in sweep.runs}) > 1
    return {
        run.run_id: f"r = {run.request.r}"
        + (f", lr {run.request.learning_rate:g}" if by_rate else "")
        + (f", seed {run.request.seed}" if by_seed else "")
        for run in sweep.runs
    }


def made_of(sweep: Sweep) -> str:
    """Return how a sweep differs from other sweeps of its model: "phonemes, 400 steps"."""
    request = sweep.runs[0].request
    return f"{data_name(request.data)}, {counted(request.max_steps, 'step')}"


class Place(NamedTuple):
    """Location at which a run trains: an engine and a machine."""

    engine: str = ""
    where: str = ""
    """Name of the machine to show: "GPU 1", "node-3", "l4x1". Empty, or the engine's title, where not known."""

    @property
    def in_words(self) -> str:
        """Text such as "Ray cluster, node-0"; empty where nothing is known."""
        return ", ".join(dict.fromkeys(filter(None, [title(self.engine), self.where])))


def title(engine: str) -> str:
    """Return an engine's title, as within a sentence."""
    return events.TITLES.get(engine, engine)


AFTER_OTHERS = "It starts when another run of its sweep has ended."


def why_it_waits(run: RunRecord, sweep: Sweep, *, has_job: bool) -> Iterator[str]:
    """Yield sentences on why a queued run has not started; none where it has started or only waits for its turn.
    has_job: True where an engine has started a job that will train the run."""
    if run.state is not RunState.QUEUED:
        yield "" if run.state.ended else run.waits
        return
    if run.lost:
        yield f"The last attempt was lost: {run.lost}"
    starting = f"Its worker is starting{f' on {run.where}' if run.where else ''}." if has_job else ""
    yield run.waits or (AFTER_OTHERS if sweep.running else starting)


def cancel_in_words(runs: Sequence[RunRecord]) -> str:
    """Return a sentence that the cancellation of these runs was requested."""
    cost = ", and costs," if any(run.engine == events.HF_JOBS for run in runs) else ""
    return f"A cancel was requested. The job goes on{cost} until that is done."
