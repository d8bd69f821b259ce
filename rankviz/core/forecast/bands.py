"""The published forecast: how far each rank falls short of r = 128, as a band, and what published studies agree on.

`make forecast` tabulates it (assets/forecast.json); here it is read off and put into sentences. The band is the same
for every model and task: neither tells which rank is needed. Scores are in points and losses in % of the loss: the two
never share an axis.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rankviz.core.from_json import shape
from rankviz.core.studies.lines import RL
from rankviz.errors import InvalidSettingError
from rankviz.units import counted

Metric = Literal["score", "loss"]
METRICS: tuple[Metric, ...] = ("score", "loss")
LOSS = "loss"
GRID = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Ranks of a forecast."""
REFERENCE_RANK = 128
"""A forecast is the shortfall from this rank."""
UNITS: Mapping[Metric, str] = {"score": "points", LOSS: "percent_of_loss"}
UNIT_WORDS = {"points": "points", "percent_of_loss": "% of the loss"}
QUALITY_WORDS = {"points": "scores", "percent_of_loss": "losses"}
ANY = "any"
"""All kinds of score together."""
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
"""The kind of score study that speaks for a use case."""
LEVELS = ("10", "25", "50", "75", "90")
"""Quantiles of a band, in percent."""
ENOUGH_INSIDE, ENOUGH_PUBLICATIONS, ENOUGH_POINTS = 0.75, 5, 20
"""A band is validated where the 80 % band of left-out publications held at least this share of their points, over at
least so many publications and points, whether points or publications weigh the same, and where its mean error was no
larger than that of "no difference between ranks"."""
RELIABLE = 0.2
"""A share is not reliable where publications that were left out were farther from it, on average."""
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
    """One line in the unit of its metric."""

    metric: Metric
    kind: str
    publication: str
    """Studies of one paper or repository share it."""
    study_id: str
    base_model: str
    task: str
    ranks: tuple[int, ...]
    values: tuple[float, ...]
    """Quality, higher is better."""
    standard_errors: tuple[float | None, ...]
    """Errors of the test set or between seeds, same unit; None where nothing is known."""
    parameters: int | None
    base: bool
    errors_published: bool = False
    """True if a standard error came with the results, rather than from the size of the test set."""


def points_scale(metric: str, values: Sequence[float]) -> float:
    """Return the factor that turns this metric into points of 100."""
    if "mt_bench" in metric:
        return 10.0
    return 100.0 if max(map(abs, values)) <= 1 else 1.0


