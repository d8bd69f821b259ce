"""What to train next and what to ship, of a sweep whose runs allow a forecast between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankviz.errors import RankVizError

if TYPE_CHECKING:
    from rankviz.api.forecasts import Forecasts
    from rankviz.api.runs.runs import Runs
    from rankviz.api.runs.verdicts import SweepVerdict, Verdicts
    from rankviz.core.forecast.decision import Decision


class Decisions:
    """The quick look's answer; of any sweep with finished runs at two ranks."""

    def __init__(self, runs: Runs, verdicts: Verdicts, forecasts: Forecasts):
        self._runs = runs
        self._verdicts = verdicts
        self._forecasts = forecasts

    def of(
        self, sweep_id: str, tolerance: float | str | None = None, judged: SweepVerdict | None = None
    ) -> Decision | None:
        """The forecast between a sweep's runs, what to train next and what to ship; None while one of them trains, with
        finished runs at fewer than two ranks, or where the base model is not available.

        Args:
            sweep_id: One's own sweep or a recorded one.
            tolerance: As for a verdict.
            judged: That verdict, where it is known.
        """
        from rankviz.core.forecast.decision import decide

        sweep = self._runs.sweep(sweep_id)
        if not sweep.ended:
            return None
        try:
            forecast = self._forecasts.bent(sweep_id)
        except RankVizError:
            return None
        judged = judged or self._verdicts.of_sweep(sweep_id, tolerance)
        if judged is None:
            return decide(sweep.runs, forecast)
        verdict = judged.verdict
        settled = None if verdict.unknown else verdict.smallest_indistinguishable
        return decide(sweep.runs, forecast, verdict.tolerance_nats, settled)
