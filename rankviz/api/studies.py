"""Quality by rank: published studies, forecasts from them and from own runs, and what a rank costs and buys."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.estimates import Estimates
from rankviz.api.models import Models
from rankviz.api.runs.runs import Runs
from rankviz.api.workspace import EMBEDDED, Workspace, writes
from rankviz.core.bounds import number, one_of
from rankviz.core.cost.question import Question
from rankviz.core.forecast.bands import LOSS
from rankviz.core.forecast.tradeoff import RANKS, SHORTFALL_LOSS, SHORTFALL_SCORE, SHORTFALLS, ForecastLine, Tradeoff
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.experts import rank_of_size, shared_outer_per_rank
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.lora.targets import ALL_LINEAR
from rankviz.core.runs.metric import METRICS, measured_metrics
from rankviz.core.studies.lines import AdapterSize
from rankviz.errors import (
    BadConfigError,
    BadDataError,
    GatedModelError,
    HubUnavailableError,
    InvalidSettingError,
    NoSuchPathError,
    NotInstalledError,
    RankVizError,
    RunNotFoundError,
    UnknownModelError,
    WorkerError,
)
from rankviz.exports.chat import is_chat_model

if TYPE_CHECKING:
    from rankviz.catalog.own_studies import Added
    from rankviz.core.studies.findings import RateByRank
    from rankviz.core.studies.lines import Evidence, Facet, Line
    from rankviz.core.studies.nearest import Near, Subject

REMEMBERED = 16
"""Visitors with files of their own whose studies are kept."""


class Studies:
    """What a rank buys, as far as others have measured it."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models
        self._with_own = lru_cache(REMEMBERED)(self._read)
        self._adding = threading.Lock()

    def all(self) -> Evidence:
        """All published points, and those that whoever asks has added here."""
        names = self.added()
        return self._with_own(self._workspace.own_homes, tuple(names)) if names else self._shipped

    @cached_property
    def _shipped(self) -> Evidence:
        from rankviz.catalog.studies import load_evidence

        return load_evidence(self._workspace.assets)

    def _read(self, homes: Sequence[Path], names: Sequence[str]) -> Evidence:
        """names: of the files that are there, which say what is in them. It depends on its arguments alone, so visitors
        who ask at once get their own each."""
        from rankviz.catalog import own_studies

        return self._shipped.plus(own_studies.own_evidence(homes, self._models.all()))

    def rate_by_rank(self) -> Sequence[RateByRank]:
        """Return how the best learning rate moves with the rank, counted over published sweeps."""
        from rankviz.catalog.forecast import load_rates_by_rank

        return load_rates_by_rank(self._workspace.assets)

    def near(self, subject: Subject, methods: Sequence[str], facets: Sequence[Facet]) -> Sequence[Near]:
        """Published lines of quality by rank with these targets, the nearest study first."""
        from rankviz.core.studies.nearest import drawn_lines, nearest

        return nearest(drawn_lines(self.all(), methods, facets), subject)

    def sizes(self, line: Line) -> Sequence[AdapterSize]:
        """The adapters of a line's points: as published, or counted where base and targets are known."""
        plan, per_rank = self._plan_of(line), self._tinkers_per_rank(line)
        return [
            AdapterSize(p.rank * per_rank, None, True)
            if per_rank
            else AdapterSize(p.trainable_parameters, p.adapter_bytes, False)
            if p.trainable_parameters or plan is None
            else AdapterSize(plan.parameters(p.rank), p.adapter_bytes or plan.file_bytes(p.rank, 4), True)
            for p in line.points
        ]

    def equal_ranks(self, line: Line, plan: AdapterPlan) -> Mapping[int, float]:
        """Ranks that train as many parameters with a pair for each expert as a line's ranks do in its own MoE scheme;
        of the ranks whose size is known.

        Args:
            plan: The adapter to compare with, if it is on the line's base; else Unsloth's default on that base counts,
                with the same expert_rank.
        """
        model_id = line.model.model_id
        if model_id is None:
            return {}
        if plan.model.id != model_id:
            plan = resolve(self._models.get(model_id), LoraConfig(expert_rank=plan.expert_rank), "unsloth")
        sizes = zip(line.ranks, self.sizes(line), strict=True)
        return {r: rank_of_size(plan.parameters, size.parameters) for r, size in sizes if size.parameters}

    @writes
    def add(self, files: Sequence[Path]) -> Added:
        """Add tables of raw results and PEFT result files as studies; unreadable files are named with the reason."""
        from rankviz.catalog import own_studies

        owner, homes = self._workspace.rights.somebody(), self._workspace.own_homes
        if not files:
            return own_studies.Added([], 0, [])
        paths = [self._workspace.references.file(file) for file in files]
        children, about = self._workspace.children, units.counted(len(paths), "result file")
        with children.turn():
            reply = children.ask("results", {"paths": [*map(str, paths)]}, about=about, error=BadDataError)
        results = [own_studies.Result(**row) for row in reply["results"]]
        size = sum(len(result.text.encode()) for result in results)
        with self._adding, self._workspace.room.holding(size):
            added = own_studies.keep(homes, results, self._workspace.limits.result_files)
        kept = {*own_studies.kept_files(homes)}
        for path, result in zip(paths, results, strict=True):
            if result.kept_name in kept:
                self._workspace.temp.remove_upload(path, owner)
        return added

    @writes
    def remove(self, name: str) -> None:
        """Remove a file that was added, by a name from `added`."""
        from rankviz.catalog import own_studies

        self._workspace.rights.somebody()
        own_studies.remove(self._workspace.own_homes, name)

    def added(self) -> Sequence[str]:
        """The files that whoever asks has added here."""
        from rankviz.catalog import own_studies

        return own_studies.kept_files(self._workspace.own_homes)

    def subject(self, ref: str, name: str, expert_rank: int | str = "r") -> Subject:
        """name: of a use case."""
        from rankviz.catalog.models import find_model
        from rankviz.core.advice.use_case import use_case
        from rankviz.core.studies.nearest import Subject

        model = self._models.get(ref)
        try:
            family = find_model(self._models.all(), model.id).family
        except UnknownModelError:
            family = None
        return Subject(
            names=frozenset({model.id.lower(), ref.strip().lower()}),
            model_id=model.id,
            family=family,
            parameters=model.total_parameters,
            task_kinds=use_case(name).task_kinds,
            expert_rank=expert_rank,
        )

    def _tinkers_per_rank(self, line: Line) -> int | None:
        """Parameters per unit of r where Tinker trained the line and its base is in the catalogue; else None."""
        if line.study.expert_scheme != "shared-outer" or line.model.model_id is None:
            return None
        return shared_outer_per_rank(self._models.get(line.model.model_id))

    def _plan_of(self, line: Line) -> AdapterPlan | None:
        """Return the adapter of a line; None where the base has no row in the catalogue, or the study doesn't say its
        modules one by one."""
        from rankviz.core.studies.lines import module_names

        stated = line.first.target_modules
        targets = stated if stated == ALL_LINEAR else module_names(stated)
        if line.model.model_id is None or not targets:
            return None
        try:
            lora = LoraConfig(target_modules=targets, use_dora=line.first.method == "dora")
            return resolve(self._models.get(line.model.model_id), lora, "peft")
        except (InvalidSettingError, UnknownModelError):
            return None


