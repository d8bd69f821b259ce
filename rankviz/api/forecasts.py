"""What quality a rank is expected to give: from published lines, and between one's own runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rankviz.api.models import Models
from rankviz.api.runs.runs import Runs
from rankviz.api.workspace import EMBEDDED, Workspace
from rankviz.core.forecast.bands import UNITS, band_for
from rankviz.core.forecast.curve import GRID
from rankviz.errors import InvalidSettingError, RunNotFoundError
from rankviz.export.chat import is_chat_model

if TYPE_CHECKING:
    from rankviz.core.forecast.bands import Band, Forecast
    from rankviz.core.forecast.bent import BentForecast
    from rankviz.core.runs.record import Sweep


class Forecasts:
    """The quality forecast. A forecast takes no more than reading a table."""

    def __init__(self, workspace: Workspace, models: Models, runs: Runs):
        self._workspace = workspace
        self._models = models
        self._runs = runs

    def of(
        self,
        model: str,
        use_case: str = "instruction",
        *,
        base: bool | None = None,
        metric: str | None = None,
        ranks: Sequence[int] | None = None,
    ) -> Forecast:
        """How far each rank falls short of r = 128 in published studies, as a band.

        Args:
            model: A catalogue id, an alias of one, a folder, a config.json or a Hub id.
            use_case: A name of core.advice.use_case.
            base: Whether it is a base model; by default its name decides. Only losses differ by it.
            metric: "score" (points, by kind of task; the default) or "loss" (% of the loss, by size of the model).
            ranks: Whole numbers from 1 to 256; by default the powers of two among them.
        """
        from rankviz.catalog.forecast import load_bands
        from rankviz.core.advice import use_case as use_cases
        from rankviz.core.forecast.words import forecast

        use_cases.use_case(use_case)
        metric = metric or "score"
        bands = load_bands(self._workspace.assets)
        band = self._band(model, use_case, base, metric)
        assumed = base is None and self._is_chat(model) is None
        return forecast(bands, band, UNITS[metric], ranks or GRID, base_assumed=assumed)

    def bent(self, sweep_id: str) -> BentForecast:
        """Held-out loss by rank between a sweep's measured ranks, nats, from its runs.

        Args:
            sweep_id: One's own sweep or a recorded one; its runs at two ranks at least must have finished.
        """
        from rankviz.catalog.forecast import load_quick_look
        from rankviz.core.forecast.bent import bent_forecast
        from rankviz.core.forecast.own_runs import measured_cells, measured_rank, ranks_without_loss
        from rankviz.core.runs.words.labels import still_training

        sweep = self._sweep(sweep_id)
        cells = measured_cells(sweep.runs)
        runs = [run for cell in cells.values() for run in cell]
        return bent_forecast(
            sweep_id,
            [measured_rank(r, cell) for r, cell in cells.items()],
            load_quick_look(self._workspace.assets)["loss"],
            fixed_alpha=len({run.request.lora.lora_alpha for run in runs}) == 1,
            one_rate=len({run.request.learning_rate for run in runs}) == 1,
            without=ranks_without_loss(sweep.runs),
            still_training=still_training(sweep),
        )

    def _sweep(self, sweep_id: str) -> Sweep:
        """The sweep; a run's id is answered with the id of its sweep."""
        try:
            return self._runs.sweep(sweep_id)
        except RunNotFoundError:
            own = self._runs.get(sweep_id).request.sweep_id
            raise InvalidSettingError(f"{sweep_id} is a run of sweep {own}: give {own}.") from None

    def answer(
        self,
        model: str,
        use_case: str = "instruction",
        *,
        base: bool | None = None,
        metric: str | None = None,
        runs: str | None = None,
    ) -> tuple[Forecast, BentForecast | None]:
        """Both forecasts at once; the second only where a sweep is given. Arguments as for `of` and `bent`.

        Args:
            model: As for `of`.
            use_case: As for `of`.
            base: As for `of`.
            metric: As for `of`; with runs, "loss" is the default, because runs measure a loss.
            runs: The id of a sweep of this model.
        """
        if runs and metric == "score":
            raise InvalidSettingError(
                "Your runs measured a loss, not a score: choose the metric loss, or leave it out."
            )
        if runs:
            self._refuse_other_base(model, runs)
        metric = metric or ("loss" if runs else "score")
        forecast = self.of(model, use_case, base=base, metric=metric)
        return forecast, self.bent(runs) if runs else None

    def _refuse_other_base(self, model: str, sweep_id: str) -> None:
        """InvalidSettingError where the sweep trained another model; names of the same model are equal."""
        trained = self._sweep(sweep_id).runs[0].request.base
        if self._models.get(model).id != self._models.get(trained).id or not self.same_kind(model, trained):
            raise InvalidSettingError(
                f"Sweep {sweep_id} trained {trained}, not {model}: give the model {trained}, or leave the sweep out."
            )

    def same_kind(self, one: str, other: str) -> bool:
        """Whether both are base models, or both are tuned to chat."""
        return self._is_base(one) == self._is_base(other)

    def _is_base(self, ref: str) -> bool:
        """A model that nothing is known of counts as a base model."""
        return not self._is_chat(ref)

    def _is_chat(self, ref: str) -> bool | None:
        """By its own name, or else by the row it is read as; None where neither says.

        The embedded model is the instruction-tuned one; its row in the catalogue is the base model.
        """
        if ref == EMBEDDED:
            return True
        model, named = self._models.get(ref), is_chat_model(ref)
        return is_chat_model(model.id, model.model_type) if named is None else named

    def _band(self, ref: str, use_case: str, base: bool | None, metric: str) -> Band:
        from rankviz.catalog.forecast import load_bands

        return band_for(
            load_bands(self._workspace.assets),
            use_case=use_case,
            parameters=self._models.get(ref).total_parameters,
            base=self._is_base(ref) if base is None else base,
            metric=metric,
        )
