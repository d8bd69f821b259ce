"""The sweeps that trained one model, one's own and recorded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankviz.errors import RankVizError

if TYPE_CHECKING:
    from rankviz.api.forecasts import Forecasts
    from rankviz.api.models import Models
    from rankviz.api.runs.runs import Runs
    from rankviz.core.runs.record import Sweep


class OwnSweeps:
    """Found anew at each call, since runs finish at any time."""

    def __init__(self, models: Models, runs: Runs, forecasts: Forecasts):
        self._models = models
        self._runs = runs
        self._forecasts = forecasts

    def of(self, model: str) -> list[Sweep]:
        """Sweeps with evaluated runs of this very model: one's own, the newest first, then recorded ones, the oldest
        first. A base that only the Hub knows is compared by its name alone."""
        spec = self._models.get(model)
        return [
            sweep
            for sweep in (*self._runs.sweeps(), *self._runs.recorded())
            if any(run.loss_after for run in sweep.runs) and self._is_of(sweep.runs[0].request.base, model, spec.id)
        ]

    def leading(self, model: str) -> Sweep | None:
        """The one that the advice speaks of, and that the chart's forecast goes through."""
        return next(iter(self.of(model)), None)

    def _is_of(self, base: str, model: str, model_id: str) -> bool:
        if base == model:
            return True
        try:
            trained = self._models.at_hand(base)
            return trained is not None and trained.id == model_id and self._forecasts.same_kind(base, model)
        except RankVizError:
            return False
