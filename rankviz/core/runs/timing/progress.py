"""How far a sweep is, and how long it still takes.

    rest = of a run that is running: the rest of its current stage + its stages to come
    work = the rests of all that are running + the stages of each run that waits
    left = work / how many are running, at least the longest rest

A stage takes as long as it took in other runs of the sweep, else in earlier runs on the same machine. The rest of the
current stage follows from its share and its time so far; without a share, from how long it usually takes, and a stage
that takes longer than usual counts as about to end. Training goes on at its pace; truncating takes an evaluation and
its recovery steps. Short stages that nothing is known of are left out. Where a long one is not known, the time left is
None. Left out: runs of other sweeps that go first, and loading the base again after a run has failed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rankviz import units
from rankviz.core.quantity import middle
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.stages import (
    ATTACHING,
    DECOMPOSING,
    EVALUATING_ADAPTER,
    EVALUATING_BASE,
    GETTING_BASE,
    IMPORTING,
    INTERRUPTIONS,
    LOADING_STAGES,
    MODULES,
    PREPARING,
    READING_DATA,
    SAVING,
    TOKENIZING,
    TRAINING,
    kind_of,
    stages_of,
    truncating,
)

SHORT = (READING_DATA, GETTING_BASE, TOKENIZING, ATTACHING, PREPARING, SAVING, DECOMPOSING)
"""Stages of usually a few seconds at most; getting the base where it is there already."""
LEAST_STEPS = 2
"""Before the second step there is no pace: the first also compiles kernels."""
LEAST_SECONDS_LEFT = 1.0
"""Of a sweep that has not ended: nobody knows that it ends this very moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepProgress:
    """Where a sweep is."""

    number: int | None
    """Of the current run, from 1; None while none is running."""
    runs: int
    stage: str
    """Of the current run, with what it has done of it: "evaluating the base, 16 of 64 examples"."""
    stage_seconds: float | None
    """The current stage's time so far."""
    stage_share: float | None
    """0 to 1; None where it is not known."""
    stage_seconds_left: float | None = None
    """An estimate; None where it is not known, and of a stage that is about to end."""
    seconds_left: float | None
    """Of the whole sweep, an estimate; None where it is not known yet."""
    share: float | None
    """Of the whole sweep's time; None where that is not known yet."""
    trouble: str = ""
    """Why it is not known when it ends, as a sentence: nothing can be written down of it, or it is to be cancelled."""

    @property
    def sentence(self) -> str:
        """In words; empty while no run is running."""
        if self.number is None:
            return ""
        so_far = f" ({units.duration(self.stage_seconds)} so far)" if self.stage_seconds is not None else ""
        if self.trouble:
            return f"Run {self.number} of {self.runs}: {self.stage or 'starting'}. {self.trouble}"
        return f"Run {self.number} of {self.runs}: {self.stage or 'starting'}{so_far}. Time left: {self.left_in_words}."

    @property
    def left_in_words(self) -> str:
        """Of the whole sweep, or else of its current stage, as far as it is known."""
        if self.seconds_left is not None:
            return f"about {units.duration(self.seconds_left)}"
        if self.stage_seconds_left is not None:
            return f"about {units.duration(self.stage_seconds_left)} for this stage; the rest is not known yet"
        return "not known yet"


def progress_of(sweep: Sweep, now: float, earlier: Iterable[RunRecord] = ()) -> SweepProgress:
    """now: unix seconds. earlier: completed runs on the same machine."""
    running = sweep.running
    known = _Known(sweep, earlier)
    work, left = _work_left(sweep, now, known)
    of_stage = _rest_of_stage(running, running.stage, now, known) if running and running.stage else None
    begun = [run for run in sweep.runs if run.state is RunState.RUNNING and run.started_at]
    spent = sweep.seconds_in_runs + sum(max(0.0, now - run.started_at) for run in begun)
    return SweepProgress(
        number=sweep.runs.index(running) + 1 if running else None,
        runs=len(sweep.runs),
        stage=stage_in_words(running) if running else "",
        stage_seconds=stage_seconds(running, now) if running else None,
        stage_share=running.stage_share if running else None,
        stage_seconds_left=of_stage if of_stage is not None and of_stage >= LEAST_SECONDS_LEFT else None,
        seconds_left=left,
        share=1.0 if sweep.ended else spent / (spent + work) if work is not None else None,
    )


