"""The published line that leads the advice: of the same model or its nearest relative, with what it says of a rank.

Of the lines of the same model or family, those of the same kind of task with at least three ranks come first, then the
same model, then held-out losses whose learning rate was tuned at each rank; among equals the order of
core.studies.nearest decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rankviz.core.forecast.lines import BROKEN, points_scale
from rankviz.core.studies.findings import RatesTuned, rates_of_line, tuned_losses
from rankviz.core.studies.lines import Line, QualityPoint
from rankviz.core.studies.nearest import Near

ENOUGH_RANKS = 3
"""With fewer ranks a line of the same kind of task does not go before lines of the same model."""


class Reading(NamedTuple):
    """One rank of a line: how far it ended from the line's best rank, in the line's unit; above 0 is worse."""

    r: int
    short: float


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The nearest line."""

    near: Near
    line: Line
    passed: Near | None = None
    """A study of the same model that does not lead, since it has too few ranks or another kind of task; None where the
    lead is of the same model, or nothing is."""

    @property
    def is_tuned_loss(self) -> bool:
        """Whether it is a held-out loss with the learning rate tuned at each rank."""
        return bool(tuned_losses((self.line,)))

    @property
    def metric(self) -> str:
        """As forecasts name it: "loss" is in % of the loss, "score" in points."""
        return "loss" if self.line.first.is_loss else "score"

    @property
    def speaks_for_rank(self) -> bool:
        """Whether its needed rank may raise the recommended one: a tuned loss of this kind of task, of the same model
        or of one of its family and size."""
        near = self.near
        return self.is_tuned_loss and near.same_task and (near.same_model or near.similar_size)

    def rates(self, r: int) -> RatesTuned | None:
        """The best learning rates around this rank; None where the study did not tune them at each rank."""
        return rates_of_line(self.line, r)

    def short(self, point: QualityPoint) -> float:
        """From the best rank: % of the loss, or points."""
        if self.metric == "loss":
            return 100 * self.line.short_of_best(point.value)
        best = self.line.best.value
        scale = points_scale(point.metric, [each.value for each in self.line.points])
        return scale * (best - point.value if point.higher_is_better else point.value - best)

    def at(self, r: int) -> tuple[Reading, ...]:
        """What it says of a rank: one reading where the rank was run, else its neighbours below and above."""
        points = self.line.points
        same = [point for point in points if point.rank == r]
        below = [point for point in points if point.rank < r][-1:]
        above = [point for point in points if point.rank > r][:1]
        return tuple(Reading(point.rank, self.short(point)) for point in (same[:1] or [*below, *above]))


def leading(near: Sequence[Near]) -> Lead | None:
    """The lead among studies, the nearest first; None where none is of the same model or family.

    Left out: a study of another kind of task that did not tune the learning rate at each rank, which says neither rank
    nor rate; generations that broke at low ranks; and losses that are none per token.
    """
    leads = [Lead(near=one, line=line_of(one)) for one in near if _may_lead(one)]
    lead = min(leads, key=_order, default=None)
    if lead is None or lead.near.same_model:
        return lead
    return replace(lead, passed=next((each.near for each in leads if each.near.same_model), None))


def _may_lead(near: Near) -> bool:
    first, study = line_of(near).first, near.line.study
    return (
        near.same_family
        and study.counted
        and study.study_id not in BROKEN
        and (near.same_task or study.learning_rate_tuned_per_rank)
        and (first.is_loss or "loss" not in first.metric)
    )


def _order(lead: Lead) -> tuple[bool, ...]:
    of_this_task = lead.near.same_task and len(lead.line.points) >= ENOUGH_RANKS
    return (not of_this_task, not lead.near.same_model, not lead.is_tuned_loss)


def line_of(near: Near) -> Line:
    """Of a study's lines: a tuned loss, else the last with adapters on all parts of the blocks, else the last."""
    wide = [line for line in near.lines if line.first.facet == "attention and mlp"]
    return (tuned_losses(near.lines) or (wide or near.lines)[-1:])[0]
