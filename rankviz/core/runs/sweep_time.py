"""Time of a sweep: the estimate before it starts, and progress and time left while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rankviz import units
from rankviz.core.cost.duration import load_seconds
from rankviz.core.cost.pace import Pace
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Assumptions, Range
from rankviz.core.runs import events
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.request import RunRequest

EVALUATION_SHARE = 0.5
"""Time to evaluate one example over the time to train on it without recomputation: 2P of 4P operations."""
ANSWER_PASSES = Range(1.0, 3.0, 20.0)
"""Time of one greedy answer over the time of a forward pass on its example. Measured 1.8 to 3.3 with SmolLM2-135M on
one thread (26 November 2026); on a GPU, and for long answers, each token may take a pass."""
SHOWN_TOKENS = 64
"""Most tokens of an answer that is stored for people to read."""
SHOWN_SECONDS = 20.0
"""Time limit in seconds for the answers that a run stores for people to read; the time of the last evaluation, if
longer."""
SHOWN_TIME = Range(1.0, 5.0, SHOWN_SECONDS)
NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTime:
    """Estimated seconds of the parts of a sweep."""

    load: Range
    training: Range
    other: Range
    """Evaluations, answers, and all else in runs that is not training."""
    longest_run: Range
    """Longest run, with evaluation of the base but without loading. Each end is the longest of any run."""

    @property
    def total(self) -> Range:
        return self.load.plus_independent(self.training.plus(self.other))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedSweep:
    """Estimated time and memory of a sweep on one device."""

    device_name: str
    runs: int
    truncations: int
    ranks: Mapping[int, RunEstimate]
    time: SweepTime | None
    """Estimated time; None on a GPU of unknown speed."""
    pace: Pace | None = None
    parts: int = 1
    """Number of workers that may train the sweep at once on its engine; 1 where not known."""
    run_minutes: int | None = None
    """Minutes after which the server ends a run; None without a limit."""

    @property
    def seconds(self) -> Range | None:
        """Seconds of the whole sweep, with loading and evaluations; None where the time is not known."""
        return self.time.total if self.time else None

    @property
    def too_long(self) -> str:
        """Warning that a run may reach the server's time limit before it completes; empty otherwise."""
        if self.time is None or self.run_minutes is None or self.time.longest_run.high <= 60 * self.run_minutes:
            return ""
        longest, minutes = units.duration(self.time.longest_run.high), units.counted(self.run_minutes, "minute")
        return f"A run may take up to {longest} by the estimate, and this server ends it after {minutes}."

    @property
    def sentences(self) -> Sequence[str]:
        """Sentences shown before the start: device and time, sources of the estimate, and warnings."""
        runs, time, span = units.counted(self.runs, "run"), self.time, units.time_span
        if self.truncations:
            which = "the highest rank " if self.runs > 1 else ""
            runs += f", {which}truncated to {units.counted(self.truncations, 'lower rank')},"
        lines = [f"{runs} on {self.device_name}: time not known."]
        if time is not None:
            said = span if self.pace else (lambda seconds: f"up to {units.duration(seconds.high)}")
            basis = f", {self.pace.in_words}" if self.pace else "; closer after the first run"
            lines = [
                f"{runs} on {self.device_name}: estimated time {said(self.seconds)}{basis}.",
                f"Loading {said(time.load)}, training {said(time.training)}, evaluations and the rest "
                f"{said(time.other)}.",
                self.too_long,
                f"This is the time on one worker; up to {self.parts} train at once there." if self.parts > 1 else "",
            ]
        calibrated = any(run.calibrated_by for run in self.ranks.values())
        lines.append("Memory is calibrated by probes of this base model on this machine." if calibrated else "")
        return tuple(filter(None, lines))


def sweep_time(
    model: ModelSpec,
    runs: Sequence[RunRequest],
    estimates: Sequence[RunEstimate],
    assumptions: Assumptions,
    pace: Pace | None = None,
) -> SweepTime | None:
    """Estimate the time of a sweep: the base is loaded and evaluated once, each run and each truncation trains and is
    evaluated. estimates: From estimate_run, one per run; None if one has no time."""
    training, other, longest = NOTHING, NOTHING, NOTHING
    for place, (run, estimate) in enumerate(zip(runs, estimates, strict=True)):
        if estimate.seconds is None:
            return None
        recovery = sum(run.recovery_steps(r) for r in run.cut_ranks) / run.max_steps
        train = estimate.seconds.times(1 + recovery)
        alone = _other(run, estimate.seconds, pace, evaluations=2)
        longest = longest.reached_by(train.plus(alone))
        training = training.plus(train)
        other = other.plus(_other(run, estimate.seconds, pace, evaluations=1) if place else alone)
    load = load_seconds(model, Stack(setup=TrainingSetup(), use_dora=False, assume=assumptions))
    if pace:
        load = pace.part("load", load)
    return SweepTime(load=load, training=training, other=other, longest_run=longest)


