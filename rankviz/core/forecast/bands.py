"""How far each rank falls short of r = 128 in published studies, as a band, and what such studies agree on.

`make forecast` tabulates it (assets/forecast.json); here it is read off. The band is the same for every model and task:
neither tells which rank is needed. Scores are in points and losses in % of the loss: the two never share an axis.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankviz.core.forecast.curve import GRID
from rankviz.errors import InvalidSettingError

Metric = Literal["score", "loss"]
METRICS: tuple[Metric, ...] = ("score", "loss")
UNITS: Mapping[Metric, str] = {"score": "points", "loss": "percent_of_loss"}
LOSS = "loss"
ANY = "any"
"""All kinds of score together."""
KIND_OF_USE_CASE = {
    "simple": "simple",
    "instruction": "instruct",
    "complex": "math-code",
    "near-full": ANY,
    "pretraining": "shift",
    "rl": "rl",
}
"""Which kind of score study speaks for a use case."""
LEVELS = ("10", "25", "50", "75", "90")
"""Quantiles of a band, in percent."""
ENOUGH_INSIDE, ENOUGH_PUBLICATIONS, ENOUGH_POINTS = 0.75, 5, 20
"""A band is validated where the 80 % band of publications that were left out held at least this share of their points,
over at least so many publications and points, whether points or publications weigh the same, and its mean error was no
larger than that of "no difference between ranks"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankForecast:
    """How far one rank falls short of the reference rank; positive is worse."""

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
    """Empty where nothing can be forecast, as for scores of reinforcement learning."""
    heading: str
    """What the forecast does not tell."""
    facts: tuple[str, ...]
    """What holds over published studies, with counts."""
    sentences: tuple[str, ...]
    """Heading, facts, and what the band rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """How the band held the points of one kind when their publication was left out."""

    kind: str
    publications: int
    points: int
    inside_50: float
    inside_80: float
    inside_80_by_publication: float
    """The same with every publication weighing the same."""
    crps: float
    """Mean error of the whole band (continuous ranked probability score), in the kind's unit."""
    crps_no_difference: float
    crps_no_difference_band: float
    """Of "no difference" with the symmetric band of published gaps."""
    crps_rule: float
    """Of the rule of thumb with the band of its own errors. The forecast is half of each."""

    @property
    def validated(self) -> bool:
        return (
            min(self.inside_80, self.inside_80_by_publication) >= ENOUGH_INSIDE
            and self.publications >= ENOUGH_PUBLICATIONS
            and self.points >= ENOUGH_POINTS
            and self.crps <= self.crps_no_difference
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Quantiles of the shortfall at each rank of GRID, for one metric."""

    studies: int
    lines: int
    lines_at_rank: Mapping[int, int]
    quantiles: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bands:
    """What assets/forecast.json holds for a forecast."""

    reference_rank: int
    bands: Mapping[Metric, Band]
    left_out: Mapping[str, LeftOut]
    holds: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """By statement and kind, the share of publications in which it held (worker/assets/forecast/holds.py)."""
    rate: Mapping[str, Any] | None
    """What a learning rate that was too low cost, beside a quarter of the rank."""


def bands_from_json(value: Mapping[str, Any]) -> Bands:
    """What `make forecast` wrote."""
    return Bands(
        reference_rank=value["reference_rank"],
        bands={metric: _band(row) for metric, row in value["bands"].items()},
        left_out={row["kind"]: LeftOut(**row) for row in value["left_out"]},
        holds={name: {row["kind"]: row for row in rows} for name, rows in value["holds"].items()},
        rate=value["rate"],
    )


def _band(row: Mapping[str, Any]) -> Band:
    return Band(
        **{
            **row,
            "lines_at_rank": {int(r): lines for r, lines in row["lines_at_rank"].items()},
            "quantiles": {level: tuple(values) for level, values in row["quantiles"].items()},
        }
    )


def rank_forecasts(band: Band, ranks: Sequence[int] = GRID) -> tuple[RankForecast, ...]:
    """The band at each of these ranks; InvalidSettingError for a rank outside the table."""
    return tuple(_at(band, r) for r in ranks)


def _at(band: Band, r: int) -> RankForecast:
    if isinstance(r, bool) or not isinstance(r, int) or not GRID[0] <= r <= GRID[-1]:
        raise InvalidSettingError(f"A forecast needs ranks from {GRID[0]} to {GRID[-1]} (got {r!r}).")
    low_80, low_50, median, high_50, high_80 = (_interpolated(band.quantiles[level], r) for level in LEVELS)
    around = [rank for rank in GRID if r / 2 < rank < 2 * r and (r not in GRID or rank == r)]
    return RankForecast(
        r=r,
        median=median,
        low_50=low_50,
        high_50=high_50,
        low_80=low_80,
        high_80=high_80,
        lines_at_rank=band.lines_at_rank.get(r, 0),
        extrapolated=not all(band.lines_at_rank.get(rank) for rank in around),
    )


def _interpolated(values: Sequence[float], r: int) -> float:
    """Straight in log2 r between the ranks of GRID."""
    place = math.log2(r)
    low = min(int(place), len(GRID) - 2)
    return values[low] + (place - low) * (values[low + 1] - values[low])
