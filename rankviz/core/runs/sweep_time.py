"""How long a sweep takes, part by part, and what is announced of it before it starts.

    load       = once
    training   = of each run, and the steps that truncated adapters are trained on
    evaluation = the held-out examples before the first run, after each run and after each truncation
    answers    = greedy answers of an exact match, as often
    rest       = attaching, building the trainer, saving, for each run; known only where runs have finished here

The parts' ends are added, except that loading is independent of the rest: its distance to either end is added in
quadrature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankviz import units
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.cost.duration import load_seconds
from rankviz.core.cost.pace import Paces
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.cost.stack import Stack
from rankviz.core.model.spec import ModelSpec
from rankviz.core.quantity import Range
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.times import FormulaTimes

EVALUATION_SHARE = 0.5
"""A forward pass over a row, in training steps a row, where nothing is recomputed: 2P of 4P operations."""
ANSWER_TOKEN = Range(0.5, 1.3, 4.0)
"""One token of an answer, in tokens of a forward pass over whole rows. Measured 1.7 and 0.8 on the two samples, with
SmolLM2-135M in fp32 on one thread of a CPU: 64 answers took 2.9 and 1.8 passes, in CPU time (26 November 2026). The
ends are wider, since answers of other lengths fill a batch otherwise."""
MORE_TOKENS = 8
"""An answer is given up so many tokens after the longest reference beside it (the worker's EXTRA_TOKENS)."""
NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTime:
    """Seconds."""

    load: Range
    training: Range
    evaluation: Range
    rest: Range
    answers: Range | None = None
    """None where exact match was not requested."""

    @property
    def total(self) -> Range:
        answers = self.answers or NOTHING
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
    warning: str = ""
    """What on this device will cost more than it need."""

    @property
    def seconds(self) -> Range | None:
        """Of the whole sweep: loading, training, evaluations."""
        return self.time.total if self.time else None

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
    if expected.paces.busy_in_words:
        yield expected.paces.busy_in_words
    if any(run.calibrated_by for run in expected.ranks.values()):
        yield "Memory is calibrated by probes of this base model on this machine."
    if expected.warning:
        yield expected.warning


def _answers_in_words(time: SweepTime) -> str:
    return f", exact match {units.time_span(time.answers)}" if time.answers else ""


def answer_passes(answer_tokens: Range, row_tokens: Range, *, cuda: bool) -> Range:
    """What one greedy answer costs, in forward passes over a whole row.

    With keys and values kept from token to token: one pass for the prompt at most, then the answer's share of a row.
    On CUDA each token reads the row again. answer_tokens: of a reference.
    """
    expected, most = answer_tokens.expected + MORE_TOKENS, answer_tokens.high + MORE_TOKENS
    if cuda:
        return Range(answer_tokens.low, expected, most)
    share = expected / row_tokens.expected
    shares = Range(
        min(share, answer_tokens.low / row_tokens.low), share, max(share, most / row_tokens.high)
    ).multiplied(ANSWER_TOKEN)
    return Range(shares.low, 1 + shares.expected, 1 + shares.high)


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
) -> SweepTime | None:
    """The base is loaded once; the held-out rows are read once before all runs, again after each, and after each
    truncation of a fast curve, some of which are trained a few steps more.

    estimates: of each run, as estimate_run gives them; None comes out where one has no time.
    answering: what an answer costs in passes over a row (answer_passes); None where it is not known or not requested.
    """
    paces = paces or Paces()
    training = evaluation = rest = answers = NOTHING
    for place, (run, estimate) in enumerate(zip(runs, estimates, strict=True)):
        if estimate.seconds is None:
            return None
        recovery = sum(run.recovery_steps(r) for r in run.cut_ranks) / run.max_steps
        training = training.plus(estimate.seconds.times(1 + recovery))
        passes = 1 + len(run.cut_ranks) + (place == 0)
        one = _one_row(run, estimate.seconds)
        if paces.evaluation:
            one = paces.evaluation.of(_one_row(run, estimate.formula_seconds))
        evaluation = evaluation.plus(one.times(passes * run.held_out_examples))
        if answering:
            answered = min(run.exact_match_examples, run.held_out_examples)
            answers = answers.plus(one.multiplied(answering).times(passes * answered))
        if paces.rest:
            rest = rest.plus(paces.rest.range(1.0))
    load = _load(model, assumptions)
    return SweepTime(
        load=paces.load.of(load) if paces.load else load,
        training=training,
        evaluation=evaluation,
        rest=rest,
        answers=answers if answering else None,
    )


def _one_row(run: RunRequest, training: Range) -> Range:
    """A held-out example's forward pass."""
    return training.times(EVALUATION_SHARE / (run.max_steps * run.training.rows_per_step))


def _load(model: ModelSpec, assumptions: Assumptions) -> Range:
    return load_seconds(model, Stack(setup=TrainingSetup(), use_dora=False, assume=assumptions))
