"""How far each rank falls short of r = 128, as a band from published lines.

`make forecast` fits the published lines and tabulates the bands (assets/forecast.json); here they are read off. Scores
are in points and losses in % of the loss: the two never share an axis.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankviz.core.checks import one_of
from rankviz.core.forecast.curve import GRID
from rankviz.errors import InvalidSettingError

Metric = Literal["score", "loss"]
METRICS: tuple[Metric, ...] = ("score", "loss")
UNITS: Mapping[Metric, str] = {"score": "points", "loss": "percent_of_loss"}
LOSS = "loss"
KIND_OF_USE_CASE = {
    "simple": "simple",
    "instruction": "instruct",
    "complex": "math-code",
    "near-full": "any",
    "pretraining": "shift",
}
"""Which kind of score study speaks for a use case. "any" is a study of unknown kind."""
LEVELS = ("10", "25", "50", "75", "90")
"""Quantiles of a band, in percent."""
AS_WELL = 0.05
"""Mean errors that differ by less than this share count as equal."""
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
    """Published lines of this kind that have a point at this rank."""
    extrapolated: bool
    """No published line of this kind has a point here: beyond all of them, or in a gap between them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Quality by rank from published lines, and how such bands have held."""

    unit: str
    """"points" or "percent_of_loss"."""
    kind: str
    reference_rank: int
    studies: int
    """Publications; several studies of one paper count once."""
    lines: int
    coverage_80_left_out: float | None
    """Share of points of left-out publications inside the 80 % band; None where nothing could be left out."""
    validated: bool
    ranks: tuple[RankForecast, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """How the bands of one kind held what was left out."""

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
    crps_rule: float
    """Of the rule of thumb with the band of its own errors."""
    crps_curve: float
    """Of the fitted curve alone. The band is half of each."""
    median_error: float

    @property
    def rule_did(self) -> Literal["better", "as well", "worse"]:
        """The rule of thumb with a band, beside this band."""
        share = self.crps_rule / self.crps if self.crps else 1.0
        return "better" if share < 1 - AS_WELL else "as well" if share <= 1 + AS_WELL else "worse"

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
    """Quantiles of the shortfall at each rank of GRID, for one kind of score, or for one size of base in loss."""

    metric: Metric
    kind: str
    base: bool | None
    """Whether the base model is untuned; None for scores, where it is not distinguished."""
    parameters: float | None
    studies: int
    lines: int
    lines_at_rank: Mapping[int, int]
    noise: float
    """Standard deviation of one published value around its curve, included in the quantiles."""
    quantiles: Mapping[str, tuple[float, ...]]
    gain: tuple[float, float, float]
    """10 %, 50 % and 90 % quantiles of the gain from r = 4 to r = 64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bands:
    """What assets/forecast.json holds for a forecast."""

    reference_rank: int
    bands: tuple[Band, ...]
    left_out: Mapping[str, LeftOut]


def bands_from_json(value: Mapping[str, Any]) -> Bands:
    """What `make forecast` wrote."""
    return Bands(
        reference_rank=value["reference_rank"],
        bands=tuple(_band(row) for row in value["bands"]),
        left_out={row["kind"]: LeftOut(**row) for row in value["left_out"]},
    )


def _band(row: Mapping[str, Any]) -> Band:
    return Band(
        **{
            **row,
            "lines_at_rank": {int(r): lines for r, lines in row["lines_at_rank"].items()},
            "quantiles": {level: tuple(values) for level, values in row["quantiles"].items()},
            "gain": tuple(row["gain"]),
        }
    )


def band_for(bands: Bands, *, use_case: str, parameters: int, base: bool, metric: str = "score") -> Band:
    """The band of a use case and metric; for losses, between the two nearest sizes of base.

    Args:
        bands: From assets/forecast.json.
        use_case: A name of core.advice.use_case. Losses do not depend on it: all come from one kind of data.
        parameters: Of the base model.
        base: Whether the model is a base model rather than an instruction-tuned one.
        metric: "score" or "loss".
    """
    one_of(metric, "Metric", METRICS)
    if metric == "score":
        return next(band for band in bands.bands if band.kind == KIND_OF_USE_CASE[use_case])
    sizes = sorted(
        (band for band in bands.bands if band.metric == LOSS and band.base is base), key=lambda band: band.parameters
    )
    place = bisect_left([band.parameters for band in sizes], parameters)
    if place in (0, len(sizes)):
        return sizes[min(place, len(sizes) - 1)]
    return _between(sizes[place - 1], sizes[place], parameters)


def _between(smaller: Band, larger: Band, parameters: int) -> Band:
    share = math.log(parameters / smaller.parameters) / math.log(larger.parameters / smaller.parameters)

    def mix(low: Sequence[float], high: Sequence[float]) -> tuple[float, ...]:
        return tuple(a + share * (b - a) for a, b in zip(low, high, strict=True))

    return Band(
        metric=smaller.metric,
        kind=smaller.kind,
        base=smaller.base,
        parameters=float(parameters),
        studies=smaller.studies,
        lines=smaller.lines,
        lines_at_rank=smaller.lines_at_rank,
        noise=smaller.noise,
        quantiles={level: mix(smaller.quantiles[level], larger.quantiles[level]) for level in LEVELS},
        gain=mix(smaller.gain, larger.gain),
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
