"""A training as it goes: loss by step, one line a run."""

from collections.abc import Sequence
from math import log2
from typing import NamedTuple

import plotly.graph_objects as go

from rankviz.figures.style import MEASURED, blank_figure, rgba, say


class LossCurve(NamedTuple):
    run_id: str
    label: str
    r: int
    steps: Sequence[int]
    losses: Sequence[float]
    final: float | None = None
    """Held-out loss after training, drawn as a marker after the last step."""


DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def loss_figure(curves: Sequence[LossCurve], *, max_steps: int, height: int = 320, empty: str = "") -> go.Figure:
    """Training loss by step. Measured is vermilion, so runs differ by strength of the colour (rank) and by dash."""
    figure = blank_figure(height=height, uirevision="loss|" + "|".join(c.run_id for c in curves))
    figure.update_xaxes(title_text="step", range=[0, max_steps * 1.08 + 1])
    figure.update_yaxes(title_text="loss, nats a token (lower is better)")
    if not any(curve.steps for curve in curves):
        return say(figure, empty or "Loss appears with the first step.")
    ranks = sorted({curve.r for curve in curves})
    for i, curve in enumerate(curves):
        if not curve.steps:
            continue
        strength = 1.0 if len(ranks) == 1 else 0.55 + 0.45 * ranks.index(curve.r) / (len(ranks) - 1)
        figure.add_scatter(
            x=list(curve.steps),
            y=list(curve.losses),
            mode="lines",
            name=curve.label,
            customdata=[curve.run_id] * len(curve.steps),
            line={
                "color": rgba(MEASURED, strength),
                "width": 1.4 + 0.25 * min(6, log2(max(curve.r, 1))),
                "dash": DASHES[ranks.index(curve.r) % len(DASHES)],
            },
            hovertemplate=f"{curve.label}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        if curve.final is not None:
            figure.add_scatter(
                x=[curve.steps[-1] + max_steps * 0.04],
                y=[curve.final],
                mode="markers",
                marker={"color": MEASURED, "size": 9, "symbol": "diamond"},
                name="held-out loss",
                legendgroup="held-out",
                showlegend=i == 0,
                customdata=[curve.run_id],
                hovertemplate=f"{curve.label}<br>held-out {curve.final:.4f}<extra></extra>",
            )
    return figure
