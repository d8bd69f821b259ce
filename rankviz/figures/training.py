"""A training as it goes: loss by step, one line a run."""

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import MEASURED, draw, rgba

if TYPE_CHECKING:
    import plotly.graph_objects as go


class LossCurve(NamedTuple):
    run_id: str
    label: str
    r: int
    steps: Sequence[int]
    losses: Sequence[float]
    final: float | None = None
    """Held-out loss after training, drawn as a marker after the last step."""


MOST_NAMED = 8
"""With more curves than this the legend names ranks, which look alike, and the hover names runs."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def loss_figure(curves: Sequence[LossCurve], *, max_steps: int, height: int = 320, empty: str = "") -> "go.Figure":
    """Training loss by step. Measured is vermilion, so runs differ by strength of the colour (rank) and by dash."""
    begun = [curve for curve in curves if curve.steps]
    ranks = sorted({curve.r for curve in begun})
    ended = [curve for curve in begun if curve.final is not None]
    lines = [_line(curve, ranks) for curve in begun]
    if len(begun) > MOST_NAMED:
        firsts = {r: next(i for i, curve in enumerate(begun) if curve.r == r) for r in ranks}
        for i, (curve, line) in enumerate(zip(begun, lines, strict=True)):
            line |= {"name": f"r = {curve.r}", "legendgroup": str(curve.r), "showlegend": firsts[curve.r] == i}
    return draw(
        [*lines, *([_held_out(ended, max_steps)] if ended else [])],
        height=height,
        uirevision="loss|" + "|".join(curve.run_id for curve in curves),
        x={"range": [0, max_steps * 1.08 + 1]},
        y={},
        x_title="step",
        y_title="loss, nats a token (lower is better)",
        say="" if begun else empty or "Loss appears with the first step.",
        showlegend=True,
    )


def _line(curve: LossCurve, ranks: Sequence[int]) -> dict[str, Any]:
    place = ranks.index(curve.r)
    strength = 1.0 if len(ranks) == 1 else 0.55 + 0.45 * place / (len(ranks) - 1)
    return {
        "type": "scatter",
        "x": list(curve.steps),
        "y": list(curve.losses),
        "mode": "lines",
        "name": curve.label,
        "customdata": [curve.run_id] * len(curve.steps),
        "line": {
            "color": rgba(MEASURED, strength),
            "width": 1.4 + 0.25 * min(6, log2(curve.r)),
            "dash": DASHES[place % len(DASHES)],
        },
        "hovertemplate": f"{curve.label}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
    }


def _held_out(curves: Sequence[LossCurve], max_steps: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [curve.steps[-1] + max_steps * 0.04 for curve in curves],
        "y": [curve.final for curve in curves],
        "mode": "markers",
        "marker": {"color": MEASURED, "size": 9, "symbol": "diamond"},
        "name": "held-out loss",
        "customdata": [curve.run_id for curve in curves],
        "hovertext": [f"{curve.label}<br>held-out {curve.final:.4f}" for curve in curves],
        "hoverinfo": "text",
    }