def stage_in_words(run: RunRecord) -> str:
    """The current stage and what it has done, without its time; empty where it has none."""
    progress = run.stage_progress
    if run.stage == TRAINING and run.steps:
        return f"{TRAINING}, step {run.steps_done:,} of {run.request.max_steps:,}"
    if progress is None:
        return run.stage
    if progress.unit == "bytes":
        of = f" of {units.file_size(progress.total)}" if progress.total else ""
        return f"{run.stage}, {units.file_size(progress.done)}{of}"
    about = "about " if progress.unit == MODULES else ""
    of = f" of {about}{progress.total:,}" if progress.total else ""
    return f"{run.stage}, {progress.done:,}{of} {progress.unit}"


class _Known:
    """Seconds of stages by kind, from the sweep itself, else from earlier runs; of training, of one step."""

    def __init__(self, sweep: Sweep, earlier: Iterable[RunRecord]):
        first = sweep.runs[0].request if sweep.runs else None
        others = [run for run in earlier if run.request.sweep_id != sweep.sweep_id]
        alike = _Alike(first)
        self._own = _middle_of(each for run in sweep.runs for each in _measured(run))
        self._earlier = _middle_of(
            (kind, seconds)
            for run in others
            for kind, seconds in _measured(run)
            if kind == IMPORTING
            or (kind in LOADING_STAGES and _same_base(run.request, first))
            or alike.works_as(run.request)
        )
        self._trained = any(TRAINING in (run.stage, *(each.stage for each in run.ended_stages)) for run in sweep.runs)

    def seconds(self, stage: str, request: RunRequest) -> float | None:
        """Of a whole stage; None where it is not known."""
        found = self._of(kind_of(stage))
        if stage == TRAINING:
            return None if found is None else found * request.max_steps
        if found is None and stage in (EVALUATING_BASE, EVALUATING_ADAPTER):
            return self._of(EVALUATING_BASE) or self._of(EVALUATING_ADAPTER)
        if found is None and (r := _truncated(stage, request)) is not None:
            evaluation, step = self.seconds(EVALUATING_ADAPTER, request), self._of(TRAINING)
            steps = request.recovery_steps(r)
            return None if evaluation is None or (steps and step is None) else evaluation + steps * (step or 0.0)
        if found is None and (stage in SHORT or (self._trained and kind_of(stage) != stage)):
            return 0.0  # answers that the base was not asked for, since no row has a prompt, no adapter is asked for
        return found

    def _of(self, kind: str) -> float | None:
        return self._own.get(kind, self._earlier.get(kind))


def _measured(run: RunRecord) -> Iterator[tuple[str, float]]:
    """(kind of stage, seconds) of those that have ended, and the pace of training. A stage that a download
    interrupts has not shown how long it takes."""
    following = [*(each.stage for each in run.ended_stages[1:]), "" if run.state.ended else run.stage]
    for (stage, seconds), then in zip(run.ended_stages, following, strict=False):
        if stage not in (TRAINING, *INTERRUPTIONS) and then not in INTERRUPTIONS:
            yield kind_of(stage), seconds
    if run.steps_done >= LEAST_STEPS:
        yield TRAINING, run.steps[-1].seconds / run.steps_done


def _middle_of(measured: Iterable[tuple[str, float]]) -> Mapping[str, float]:
    by_kind: dict[str, list[float]] = {}
    for kind, seconds in measured:
        by_kind.setdefault(kind, []).append(seconds)
    return {kind: middle(values) for kind, values in by_kind.items()}


