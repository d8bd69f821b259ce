"""What to train next and what to ship now, of a sweep with a forecast between its runs. Two questions, said apart:
a truncated adapter exists with the loss that was measured of it; what a new run at its rank would reach is a forecast.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rankviz import units
from rankviz.core.forecast.bent import BentForecast, BentRank
from rankviz.core.runs.fast_curve import fast_curves
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.tradeoff import TOLERANCE_NATS


class FinishedAdapter(NamedTuple):
    """An adapter of a sweep that can be had, with its measured held-out loss."""

    r: int
    loss: float
    made: Literal["trained", "truncated"]
    adapter_bytes: int
    """Of a truncated adapter in proportion to rank."""
    run_id: str
    trained_r: int
    """The rank of its run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The two answers, with what they rest on."""

    forecast: BentForecast
    tolerance: float
    """Nats that count as equal."""
    enough: BentRank
    """The lowest rank from the lowest run upwards whose estimate is within the tolerance of the lowest estimate."""
    like: RunRequest
    """The run whose settings the next run takes."""
    tried_rates: int
    """Learning rates in the sweep."""
    alpha: float | None
    """The same for all runs; None where it differs."""
    adapters: tuple[FinishedAdapter, ...]
    """Lowest rank first."""

    @property
    def train_rank(self) -> int:
        """Of the next run: a third one where it pays for itself, else the lowest rank that is enough."""
        return self.forecast.third_run or self.enough.r

    @property
    def ship(self) -> FinishedAdapter | None:
        """The adapter of the lowest rank within the tolerance of the best one; None before any is saved."""
        best = min((each.loss for each in self.adapters), default=math.inf)
        return next((each for each in self.adapters if each.loss <= best + self.tolerance), None)

    @property
    def train_sentences(self) -> Sequence[str]:
        return tuple(_train_sentences(self))

    @property
    def ship_sentences(self) -> Sequence[str]:
        return tuple(_ship_sentences(self))


def decide(runs: Sequence[RunRecord], forecast: BentForecast, tolerance: float = TOLERANCE_NATS) -> Decision:
    """What a sweep's runs and its forecast come to. runs: of the sweep, two ranks of them evaluated at least."""
    lowest = min(rank.median for rank in forecast.ranks)
    evaluated = [run for run in runs if run.loss_after and math.isfinite(run.loss_after.loss)]
    alphas = {run.request.lora.lora_alpha for run in evaluated}
    return Decision(
        forecast=forecast,
        tolerance=tolerance,
        enough=next(rank for rank in forecast.ranks if rank.median <= lowest + tolerance),
        like=min(evaluated, key=lambda run: (-run.request.r, run.loss_after.loss)).request,
        tried_rates=len({run.request.learning_rate for run in runs}),
        alpha=alphas.pop() if len(alphas) == 1 else None,
        adapters=tuple(sorted(_adapters(runs))),
    )


def _adapters(runs: Sequence[RunRecord]) -> Iterable[FinishedAdapter]:
    for run in runs:
        if run.adapter_bytes is not None and run.loss_after and math.isfinite(run.loss_after.loss):
            r = run.request.r
            yield FinishedAdapter(r, run.loss_after.loss, "trained", run.adapter_bytes, run.run_id, r)
    for curve in fast_curves(runs):
        for point in curve.points[:-1]:
            if point.path or not point.recovery_steps:
                yield FinishedAdapter(
                    point.r, point.loss, "truncated", point.adapter_bytes, curve.run_id, curve.trained.r
                )


def _train_sentences(decision: Decision) -> Iterable[str]:
    forecast, enough, like = decision.forecast, decision.enough, decision.like
    estimate = f"estimated loss {enough.median:.3f} nats, 80 % band {enough.low_80:.3f} to {enough.high_80:.3f}"
    third = next((rank for rank in forecast.ranks if rank.r == forecast.third_run), None)
    if third:
        yield (
            f"To train next: one more run at r = {third.r}, with the same settings, because the two runs differ by "
            f"more than their noise. The 80 % band there is {third.high_80 - third.low_80:.3f} nats wide."
        )
        yield f"Without that run: r = {enough.r} ({estimate})."
    else:
        yield f"To train next: r = {enough.r} ({estimate})."
    best = min(forecast.ranks, key=lambda rank: rank.median)
    if enough.r == best.r:
        yield f"r = {enough.r} has the lowest estimate. No lower rank is within {decision.tolerance:.3g} nats of it."
    else:
        yield (
            f"r = {enough.r} is the lowest rank within {decision.tolerance:.3g} nats of the lowest estimate, "
            f"{best.median:.3f} nats at r = {best.r}."
        )
    if (above := enough.high_80 - best.median) > decision.tolerance:
        yield f"A run there may land up to {above:.3f} nats above the lowest estimate, where its 80 % band ends."
    yield _settings(decision, like)


def _settings(decision: Decision, like: RunRequest) -> str:
    alpha = "the rule for alpha" if decision.alpha is None else f"alpha = {decision.alpha:g}"
    rate = f"{like.learning_rate:g}"
    if decision.tried_rates == 1:
        tuned = f"The learning rate ({rate}) was not tuned: tune it at this rank before a long run."
    else:
        tuned = f"Of {decision.tried_rates} learning rates, {rate} was best at r = {like.r}."
    return f"Keep the data, the target modules and {alpha}. {tuned}"


def _ship_sentences(decision: Decision) -> Iterable[str]:
    ship = decision.ship
    if ship is None:
        return
    best = min(decision.adapters, key=lambda each: each.loss)
    yield f"To ship now: {_named(ship)}, held-out loss {ship.loss:.4f}."
    if ship is not best:
        yield (
            f"It has the lowest rank of the available adapters within {decision.tolerance:.3g} nats of the best "
            f"one: {_named(best)}, at {best.loss:.4f}."
        )
    else:
        yield f"No available adapter of a lower rank is within {decision.tolerance:.3g} nats of it."
    if ship.made == "truncated":
        yield f"This loss was measured. A new run at r = {ship.r} may end higher or lower."


def _named(adapter: FinishedAdapter) -> str:
    size = units.file_size(adapter.adapter_bytes)
    if adapter.made == "trained":
        return f"the adapter of the run at r = {adapter.r} ({size})"
    return f"the adapter of the run at r = {adapter.trained_r}, truncated to r = {adapter.r} (about {size})"


def decision_json(decision: Decision) -> dict[str, Any]:
    """Both answers, flat."""
    ship, like = decision.ship, decision.like
    return {
        "tolerance": decision.tolerance,
        "train": {
            "r": decision.train_rank,
            "third_run": decision.forecast.third_run,
            "enough": decision.enough.r,
            "base": like.base,
            "data": like.data,
            "target_modules": like.lora.target_modules,
            "lora_alpha": decision.alpha,
            "learning_rate": like.learning_rate,
            "learning_rates_tried": decision.tried_rates,
            "sentences": list(decision.train_sentences),
        },
        "ship": {**ship._asdict(), "sentences": list(decision.ship_sentences)} if ship else None,
    }
