"""Decides what to train next and what to ship now, for a sweep with a forecast between its runs.

These are two questions: a truncated adapter exists with the loss that was measured of it; what a new run at its rank
would reach is a forecast.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple

from rankviz import units
from rankviz.core.forecast.quick_look import PICK_SHARE, BentForecast, BentRank, has_loss, measured_cells
from rankviz.core.runs.fast_curve import fast_curves
from rankviz.core.runs.metric import LOSS, TOLERANCE_NATS
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest


class FinishedAdapter(NamedTuple):
    """An adapter of a sweep that can be had, with its measured held-out loss."""

    r: int
    loss: float
    """Loss of the best seed."""
    made: Literal["trained", "truncated"]
    adapter_bytes: int
    """Size of its file; of a truncated adapter in proportion to rank."""
    run_id: str
    trained_r: int
    """The rank of its run."""
    seeds: int = 1
    """Adapters of this kind, rank and learning rate; this one has the lowest loss of them."""
    mean_loss: float | None = None
    """Over these seeds; None of one."""

    @property
    def expected(self) -> float:
        """Loss to compare between ranks: the lowest of several seeds is partly luck."""
        return self.loss if self.mean_loss is None else self.mean_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The two answers, with what they rest on."""

    forecast: BentForecast
    tolerance: float
    """Nats that count as equal."""
    enough: BentRank
    """The forecast's pick, or with a tolerance of one's own the lowest rank within it; a rank counts with the mean of
    its runs where it has any, else with its estimate."""
    within: float
    """Nats above the lowest loss that such a rank may have."""
    settled: BentRank | None
    """The smallest rank that the sweep's verdict cannot distinguish from the best; None without a verdict."""
    like: RunRequest
    """The run whose settings the next run takes."""
    tried_rates: int
    """Learning rates that were tried at its rank."""
    alpha: float | None
    """lora_alpha of all runs; None where it differs."""
    adapters: tuple[FinishedAdapter, ...]
    """Lowest rank first."""

    @property
    def train_rank(self) -> int:
        """Rank of the next run: the verdict's, else the lowest rank that is enough."""
        return (self.settled or self.enough).r

    @property
    def ship(self) -> FinishedAdapter | None:
        """The adapter of the lowest rank within the tolerance of the best one, by means over seeds; None before any is
        saved."""
        best = min((each.expected for each in self.adapters), default=math.inf)
        return next((each for each in self.adapters if each.expected <= best + self.tolerance), None)

    @property
    def train_sentences(self) -> Sequence[str]:
        return tuple(_train_sentences(self))

    @property
    def ship_sentences(self) -> Sequence[str]:
        return tuple(_ship_sentences(self))


def decide(
    runs: Sequence[RunRecord], forecast: BentForecast, tolerance: float | None = None, settled: int | None = None
) -> Decision:
    """Decide from a sweep's runs and its forecast.

    Args:
        runs: Of the sweep, two ranks of them evaluated at least.
        forecast: Between these runs.
        tolerance: Nats that count as equal; without it TOLERANCE_NATS for what to ship, and the forecast's pick.
        settled: The smallest rank that the sweep's verdict cannot distinguish from the best, where there is a verdict.
    """
    cells = measured_cells(runs)
    lowest = min(rank.median for rank in forecast.ranks)
    within = PICK_SHARE * abs(lowest) if tolerance is None else tolerance
    like = min(cells[max(cells)], key=lambda run: run.loss_after.loss).request
    alphas = {run.request.lora.lora_alpha for run in runs if has_loss(run)}
    return Decision(
        forecast=forecast,
        tolerance=TOLERANCE_NATS if tolerance is None else tolerance,
        enough=next(rank for rank in forecast.ranks if rank.median <= lowest + within),
        within=within,
        settled=next((rank for rank in forecast.ranks if rank.r == settled), None),
        like=like,
        tried_rates=len({run.request.learning_rate for run in runs if run.request.r == like.r and run.loss_after}),
        alpha=alphas.pop() if len(alphas) == 1 else None,
        adapters=tuple(sorted(_best_of_seeds(runs))),
    )


