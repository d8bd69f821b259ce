"""The published forecast: a band for how far each rank falls short of r = 128, and common results of published studies.

`make forecast` computes the bands (assets/forecast.json); this module reads them and writes sentences. One band is used
for all models and tasks, because neither tells which rank is needed. Scores are in points and losses in % of the loss:
they never share an axis.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rankviz.core.from_json import as_answer, shape
from rankviz.core.quantity import brief
from rankviz.core.studies.lines import RL
from rankviz.errors import InvalidSettingError
from rankviz.units import counted

Metric = Literal["score", "loss"]
METRICS: tuple[Metric, ...] = ("score", "loss")
LOSS = "loss"
GRID = (1, 2, 4, 8, 16, 32, 64, 128, 256)
REFERENCE_RANK = 128
"""Rank from which the shortfall of other ranks is measured."""
UNITS: Mapping[Metric, str] = {"score": "points", LOSS: "percent_of_loss"}
UNIT_WORDS = {"points": "points", "percent_of_loss": "% of the loss"}
ANY = "any"
"""Name of the kind of study that includes all scores."""
KINDS = {
    "simple": "simple tasks",
    "instruct": "instruction tuning",
    "math-code": "math and code",
    "shift": "a shifted domain or continued pretraining",
    ANY: "tasks of any kind",
    RL: "reinforcement learning",
    LOSS: "held-out loss",
}
KIND_OF_USE_CASE = {
    "simple": "simple",
    "instruction": "instruct",
    "complex": "math-code",
    "near-full": ANY,
    "pretraining": "shift",
    "rl": RL,
}
"""Kind of study from which scores are forecast, by use case."""
LEVELS = ("10", "25", "50", "75", "90")
"""Quantiles of a band that are tabulated, in percent."""
ENOUGH_INSIDE, ENOUGH_PUBLICATIONS, ENOUGH_POINTS = 0.75, 5, 20
"""A band is validated if, over at least this many left-out publications and points, its 80 % band contained at least
this share of the points (with equal weights for points, and with equal weights for publications), and its mean error
was at most that of the forecast "no difference between ranks"."""
RELIABLE = 0.2
"""Largest mean error of a share, over left-out publications, with which the share counts as reliable."""
HEADING = (
    "Model and task alone do not tell which rank you need: published results differ more by data and learning rate "
    "than by rank."
)
NO_FORECAST_OF_RL = (
    "Nothing is forecast for reinforcement learning: its published studies are few and disagree, and published losses "
    "are of supervised training."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankLine:
    """Quality by rank in one published line, in the unit of forecasts."""

    metric: Metric
    kind: str
    publication: str
    """Paper or repository; all its studies count as one publication."""
    study_id: str
    base_model: str
    task: str
    ranks: tuple[int, ...]
    values: tuple[float, ...]
    """Quality at each of `ranks`; higher is better."""
    standard_errors: tuple[float | None, ...]
    """Standard errors of `values`, from the test set or between seeds, in the unit of `values`; None where unknown."""
    parameters: int | None
    base: bool
    errors_published: bool = False
    """True where the source publishes at least one standard error; False where all follow from the test set's size."""


def points_scale(metric: str, values: Sequence[float]) -> float:
    """Return the factor that converts a metric to points, 0 to 100."""
    if "mt_bench" in metric:
        return 10.0
    return 100.0 if max(map(abs, values)) <= 1 else 1.0


