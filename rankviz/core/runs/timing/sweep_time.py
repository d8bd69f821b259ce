"""How long a sweep takes, part by part, and what is announced of it before it starts.

    load       = once
    training   = of each run, and the steps that truncated adapters are trained on
    evaluation = the held-out examples before the first run, after each run and after each truncation
    answers    = greedy answers of an exact match, as often
    shown      = a few answers that are kept to be read, before the first run and after each run
    rest       = attaching, building the trainer, saving, for each run; known only where runs have finished here

The parts' ends are added, except that loading is independent of the rest: its distance to either end is added in
quadrature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import load_seconds
from rankviz.core.cost.pace.paces import Paces
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.timing.times import FormulaTimes

EVALUATION_SHARE = 0.5
"""A forward pass over a row, in training steps a row, where nothing is recomputed: 2P of 4P operations."""
ONE_TOKEN_PASS = Range(10.0, 25.0, 50.0)
"""What a pass over one token of each row costs however many rows there are, since it reads all weights: in tokens of a
pass over whole rows. Measured 26 in bf16 and 15 to 25 in fp32 with SmolLM2-135M on one thread of a CPU, from passes
over 64, 59 and 5 rows, in CPU time (26 November 2026). The ends are a choice, for other bases and more threads."""
CACHED_TOKENS = 2048
"""Of one batch of answers (the worker's MAX_CACHED_TOKENS)."""
MORE_TOKENS = 8
"""An answer is given up so many tokens after the longest reference beside it (the worker's EXTRA_TOKENS)."""
SHOWN_TOKENS = 64
"""Of one answer that is kept to be read, at most."""
SHOWN_SECONDS = 20.0
"""Such answers may take so long together, or as long as the evaluation before them where that is more: the worker cuts
off what is not written by then."""
NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTime:
    """Seconds."""

    load: Range
    training: Range
    evaluation: Range
    rest: Range
    longest_run: Range
    """Of one run at each end, where a worker trains it alone: with the evaluation of the base, without loading."""
    answers: Range | None = None
    """None where exact match was not requested."""
    shown: Range | None = None
    """None where no answers are kept."""

    @property
    def total(self) -> Range:
        answers = (self.answers or NOTHING).plus(self.shown or NOTHING)
        return self.load.plus_independent(self.training.plus(self.evaluation).plus(answers).plus(self.rest))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedSweep:
    """What a sweep will take here."""

    device_name: str
    runs: int
    truncations: int
    """Lower ranks that a fast curve's adapter is truncated to."""
    ranks: Mapping[int, RunEstimate]
    time: SweepTime | None
    """None on a GPU whose speed is not known."""
    paces: Paces
    """What has finished here and moved the time."""
    first: RunRequest | None = None
    """The first run, for what is said of its settings."""
    parts: int = 1
    """How many workers may train it at once there, as far as that is known."""
    warning: str = ""
    """What on this device will cost more than it need."""
    run_minutes: int | None = None
    """After which a run is ended there; None where it is not."""

    @property
    def seconds(self) -> Range | None:
        """Of the whole sweep: loading, training, evaluations."""
        return self.time.total if self.time else None

    @property
    def too_long(self) -> str:
        """That a run may be ended before it is done, as a sentence; empty where it is done in time."""
        if self.time is None or self.run_minutes is None or self.time.longest_run.high <= 60 * self.run_minutes:
            return ""
        longest, minutes = self.time.longest_run.high, units.counted(self.run_minutes, "minute")
        return (
            f"A run may take up to {units.duration(longest)} by the estimate, and this server ends it after {minutes}."
        )

    @property
    def sentences(self) -> Sequence[str]:
        """The announcement: how long on what, what that rests on, and a warning."""
        return tuple(_sentences(self))


def _sentences(expected: ExpectedSweep):
    runs = units.counted(expected.runs, "run")
    if expected.truncations:
        which = "the highest rank " if expected.runs > 1 else ""
        runs += f", {which}truncated to {units.counted(expected.truncations, 'lower rank')},"
    start = f"{runs} on {expected.device_name}"
    if expected.time is None:
        yield f"{start}: time not known."
    else:
        basis = f", {expected.paces.in_words}" if expected.paces.in_words else ", from the formulas alone"
        yield f"{start}: estimated time {units.time_span(expected.seconds)}{basis}."
        yield (
            f"Loading {units.time_span(expected.time.load)}, training {units.time_span(expected.time.training)}, "
            f"evaluation {units.time_span(expected.time.evaluation)}{_answers_in_words(expected.time)}."
        )
        if expected.too_long:
            yield expected.too_long
        if expected.parts > 1:
            yield f"This is the time on one worker; up to {expected.parts} train at once there."
    if (run := expected.first) and run.answered_examples < run.exact_match_examples:
        yield (
            f"Exact match uses all {run.held_out_examples:,} held-out rows ({run.exact_match_examples:,} requested): "
            "raise the number of held-out examples to answer more."
        )
    if expected.paces.busy_in_words:
        yield expected.paces.busy_in_words
    if any(run.calibrated_by for run in expected.ranks.values()):
        yield "Memory is calibrated by probes of this base model on this machine."
    if expected.warning:
        yield expected.warning


def _answers_in_words(time: SweepTime) -> str:
    parts = (("exact match", time.answers), ("answers before and after", time.shown))
    return "".join(f", {what} {units.time_span(seconds)}" for what, seconds in parts if seconds)


def answer_passes(
    answer_tokens: Range, row_tokens: Range, *, answers: int, cuda: bool, most: float = math.inf
) -> Range:
    """What one greedy answer costs, in forward passes over a whole row.

        passes = (prompt + (decoded - 1) · (1 + ONE_TOKEN_PASS · batches / answers)) / row

    decoded = the reference at the low end, where all answers end with it; else MORE_TOKENS after it. There are as many
    batches as CACHED_TOKENS in each ask for. The first pass reads the prompts and gives the first token. On CUDA each
    token reads the row again. answer_tokens: of a reference, between the mean and the longest. most: tokens that an
    answer may have.
    """
    if cuda:
        ends = (answer_tokens.low, answer_tokens.expected + MORE_TOKENS, answer_tokens.high + MORE_TOKENS)
        return Range(*(min(most, end) for end in ends))

    def passes(decoded: float, reference: float, row: float, one_token: float) -> float:
        batches = min(answers, math.ceil(answers * (row + MORE_TOKENS) / CACHED_TOKENS))
        return (
            max(0.0, row - reference) + max(0.0, min(most, decoded) - 1) * (1 + one_token * batches / answers)
        ) / row

    low, expected, high = (
        passes(reference + more, reference, row, one_token)
        for reference, more, row, one_token in zip(
            (answer_tokens.low, answer_tokens.expected, answer_tokens.high),
            (0, MORE_TOKENS, MORE_TOKENS),
            (row_tokens.low, row_tokens.expected, row_tokens.high),
            (ONE_TOKEN_PASS.low, ONE_TOKEN_PASS.expected, ONE_TOKEN_PASS.high),
            strict=True,
        )
    )
    return Range(min(low, expected), expected, max(expected, high))


def formula_times(model: ModelSpec, run: RunRequest, training: Range, assumptions: Assumptions) -> FormulaTimes:
    """What the formulas expect of one run. training: seconds of its training, as the formulas have it."""
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
    showing: Range | None = None,
) -> SweepTime | None:
    """The base is loaded once; the held-out rows are read once before all runs, again after each, and after each
    truncation of a fast curve, some of which are trained a few steps more.

    estimates: of each run, as estimate_run gives them; None comes out where one has no time.
    answering: what an answer costs in passes over a row (answer_passes); None where it is not known or not requested.
    showing: the same of an answer that is kept to be read.
    """
    paces = paces or Paces()
    sums, longest = _Parts(), NOTHING
    for place, (run, estimate) in enumerate(zip(runs, estimates, strict=True)):
        if estimate.seconds is None:
            return None
        alone, more = (_parts(run, estimate, paces, answering, showing, first=first) for first in (True, False))
        sums = sums.plus(more if place else alone)
        longest = longest.reached_by(alone.total)
    load = _load(model, assumptions)
    return SweepTime(
        load=paces.load.of(load) if paces.load else load,
        training=sums.training,
        evaluation=sums.evaluation,
        rest=sums.rest,
        longest_run=longest,
        answers=sums.answers if answering else None,
        shown=sums.shown if showing else None,
    )