def _best_of_seeds(runs: Sequence[RunRecord]) -> Iterable[FinishedAdapter]:
    """Yield the adapter with the lowest loss of each kind, rank and learning rate."""
    every = [
        FinishedAdapter(run.request.r, run.loss_after.loss, "trained", run.adapter_bytes, run.run_id, run.request.r)
        for run in runs
        if run.adapter_bytes is not None and has_loss(run)
    ]
    every += [
        FinishedAdapter(point.r, point.loss, "truncated", point.adapter_bytes, curve.run_id, curve.trained.r)
        for curve in fast_curves(runs)
        for point in curve.points[:-1]
        if point.path or not point.recovery_steps
    ]
    rates = {run.run_id: run.request.learning_rate for run in runs}
    groups: dict[tuple, list[FinishedAdapter]] = {}
    for each in every:
        groups.setdefault((each.made, each.r, each.trained_r, rates[each.run_id]), []).append(each)
    for group in groups.values():
        mean = fmean(each.loss for each in group) if len(group) > 1 else None
        yield min(group)._replace(seeds=len(group), mean_loss=mean)


def _train_sentences(decision: Decision) -> Iterable[str]:
    ranks, like, settled = decision.forecast.ranks, decision.like, decision.settled
    chosen = settled or decision.enough
    best = min((rank for rank in ranks if rank.measured is not None or not settled), key=lambda rank: rank.median)
    runs = next((run.runs for run in decision.forecast.runs if run.r == chosen.r), 0)
    loss = "estimated loss" if not runs else "measured loss" if runs == 1 else f"mean loss of {runs} runs"
    band = f", 80 % band {chosen.low_80:.3f} to {chosen.high_80:.3f}" if chosen.low_80 is not None else ""
    yield f"To train next: r = {chosen.r} ({loss} {chosen.median:.3f} nats{band})."
    within = LOSS.explained(decision.within, ".3g")
    if chosen.r == best.r == ranks[0].r:
        lower = "No lower rank exists." if best.r == 1 else "It is also the lowest rank of these runs."
        yield f"r = {best.r} has the lowest loss. {lower}"
    elif chosen.r == best.r:
        why = "worse by more than the noise" if settled else f"more than {within} above it"
        yield f"r = {best.r} has the lowest loss, and every lower rank is {why}."
    elif settled:
        yield (
            f"r = {chosen.r} is the smallest rank that these runs cannot distinguish from the best one, r = {best.r} "
            f"({chosen.median - best.median:.3f} nats lower)."
        )
    else:
        lowest = "estimate" if best.measured is None else "loss"
        yield f"r = {chosen.r} is the lowest rank within {within} of the lowest {lowest}, at r = {best.r}."
    if not settled and chosen.high_80 is not None and (above := chosen.high_80 - best.median) > decision.within:
        yield f"A run there may land up to {above:.3f} nats above the lowest loss, where its 80 % band ends."
    alpha = "the rule for alpha" if decision.alpha is None else f"alpha = {decision.alpha:g}"
    tuned = f"Of {decision.tried_rates} learning rates, {like.learning_rate:g} was best at r = {like.r}."
    if decision.tried_rates == 1:
        tuned = f"The learning rate ({like.learning_rate:g}) was not tuned: tune it at this rank before a long run."
    yield f"Keep the data, the target modules and {alpha}. {tuned}"


def _ship_sentences(decision: Decision) -> Iterable[str]:
    ship = decision.ship
    if ship is None:
        return
    best = min(decision.adapters, key=lambda each: each.expected)
    seeds = "" if ship.mean_loss is None else f", the best of {ship.seeds} seeds (mean {ship.mean_loss:.4f})"
    yield f"To ship: {_named(ship)}, measured held-out loss {ship.loss:.4f}{seeds}."
    if ship is not best:
        yield (
            f"It has the lowest rank of the available adapters within {decision.tolerance:.3g} nats of the best one: "
            f"{_named(best)}, at {best.expected:.4f}."
        )
    if ship.made == "truncated":
        yield f"A new run at r = {ship.r} may end higher or lower."


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
            "third_run": None,
            "repeat_at": decision.forecast.repeat_at,
            "enough": decision.enough.r,
            "verdict": decision.settled.r if decision.settled else None,
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