def _other(run: RunRequest, training: Range, pace: Pace | None, *, evaluations: int) -> Range:
    """Return the seconds of one run that are not training: evaluations, answers and the rest. evaluations: 2 for the
    first run of a worker, which evaluates the base too, else 1."""
    passes, one = evaluations + len(run.cut_ranks), evaluation_of_one(run, training)
    answered = min(run.exact_match_examples, run.held_out_examples)
    answer, shown = one.multiplied(ANSWER_PASSES), SHOWN_TIME
    if pace:
        answer, shown = pace.part("answer", answer), pace.part("shown", shown)
    rows = one.times(passes * run.held_out_examples).plus(answer.times(passes * answered))
    if run.shown_answers:
        rows = rows.plus(shown.times(evaluations))
    rest = pace.parts.get("rest", 0.0) if pace else 0.0
    return rows.plus(Range(rest, rest, rest))


def evaluation_of_one(run: RunRequest, training: Range) -> Range:
    """Return the seconds to evaluate one held-out example. training: Seconds of the run's training."""
    return training.times(EVALUATION_SHARE / (run.max_steps * run.training.rows_per_step))


LEAST_STEPS = 2
"""Fewest steps from which a step time is computed; the first step also compiles kernels."""
LEAST_SECONDS_LEFT = 1.0
"""Least time left that is shown for a sweep that has not ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepProgress:
    """Progress of a running sweep, and its time left."""

    number: int | None
    """Number of the current run in the sweep, from 1; None while none is running."""
    runs: int
    stage: str
    """Stage of the current run with its progress: "evaluating the base, 16 of 64 examples"."""
    seconds_left: float | None
    """Estimated seconds until the whole sweep ends; None where not known."""
    share: float | None
    """Elapsed share of the whole sweep's time, 0 to 1; None where not known, as while it prepares."""
    trouble: str = ""
    """Reason why the end is not known, as a sentence: the journal cannot be written, or a cancel was requested."""

    @property
    def sentence(self) -> str:
        """Progress as a sentence; empty while no run is running."""
        if self.number is None:
            return ""
        ending = self.trouble or f"Time left: {self.left_in_words}."
        return f"Run {self.number} of {self.runs}: {self.stage or 'starting'}. {ending}"

    @property
    def left_in_words(self) -> str:
        return units.NOT_KNOWN if self.seconds_left is None else f"about {units.duration(self.seconds_left)}"


def progress_of(sweep: Sweep, now: float, time: SweepTime | None = None) -> SweepProgress:
    """Return a sweep's progress. now: Unix seconds. time: Estimate of the whole sweep, used until steps are measured
    and for parts that are not training; None where not known."""
    running = sweep.running
    begun = [run.started_at for run in sweep.runs if run.state is RunState.RUNNING and run.started_at]
    work, left = _work_left(sweep, now, time)
    spent = sweep.seconds_in_runs + sum(max(0.0, now - at) for at in begun)
    return SweepProgress(
        number=sweep.runs.index(running) + 1 if running else None,
        runs=len(sweep.runs),
        stage=stage_in_words(running) if running else "",
        seconds_left=left,
        share=1.0 if sweep.ended else spent / (spent + work) if work is not None else None,
    )


def stage_in_words(run: RunRecord) -> str:
    """Return a run's current stage with its progress as text; empty before the first stage."""
    progress = run.stage_progress
    if run.stage == events.TRAINING and run.steps:
        return f"{events.TRAINING}, step {run.steps_done:,} of {run.request.max_steps:,}"
    if progress is None:
        return f"{run.stage} (up to 2 min)" if run.stage == events.IMPORTING else run.stage
    if progress.unit == "bytes":
        of = f" of {units.file_size(progress.total)}" if progress.total else ""
        return f"{run.stage}, {units.file_size(progress.done)}{of}"
    of = f" of {progress.total:,}" if progress.total else ""
    return f"{run.stage}, {progress.done:,}{of} {progress.unit}"


def _work_left(sweep: Sweep, now: float, time: SweepTime | None) -> tuple[float | None, float | None]:
    """Return the seconds of work left, None before a step time is measured, and the seconds until the last worker ends,
    None where not known. Training is assumed to go on at the measured step time; all else in a run takes the estimated
    time. A preparation that takes longer than loading should (a download) takes nothing off the rest."""
    unended, begun = [run for run in sweep.runs if not run.state.ended], [run.started_at for run in sweep.runs]
    if not unended or not any(begun):
        return None, None
    paces = {run.run_id: run.steps[-1].seconds / run.steps_done for run in sweep.runs if run.steps_done >= LEAST_STEPS}
    if not paces:
        if time is None:
            return None, None
        loads = max(0.0, time.load.expected - (now - min(filter(None, begun))))
        return None, max(LEAST_SECONDS_LEFT, loads + time.training.expected + time.other.expected)
    usual, other = median([*paces.values()]), time.other.expected / len(sweep.runs) if time else 0.0
    rests = [
        _steps_left(run) * paces.get(run.run_id, usual)
        + max(0.0, other - (now - run.steps[-1].time if run.steps_done >= run.request.max_steps else 0.0))
        for run in unended
    ]
    work = max(LEAST_SECONDS_LEFT, sum(rests))
    workers = sum(run.state is RunState.RUNNING for run in unended) or 1
    return work, max(work / workers, *rests)


def _steps_left(run: RunRecord) -> int:
    truncated = {cut.r for cut in run.cuts}
    recovery = sum(run.request.recovery_steps(r) for r in run.request.cut_ranks if r not in truncated)
    return max(0, run.request.max_steps - run.steps_done) + recovery
