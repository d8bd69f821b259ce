"""Measured times of finished runs, machine time and cost of runs so far, and summaries of their steps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from statistics import fmean, median
from typing import NamedTuple

from rankviz import units
from rankviz.core.cost.pace import Timing, Workload
from rankviz.core.runs.events import HF_JOBS, LOCAL, StepLogged
from rankviz.core.runs.record import RunRecord, title

MIN_SECONDS = 1e-3
"""Least measured time that is used: a shorter one means that the clock was set back while the journal was written."""
LEAST_LATER_STEPS = 5
"""Fewest steps after the first for a mean step time. Steps of the shipped sweeps differ by up to 30 % because rows
differ in length, so the mean of five is within 13 %."""
COMPILED = 10.0
"""A step this many times longer than the median has compiled kernels for a new shape."""


def timing_of(run: RunRecord, workload: Workload, training: float, evaluation_of_one: float) -> Timing | None:
    """Return the measured time of a completed run, to correct later estimates; None with too few steps. Steps that
    compiled kernels are left out. training, evaluation_of_one: Seconds by formulas alone."""
    usual = run.steps.summary.usual_seconds if hasattr(run.steps, "summary") else usual_seconds(run.steps)
    if run.completed is None or run.loaded_at is None or run.ended_at is None or usual is None or training <= 0:
        return None
    seconds = min(run.completed.train_seconds, usual * run.steps[-1].step)
    if seconds < MIN_SECONDS:
        return None
    evaluations = [each for each in (run.loss_before, run.loss_after) if each and not each.reused]
    matched = [each for each in evaluations if each.exact_match_seconds]
    shown = [each.seconds for each in (run.answered_before, run.answered_after) if each and not each.reused]
    spent = seconds + sum(each.exact_match_seconds for each in matched)
    spent += sum(each.seconds for each in (run.answered_before, run.answered_after, *run.cuts) if each)
    answers = sum(min(run.request.exact_match_examples, each.examples) for each in matched)
    spent += seconds / training * evaluation_of_one * sum(each.examples for each in evaluations)
    loads = run.loss_before and not run.loss_before.reused  # the first run of a worker, which evaluates the base too
    return Timing(
        source_id=run.run_id,
        kind="run",
        ended_at=run.ended_at,
        workload=workload,
        ratio=seconds / training,
        load=run.load_seconds if loads and run.load_seconds > MIN_SECONDS else None,
        rest=max(0.0, run.ended_at - run.loaded_at - spent),
        shown=fmean(shown) if shown else None,
        answer=sum(each.exact_match_seconds for each in matched) / answers if answers else None,
        is_here=run.engine in ("", LOCAL),
    )


def usual_seconds(steps: Sequence[StepLogged]) -> float | None:
    """Return the mean seconds of steps after the first without compilation of kernels; None for too few steps."""
    later = [
        (after.seconds - before.seconds) / (after.step - before.step)
        for before, after in pairwise(steps)
        if after.step > before.step
    ]
    if len(later) < LEAST_LATER_STEPS:
        return None
    longest = COMPILED * median(later)
    return fmean(seconds for seconds in later if seconds <= longest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Machine time and cost of runs so far. A rented machine is billed from its start to its end, so its cost belongs
    to the sweep and is not divided among runs. The user's own machines have no price."""

    device_seconds: float = 0.0
    """Machine time of all attempts together."""
    device_seconds_is_whole: bool = True
    """False where the time of an attempt is unknown, so that the true time is longer."""
    attempts: int = 0
    """Number of attempts that have begun, of all runs together."""
    is_rented: bool = False
    """True where machines of Hugging Face were rented, and the visitor pays for them."""
    usd: float | None = None
    """Cost of rented machines so far, in US dollars; None where it is not known, or nothing was rented."""
    usd_is_whole: bool = True
    """False where the cost of a machine is unknown, so that the true cost is higher."""
    limit_usd: float | None = None
    """Most that all jobs of the sweep can cost, for all payers together; None where the sweep has no limit any more."""

    @property
    def time_in_words(self) -> str:
        """Text such as "18 min", "at least 18 min" or "not known"; empty where nothing has begun."""
        if not self.device_seconds:
            return "" if self.device_seconds_is_whole else units.NOT_KNOWN
        return f"{'' if self.device_seconds_is_whole else 'at least '}{units.duration(self.device_seconds)}"

    @property
    def usd_in_words(self) -> str:
        """Text such as "$0.40 of at most $5.00"; empty where the cost is not known."""
        if self.usd is None or not (self.usd or self.usd_is_whole):
            return ""
        most = f" of at most {units.usd(self.limit_usd)}" if self.limit_usd else ""
        return f"{'' if self.usd_is_whole else 'at least '}{units.usd(self.usd)}{most}"

    @property
    def in_words(self) -> str:
        """Text such as "$0.40 of at most $5.00 on Hugging Face Jobs, 18 min in runs" or "18 min"; empty if nothing has
        begun."""
        if not self.is_rented:
            return self.time_in_words
        usd = f"{self.usd_in_words or f'US dollars {units.NOT_KNOWN}'} on {title(HF_JOBS)}"
        return f"{usd}, {self.time_in_words} in runs" if self.time_in_words else usd

    @property
    def sentence(self) -> str:
        """Sentence such as "Machine time so far: 18 min."; empty if nothing has begun."""
        called = "Cost so far" if self.is_rented else "Machine time so far"
        return f"{called}: {words}." if (words := self.in_words) else ""


def device_time(runs: Iterable[RunRecord], now: float) -> Spent:
    """Return the machine time of all attempts of these runs. A running attempt counts until now (unix seconds); while
    its engine cannot read the journal, only until its last event."""
    seconds, is_whole, attempts = 0.0, True, 0
    for run in runs:
        seconds += run.earlier_seconds
        attempts += run.begun_attempts
        if run.attempt_seconds is not None:
            is_read = run.ended_at is not None or not run.waits
            is_whole = is_whole and is_read
            until_now = now - run.started_at if run.ended_at is None and is_read else 0.0
            seconds += max(run.attempt_seconds, until_now)
    return Spent(device_seconds=seconds, device_seconds_is_whole=is_whole, attempts=attempts)


FEW = 40
"""Number of steps of each run that charts of many runs draw."""


class LossPoint(NamedTuple):
    """Training loss of one step."""

    step: int
    loss: float
    learning_rate: float


class StepSummary(NamedTuple):
    """Summary of an ended run's steps for tables, estimates and charts. The steps themselves stay on disk."""

    first: StepLogged
    last: StepLogged
    few: tuple[LossPoint, ...]
    """At most FEW points of the training loss, the first and the last step among them."""
    median_seconds: float | None
    usual_seconds: float | None


def thinned(steps: Sequence[StepLogged], most: int) -> Sequence[StepLogged | LossPoint]:
    """Return at most `most` steps (at least 4): first, last, and the lowest and highest loss of equal parts between."""
    if most == FEW and hasattr(steps, "summary"):
        return steps.summary.few
    if len(steps) <= most:
        return steps
    first, *between, last = steps
    parts = (most - 2) // 2
    chosen = [first]
    for part in range(parts):
        some = between[part * len(between) // parts : (part + 1) * len(between) // parts]
        known = sorted((step for step in some if isfinite(step.loss)), key=lambda step: step.loss)
        ends = {known[0].step, known[-1].step} if known else {some[0].step}
        chosen += [step for step in some if step.step in ends]
    return [*chosen, last]
