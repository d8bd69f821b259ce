"""What a rank costs against what it buys, for one model; and the sweeps that trained it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rankviz.api.estimates import Estimates
from rankviz.api.forecasts import Forecasts
from rankviz.api.studies import Studies
from rankviz.api.workspace import Workspace
from rankviz.core.bounds import one_of
from rankviz.core.cost.question import Question
from rankviz.core.forecast.bands import LOSS
from rankviz.core.forecast.tradeoff import RANKS, SHORTFALL_LOSS, SHORTFALL_SCORE, SHORTFALLS, PublishedLine, Tradeoff
from rankviz.core.runs.metric import METRICS, measured_metrics
from rankviz.errors import RankVizError

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
    ) -> tuple[PublishedLine, ...]:
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
            PublishedLine(
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
