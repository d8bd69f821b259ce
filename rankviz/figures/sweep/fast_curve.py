"""A fast curve as a dashed line by rank: one adapter, truncated to each lower rank."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rankviz import units
from rankviz.core.runs.fast_curve import CurvePoint, FastCurve
from rankviz.core.runs.metric import Metric
from rankviz.core.runs.record import Sweep
from rankviz.figures.style import FAST_CURVE


class TruncatedPoint(NamedTuple):
    """The trained adapter at one rank."""

    r: int
    value: float
    detail: str


class FastCurveLine(NamedTuple):
    """One training, its adapter truncated to lower ranks."""

    label: str
    run_id: str
    points: Sequence[TruncatedPoint]


WHAT_A_FAST_CURVE_IS = (
    "The dashed curve is one training at the highest rank, its adapter truncated to each lower rank. It shows how much "
    "rank the learned update needs. It does not show what a run at a lower rank would learn in the same time; "
    "independent runs show that."
)


def curve_line(curve: FastCurve, sweep: Sweep, metric: Metric, *, alone: bool) -> FastCurveLine:
    """A fast curve's points. alone: whether it is the only one of its sweep."""
    seed = next(run.request.seed for run in sweep.runs if run.run_id == curve.run_id)
    return FastCurveLine(
        label="fast curve" if alone else f"fast curve, seed {seed}",
        run_id=curve.run_id,
        points=[
            TruncatedPoint(point.r, value, f"{how_made(point, curve)}, {file_text(point, curve)}")
            for point in curve.points
            if (value := metric.of(point)) is not None
        ],
    )


def how_made(point: CurvePoint, curve: FastCurve) -> str:
    """ "trained", "truncated", or with how many steps of training after it."""
    if point is curve.trained:
        return "trained"
    return f"truncated, then {point.recovery_steps} training steps" if point.recovery_steps else "truncated"


def file_text(point: CurvePoint, curve: FastCurve) -> str:
    """The adapter's file; of a truncated adapter it is in proportion to rank, which leaves out the header."""
    return ("" if point is curve.trained else "about ") + units.file_size(point.adapter_bytes)


def dashed_line(line: FastCurveLine, metric: Metric) -> dict[str, Any]:
    """The line as Plotly has it."""
    return {
        "type": "scatter",
        "x": [p.r for p in line.points],
        "y": [p.value for p in line.points],
        "mode": "lines+markers",
        "name": line.label,
        "meta": line.run_id,
        "line": {"color": FAST_CURVE, "width": 2, "dash": "dash"},
        "marker": {"color": FAST_CURVE, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}},
        "hovertext": [f"<b>r = {p.r}</b><br>{metric.text(p.value)}<br>{p.detail}" for p in line.points],
        "hoverinfo": "text",
        "cliponaxis": False,
    }
