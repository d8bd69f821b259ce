"""Small tables of bands by hand, and measured ranks."""

from rankviz.core.forecast.bands import GRID, LEVELS, Band, Bands
from rankviz.core.forecast.bent import BentForecast, MeasuredRank, bent_forecast

MEDIAN = (4.0, 3.5, 3.0, 2.5, 2.0, 1.0, 0.5, 0.0, -0.5)


def band(*, median=MEDIAN, lines_at_rank=None, **more) -> Band:
    """A band of ±1 (50 %) and ±2 (80 %) around a median."""
    quantiles = {
        level: tuple(value + shift for value in median)
        for level, shift in zip(LEVELS, (-2.0, -1.0, 0.0, 1.0, 2.0), strict=True)
    }
    values = {
        "metric": "score",
        "kind": "simple",
        "base": None,
        "parameters": None,
        "studies": 2,
        "lines": 5,
        "lines_at_rank": dict.fromkeys(GRID, 1) if lines_at_rank is None else lines_at_rank,
        "noise": 0.5,
        "gain": (0.5, 1.0, 2.0),
    }
    return Band(**values | more, quantiles=quantiles)


def bands(*rows: Band, left_out=(), **more) -> Bands:
    """A table of these bands."""
    return Bands(reference_rank=128, bands=rows, left_out={row.kind: row for row in left_out}, **more)


HELD = {"lines": 65, "inside_80": 0.86, "width_in_ranges": 0.85, "within": 0.976, "within_of_all_ranks": 0.87}
"""A check of the quick look as assets/forecast.json has it."""


def look(losses: dict[int, float], *, repeat_sd: float | None = None, **more) -> BentForecast:
    """The forecast of one run a rank, and with repeat_sd of one repeat of the lowest."""
    runs = measured(losses)
    if repeat_sd is not None:
        runs[0] = runs[0]._replace(sd=repeat_sd, runs=2)
    return bent_forecast("s1", runs, HELD, **more)


def measured(losses: dict[int, float], **more) -> list[MeasuredRank]:
    """One run a rank."""
    return [MeasuredRank(r, loss, **more) for r, loss in losses.items()]