def share_error(percent: float, items: int) -> float:
    """Return the standard error of a share of `items`, in percentage points; the share is clipped to 2 to 98 %."""
    share = min(max(percent / 100, 0.02), 0.98)
    return 100 * math.sqrt(share * (1 - share) / items)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankForecast:
    """Forecast shortfall of one rank from the reference rank; positive is worse."""

    r: int
    median: float
    low_50: float
    high_50: float
    low_80: float
    high_80: float
    lines_at_rank: int
    """Number of published lines of this metric that have this rank."""
    extrapolated: bool
    """True where no published line of this metric has this rank, which is above or between the lines' ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Quality by rank from published lines, and the accuracy of such forecasts."""

    __repr__ = brief

    unit: str
    """Unit of shortfalls: "points" or "percent_of_loss"."""
    kind: str
    """Kind of study for `coverage_80_left_out` and `validated`; all else is over all kinds."""
    reference_rank: int
    studies: int
    """Number of publications; all studies of one paper count as one."""
    lines: int
    coverage_80_left_out: float | None
    """Share of this kind's points inside the 80 % band, each publication left out in turn; None where none could be."""
    validated: bool
    ranks: tuple[RankForecast, ...]
    """Forecast of each rank; empty for reinforcement learning, which has no forecast."""
    heading: str
    facts: tuple[str, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BandRecord:
    """Errors of the band for points of one kind of study, each publication left out in turn."""

    kind: str
    publications: int
    points: int
    inside_50: float
    inside_80: float
    inside_80_by_publication: float
    """Share of points inside the 80 % band, with equal weights for publications."""
    crps: float
    """Mean error of the whole band (continuous ranked probability score), in this kind's unit."""
    crps_no_difference: float
    crps_no_difference_band: float
    """Mean error of a band around "no difference between ranks", as wide as the published gaps on both sides."""
    crps_rule: float
    """Mean error of the band from the rule of thumb. The forecast is the average of this band and the one above."""

    @property
    def validated(self) -> bool:
        return (
            min(self.inside_80, self.inside_80_by_publication) >= ENOUGH_INSIDE
            and self.publications >= ENOUGH_PUBLICATIONS
            and self.points >= ENOUGH_POINTS
            and self.crps <= self.crps_no_difference
        )


ForecastJSON = shape(Forecast)


def at_rank(band: Mapping[str, Any], r: int) -> RankForecast:
    """Return the band at a rank, linear in log2 r between ranks of GRID; raise InvalidSettingError outside GRID."""
    if isinstance(r, bool) or not isinstance(r, int) or not GRID[0] <= r <= GRID[-1]:
        raise InvalidSettingError(f"A forecast needs ranks from {GRID[0]} to {GRID[-1]} (got {r!r}).")
    low = min(int(math.log2(r)), len(GRID) - 2)
    share = math.log2(r) - low
    rows, lines = (band["quantiles"][level] for level in LEVELS), band["lines_at_rank"]
    values = (row[low] + share * (row[low + 1] - row[low]) for row in rows)
    around = [rank for rank in GRID if r / 2 < rank < 2 * r and (r not in GRID or rank == r)]
    return RankForecast(
        r=r,
        **dict(zip(("low_80", "low_50", "median", "high_50", "high_80"), values, strict=True)),
        lines_at_rank=lines.get(str(r), 0),
        extrapolated=not all(lines.get(str(rank)) for rank in around),
    )


def forecast(table: Mapping[str, Any], metric: Metric, task: str, ranks: Sequence[int] = GRID) -> Forecast:
    """Return the forecast at these ranks, with its accuracy and sentences.

    Args:
        table: Content of assets/forecast.json.
        metric: "score" or "loss". Losses do not depend on the task: all come from one kind of data, none from
            reinforcement learning.
        task: Kind of study, a value of KIND_OF_USE_CASE.
        ranks: Any ranks from 1 to 256.
    """
    kind = LOSS if metric == LOSS and task != RL else task
    band, checked = table["bands"][metric], left_out(table, kind)
    rows = () if kind == RL else tuple(at_rank(band, r) for r in ranks)
    facts = (NO_FORECAST_OF_RL,) if kind == RL else tuple(fact_words(table, task))
    basis = _basis(band, table["reference_rank"], UNIT_WORDS[UNITS[metric]], checked, rows) if rows else ()
    return Forecast(
        unit=UNITS[metric],
        kind=kind,
        reference_rank=table["reference_rank"],
        studies=band["studies"],
        lines=band["lines"],
        coverage_80_left_out=checked.inside_80 if checked else None,
        validated=bool(checked and checked.validated),
        ranks=rows,
        heading=HEADING,
        facts=facts,
        sentences=(HEADING, *facts, *basis),
    )


def left_out(table: Mapping[str, Any], kind: str) -> BandRecord | None:
    """Return the errors of the band on left-out publications of one kind; None where none could be left out."""
    return next((BandRecord(**row) for row in table["left_out"] if row["kind"] == kind), None)


def forecast_json(forecast: Forecast) -> ForecastJSON:
    """Return the forecast as `rankviz forecast --json` and the endpoint give it."""
    return as_answer(ForecastJSON, forecast, ranks=[rounded(asdict(rank)) for rank in forecast.ranks])


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its numbers rounded to four decimal places."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def fact_words(table: Mapping[str, Any], kind: str) -> Iterable[str]:
    """Yield sentences on common results of published studies: of this kind where reliable, else of all kinds."""
    holds, rate = table["holds"], table["rate"]

    def record(statement: str, kind: str) -> str:
        """Return "90 % of 20 publications (159 lines; a left-out publication was 13 percentage points off)"."""
        by_kind = {row["kind"]: row for row in holds[statement]}
        held = by_kind.get(kind)
        if held is None or (kind != LOSS and (held["left_out_error"] or 0) > RELIABLE):
            held = by_kind.get(ANY)
        if held is None:
            return ""
        publications, lines = counted(held["publications"], "publication"), counted(held["lines"], "line")
        of, apart = "" if held["kind"] in (ANY, LOSS) else f" on {KINDS[held['kind']]}", ""
        if held["left_out_error"] is not None:
            apart = f"; a publication that was left out was {100 * held['left_out_error']:.0f} percentage points off"
        doubt = ", not reliable" if (held["left_out_error"] or 0) > RELIABLE else ""
        return f"{100 * held['share']:.0f} % of {publications}{of} ({lines}{apart}{doubt})"

    if low := record("low_within_point", kind):
        yield f"r = 16 scored within one point of the best rank in {low}, each taken alone."
    score, loss = record("high_worse", kind), record("high_worse_loss", LOSS)
    if score and loss:
        yield f"r = 64 was 0.5 % of a loss worse than r = 16 in {loss}, and more than a point worse in {score}."
    if rate:
        (least, most), (low, high) = rate["times"], rate["worse_at_3"]
        yield (
            f"In {rate['models']} models of one study, a learning rate {least:g} to {most:g} times too low raised the "
            f"loss by {rate['rate_cost']:.1f} %, a quarter of the rank by {rate['rank_cost']:.1f} % (medians). The "
            f"rate cost more in {rate['worse']} of them; 3 times too low, it would in an estimated {low} to {high}."
        )


def _basis(
    band: Mapping[str, Any], reference: int, unit: str, checked: BandRecord | None, rows: Sequence[RankForecast]
) -> Iterable[str]:
    """Yield sentences on where the band comes from, its past errors, and ranks at which it is extrapolated."""
    yield (
        f"Gap to r = {reference} in {unit}, the same for every model and task, from "
        f"{counted(band['lines'], 'published line')} of {counted(band['studies'], 'publication')}. Half of the band is "
        "the rule of thumb with its errors, half no difference between ranks, with the noise of two runs."
    )
    if checked is None:
        yield "Not validated: no publication of this kind could be left out."
    else:
        yield (
            f"{'Validated' if checked.validated else 'Not validated'}: with whole publications left out, the 80 % band "
            f"held {100 * checked.inside_80:.0f} % of {checked.points} points of {KINDS[checked.kind]} "
            f"({checked.publications} publications; {100 * checked.inside_80_by_publication:.0f} % with each "
            f"publication weighing the same). Its mean error (CRPS, {unit}) was {checked.crps:.2f}; "
            f'"no difference between ranks" had {checked.crps_no_difference:.2f}.'
        )
    if untested := [str(row.r) for row in rows if row.extrapolated and row.r in GRID]:
        yield f"No published line has a point at r = {', '.join(untested)}: the band is extrapolated there."