if TYPE_CHECKING:
    from rankviz.core.forecast.bands import BandRecord, Forecast
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

    def left_out(self, use_case: str) -> BandRecord | None:
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
        from rankviz.core.forecast.quick_look import bent_forecast, measured_cells, measured_rank
        from rankviz.core.runs.words import still_training

        sweep = self._sweep(sweep_id)
        cells = measured_cells(sweep.runs)
        runs = [run for cell in cells.values() for run in cell]
        return bent_forecast(
            sweep_id,
            [measured_rank(r, cell) for r, cell in cells.items()],
            load_quick_look(self._workspace.assets)["loss"],
            alike=len({(run.request.lora.lora_alpha, run.request.learning_rate) for run in runs}) == 1,
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


if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.api.runs.runs import Runs
    from rankviz.core.forecast.bands import RankLine
    from rankviz.core.forecast.quick_look import BentForecast
    from rankviz.core.lora.plan import AdapterPlan
    from rankviz.core.runs.record import Sweep
    from rankviz.core.studies.nearest import Near

LINES_SHOWN = 3
"""Published lines of the nearest studies that are drawn."""


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


class Tradeoffs:
    """Costs and qualities of all ranks of one model."""

    def __init__(
        self, workspace: Workspace, estimates: Estimates, studies: Studies, forecasts: Forecasts, own: OwnSweeps
    ):
        self._workspace = workspace
        self._estimates = estimates
        self._studies = studies
        self._forecasts = forecasts
        self._own = own

    def of(self, question: Question, use_case: str = "instruction", quality: str | None = None) -> Tradeoff:
        """Costs at every rank from 1 to 256 and at the question's own, with forecast, published lines and own runs.

        Args:
            question: Its ranks are added to RANKS.
            use_case: A name of core.advice.use_case.
            quality: A key of SHORTFALLS or METRICS. By default % of the loss where there is a sweep of this model, else
                points, as the recommendation has them. One that this model does not have is replaced by that.
        """
        from rankviz.core.advice import use_case as use_cases

        use_cases.use_case(use_case)
        if quality is not None:
            one_of(quality, "Quality", (*SHORTFALLS, *METRICS))
        every_rank = replace(question, ranks=tuple(sorted({*RANKS, *question.ranks})))
        sweeps = self._own.of(question.model_id)
        runs = [run for sweep in sweeps for run in sweep.runs]
        metrics = [metric.key for metric in measured_metrics(runs)] if runs else []
        qualities = (*SHORTFALLS, *metrics)
        if quality not in qualities:
            quality = SHORTFALL_LOSS if sweeps else SHORTFALL_SCORE
        shortfall = SHORTFALLS.get(quality)
        estimate = self._estimates.estimate(every_rank).estimate
        return Tradeoff(
            estimate=estimate,
            quality=quality,
            qualities=qualities,
            forecast=self._forecasts.of(question.model_id, use_case, metric=shortfall, ranks=RANKS)
            if shortfall
            else None,
            published=self._published(question, use_case, shortfall, estimate.plan) if shortfall else (),
            sweeps=tuple(sweeps),
            bent=self._bent(question.model_id) if quality == LOSS else None,
        )

    def without_costs(self, question: Question, use_case: str, quality: str | None = None) -> Tradeoff:
        """The same of a model that cannot be read: what is known of quality, by rank. quality: a key of SHORTFALLS."""
        quality = quality if quality in SHORTFALLS else SHORTFALL_SCORE
        metric = SHORTFALLS[quality]
        return Tradeoff(
            estimate=None,
            quality=quality,
            qualities=tuple(SHORTFALLS),
            forecast=self._forecasts.of(question.model_id, use_case, metric=metric, ranks=RANKS),
            published=self._published(question, use_case, metric),
            sweeps=(),
            bent=None,
        )

    def _published(
        self, question: Question, use_case: str, metric: str, plan: AdapterPlan | None = None
    ) -> tuple[ForecastLine, ...]:
        """The nearest lines in this metric; scores of the forecast's kind only."""
        from rankviz.catalog.forecast import load_rank_lines
        from rankviz.core.forecast.bands import KIND_OF_USE_CASE
        from rankviz.core.studies.lines import FACETS, RL

        task = KIND_OF_USE_CASE[use_case]
        kind = LOSS if metric == LOSS and task != RL else task
        # "Complex tasks and domain adaptation" draws both, though its band is that of mathematics and code.
        kinds = (kind, "shift") if use_case == "complex" else (kind,)
        by_pair: dict[tuple[str, str], list[RankLine]] = {}
        for line in load_rank_lines(self._workspace.assets):
            if line.metric == metric and (line.kind in kinds or (kind == "any" and line.kind != RL)):
                by_pair.setdefault((line.study_id, line.base_model), []).append(line)
        # One line of a study's tasks or sizes of data: the one in the middle, by how much the rank does.
        lines = {
            pair: sorted(each, key=lambda line: max(line.values) - min(line.values))[(len(each) - 1) // 2]
            for pair, each in by_pair.items()
        }
        subject = self._forecasts.subject(question.model_id, use_case, expert_rank=question.lora.expert_rank)
        nearest = [
            ForecastLine(
                _label(each),
                lines[key],
                each.line.study.where,
                each.in_words,
                self._studies.equal_ranks(each.scheme_line, plan) if plan and each.scheme_line else None,
            )
            for each in self._studies.near(subject, ("lora",), FACETS)
            if (key := (each.line.study.study_id, each.line.model.base_model)) in lines
        ]
        return tuple(nearest[:LINES_SHOWN])

    def _bent(self, model: str) -> BentForecast | None:
        """Through the runs of the sweep that leads; None where it has too few."""
        try:
            leading = self._own.leading(model)
            return self._forecasts.bent(leading.sweep_id) if leading else None
        except RankVizError:
            return None


def _label(near: Near) -> str:
    """The study's, with the MoE scheme of its points."""
    from rankviz.core.studies.lines import SCHEME_LABELS

    scheme = next((line.expert_scheme for line in near.lines if line.expert_scheme), None)
    return f"{near.line.study.label}, {SCHEME_LABELS[scheme]}" if scheme else near.line.study.label