def share_error(percent: float, items: int) -> float:
    """Standard error of a share of so many items, in percent; a share near 0 or 100 % counts as 2 or 98 %."""
    share = min(max(percent / 100, 0.02), 0.98)
    return 100 * math.sqrt(share * (1 - share) / items)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankForecast:
    """Shortfall of one rank from the reference rank; positive is worse."""

    r: int
    median: float
    low_50: float
    high_50: float
    low_80: float
    high_80: float
    lines_at_rank: int
    """Published lines of this metric that have a point at this rank."""
    extrapolated: bool
    """No published line of this metric has a point here: beyond all of them, or in a gap between them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Quality by rank from published lines, and how such bands have held."""

    unit: str
    """"points" or "percent_of_loss"."""
    kind: str
    """The kind of study that the coverage and the counts are of; the band is of all."""
    reference_rank: int
    studies: int
    """Publications; several studies of one paper count once."""
    lines: int
    coverage_80_left_out: float | None
    """Share of points of left-out publications of this kind inside the 80 % band; None where none could be left out."""
    validated: bool
    ranks: tuple[RankForecast, ...]
    """Empty for reinforcement learning, of which nothing can be forecast."""
    heading: str
    """Sentence on what the forecast does not tell."""
    facts: tuple[str, ...]
    """Sentences on what holds over published studies, with counts."""
    sentences: tuple[str, ...]
    """Heading, facts, and what the band rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BandRecord:
    """Record of the band for points of one kind whose publication was left out."""

    kind: str
    publications: int
    points: int
    inside_50: float
    inside_80: float
    inside_80_by_publication: float
    """inside_80 with every publication weighing the same."""
    crps: float
    """Mean error of the whole band (continuous ranked probability score), in the kind's unit."""
    crps_no_difference: float
    crps_no_difference_band: float
    """Error of "no difference" with the symmetric band of published gaps."""
    crps_rule: float
    """Error of the rule of thumb with the band of its own errors. The forecast is half of each."""

    @property
    def validated(self) -> bool:
        return (
            min(self.inside_80, self.inside_80_by_publication) >= ENOUGH_INSIDE
            and self.publications >= ENOUGH_PUBLICATIONS
            and self.points >= ENOUGH_POINTS
            and self.crps <= self.crps_no_difference
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Bands:
    """The part of assets/forecast.json that a forecast is read from."""

    reference_rank: int
    bands: Mapping[Metric, Mapping[str, Any]]
    """Bands by metric: publications (studies) and lines, lines_at_rank, and by level quantiles at each rank of GRID."""
    left_out: Mapping[str, BandRecord]
    holds: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """Share of publications in which a statement held, by statement and kind (tools/forecast/published.py)."""
    rate: Mapping[str, Any] | None
    """Cost of a learning rate that was too low, and of a quarter of the rank."""


ForecastJSON = shape(Forecast)


def bands_from_json(value: Mapping[str, Any]) -> Bands:
    """Read what `make forecast` wrote."""
    return Bands(
        reference_rank=value["reference_rank"],
        bands=value["bands"],
        left_out={row["kind"]: BandRecord(**row) for row in value["left_out"]},
        holds={name: {row["kind"]: row for row in rows} for name, rows in value["holds"].items()},
        rate=value["rate"],
    )


def at_rank(band: Mapping[str, Any], r: int) -> RankForecast:
    """Read the band at a rank, straight in log2 r between those of GRID; InvalidSettingError for a rank outside it."""
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


def forecast(bands: Bands, metric: Metric, task: str, ranks: Sequence[int] = GRID) -> Forecast:
    """Return the band at these ranks, with its record and sentences.

    Args:
        bands: From assets/forecast.json.
        metric: Losses do not depend on the task: all come from one kind of data, and none from reinforcement learning.
        task: The kind of score that the use case stands for, by KIND_OF_USE_CASE.
        ranks: Any from 1 to 256.
    """
    kind = LOSS if metric == LOSS and task != RL else task
    band, checked = bands.bands[metric], bands.left_out.get(kind)
    rows = () if kind == RL else tuple(at_rank(band, r) for r in ranks)
    facts = (NO_FORECAST_OF_RL,) if kind == RL else tuple(fact_words(bands, task))
    return Forecast(
        unit=UNITS[metric],
        kind=kind,
        reference_rank=bands.reference_rank,
        studies=band["studies"],
        lines=band["lines"],
        coverage_80_left_out=checked.inside_80 if checked else None,
        validated=bool(checked and checked.validated),
        ranks=rows,
        heading=HEADING,
        facts=facts,
        sentences=(HEADING, *facts, *(_basis(bands, metric, kind, rows) if rows else ())),
    )


def forecast_json(forecast: Forecast) -> ForecastJSON:
    """Return the forecast as `rankviz forecast --json` and the endpoint print it."""
    lists = {"facts": list(forecast.facts), "sentences": list(forecast.sentences)}
    return {**asdict(forecast), "ranks": [rounded(asdict(rank)) for rank in forecast.ranks], **lists}


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with four digits behind the point."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def fact_words(bands: Bands, kind: str) -> Iterable[str]:
    """Say what holds over published studies: for this kind of score where enough publications show it, else for all."""

    def of_kind(statement: str) -> Mapping[str, Any] | None:
        rows = bands.holds[statement]
        return rows[kind] if kind in rows and _is_reliable(rows[kind]) else rows.get(ANY)

    if low := of_kind("low_within_point"):
        yield f"r = 16 scored within one point of the best rank in {_record(low)}, each taken alone."
    score, loss = of_kind("high_worse"), bands.holds["high_worse_loss"].get(LOSS)
    if score and loss:
        yield (
            f"r = 64 was 0.5 % of a loss worse than r = 16 in {_record(loss)}, and more than a point worse in "
            f"{_record(score)}."
        )
    if bands.rate:
        (least, most), (low, high) = bands.rate["times"], bands.rate["worse_at_3"]
        yield (
            "In {models} models of one study, a learning rate {least:g} to {most:g} times too low raised the loss by "
            "{rate_cost:.1f} %, and training at a quarter of the rank raised it by {rank_cost:.1f} % (medians). The "
            "learning rate cost more in {worse} of them; a rate 3 times too low would cost more in an estimated {low} "
            "to {high}.".format(least=least, most=most, low=low, high=high, **bands.rate)
        )


def _is_reliable(held: Mapping[str, Any]) -> bool:
    return held["left_out_error"] is None or held["left_out_error"] <= RELIABLE


def _record(held: Mapping[str, Any]) -> str:
    """ "90 % of 20 publications (159 lines; a publication that was left out was 13 percentage points off)"."""
    of, error = "" if held["kind"] in (ANY, LOSS) else f" on {KINDS[held['kind']]}", held["left_out_error"]
    apart = "" if error is None else f"; a publication that was left out was {100 * error:.0f} percentage points off"
    doubt = "" if _is_reliable(held) else ", not reliable"
    publications, lines = counted(held["publications"], "publication"), counted(held["lines"], "line")
    return f"{100 * held['share']:.0f} % of {publications}{of} ({lines}{apart}{doubt})"


def _basis(bands: Bands, metric: Metric, kind: str, rows: Sequence[RankForecast]) -> Iterable[str]:
    """Say what the band is made of, how such bands have held, and where it rests on other ranks alone."""
    band, checked, unit = bands.bands[metric], bands.left_out.get(kind), UNIT_WORDS[UNITS[metric]]
    yield (
        f"Shortfall from r = {bands.reference_rank} in {unit}, the same for every model and task, from "
        f"{counted(band['lines'], 'published line')} of {counted(band['studies'], 'publication')}. Half of the band is "
        "the rule of thumb with its errors, half is no difference between ranks. It includes the noise of two runs and "
        "of their test sets."
    )
    if checked is None:
        yield "Not validated: no publication of this kind could be left out."
    else:
        yield (
            f"{'Validated' if checked.validated else 'Not validated'}: with whole publications left out, the 80 % band "
            f"held {100 * checked.inside_80:.0f} % of {checked.points} points of {KINDS[kind]} ({checked.publications} "
            f"publications; {100 * checked.inside_80_by_publication:.0f} % with each publication weighing the same). "
            f'Its mean error (CRPS, {unit}) was {checked.crps:.2f}; "no difference between ranks" had '
            f"{checked.crps_no_difference:.2f}."
        )
    if untested := [str(row.r) for row in rows if row.extrapolated and row.r in GRID]:
        yield f"No published line has a point at r = {', '.join(untested)}: the band is extrapolated there."
