"""Decides what to train next and what to ship now, for a sweep with a forecast between its runs.

The two answers can differ: a truncated adapter exists, with a measured loss, but the loss of a new run at its rank is
only forecast.
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

SHIP = "Smallest good adapter"
"""Label of the answer that names the adapter to ship."""


class FinishedAdapter(NamedTuple):
    """A trained or truncated adapter that exists, with its measured held-out loss."""

    r: int
    loss: float
    """Held-out loss in nats per token; of several seeds the lowest."""
    made: Literal["trained", "truncated"]
    adapter_bytes: int
    """Bytes of the adapter's file; for a truncated adapter estimated in proportion to rank."""
    run_id: str
    trained_r: int
    """Rank at which the adapter was trained."""
    seeds: int = 1
    """Number of seeds with this kind, rank and learning rate; this adapter has the lowest loss of them."""
    mean_loss: float | None = None
    """Mean loss over these seeds; None for one seed."""

    @property
    def expected(self) -> float:
        """Loss for comparing ranks: the mean over seeds, because the lowest one is partly luck."""
        return self.loss if self.mean_loss is None else self.mean_loss

    @property
    def size(self) -> str:
        return ("" if self.made == "trained" else "about ") + units.file_size(self.adapter_bytes)

    @property
    def in_words(self) -> str:
        """Run, rank and size of the adapter as a phrase."""
        truncated = "" if self.made == "trained" else f", truncated to r = {self.r}"
        return f"the run at r = {self.trained_r}{truncated} ({self.size})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Advice on what to train next and what to ship, with the evidence."""

    forecast: BentForecast
    tolerance: float
    """Difference in loss (nats) up to which two adapters count as equally good."""
    enough: BentRank
    """Lowest rank whose loss, the mean of its runs or else an estimate, is at most `within` above the lowest loss."""
    within: float
    """Nats above the lowest loss that `enough` may have: the given tolerance, else PICK_SHARE of the lowest loss, and
    at least TOLERANCE_NATS where the noise of a run is not known."""
    settled: BentRank | None
    """Smallest rank that the sweep's verdict cannot distinguish from the best; None without a verdict."""
    like: RunRequest
    """Run whose settings the next run copies."""
    tried_rates: int
    """Number of learning rates tried at the rank of `like`."""
    alpha: float | None
    """lora_alpha of all runs; None where they differ."""
    adapters: tuple[FinishedAdapter, ...]

    @property
    def train(self) -> BentRank:
        """Rank to train next: the verdict's, else `enough`."""
        return self.settled or self.enough

    @property
    def about(self) -> str:
        """Label of the answer that names the rank to train next."""
        if self.train.measured is None:
            return "Train next"
        lowest = min(rank.median for rank in self.forecast.ranks if rank.measured is not None)
        return "Best rank so far" if self.train.median == lowest else "Smallest good rank so far"

    @property
    def ship(self) -> FinishedAdapter | None:
        """Adapter to ship: of the lowest rank within the tolerance of the best by mean loss; None if none is saved."""
        best = min((each.expected for each in self.adapters), default=math.inf)
        return next((each for each in self.adapters if each.expected <= best + self.tolerance), None)

    @property
    def train_sentences(self) -> Sequence[str]:
        """Sentences on the next run: its rank, the reason and its settings."""
        ranks, like, settled, chosen = self.forecast.ranks, self.like, self.settled, self.train
        best = min((rank for rank in ranks if rank.measured is not None or not settled), key=lambda rank: rank.median)
        runs = next((run.runs for run in self.forecast.runs if run.r == chosen.r), 0)
        loss = "estimated loss" if not runs else "measured loss" if runs == 1 else f"mean loss of {runs} runs"
        band = f", 80 % band {chosen.low_80:.3f} to {chosen.high_80:.3f}" if chosen.low_80 is not None else ""
        why = f"r = {chosen.r} is the lowest rank within {LOSS.explained(self.within, '.3g')} of the lowest loss"
        if settled:
            why = f"r = {chosen.r} is the smallest rank that these runs cannot distinguish from the best"
        why = f"r = {best.r} has the lowest loss." if chosen.r == best.r else f"{why}, at r = {best.r}."
        alpha = "the rule for alpha" if self.alpha is None else f"alpha = {self.alpha:g}"
        tuned = f"Of {self.tried_rates} learning rates, {like.learning_rate:g} was best at r = {like.r}."
        if self.tried_rates == 1:
            tuned = f"The learning rate ({like.learning_rate:g}) was not tuned: tune it at this rank before a long run."
        return (
            f"{self.about}: r = {chosen.r} ({loss} {chosen.median:.3f} nats{band}).",
            why,
            f"Keep the data, the target modules and {alpha}. {tuned}",
        )

    @property
    def ship_sentences(self) -> Sequence[str]:
        """Sentences on the adapter to ship and the reason; empty before one is saved."""
        if (ship := self.ship) is None:
            return ()
        best = min(self.adapters, key=lambda each: each.expected)
        seeds = "" if ship.mean_loss is None else f", the best of {ship.seeds} seeds (mean {ship.mean_loss:.4f})"
        first = f"{SHIP}: {ship.in_words}, held-out loss {ship.loss:.4f}{seeds}."
        if ship is best:
            return (first,)
        lowest = f"{best.in_words}, at {best.expected:.4f}"
        return (
            first,
            f"It has the lowest rank within {self.tolerance:.3g} nats of the best available adapter: {lowest}.",
        )


def decide(
    runs: Sequence[RunRecord], forecast: BentForecast, tolerance: float | None = None, settled: int | None = None
) -> Decision:
    """Decide what to train next and what to ship, from a sweep's runs and the forecast between them.

    Args:
        runs: All runs of the sweep; at least two ranks must be evaluated.
        forecast: The forecast between these runs.
        tolerance: Nats that count as equal; None takes TOLERANCE_NATS for shipping, and the forecast's own share for
            training, or TOLERANCE_NATS where the noise is not known.
        settled: Smallest rank that the sweep's verdict cannot distinguish from the best; None without a verdict.
    """
    cells = measured_cells(runs)
    lowest = min(rank.median for rank in forecast.ranks)
    # Without a measured noise, a difference within the usual tolerance decides nothing, here as for the adapter.
    untested = TOLERANCE_NATS if forecast.noise_nats is None else 0.0
    within = max(PICK_SHARE * abs(lowest), untested) if tolerance is None else tolerance
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
    """Yield the adapter with the lowest loss for each kind, rank and learning rate."""
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


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return what to train next and what to ship as a JSON object."""
    ship, like = decision.ship, decision.like
    return {
        "tolerance": decision.tolerance,
        "train": {
            "r": decision.train.r,
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
