"""Small tables of bands by hand, and measured ranks."""

from rankviz.core.forecast.bands import GRID, LEVELS, Band, Bands
from rankviz.core.forecast.mixture import MeasuredRank

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
    values = {
        "run_noise_nats": 0.02,
        "bent_inside_80": 0.8,
        "bent_inside_80_left_out": 0.76,
        "bent_runs": 20,
        "third_run": {
            "two": third_run(median=0.016, mean=0.031, width=0.116, inside=0.857),
            "three": third_run(median=0.006, mean=0.028, width=0.126, inside=0.714),
        },
    }
    return Bands(reference_rank=128, bands=rows, left_out={row.kind: row for row in left_out}, **values | more)


def third_run(*, median: float, mean: float, width: float, inside: float) -> dict[str, float]:
    """At seven points."""
    return {
        "runs": 7,
        "bent_median_error": median,
        "bent_mean_error": mean,
        "mean_width_80": width,
        "inside_80": inside,
    }


def measured(losses: dict[int, float], **more) -> list[MeasuredRank]:
    """One run a rank."""
    return [MeasuredRank(r, loss, **more) for r, loss in losses.items()]
