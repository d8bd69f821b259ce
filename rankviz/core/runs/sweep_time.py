"""Time of a sweep by part: the estimate before it starts, and its progress and time left while it runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import load_seconds
from rankviz.core.cost.pace import Paces
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range, middle
from rankviz.core.runs import events
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.run_time import FormulaTimes

EVALUATION_SHARE = 0.5
"""Time of a forward pass over a row, in training steps per row without recomputation: 2P of 4P operations."""
ONE_TOKEN_PASS = Range(0.05, 0.15, 0.5)
"""Cost of one further token of an answer on a CPU, in forward passes over its row: a KV cache reads all weights for
one token of each row. Measured 0.13 to 0.26 with SmolLM2-135M on one thread (26 November 2026)."""
MORE_TOKENS = 8
"""An answer is cut off this many tokens after the longest reference in its batch (the worker's EXTRA_TOKENS)."""
SHOWN_TOKENS = 64
"""Token limit of one answer that is kept to be read."""
SHOWN_SECONDS = 20.0
"""Shortest time limit, in seconds, for generating the sample answers that a run keeps for people to read. Where the
evaluation just before took longer, its time is the limit."""
SHOWN_TIME = Range(1.0, 5.0, SHOWN_SECONDS)
NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTime:
    """Estimated seconds of a sweep by part."""

    load: Range
    training: Range
    evaluation: Range
    rest: Range
    longest_run: Range
    """Longest run with evaluation of the base, without loading: at each end the longest of any run."""
    answers: Range | None = None
    """None where no held-out prompt is answered."""

    @property
    def total(self) -> Range:
        work = (self.training, self.evaluation, self.answers or NOTHING, self.rest)
        return self.load.plus_independent(reduce(Range.plus, work))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedSweep:
    """Estimate of a sweep on one device."""

    device_name: str
    runs: int
    truncations: int
    ranks: Mapping[int, RunEstimate]
    time: SweepTime | None
    """None on a GPU whose speed is not known."""
    paces: Paces
    parts: int = 1
    """Number of workers that may train the sweep at once on that engine; 1 where it is not known."""
    warning: str = ""
    """Sentence on a setting that makes the run needlessly slow on this device; empty where there is none."""
    run_minutes: int | None = None
    """Minutes after which the server ends a run; None without a limit."""

    @property
    def seconds(self) -> Range | None:
        """Seconds of the whole sweep (loading, training, evaluations); None where the time is not known."""
        return self.time.total if self.time else None

    @property
    def too_long(self) -> str:
        """Sentence where a run may reach the server's time limit before it completes; empty otherwise."""
        if self.time is None or self.run_minutes is None or self.time.longest_run.high <= 60 * self.run_minutes:
            return ""
        longest, minutes = self.time.longest_run.high, units.counted(self.run_minutes, "minute")
        return (
            f"A run may take up to {units.duration(longest)} by the estimate, and this server ends it after {minutes}."
        )

    @property
    def sentences(self) -> Sequence[str]:
        """Announcement of the sweep: device and time, the basis of the estimate, and warnings."""
        runs, time, span = units.counted(self.runs, "run"), self.time, units.time_span
        if self.truncations:
            which = "the highest rank " if self.runs > 1 else ""
            runs += f", {which}truncated to {units.counted(self.truncations, 'lower rank')},"
        lines = [f"{runs} on {self.device_name}: time not known."]
        if time is not None:
            basis = self.paces.in_words or "from the formulas alone"
            answers = f", answers {span(time.answers)}" if time.answers else ""
            lines = [
                f"{runs} on {self.device_name}: estimated time {span(self.seconds)}, {basis}.",
                f"Loading {span(time.load)}, training {span(time.training)}, evaluation {span(time.evaluation)}"
                f"{answers}.",
                self.too_long,
                f"This is the time on one worker; up to {self.parts} train at once there." if self.parts > 1 else "",
            ]
        calibrated = any(run.calibrated_by for run in self.ranks.values())
        lines.append("Memory is calibrated by probes of this base model on this machine." if calibrated else "")
        return tuple(filter(None, (*lines, self.paces.busy_in_words, self.warning)))


def answer_passes(answer_tokens: Range, *, cuda: bool) -> Range:
    """Return the cost of one greedy answer, in forward passes over a whole row: on a CPU one, plus ONE_TOKEN_PASS per
    token; on CUDA one per token. Tokens are those of the reference, plus MORE_TOKENS except at the low end.
    answer_tokens: tokens of a reference, between the mean and the longest one."""
    decoded = answer_tokens.plus(Range(0, MORE_TOKENS, MORE_TOKENS))
    return decoded if cuda else Range(1, 1, 1).plus(decoded.multiplied(ONE_TOKEN_PASS))


def formula_times(model: ModelSpec, run: RunRequest, training: Range, assumptions: Assumptions) -> FormulaTimes:
    """Return the seconds of one run by the formulas. training: seconds of its training by the formulas."""
    return FormulaTimes(
        load=_load(model, assumptions).expected,
        training=training.expected,
        evaluation_of_one=_one_row(run, training).expected,
    )


def sweep_time(
    model: ModelSpec,
    runs: Sequence[RunRequest],
    estimates: Sequence[RunEstimate],
    assumptions: Assumptions,
    paces: Paces | None = None,
    answering: Range | None = None,
) -> SweepTime | None:
    """Estimate the time of a sweep: the base is loaded and evaluated once, each run trains and is evaluated, and each
    truncation trains its recovery steps and is evaluated. estimates: of each run, from estimate_run; None is returned
    if one has no time. answering: cost of an answer in forward passes over a row (answer_passes); None where unknown
    or not requested."""
    paces = paces or Paces()
    parts, longest = [], NOTHING
    for run, estimate in zip(runs, estimates, strict=True):
        if estimate.seconds is None:
            return None
        alone = _parts(run, estimate, paces, answering, evaluations=2)
        longest = longest.reached_by(reduce(Range.plus, alone))
        parts.append(_parts(run, estimate, paces, answering, evaluations=1) if parts else alone)
    training, evaluation, answers, rest = (reduce(Range.plus, part) for part in zip(*parts, strict=True))
    load = _load(model, assumptions)
    return SweepTime(
        load=paces.load.of(load) if paces.load else load,
        training=training,
        evaluation=evaluation,
        rest=rest,
        longest_run=longest,
        answers=answers if answers.high else None,
    )


def _parts(
    run: RunRequest,
    estimate: RunEstimate,
    paces: Paces,
    answering: Range | None,
    *,
    evaluations: int,
) -> Sequence[Range]:
    """Return seconds of training, evaluation, answers and the rest of one run. evaluations: 2 for the first run of a
    worker, which evaluates the base too; else 1."""
    recovery = sum(run.recovery_steps(r) for r in run.cut_ranks) / run.max_steps
    passes = evaluations + len(run.cut_ranks)
    one = _one_row(run, estimate.seconds)
    if paces.evaluation:
        one = paces.evaluation.of(_one_row(run, estimate.formula_seconds))
    answers = SHOWN_TIME.times(evaluations) if run.shown_answers else NOTHING
    if answering:
        answers = answers.plus(one.multiplied(answering).times(passes * run.answered_examples))
    rest = paces.rest.range(1.0) if paces.rest else NOTHING
    return estimate.seconds.times(1 + recovery), one.times(passes * run.held_out_examples), answers, rest


def _one_row(run: RunRequest, training: Range) -> Range:
    """Return the seconds of one held-out example's forward pass."""
    return training.times(EVALUATION_SHARE / (run.max_steps * run.training.rows_per_step))


def _load(model: ModelSpec, assumptions: Assumptions) -> Range:
    return load_seconds(model, Stack(setup=TrainingSetup(), use_dora=False, assume=assumptions))


SHORT = (
    events.READING_DATA,
    events.GETTING_BASE,
    events.TOKENIZING,
    events.ATTACHING,
    events.PREPARING,
    events.SAVING,
    events.DECOMPOSING,
)
"""Stages that usually take at most a few seconds; getting the base does if it is on disk already."""
LEAST_STEPS = 2
"""Fewest steps for a pace: the first step also compiles kernels."""
LEAST_SECONDS_LEFT = 1.0
"""Lowest time left shown for a sweep that has not ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepProgress:
    """Progress of a sweep and the time left."""

    number: int | None
    """Number of the current run, from 1; None while none is running."""
    runs: int
    stage: str
    """Stage of the current run and its progress: "evaluating the base, 16 of 64 examples"."""
    stage_seconds: float | None
    stage_share: float | None
    """Share of the current stage that is done, 0 to 1; None where it is not known."""
    stage_seconds_left: float | None = None
    """Estimated seconds until the current stage ends; None where not known, or less than a second."""
    seconds_left: float | None
    """Estimated seconds until the whole sweep ends; None where it is not known yet."""
    share: float | None
    """Share of the whole sweep's time that has passed; None where it is not known yet."""
    trouble: str = ""
    """Reason why the end is not known, as a sentence: the journal cannot be written, or a cancel was requested."""

    @property
    def sentence(self) -> str:
        """The progress in words; empty while no run is running."""
        if self.number is None:
            return ""
        so_far = f" ({units.duration(self.stage_seconds)} so far)" if self.stage_seconds is not None else ""
        if self.trouble:
            return f"Run {self.number} of {self.runs}: {self.stage or 'starting'}. {self.trouble}"
        return f"Run {self.number} of {self.runs}: {self.stage or 'starting'}{so_far}. Time left: {self.left_in_words}."

    @property
    def left_in_words(self) -> str:
        """Time left of the sweep, or else of its current stage, or "not known yet"."""
        if self.seconds_left is not None:
            return f"about {units.duration(self.seconds_left)}"
        if self.stage_seconds_left is not None:
            return f"about {units.duration(self.stage_seconds_left)} for this stage; the rest is not known yet"
        return "not known yet"


def progress_of(sweep: Sweep, now: float, earlier: Iterable[RunRecord] = ()) -> SweepProgress:
    """Return a sweep's progress. now: unix seconds. earlier: completed runs on the same machine, for stage times."""
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
    """Return the current stage with its progress, without times; empty where there is no stage."""
    progress = run.stage_progress
    if run.stage == events.TRAINING and run.steps:
        return f"{events.TRAINING}, step {run.steps_done:,} of {run.request.max_steps:,}"
    if progress is None:
        return run.stage
    if progress.unit == "bytes":
        of = f" of {units.file_size(progress.total)}" if progress.total else ""
        return f"{run.stage}, {units.file_size(progress.done)}{of}"
    about = "about " if progress.unit == events.MODULES else ""
    of = f" of {about}{progress.total:,}" if progress.total else ""
    return f"{run.stage}, {progress.done:,}{of} {progress.unit}"


class _Known:
    """Seconds by kind of stage (training: per step), from the sweep itself, else from earlier runs."""

    def __init__(self, sweep: Sweep, earlier: Iterable[RunRecord]):
        measured: dict[str, list[float]] = {}
        before: dict[str, list[float]] = {}
        for run in sweep.runs:
            for kind, seconds in _measured(run):
                measured.setdefault(kind, []).append(seconds)
        for run in earlier:
            if run.request.sweep_id != sweep.sweep_id:
                is_alike = bool(sweep.runs) and _works_alike(run.request, sweep.runs[0].request)
                for kind, seconds in _measured(run):
                    if kind == events.IMPORTING or is_alike:
                        before.setdefault(kind, []).append(seconds)
        self._seconds = {kind: middle(values) for kind, values in {**before, **measured}.items()}

    def seconds(self, stage: str, request: RunRequest) -> float | None:
        """Return the seconds of a whole stage; None where they are not known."""
        kind = events.kind_of(stage)
        known = self._seconds.get(kind)
        if known is not None:
            return known * request.max_steps if stage == events.TRAINING else known
        if stage in (events.EVALUATING_BASE, events.EVALUATING_ADAPTER):
            return self._seconds.get(events.EVALUATING_BASE) or self._seconds.get(events.EVALUATING_ADAPTER)
        if r := next((r for r in request.cut_ranks if events.truncating(r) == stage), None):
            evaluation, steps = self.seconds(events.EVALUATING_ADAPTER, request), request.recovery_steps(r)
            step = self._seconds.get(events.TRAINING) if steps else 0.0
            return None if None in (evaluation, step) else evaluation + steps * step
        return 0.0 if stage in SHORT or kind != stage else None  # data without prompts are not answered


def _measured(run: RunRecord) -> Iterator[tuple[str, float]]:
    """Yield (kind of stage, seconds) of ended stages, and (training, seconds per step). Stages that a download
    interrupts are skipped, since they took longer than usual."""
    following = [*(each.stage for each in run.ended_stages[1:]), "" if run.state.ended else run.stage]
    for (stage, seconds), then in zip(run.ended_stages, following, strict=False):
        if stage not in (events.TRAINING, *events.INTERRUPTIONS) and then not in events.INTERRUPTIONS:
            yield events.kind_of(stage), seconds
    if run.steps_done >= LEAST_STEPS:
        yield events.TRAINING, run.steps[-1].seconds / run.steps_done


def _work_left(sweep: Sweep, now: float, known: _Known) -> tuple[float | None, float | None]:
    """Return seconds of work left, and seconds until the last worker ends; (None, None) where not known."""
    if sweep.ended or all(run.started_at is None for run in sweep.runs):
        return None, None
    running = [run for run in sweep.runs if run.state is RunState.RUNNING]
    rests = [list(_rest_of(run, now, known)) for run in running]
    waiting = [
        known.seconds(stage, run.request)
        for run in sweep.runs
        if run.started_at is None and not run.state.ended
        for stage in events.stages_of(run.request, loads=False)
    ]
    if None in waiting or any(None in rest for rest in rests):
        return None, None
    work = max(LEAST_SECONDS_LEFT, sum(map(sum, rests)) + sum(waiting))
    return work, max([work / max(1, len(running)), *map(sum, rests)])


def _rest_of(run: RunRecord, now: float, known: _Known) -> Iterator[float | None]:
    """Yield seconds left of a running run: of its current stage, then of each later stage. An unplanned stage, such as
    a download, interrupts the one before it, which continues afterwards."""
    plan = list(events.stages_of(run.request, loads=run.load_began_at is not None))
    current = run.stage or (events.TRAINING if run.steps else "")
    kinds, place = [events.kind_of(stage) for stage in plan], 0
    for kind in (events.kind_of(stage) for stage in (*(each.stage for each in run.ended_stages), current)):
        if kind in kinds[place:]:
            place = kinds.index(kind, place) + 1
    yield _rest_of_stage(run, current, now, known)
    for stage in plan[place if events.kind_of(current) in kinds else max(0, place - 1) :]:
        yield known.seconds(stage, run.request)


def _rest_of_stage(run: RunRecord, stage: str, now: float, known: _Known) -> float | None:
    if stage == events.TRAINING and run.steps_done >= LEAST_STEPS:
        pace = run.steps[-1].seconds / run.steps_done
        return max(0.0, (run.request.max_steps - run.steps_done) * pace)
    so_far, progress = stage_seconds(run, now) or 0.0, run.stage_progress
    usual = known.seconds(stage, run.request) if stage else 0.0
    counts = progress and not (progress.unit == events.MODULES and usual is not None)  # modules take unlike times
    if counts and run.stage_share and run.stage_began_at is not None:
        until_then = max(0.0, progress.time - run.stage_began_at)
        return max(0.0, until_then / run.stage_share - so_far)
    return None if usual is None else max(0.0, usual - so_far)


def stage_seconds(run: RunRecord, now: float) -> float | None:
    """Return the seconds of the current stage so far; None without a stage. now: unix seconds."""
    return max(0.0, now - run.stage_began_at) if run.stage_began_at is not None else None


def _works_alike(other: RunRequest, run: RunRequest) -> bool:
    """Tell whether two runs differ only in steps, rank and alpha, so that stages take equally long."""
    names = ("base", "data", "held_out_examples", "exact_match_examples", "shown_answers")
    return (
        all(getattr(other, name) == getattr(run, name) for name in names)
        and replace(other.training, max_steps=run.training.max_steps) == run.training
        and replace(other.lora, r=run.r, lora_alpha=run.lora.lora_alpha) == run.lora
    )
