"""What a verdict is made of: a value of each held-out example in each run of a sweep; table.py reads a file.

A value is a loss in nats, or errors in points, so that lower is better. Of exact match an example's errors are 0 or
100. Of token accuracy they are 100 times its wrong tokens over the tokens of an example on average: an example weighs
as much as it has tokens, and the mean over examples is 100 minus the run's token accuracy in percent.

So it is with the loss: an example weighs as much as it has target tokens, and the mean over examples is the held-out
loss that the run reports. Where a run kept no token counts, each example counts once, so the mean differs a little from
the reported loss.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

import numpy as np

from rankviz.core.runs.events import Evaluated
from rankviz.core.runs.metric import EXACT_MATCH, LOSS, TOKEN_ACCURACY, Metric
from rankviz.core.runs.record import RunRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run of a sweep or of a file."""

    r: int
    seed: str
    learning_rate: float | None = None

    @property
    def name(self) -> str:
        rate = "" if self.learning_rate is None else f" at learning rate {self.learning_rate:g}"
        return f"r = {self.r}, seed {self.seed}{rate}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLosses(Run):
    """Its held-out losses in nats a token, or its errors in points."""

    losses: np.ndarray = field(compare=False)
    """Of each of its examples."""
    examples: np.ndarray = field(compare=False)
    """Which they are, ascending: an example has the same number in all runs."""

    @property
    def diverged(self) -> bool:
        return not np.isfinite(self.losses).all()


def losses_of(runs: Iterable[RunRecord], metric: Metric = LOSS) -> tuple[RunLosses, ...]:
    """Of runs that have been evaluated after training, those that measured the metric.

    Where a run kept no values of single examples, or another number of them than the other runs, the whole
    run counts as one example.
    """
    runs = [run for run in runs if run.loss_after and _counted(run.loss_after, metric)]
    by_tokens = _have_tokens(runs)
    values = [_by_example(run.loss_after, metric, by_tokens) for run in runs]
    lengths = {len(each.losses) for each in values}
    if 0 in lengths or len(lengths) > 1:
        values = [_Values(np.array([_of_whole(run.loss_after, metric)]), np.arange(1)) for run in runs]
    return tuple(
        RunLosses(
            r=run.request.r, seed=str(run.request.seed), learning_rate=run.request.learning_rate, **each._asdict()
        )
        for run, each in zip(runs, values, strict=True)
    )


def base_loss_of(runs: Iterable[RunRecord], metric: Metric = LOSS) -> float | None:
    """The untrained base's loss or errors, over examples as in losses_of; None where it wasn't measured."""
    runs = list(runs)
    before = next((run.loss_before for run in runs if run.loss_before), None)
    if before is None or not _counted(before, metric):
        return None
    values = _by_example(before, metric, bool(before.example_tokens) and _have_tokens(runs)).losses
    return fmean(values) if len(values) else _of_whole(before, metric)


def _have_tokens(runs: Iterable[RunRecord]) -> bool:
    """Whether all that have been evaluated kept their examples' token counts: losses of the two kinds don't compare."""
    return all(run.loss_after.example_tokens for run in runs if run.loss_after)


def _counted(measured: Evaluated, metric: Metric) -> bool:
    """Whether the metric was measured, if only of a run that diverged."""
    return {
        TOKEN_ACCURACY: measured.correct_tokens is not None,
        EXACT_MATCH: measured.answered > 0,
    }.get(metric, True)


def _of_whole(measured: Evaluated, metric: Metric) -> float:
    value = metric.of(measured)
    return math.nan if value is None else metric.turned(value)


class _Values(NamedTuple):
    """As RunLosses has them."""

    losses: np.ndarray
    examples: np.ndarray


def _by_example(measured: Evaluated, metric: Metric, by_tokens: bool) -> _Values:
    """Empty where nothing was kept of single examples; nan where the run diverged, since then it chose no token.

    by_tokens: whether an example's loss weighs as much as it has target tokens.
    """
    if metric is LOSS:
        losses = _array(measured.example_losses)
        if by_tokens and len(losses):
            tokens = _array(measured.example_tokens)
            losses *= tokens / fmean(tokens)  # their mean is then one a token
        return _Values(losses, np.arange(len(losses)))
    if metric is TOKEN_ACCURACY:
        right, tokens = _array(measured.example_correct_tokens), _array(measured.example_tokens)
        errors = 100 * (tokens - right) / fmean(tokens) if len(right) else right
    else:
        errors = metric.turned(100 * _array(measured.example_exact_matches))
    answered = np.flatnonzero(~np.isnan(errors))
    return _Values(np.full(len(answered), math.nan) if math.isnan(measured.loss) else errors[answered], answered)


def _array(values: Sequence[float | None]) -> np.ndarray:
    """None is nan."""
    return np.array(tuple(values), float)
