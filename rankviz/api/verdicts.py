"""Verdicts on the ranks of a sweep or a table of losses, and decisions: what to train next and what to ship."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz import verdict as verdicts
from rankviz.api.workspace import Cache, Operations
from rankviz.catalog.studies import read_forecast
from rankviz.core.forecast import decision, quick_look
from rankviz.core.forecast.decision import Decision
from rankviz.core.forecast.quick_look import RateLook, ScoreLook
from rankviz.core.runs.fast_curve import Reading, fast_curves, read
from rankviz.core.runs.metric import LOSS, METRICS, TOKEN_ACCURACY, TOLERANCE_NATS, Metric
from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError, LimitError, RankVizError
from rankviz.store.journal import numbers_in
from rankviz.verdict import Verdict

if TYPE_CHECKING:
    from rankviz.api import Api

MOST_VERDICTS = 64
"""Number of cached verdicts."""
MANY_NUMBERS = 50_000
"""Number of held-out losses above which a comparison waits in a line; fewer losses take hundredths of a second."""


class Verdicts(Operations):
    """Comparisons of ranks by their losses, and decisions on ended sweeps: what to ship and to train next."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._known = Cache[tuple[Sequence[Any], Verdict | None]](MOST_VERDICTS)

    def of_sweep(self, sweep_id: str, tolerance: float | str | None = None, metric: str = "loss") -> Verdict | None:
        """Return the verdict on the evaluated runs of a sweep; None without such runs, or while the sweep trains.

        Args:
            sweep_id: A sweep that the current visitor may see, or a recorded one.
            tolerance: Differences that are certainly smaller do not matter: nats of a loss, points of an accuracy, or
                "2%" of the gain over the base. None for 0.02 nats or 1 point.
            metric: "loss", "token_accuracy" or "exact_match"; InvalidSettingError if no run of the sweep has it.
        """
        if metric not in METRICS:
            raise InvalidSettingError(f"The metric must be one of {', '.join(METRICS)} (got {metric!r}).")
        sweep = self._api.runs.sweep(sweep_id)
        if not sweep.ended:
            return None
        return self._known_or_judged(sweep.runs, METRICS[metric], tolerance, lambda: self._turn(sweep.runs))

    def of_runs(self, runs_by_sweep: Sequence[Sequence[RunRecord]], metric: Metric) -> Sequence[Verdict | None]:
        """Return the verdict on some runs of each sweep; None where none has a finite value."""
        with self._turn([run for runs in runs_by_sweep for run in runs]):
            return [self._known_or_judged(runs, metric, None) for runs in runs_by_sweep]

    def _known_or_judged(
        self,
        runs: Sequence[RunRecord],
        metric: Metric,
        tolerance: float | str | None,
        turn: Callable[[], AbstractContextManager] = nullcontext,
    ) -> Verdict | None:
        """Return the verdict on runs, computed once for all who may see them. turn: as in Cache.get."""
        # All that it depends on: the same objects whoever asks. The cache keeps them, so that no other object gets an
        # id of theirs.
        compared = [each for run in runs for each in (run.request, run.loss_before, run.loss_after)]
        key = metric.key, repr(tolerance), *map(id, compared)
        return self._known.get(key, lambda: (compared, _judged(runs, metric, tolerance)), turn)[1]

    def _turn(self, runs: Sequence[RunRecord]) -> AbstractContextManager[None]:
        """Return a context for comparing runs by their held-out examples. With more than MANY_NUMBERS of them, the
        caller waits in the line for file reading. LimitError where it is full, or the server's limit is exceeded."""
        numbers = sum(numbers_in(run.loss_after) for run in runs if run.loss_after)
        most = self._workspace.limits.example_numbers
        if numbers <= MANY_NUMBERS:
            return nullcontext()
        if most is not None and numbers > most:
            raise LimitError(
                f"These runs have {numbers:,} numbers of held-out examples; this server compares at most {most:,}. "
                "Export them to compare them on a machine of your own."
            )
        return self._workspace.children.turn()

    def fast_curve(self, sweep_id: str, tolerance: float | str | None = None) -> Reading | None:
        """Return a sweep's best fast curve with its recommended rank; None without one, or while it trains."""
        sweep = self._api.runs.sweep(sweep_id)
        curve = next(iter(fast_curves(sweep.runs)), None)
        if curve is None or not sweep.ended:
            return None
        noise = {"run_sd": None}
        with suppress(LimitError):  # the curve can be read without
            if verdict := self.of_sweep(sweep_id, tolerance):
                noise = {"run_sd": verdict.run_sd, "tolerance": verdict.within}
        return read(curve, sweep.runs, **noise)

    def of_table(
        self,
        path: Path,
        tolerance: float | str | None = None,
        base_loss: float | None = None,
        base_accuracy: float | None = None,
    ) -> Verdict:
        """Return the verdict on a CSV file with columns rank, seed, example, loss or correct, and learning_rate if
        several were tried.

        Args:
            path: The file. A loss of nan marks a run that diverged; correct is 0 or 1.
            tolerance: As in `of_sweep`; points where the file has the column correct.
            base_loss: Mean loss of the untrained base, for a tolerance as a share of the gain.
            base_accuracy: Accuracy of the untrained base in percent, where the file has the column correct.
        """
        runs, by = verdicts.read_table(self._workspace.references.file(path))
        base, other = (base_loss, base_accuracy) if by is LOSS else (base_accuracy, base_loss)
        if other is not None:
            raise InvalidSettingError(f"The file holds each example's {by.noun}: give the base's {by.noun}.")
        base = base if base is None else by.turned(base)
        return verdicts.judge(runs, tolerance=tolerance, base_loss=base, metric=by)

    def decide(self, sweep_id: str, tolerance: float | str | None = None) -> Decision | None:
        """Return the forecast between a sweep's ranks, what to train next and what to ship; None while a run trains,
        or with finished runs at fewer than two ranks."""
        sweep = self._api.runs.sweep(sweep_id)
        if not sweep.ended:
            return None
        try:
            forecast = self._api.studies.bent(sweep_id)
        except RankVizError:
            return None
        verdict = self.of_sweep(sweep_id, tolerance)
        # The one repeat of a quick look says how wide a band is; a verdict between ranks needs repeats of each.
        tested = verdict and not verdict.unknown and all(run.runs > 1 for run in forecast.runs)
        settled = verdict.smallest_indistinguishable if tested else None
        chosen = verdict and verdict.tolerance_nats != TOLERANCE_NATS  # the usual one stands in the box of the page
        return decision.decide(sweep.runs, forecast, verdict.tolerance_nats if chosen else None, settled)

    def rate_look(self, sweep_id: str) -> RateLook | None:
        """Return which learning rate is better in an ended sweep of one rank; None for any other sweep."""
        sweep = self._api.runs.sweep(sweep_id)
        return quick_look.rate_look(sweep.runs) if sweep.ended else None

    def score_look(self, sweep_id: str, metric: Metric) -> ScoreLook | None:
        """Return which rank to take by a score, for an ended sweep without two runs of every rank; else None."""
        sweep = self._api.runs.sweep(sweep_id)
        record = read_forecast(self._workspace.assets)["quick_look"]["score"]
        return quick_look.score_look(sweep.runs, metric, record) if sweep.ended and metric.higher_is_better else None


def _judged(runs: Sequence[RunRecord], metric: Metric, tolerance: float | str | None) -> Verdict | None:
    losses = verdicts.losses_of(runs, metric)
    if not losses and any(run.loss_after for run in runs):
        why = "answered no held-out prompts: train again with exact match on some examples."
        raise InvalidSettingError(
            f"The {metric.noun} of this sweep is not known, because its runs "
            f"{'counted no tokens.' if metric is TOKEN_ACCURACY else why}"
        )
    if all(run.diverged for run in losses):
        return None
    base = verdicts.base_loss_of(runs, metric)
    return verdicts.judge(losses, tolerance=tolerance, base_loss=base, metric=metric)
