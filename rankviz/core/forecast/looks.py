"""What short runs say beside a forecast of the loss: which learning rate is better at one rank, and which rank to take
by a score."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rankviz.core.forecast.bent import APART, SAFE_RANK, Noise, noise_of, score_pick
from rankviz.core.forecast.own_runs import are_alike, has_loss, measured_cells
from rankviz.core.runs.metric import Metric
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import QUICK_RANKS, RATE_FACTOR
from rankviz.errors import InvalidSettingError


class RateLook(NamedTuple):
    """Mean held-out losses of one rank by learning rate, nats; of a rate whose runs diverged None."""

    r: int
    losses: Mapping[float, float | None]
    noise: Noise | None

    @property
    def best(self) -> float:
        return min((loss, rate) for rate, loss in self.losses.items() if loss is not None)[1]

    @property
    def gap(self) -> float:
        """From the best rate to the next, nats; infinite where the others diverged."""
        lowest, *others = sorted(math.inf if loss is None else loss for loss in self.losses.values())
        return others[0] - lowest

    @property
    def differs(self) -> bool | None:
        """Whether the rates differ by more than noise; None where the noise is not known."""
        if math.isinf(self.gap):
            return True
        return self.noise and self.gap > APART * self.noise.sd

    @property
    def sentences(self) -> Sequence[str]:
        return tuple(self._sentences())

    def _sentences(self) -> Iterable[str]:
        at = {rate: "no finite loss" if loss is None else f"{loss:.4f}" for rate, loss in self.losses.items()}
        listed = ", ".join(f"{each} at {rate:g}" for rate, each in sorted(at.items()))
        yield f"At r = {self.r} learning rate {self.best:g} has the lower held-out loss: {listed}."
        if not math.isinf(self.gap):
            share = 100 * self.gap / self.losses[self.best] if self.losses[self.best] else math.inf
            yield f"The rate is worth {self.gap:.3g} nats ({share:.2g} % of the loss)."
            if self.noise and self.noise.sd:
                yield f"That is {self.gap / self.noise.sd:.1f} times {self.noise.words}."
            elif not self.noise:
                yield "The noise of one run is not known, because no rate was trained twice."
        yield from self._next()

    def _next(self) -> Iterable[str]:
        quick = f"a quick look (r = {QUICK_RANKS[0]} and {QUICK_RANKS[1]}) at learning rate {self.best:g}"
        if self.differs is False:
            yield f"Do next: {quick}. These rates differ by no more than noise, so a finer search is not needed."
            return
        if self.best == max(self.losses):
            beyond = self.best * RATE_FACTOR
        elif self.best == min(self.losses) and not math.isinf(self.gap):
            beyond = self.best / RATE_FACTOR
        else:
            yield f"Do next: {quick}."
            return
        yield f"Do next: train r = {self.r} at {beyond:.3g} too, because the best rate may lie beyond {self.best:g}."
        yield f"When a further step no longer helps, measure the rank: {quick}."


def rate_look(runs: Sequence[RunRecord]) -> RateLook | None:
    """The learning rates of a sweep of one rank; None where fewer than two rates ended, or none with a finite loss."""
    ended = [run for run in runs if run.loss_after]
    by_rate: dict[float, list[float]] = {}
    for run in ended:
        by_rate.setdefault(run.request.learning_rate, []).extend([run.loss_after.loss] if has_loss(run) else [])
    if len({run.request.r for run in ended}) != 1 or len(by_rate) < 2 or not any(by_rate.values()):
        return None
    if not are_alike(ended):
        return None
    return RateLook(
        ended[0].request.r,
        {rate: fmean(losses) if losses else None for rate, losses in by_rate.items()},
        _noise(by_rate.values()),
    )


class ScoreLook(NamedTuple):
    """Which rank to take by a score, in percent. noise: of one run, points; None where it is not known."""

    metric: Metric
    low: tuple[int, float]
    high: tuple[int, float]
    noise: float | None
    record: Mapping[str, Any]
    """Section "quick_look", "score" of assets/forecast.json."""

    @property
    def pick(self) -> int:
        return score_pick(self.low, self.high, self.noise)

    @property
    def sentences(self) -> Sequence[str]:
        (low, lower), (high, higher) = self.low, self.high
        known = "not known" if self.noise is None else f"{self.noise:.2g} points"
        return (
            f"To train next by {self.metric.noun}: r = {self.pick}.",
            f"r = {high} has {higher:.1f} % and r = {low} has {lower:.1f} %; the noise of one run is {known}.",
            f"Scores are not interpolated: take the higher rank if it is better by more than {APART:g} times the "
            f"noise, else r = {SAFE_RANK}. {score_record_words(self.record)}",
        )


def score_record_words(record: Mapping[str, Any]) -> str:
    """The check of the rule on published lines in a sentence."""
    return (
        f"On {record['lines']} published lines that was within one point of the best rank in "
        f"{100 * record['within_of_all_ranks']:.0f} %, and always r = {SAFE_RANK} in "
        f"{100 * record['within_always_16']:.0f} %."
    )


def score_look(runs: Sequence[RunRecord], metric: Metric, record: Mapping[str, Any]) -> ScoreLook | None:
    """By the lowest and the highest rank of a sweep; None where they cannot be compared, or where every rank was
    trained twice, so that a verdict compares them."""
    try:
        cells = measured_cells(runs)
    except InvalidSettingError:
        return None
    values = {r: [metric.of(run.loss_after) for run in cell] for r, cell in cells.items()}
    if any(None in each for each in values.values()) or all(len(each) > 1 for each in values.values()):
        return None
    low, high = ((r, fmean(values[r])) for r in (min(values), max(values)))
    noise = _noise(values.values())
    examples = min(run.loss_after.examples for cell in cells.values() for run in cell)
    share = min(max(low[1] / 100, 0.02), 0.98)
    # Repeats that agree by chance say nothing of the next run: then the noise is that of so many examples.
    sd = noise and (noise.sd or 100 * math.sqrt(share * (1 - share) / examples))
    return ScoreLook(metric, low, high, sd, record)


def _noise(cells: Iterable[Sequence[float]]) -> Noise | None:
    return noise_of((stdev(each) if len(each) > 1 else None, len(each)) for each in cells)
