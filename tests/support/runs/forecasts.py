"""Small tables of bands by hand, and measured ranks."""

from rankviz.core.forecast.bands import GRID, LEVELS, Band, Bands, Held, LeftOut
from rankviz.core.forecast.mixture import MeasuredRank

MEDIAN = (4.0, 3.5, 3.0, 2.5, 2.0, 1.0, 0.5, 0.0, -0.5)


def band(*, median=MEDIAN, lines_at_rank=None, **more) -> Band:
    """A band of ±1 (50 %) and ±2 (80 %) around a median."""
    quantiles = {
        level: tuple(value + shift for value in median)
        for level, shift in zip(LEVELS, (-2.0, -1.0, 0.0, 1.0, 2.0), strict=True)
    }
    counts = dict.fromkeys(GRID, 1) if lines_at_rank is None else lines_at_rank
    return Band(**{"studies": 2, "lines": 5, "lines_at_rank": counts} | more, quantiles=quantiles)


def bands(score: Band | None = None, *, left_out=(), holds=(), **more) -> Bands:
    """A table with this band for scores and for losses. holds: (statement, row)."""
    values = {
        "bent_inside_80": 0.8,
        "bent_inside_80_left_out": 0.76,
        "bent_runs": 20,
        "third_run": {
            "two": third_run(median=0.016, mean=0.031, width=0.116, inside=0.857),
            "three": third_run(median=0.006, mean=0.028, width=0.126, inside=0.714),
        },
    }
    statements = ("low_within_noise", "high_worse", "high_better", "high_worse_loss")
    return Bands(
        **{"reference_rank": 128, "rate": None} | values | more,
        bands=dict.fromkeys(("score", "loss"), score or band()),
        left_out={row.kind: row for row in left_out},
        holds={name: {row.kind: row for each, row in holds if each == name} for name in statements},
    )


def left_out(**values) -> LeftOut:
    """A record that is just enough to be called validated."""
    enough = {"inside_80": 0.75, "inside_80_by_publication": 0.75, "publications": 5, "points": 20}
    errors = dict.fromkeys(("crps", "crps_no_difference", "crps_no_difference_band", "crps_rule"), 1.0)
    return LeftOut(**{"kind": "simple", "inside_50": 0.5} | enough | errors | values)


def held(kind="any", **values) -> Held:
    """A statement that held in 9 of 10 publications."""
    row = {"publications": 10, "lines": 40, "share": 0.9, "share_of_lines": 0.8, "left_out_error": 0.13}
    return Held(kind=kind, **row | values)


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