def _work_left(sweep: Sweep, now: float, known: _Known) -> tuple[float | None, float | None]:
    """Seconds of all workers together, and until the last of them ends; None where that is not known."""
    if sweep.ended or all(run.started_at is None for run in sweep.runs):
        return None, None
    running = [run for run in sweep.runs if run.state is RunState.RUNNING]
    rests = [list(_rest_of(run, now, known)) for run in running]
    waiting = [
        known.seconds(stage, run.request)
        for run in sweep.runs
        if run.started_at is None and not run.state.ended
        for stage in stages_of(run.request, loads=False)
    ]
    if None in waiting or any(None in rest for rest in rests):
        return None, None
    work = max(LEAST_SECONDS_LEFT, sum(map(sum, rests)) + sum(waiting))
    return work, max([work / max(1, len(running)), *map(sum, rests)])


def _rest_of(run: RunRecord, now: float, known: _Known) -> Iterator[float | None]:
    """Of the running run: the rest of its stage, then each stage to come."""
    plan = list(stages_of(run.request, loads=run.load_began_at is not None))
    current = run.stage or (TRAINING if run.steps else "")
    yield _rest_of_stage(run, current, now, known)
    for stage in plan[_place(plan, [*(each.stage for each in run.ended_stages), current]) :]:
        yield known.seconds(stage, run.request)


def _place(plan: Sequence[str], reached: Sequence[str]) -> int:
    """How much of the plan lies behind, the current stage included. A stage that is not planned, such as a download,
    interrupts the one before it, which then goes on."""
    kinds, place = [kind_of(stage) for stage in plan], 0
    for kind in map(kind_of, reached):
        if kind in kinds:
            place = kinds.index(kind, place if kind in kinds[place:] else 0) + 1
    return place if kind_of(reached[-1]) in kinds else max(0, place - 1)


def _rest_of_stage(run: RunRecord, stage: str, now: float, known: _Known) -> float | None:
    if stage == TRAINING and run.steps_done >= LEAST_STEPS:
        pace = run.steps[-1].seconds / run.steps_done
        return max(0.0, (run.request.max_steps - run.steps_done) * pace)
    so_far, progress = stage_seconds(run, now) or 0.0, run.stage_progress
    usual = known.seconds(stage, run.request) if stage else 0.0
    counts = progress and not (progress.unit == MODULES and usual is not None)  # modules take unlike times
    if counts and run.stage_share and run.stage_began_at is not None:
        until_then = max(0.0, progress.time - run.stage_began_at)
        return max(0.0, until_then / run.stage_share - so_far)
    return None if usual is None else max(0.0, usual - so_far)


def stage_seconds(run: RunRecord, now: float) -> float | None:
    """Of its current stage so far; None where it has none. now: unix seconds."""
    return max(0.0, now - run.stage_began_at) if run.stage_began_at is not None else None


def _truncated(stage: str, request: RunRequest) -> int | None:
    return next((r for r in request.cut_ranks if truncating(r) == stage), None)


def _same_base(a: RunRequest, b: RunRequest) -> bool:
    loads = ((each.base, each.training.precision, each.lora.unsloth_class, each.lora.text_only) for each in (a, b))
    return len(set(loads)) == 1


class _Alike:
    """Whether a step, an evaluation and an answer take as long, apart from the rank, which hardly moves them. Requests
    share their settings (store/journal.py), so few have to be compared."""

    def __init__(self, request: RunRequest | None):
        self._work = _work(request) if request else None
        self._known: dict[tuple[object, ...], bool] = {}

    def works_as(self, other: RunRequest) -> bool:
        key = id(other.lora), id(other.training), *_counts(other)
        if key not in self._known:
            self._known[key] = _work(other) == self._work
        return self._known[key]


def _work(request: RunRequest) -> tuple[object, ...]:
    lora = replace(request.lora, r=1, lora_alpha=1.0)
    return *_counts(request), replace(request.training, max_steps=1), lora


def _counts(request: RunRequest) -> tuple[object, ...]:
    counts = request.held_out_examples, request.exact_match_examples, request.shown_answers
    return request.base, request.data, *counts
