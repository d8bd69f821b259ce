"""Small tables of bands by hand, and measured ranks."""

from dataclasses import asdict

from rankviz.core.forecast.bands import GRID, LEVELS, BandRecord
from rankviz.core.forecast.quick_look import MeasuredRank

MEDIAN = (4.0, 3.5, 3.0, 2.5, 2.0, 1.0, 0.5, 0.0, -0.5)


def band(*, median=MEDIAN, lines_at_rank=None, **more) -> dict:
    """A band of ±1 (50 %) and ±2 (80 %) around a median."""
    quantiles = {
        level: tuple(value + shift for value in median)
        for level, shift in zip(LEVELS, (-2.0, -1.0, 0.0, 1.0, 2.0), strict=True)
    }
    counts = dict.fromkeys(GRID, 1) if lines_at_rank is None else lines_at_rank
    counts = {str(r): lines for r, lines in counts.items()}
    return {"studies": 2, "lines": 5, "lines_at_rank": counts, "quantiles": quantiles} | more


def bands(score: dict | None = None, *, left_out=(), holds=(), **more) -> dict:
    """A table with this band for scores and for losses. holds: (statement, row)."""
    statements = ("low_within_point", "low_within_noise", "high_worse", "high_worse_loss")
    return {
        "reference_rank": 128,
        "rate": None,
        "bands": dict.fromkeys(("score", "loss"), score or band()),
        "left_out": [asdict(row) for row in left_out],
        "holds": {name: [row for each, row in holds if each == name] for name in statements},
    } | more


def left_out(**values) -> BandRecord:
    """A record that is just enough to be called validated."""
    enough = {"inside_80": 0.75, "inside_80_by_publication": 0.75, "publications": 5, "points": 20}
    errors = dict.fromkeys(("crps", "crps_no_difference", "crps_no_difference_band", "crps_rule"), 1.0)
    return BandRecord(**{"kind": "simple", "inside_50": 0.5} | enough | errors | values)


def held(kind="any", **values) -> dict:
    """A statement that held in 9 of 10 publications."""
    row = {"publications": 10, "lines": 40, "share": 0.9, "share_of_lines": 0.8, "left_out_error": 0.13}
    return {"kind": kind, **row, **values}


def measured(losses: dict[int, float], **more) -> list[MeasuredRank]:
    """One run a rank."""
    return [MeasuredRank(r, loss, **more) for r, loss in losses.items()]
