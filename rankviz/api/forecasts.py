"""What quality a rank is expected to give: from published lines, and between one's own runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rankviz.api.models import Models
from rankviz.api.runs.runs import Runs
from rankviz.api.studies import Studies
from rankviz.api.workspace import EMBEDDED, Workspace
from rankviz.core.bounds import number, one_of
from rankviz.errors import (
    BadConfigError,
    GatedModelError,
    HubUnavailableError,
    InvalidSettingError,
    NoSuchPathError,
    NotInstalledError,
    RunNotFoundError,
    UnknownModelError,
    WorkerError,
)
from rankviz.exports.chat import is_chat_model

if TYPE_CHECKING:
    from rankviz.core.forecast.bands import Forecast, LeftOut
    from rankviz.core.forecast.quick_look import BentForecast
    from rankviz.core.runs.record import Sweep
    from rankviz.core.studies.nearest import Subject

CANNOT_READ = (
    BadConfigError,
    GatedModelError,
    HubUnavailableError,
    NotInstalledError,
    UnknownModelError,
    WorkerError,
)
"""A model that raises one of these has no counts; its forecast and advice need none."""
MOST_PARAMETERS = 10**15
COUNTS_NEED = (
    "Parameters, file, memory, time and cost of an adapter need the layers of a model: give a model of the catalogue, "
    "an id on the Hub (owner/name) or a config.json."
)


class Forecasts:
    """The quality forecast. A forecast takes no more than reading a table."""

    def __init__(self, workspace: Workspace, models: Models, runs: Runs, studies: Studies):
        self._workspace = workspace
        self._models = models
        self._runs = runs
        self._studies = studies

    def of(
        self,
        model: str = "",
        use_case: str = "instruction",
        *,
        metric: str | None = None,
        ranks: Sequence[int] | None = None,
        parameters: float | None = None,
    ) -> Forecast:
        """Return each rank's shortfall from r = 128 in published studies, as a band; the same for every model.

        Args:
            model: Any name; it is not read.
            use_case: A name of core.advice.use_case. It chooses the kind of studies that counts and coverage are of.
            metric: "score" (points; the default) or "loss" (% of the loss).
            ranks: Whole numbers from 1 to 256; by default the powers of two among them.
            parameters: Of a model that has no name here.
        """
        from rankviz.catalog.forecast import load_bands
        from rankviz.core.advice import use_case as use_cases
        from rankviz.core.forecast.bands import GRID, KIND_OF_USE_CASE, METRICS, forecast

        use_cases.use_case(use_case)
        metric = metric or "score"
        one_of(metric, "Metric", METRICS)
        self._check(model, parameters)
        return forecast(load_bands(self._workspace.assets), metric, KIND_OF_USE_CASE[use_case], ranks or GRID)

    def left_out(self, use_case: str) -> LeftOut | None:
        """Return how the band held scores of publications that were left out; None where none was."""
        from rankviz.catalog.forecast import load_bands
        from rankviz.core.forecast.bands import KIND_OF_USE_CASE

        return load_bands(self._workspace.assets).left_out.get(KIND_OF_USE_CASE[use_case])

    def subject(
        self, model: str, use_case: str, parameters: float | None = None, expert_rank: int | str = "r"
    ) -> Subject:
        """The model and task that studies are sorted for. Of a model that cannot be read, what studies say of its name,
        or else its parameters."""
        from rankviz.core.advice.use_case import use_case as named
        from rankviz.core.studies.nearest import Subject

        if not self.why_no_counts(model, parameters):
            return self._studies.subject(model, use_case, expert_rank)
        name = model.strip().lower()
        names = {name, name.rsplit("/", 1)[-1]} - {""}
        known = next((each for each in self._studies.all().models.values() if each.base_model.lower() in names), None)
        size = parameters or (known.parameters if known else None)
        return Subject(
            names=frozenset(names),
            model_id="",
            family=known.family if known else None,
            parameters=round(size) if size else None,
            task_kinds=named(use_case).task_kinds,
            expert_rank=expert_rank,
        )

    def why_no_counts(self, model: str, parameters: float | None = None) -> str:
        """Why a model has no counts, and what they need, as sentences; "" of one that can be read."""
        self._check(model, parameters)
        if not model:
            return COUNTS_NEED
        try:
            self._models.get(model)
        except CANNOT_READ as error:
            return f"{error} {COUNTS_NEED}"
        return ""

    def _check(self, model: str, parameters: float | None) -> None:
        """Refuse what is no name, and a path that is not there or is not this visitor's. A name may be of any model."""
        if parameters is not None:
            number(parameters, "Parameters", 1, MOST_PARAMETERS)
            if not model:
                return
        if not model:
            raise InvalidSettingError("Give a model, or its number of parameters.")
        try:
            self._workspace.references.model(model)
        except NoSuchPathError:
            raise
        except UnknownModelError:
            return

    def bent(self, sweep_id: str) -> BentForecast:
        """Held-out loss by rank between a sweep's measured ranks, nats, from its runs.

        Args:
            sweep_id: One's own sweep or a recorded one; its runs at two ranks at least must have finished.
        """
        from rankviz.catalog.forecast import load_quick_look
        from rankviz.core.forecast.quick_look import bent_forecast, measured_cells, measured_rank, ranks_without_loss
        from rankviz.core.runs.words import still_training

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
        model: str = "",
        use_case: str = "instruction",
        *,
        metric: str | None = None,
        runs: str | None = None,
        parameters: float | None = None,
    ) -> tuple[Forecast, BentForecast | None]:
        """Both forecasts at once; the second only where a sweep is given. Arguments as for `of` and `bent`.

        Args:
            model: As for `of`; with runs, the model that they trained.
            use_case: As for `of`.
            metric: As for `of`; with runs, "loss" is the default, because runs measure a loss.
            runs: The id of a sweep of this model.
            parameters: As for `of`.
        """
        if not runs:
            return self.of(model, use_case, metric=metric, parameters=parameters), None
        if metric == "score":
            raise InvalidSettingError(
                "Your runs measured a loss, not a score: choose the metric loss, or leave it out."
            )
        trained = self._sweep(runs).runs[0].request.base
        if self._models.get(model).id != self._models.get(trained).id or not self.same_kind(model, trained):
            raise InvalidSettingError(
                f"Sweep {runs} trained {trained}, not {model}: give the model {trained}, or leave the sweep out."
            )
        return self.of(model, use_case, metric=metric or "loss", parameters=parameters), self.bent(runs)

    def same_kind(self, one: str, other: str) -> bool:
        """Tell whether both are base models, or both are tuned to chat."""
        return self._is_chat(one) == self._is_chat(other)

    def _is_chat(self, ref: str) -> bool:
        """Tell a chat model by its own name, or else by the row it is read as. The embedded model is the
        instruction-tuned one; its row in the catalogue is the base model."""
        model, named = self._models.get(ref), True if ref == EMBEDDED else is_chat_model(ref)
        return bool(is_chat_model(model.id, model.model_type) if named is None else named)
