"""Quality by rank: published studies, forecasts from studies and own runs, and costs and quality of all ranks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.api.workspace import EMBEDDED, Operations, writes
from rankviz.catalog import own_studies
from rankviz.catalog.models import find_model
from rankviz.catalog.own_studies import Added
from rankviz.catalog.studies import forecast_of_all, load_evidence, load_rank_lines, read_forecast
from rankviz.core.advice.use_case import use_case as use_case_of
from rankviz.core.bounds import number, one_of
from rankviz.core.cost.question import Question
from rankviz.core.forecast.bands import GRID, KIND_OF_USE_CASE, LOSS, NO_FORECAST_OF_RL, BandRecord, Forecast, RankLine
from rankviz.core.forecast.bands import METRICS as BAND_METRICS
from rankviz.core.forecast.bands import forecast as forecast_by_rank
from rankviz.core.forecast.bands import left_out as record_left_out
from rankviz.core.forecast.quick_look import BentForecast, bent_forecast, measured_cells
from rankviz.core.forecast.tradeoff import RANKS, SHORTFALL_LOSS, SHORTFALL_SCORE, SHORTFALLS, ForecastLine, Tradeoff
from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.experts import rank_of_size, shared_outer_per_rank
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.lora.targets import ALL_LINEAR
from rankviz.core.runs.metric import METRICS, measured_metrics
from rankviz.core.runs.record import Sweep, still_training
from rankviz.core.studies.lines import (
    FACETS,
    RL,
    SCHEME_LABELS,
    Evidence,
    Facet,
    Line,
    Near,
    RateByRank,
    Subject,
    module_names,
    nearest_drawn,
)
from rankviz.errors import (
    BadConfigError,
    BadDataError,
    GatedModelError,
    HubUnavailableError,
    InvalidSettingError,
    NoSuchPathError,
    NotInstalledError,
    RankVizError,
    UnknownModelError,
    WorkerError,
)
from rankviz.exports.recipe import is_chat_model

if TYPE_CHECKING:
    from rankviz.api import Api

REMEMBERED = 16
"""Number of visitors with added result files whose studies are cached."""
LINES_SHOWN = 3
"""Number of published lines, of the nearest studies, that the trade-off chart shows."""
MOST_PARAMETERS = 10**15
CANNOT_READ = (BadConfigError, GatedModelError, HubUnavailableError, NotInstalledError, UnknownModelError, WorkerError)
"""Errors after which a model has no parameter counts. Its forecast and advice need none."""
COUNTS_NEED = (
    "Parameters, file, memory, time and cost of an adapter need the layers of a model: give a model of the catalogue, "
    "an id on the Hub (owner/name) or a config.json."
)


class Studies(Operations):
    """Quality by rank in published studies and result files that visitors added; forecasts from them and from own
    runs, read from a table without computing; and costs and quality of all ranks of a model."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._with_own = lru_cache(REMEMBERED)(self._read)
        self._adding = threading.Lock()

    def all(self) -> Evidence:
        """Return all published points, and those that the current visitor has added here."""
        names = self.added()
        homes, assets = self._workspace.own_homes, self._workspace.assets
        return self._with_own(homes, tuple(names)) if names else load_evidence(assets)

    def _read(self, homes: Sequence[Path], names: Sequence[str]) -> Evidence:
        """Return the shipped points and those of files in these folders. names: The files', for the cache."""
        return load_evidence(self._workspace.assets).plus(own_studies.own_evidence(homes, self._api.models.all()))

    def rate_by_rank(self) -> Sequence[RateByRank]:
        """Return ratios of the best learning rates at the highest and the lowest rank of published sweeps."""
        return [RateByRank(**row) for row in read_forecast(self._workspace.assets)["counts"]["rate_by_rank"]]

    def near(self, subject: Subject, methods: Sequence[str], facets: Sequence[Facet]) -> Sequence[Near]:
        """Return published lines of quality by rank, the study nearest to the subject first. methods, facets: Only
        lines by one of these methods and with targets of these facets. Studies that the visitor added need only the
        facets."""
        return nearest_drawn(self.all(), subject, tuple(methods), tuple(facets))

    def parameters(self, line: Line) -> Sequence[int | None]:
        """Return the adapter parameters of each point: as published, or counted if base and targets are known."""
        model_id, stated, plan = line.model.model_id, line.first.target_modules, None
        by_tinker = line.study.expert_scheme == "shared-outer" and model_id
        if by_tinker and (per_rank := shared_outer_per_rank(self._api.models.get(model_id))):
            return [r * per_rank for r in line.ranks]
        targets = stated if stated == ALL_LINEAR else module_names(stated)
        if model_id is not None and targets:
            with suppress(InvalidSettingError, UnknownModelError):
                lora = LoraConfig(target_modules=targets, use_dora=line.first.method == "dora")
                plan = resolve(self._api.models.get(model_id), lora, "peft")
        return [point.trainable_parameters or (plan and plan.parameters(point.rank)) for point in line.points]

    def equal_ranks(self, line: Line, plan: AdapterPlan) -> Mapping[int, float]:
        """Return, by rank of a published line, the rank that trains as many parameters where each expert has a LoRA
        pair of its own. Ranks of unknown size are left out. plan: adapter to compare with, if it is on the line's base;
        else Unsloth's default adapter on that base is used, with the same expert_rank."""
        model_id = line.model.model_id
        if model_id is None:
            return {}
        if plan.model.id != model_id:
            plan = resolve(self._api.models.get(model_id), LoraConfig(expert_rank=plan.expert_rank), "unsloth")
        sizes = zip(line.ranks, self.parameters(line), strict=True)
        return {r: rank_of_size(plan.parameters, size) for r, size in sizes if size}

    @writes()
    def add(self, files: Sequence[Path]) -> Added:
        """Add CSV tables and PEFT's JSON files as studies; return what was added, and why files were refused."""
        owner, homes = self._workspace.rights.somebody(), self._workspace.own_homes
        if not files:
            return own_studies.Added([], 0, [])
        paths = [self._workspace.references.file(file) for file in files]
        children, about = self._workspace.children, units.counted(len(paths), "result file")
        with children.turn():
            reply = children.ask("results", {"paths": [*map(str, paths)]}, about=about, error=BadDataError)
        results = [own_studies.Result(**row) for row in reply["results"]]
        with self._adding, self._workspace.room.holding(sum(len(result.text.encode()) for result in results)):
            added = own_studies.keep(homes, results, self._workspace.limits.result_files)
        kept = own_studies.kept_files(homes)
        for path, result in zip(paths, results, strict=True):
            if result.kept_name in kept:
                self._workspace.temp.remove_upload(path, owner)
        return added

    @writes()
    def remove(self, name: str) -> None:
        """Delete an added result file, by its name as `added` returns it."""
        self._workspace.rights.somebody()
        own_studies.remove(self._workspace.own_homes, name)

    def added(self) -> Sequence[str]:
        """Return the names of the result files that the current visitor has added here."""
        return list(own_studies.kept_files(self._workspace.own_homes))

    def left_out(self, use_case: str) -> BandRecord | None:
        """Return the band's errors for left-out publications; None where none was left out."""
        return record_left_out(read_forecast(self._workspace.assets), KIND_OF_USE_CASE[use_case])

    def subject(
        self, model: str, use_case: str, parameters: float | None = None, expert_rank: int | str = "r"
    ) -> Subject:
        """Return the model and task by which studies are sorted. For a model that cannot be read, family and size come
        from a study that names it, or the size from `parameters`."""
        name, family, model_id, size = model.strip().lower(), None, "", parameters
        names = {name, name.rsplit("/", 1)[-1]} - {""}
        if not self.why_no_counts(model, parameters):
            spec = self._api.models.get(model)
            names, model_id, size = {spec.id.lower(), name}, spec.id, spec.total_parameters
            with suppress(UnknownModelError):
                family = find_model(self._api.models.all(), spec.id).family
        else:
            published = self.all().models.values()
            if known := next((each for each in published if each.base_model.lower() in names), None):
                family, size = known.family, parameters or known.parameters
        kinds = use_case_of(use_case).task_kinds
        return Subject(frozenset(names), model_id, family, round(size) if size else None, kinds, expert_rank)

    def why_no_counts(self, model: str, parameters: float | None = None) -> str:
        """Return why a model has no parameter counts and what replaces them; empty if it can be read."""
        self._require_model_name(model, parameters)
        if not model:
            return COUNTS_NEED
        try:
            self._api.models.get(model)
        except CANNOT_READ as error:
            return f"{error} {COUNTS_NEED}"
        return ""

    def _require_model_name(self, model: str, parameters: float | None) -> None:
        """Raise an error for an impossible name, and for a path that is missing or another visitor's."""
        if parameters is not None:
            number(parameters, "Parameters", 1, MOST_PARAMETERS)
        elif not model:
            raise InvalidSettingError("Give a model, or its number of parameters.")
        try:
            if model:
                self._workspace.references.model(model)
        except UnknownModelError as error:
            if isinstance(error, NoSuchPathError):
                raise

    def bent(self, sweep_id: str) -> BentForecast:
        """Return the forecast of held-out loss (nats) between a sweep's ranks; InvalidSettingError below two."""
        sweep = self._api.runs.sweep(sweep_id)
        record = read_forecast(self._workspace.assets)["quick_look"]["loss"]
        return bent_forecast(sweep_id, measured_cells(sweep.runs), record, still_training(sweep))

    def forecasts(
        self,
        model: str = "",
        use_case: str = "instruction",
        *,
        metric: str | None = None,
        runs: str | None = None,
        parameters: float | None = None,
        method: str = "sft",
    ) -> tuple[Forecast, BentForecast | None]:
        """Return the shortfall of each rank from r = 128 in published studies, as a band, the same for every model; and
        the result of `bent`, None without a sweep.

        Args:
            model: Any name, of which no model is loaded; with `runs`, the base of that sweep.
            use_case: A name of core.advice.use_case. It selects the studies for counts and coverage.
            metric: "score" (points; the default without a sweep) or "loss" (% of the loss).
            runs: Id of a sweep.
            parameters: Size of a model without a name here.
            method: "sft"; InvalidSettingError for "grpo".
        """
        one_of(method, "method", ("sft", "grpo"))
        if method == "grpo":
            raise InvalidSettingError(f"{NO_FORECAST_OF_RL} The command advise with the use case rl lists them.")
        if runs:
            if metric == "score":
                raise InvalidSettingError("Your runs measured a loss, not a score: choose the metric loss, or none.")
            trained = self._api.runs.sweep(runs).runs[0].request.base
            if self._api.models.get(model).id != self._api.models.get(trained).id or not self.same_kind(model, trained):
                raise InvalidSettingError(
                    f"Sweep {runs} trained {trained}, not {model}: give the model {trained}, or leave the sweep out."
                )
        use_case_of(use_case)
        metric = metric or ("loss" if runs else "score")
        one_of(metric, "Metric", BAND_METRICS)
        self._require_model_name(model, parameters)
        answer = forecast_by_rank(read_forecast(self._workspace.assets), metric, KIND_OF_USE_CASE[use_case], GRID)
        return answer, self.bent(runs) if runs else None

    def own_sweeps(self, model: str) -> list[Sweep]:
        """Return the sweeps with evaluated runs of this model: the visitor's own, newest first, then recorded ones,
        oldest first. A base outside the catalogue that needs the Hub is compared by name only."""
        model_id = self._api.models.get(model).id

        def is_of(base: str) -> bool:
            if base == model:
                return True
            with suppress(RankVizError):
                trained = self._api.models.at_hand(base)
                return trained is not None and trained.id == model_id and self.same_kind(base, model)
            return False

        sweeps = (*self._api.runs.sweeps(), *self._api.runs.recorded())
        evaluated = (sweep for sweep in sweeps if any(run.loss_after for run in sweep.runs))
        return [sweep for sweep in evaluated if is_of(sweep.runs[0].request.base)]

    def same_kind(self, one: str, other: str) -> bool:
        """Return whether two models are both base models or both chat models, by their names or else by their catalogue
        rows. The embedded model is a chat model, although its row is the base model's."""
        kinds = set()
        for ref in (one, other):
            model, named = self._api.models.get(ref), True if ref == EMBEDDED else is_chat_model(ref)
            kinds.add(bool(is_chat_model(model.id, model.model_type) if named is None else named))
        return len(kinds) == 1

    def tradeoff(
        self, question: Question, use_case: str = "instruction", quality: str | None = None, *, costs: bool = True
    ) -> Tradeoff:
        """Return costs at RANKS (1 to 256) and the question's ranks, with forecast, published lines and own runs.

        Args:
            question: Its ranks are added to RANKS.
            use_case: A name of core.advice.use_case.
            quality: A key of SHORTFALLS or METRICS. The default, also for a key that this model lacks, is % of the
                loss if the model has a sweep, else points.
            costs: False for a model that cannot be read: then only forecast and published lines are returned.
        """
        use_case_of(use_case)
        if quality is not None:
            one_of(quality, "Quality", (*SHORTFALLS, *METRICS))
        sweeps = self.own_sweeps(question.model_id) if costs else []
        runs = [run for sweep in sweeps for run in sweep.runs]
        qualities = (*SHORTFALLS, *(metric.key for metric in (measured_metrics(runs) if runs else ())))
        if quality not in qualities:
            quality = SHORTFALL_LOSS if sweeps else SHORTFALL_SCORE
        every_rank = replace(question, ranks=tuple(sorted({*RANKS, *question.ranks})))
        estimate, bent = self._api.estimates.estimate(every_rank).estimate if costs else None, None
        if quality == LOSS and sweeps:
            with suppress(RankVizError):  # it has too few runs
                bent = self.bent(sweeps[0].sweep_id)
        forecast, published, plan = None, (), estimate and estimate.plan
        if metric := SHORTFALLS.get(quality):
            self._require_model_name(question.model_id, None)
            forecast = forecast_of_all(self._workspace.assets, metric, KIND_OF_USE_CASE[use_case])
            published = self._published(question, use_case, metric, plan)
        return Tradeoff(
            estimate=estimate,
            quality=quality,
            qualities=qualities,
            forecast=forecast,
            published=published,
            sweeps=tuple(sweeps),
            bent=bent,
        )

    def _published(
        self, question: Question, use_case: str, metric: str, plan: AdapterPlan | None
    ) -> tuple[ForecastLine, ...]:
        """Return the nearest published lines in this metric; only of the forecast's kind of tasks."""
        task = KIND_OF_USE_CASE[use_case]
        kind = LOSS if metric == LOSS and task != RL else task
        # "Complex tasks and domain adaptation" draws both, though its band is that of mathematics and code.
        kinds = (kind, "shift") if use_case == "complex" else (kind,)
        lines = _middle_lines(self._workspace.assets, metric, kinds)
        subject = self.subject(question.model_id, use_case, expert_rank=question.lora.expert_rank)
        shown = []
        for each in self.near(subject, ("lora",), FACETS):
            study, other = each.line.study, each.scheme_line
            if line := lines.get((study.study_id, each.line.model.base_model)):
                scheme = next((line.expert_scheme for line in each.lines if line.expert_scheme), None)
                label = f"{study.label}, {SCHEME_LABELS[scheme]}" if scheme else study.label
                equal = self.equal_ranks(other, plan) if plan and other else None
                shown.append(ForecastLine(label, line, each.in_words, equal))
            if len(shown) == LINES_SHOWN:
                break
        return tuple(shown)


@lru_cache(maxsize=16)
def _middle_lines(assets: Path, metric: str, kinds: tuple[str, ...]) -> Mapping[tuple[str, str], RankLine]:
    """Return one published line by study and base model: of several tasks or sizes of data the one in the middle, by
    how much the rank does."""
    by_pair: dict[tuple[str, str], list[RankLine]] = {}
    for line in load_rank_lines(assets):
        if line.metric == metric and (line.kind in kinds or (kinds[0] == "any" and line.kind != RL)):
            by_pair.setdefault((line.study_id, line.base_model), []).append(line)
    return {
        pair: sorted(each, key=lambda line: max(line.values) - min(line.values))[(len(each) - 1) // 2]
        for pair, each in by_pair.items()
    }
