"""What to train next and what to ship, of a sweep whose runs allow a forecast between them; and which learning rate is
better, of a sweep of one rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankviz.errors import RankVizError

if TYPE_CHECKING:
    from rankviz.api.forecasts import Forecasts
    from rankviz.api.runs.runs import Runs
    from rankviz.api.runs.verdicts import SweepVerdict, Verdicts
    from rankviz.api.workspace import Workspace
    from rankviz.core.forecast.decision import Decision
    from rankviz.core.forecast.quick_look import RateLook, ScoreLook
    from rankviz.core.runs.metric import Metric


class Decisions:
    """The quick look's answer; of any sweep with finished runs at two ranks."""

    def __init__(self, workspace: Workspace, runs: Runs, verdicts: Verdicts, forecasts: Forecasts):
        self._workspace = workspace
        self._runs = runs
        self._verdicts = verdicts
        self._forecasts = forecasts

    def of(
        self, sweep_id: str, tolerance: float | str | None = None, judged: SweepVerdict | None = None
    ) -> Decision | None:
        """The forecast between a sweep's runs, what to train next and what to ship; None while one of them trains, with
        finished runs at fewer than two ranks.

        Args:
            sweep_id: One's own sweep or a recorded one.
            tolerance: As for a verdict.
            judged: That verdict, where it is known.
        """
        from rankviz.core.forecast.decision import decide
        from rankviz.core.runs.tradeoff import TOLERANCE_NATS

        sweep = self._runs.sweep(sweep_id)
        if not sweep.ended:
            return None
        try:
            forecast = self._forecasts.bent(sweep_id)
        except RankVizError:
            return None
        judged = judged or self._verdicts.of_sweep(sweep_id, tolerance)
        verdict = judged and judged.verdict
        # The one repeat of a quick look says how wide a band is; a verdict between ranks needs repeats of each.
        tested = verdict and not verdict.unknown and all(run.runs > 1 for run in forecast.runs)
        settled = verdict.smallest_indistinguishable if tested else None
        chosen = verdict and verdict.tolerance_nats != TOLERANCE_NATS  # the usual one stands in the box of the page
        return decide(sweep.runs, forecast, verdict.tolerance_nats if chosen else None, settled)

    def rate(self, sweep_id: str) -> RateLook | None:
        """Which learning rate is better, of a sweep of one rank whose runs ended; None of any other."""
        from rankviz.core.forecast.quick_look import rate_look

        sweep = self._runs.sweep(sweep_id)
        return rate_look(sweep.runs) if sweep.ended else None

    def score(self, sweep_id: str, metric: Metric) -> ScoreLook | None:
        """Which rank to take by a score, of a sweep whose ranks were not all trained twice; None of any other."""
        from rankviz.catalog.forecast import load_quick_look
        from rankviz.core.forecast.quick_look import score_look

        sweep = self._runs.sweep(sweep_id)
        record = load_quick_look(self._workspace.assets)["score"]
        return score_look(sweep.runs, metric, record) if sweep.ended and metric.higher_is_better else None