class _Parts(NamedTuple):
    """Seconds of one run, or of several added up."""

    training: Range = NOTHING
    evaluation: Range = NOTHING
    answers: Range = NOTHING
    shown: Range = NOTHING
    rest: Range = NOTHING

    @property
    def total(self) -> Range:
        return reduce(Range.plus, self)

    def plus(self, other: "_Parts") -> "_Parts":
        return _Parts(*map(Range.plus, self, other))


def _parts(
    run: RunRequest,
    estimate: RunEstimate,
    paces: Paces,
    answering: Range | None,
    showing: Range | None,
    *,
    first: bool,
) -> _Parts:
    """first: of its worker, so that the base is evaluated too."""
    recovery = sum(run.recovery_steps(r) for r in run.cut_ranks) / run.max_steps
    passes = 1 + len(run.cut_ranks) + first
    one = _one_row(run, estimate.seconds)
    if paces.evaluation:
        one = paces.evaluation.of(_one_row(run, estimate.formula_seconds))
    answers = shown = NOTHING
    if answering:
        answers = one.multiplied(answering).times(passes * run.answered_examples)
    if showing:
        together = one.multiplied(showing).times(run.shown_answers)
        shown = _at_most(together, one.times(run.held_out_examples)).times(1 + first)
    return _Parts(
        training=estimate.seconds.times(1 + recovery),
        evaluation=one.times(passes * run.held_out_examples),
        answers=answers,
        shown=shown,
        rest=paces.rest.range(1.0) if paces.rest else NOTHING,
    )


def _at_most(answers: Range, evaluation: Range) -> Range:
    """Answers as far as they are written before their time is up."""
    return Range(
        min(answers.low, max(SHOWN_SECONDS, evaluation.low)),
        min(answers.expected, max(SHOWN_SECONDS, evaluation.expected)),
        min(answers.high, max(SHOWN_SECONDS, evaluation.high)),
    )


def _one_row(run: RunRequest, training: Range) -> Range:
    """A held-out example's forward pass."""
    return training.times(EVALUATION_SHARE / (run.max_steps * run.training.rows_per_step))


def _load(model: ModelSpec, assumptions: Assumptions) -> Range:
    return load_seconds(model, Stack(setup=TrainingSetup(), use_dora=False, assume=assumptions))
