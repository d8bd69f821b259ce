"""What a rank costs against what it buys, for one model: what the trade-off chart of Explore is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from rankviz.api.estimates import Estimates
from rankviz.api.forecasts import Forecasts
from rankviz.api.studies import REMEMBERED, Studies
from rankviz.core.checks import one_of
from rankviz.core.cost.question import Question
from rankviz.core.forecast.lines import LOSS
from rankviz.core.forecast.tradeoff import (
    RANKS,
    SHORTFALL_LOSS,
    SHORTFALL_SCORE,
    SHORTFALLS,
    PublishedLine,
    Tradeoff,
)
from rankviz.core.runs.metric import METRICS, measured_metrics
from rankviz.errors import RankVizError

if TYPE_CHECKING:
    from rankviz.api.runs.own_sweeps import OwnSweeps
    from rankviz.core.cost.estimate import Estimate
    from rankviz.core.forecast.lines import RankLine
    from rankviz.core.forecast.quick_look import BentForecast
    from rankviz.core.runs.record import Sweep
    from rankviz.core.studies.lines import Evidence
    from rankviz.core.studies.nearest import Near

LINES_SHOWN = 3
"""Published lines of the nearest studies that are drawn."""


class Tradeoffs:
    """Costs and qualities of all ranks of one model."""

    def __init__(
        self,
        estimates: Estimates,
        studies: Studies,
        forecasts: Forecasts,
        own: OwnSweeps,
    ):
        self._estimates = estimates
        self._studies = studies
        self._forecasts = forecasts
        self._own = own

    def of(self, question: Question, use_case: str = "instruction", quality: str | None = None) -> Tradeoff:
        """Costs at every rank from 1 to 256 and at the question's own, with forecast, published lines and own runs.

        Args:
            question: Its ranks are added to RANKS.
            use_case: A name of core.advice.use_case.
            quality: A key of SHORTFALLS or METRICS. By default % of the loss where there is a sweep of this model, or
                where the nearest study is of the same family and in losses; else points. One that this model does not
                have is replaced by that.
        """
        if quality is not None:
            one_of(quality, "Quality", (*SHORTFALLS, *METRICS))
        every_rank = replace(question, ranks=tuple(sorted({*RANKS, *question.ranks})))
        sweeps = self._own.of(question.model_id)
        runs = [run for sweep in sweeps for run in sweep.runs]
        metrics = [metric.key for metric in measured_metrics(runs)] if runs else []
        qualities = (*SHORTFALLS, *metrics)
        if quality not in qualities:
            quality = self._usual(question.model_id, use_case, sweeps, question.lora.expert_rank)
        shortfall = SHORTFALLS.get(quality)
        estimate = self._estimates.estimate(every_rank).estimate
        return Tradeoff(
            estimate=estimate,
            quality=quality,
            qualities=qualities,
            forecast=self._forecasts.of(question.model_id, use_case, metric=shortfall, ranks=RANKS)
            if shortfall
            else None,
            published=self._published(estimate, use_case, shortfall) if shortfall else (),
            sweeps=tuple(sweeps),
            bent=self._bent(question.model_id) if quality == LOSS else None,
        )

    def _usual(self, model: str, use_case: str, sweeps: Sequence[Sweep], expert_rank: int | str) -> str:
        """The unit of the nearest study where it is of the same family, unless there are runs; scores where studies
        have rewards."""
        from rankviz.core.studies.lines import RL

        near = self._near(model, use_case, expert_rank) if use_case != RL else ()
        in_losses = near and near[0].same_family and near[0].line.first.is_loss
        return SHORTFALL_LOSS if sweeps or in_losses else SHORTFALL_SCORE

    def _near(self, model: str, use_case: str, expert_rank: int | str) -> Sequence[Near]:
        """All studies of plain LoRA, the nearest first."""
        from rankviz.core.studies.lines import FACETS

        return self._studies.near(self._studies.subject(model, use_case, expert_rank), ("lora",), FACETS)

    def _published(self, estimate: Estimate, use_case: str, metric: str) -> tuple[PublishedLine, ...]:
        """The nearest lines in this metric; scores of the forecast's kind only."""
        from rankviz.core.forecast.bands import KIND_OF_USE_CASE
        from rankviz.core.studies.lines import RL

        task = KIND_OF_USE_CASE[use_case]
        kind = LOSS if metric == LOSS and task != RL else task
        lines: dict[tuple[str, str], RankLine] = {}
        for line in self._rank_lines(self._studies.all(), rl=kind == RL):
            if line.metric == metric and kind in ("any", line.kind):
                lines.setdefault((line.study_id, line.base_model), line)
        nearest = [
            PublishedLine(
                each.line.study.label,
                lines[key],
                each.line.study.where,
                each.in_words,
                self._studies.equal_ranks(each.scheme_line, estimate.plan) if each.scheme_line else None,
            )
            for each in self._near(estimate.question.model_id, use_case, estimate.question.lora.expert_rank)
            if (key := (each.line.study.study_id, each.line.model.base_model)) in lines
        ]
        return tuple(nearest[:LINES_SHOWN])

    @cached_property
    def _rank_lines(self) -> Callable[[Evidence], tuple[RankLine, ...]]:
        """Made once, as long as the evidence stays the same."""
        from rankviz.core.forecast.lines import rank_lines

        return lru_cache(REMEMBERED)(rank_lines)

    def _bent(self, model: str) -> BentForecast | None:
        """Through the runs of the sweep that leads; None where it has too few."""
        try:
            leading = self._own.leading(model)
            return self._forecasts.bent(leading.sweep_id) if leading else None
        except RankVizError:
            return None
