"""How far each rank lies above the best: differences paired by seed, with their intervals, and what doesn't matter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import MEASURED, NEUTRAL, draw, rgba

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Difference(NamedTuple):
    """One rank against the best. low, high: the interval; None where the noise between runs isn't known."""

    r: int
    value: float
    low: float | None
    high: float | None
    call: str
    """"different", "equal", "can't tell", or "lowest loss" of the best itself."""


SYMBOLS = {"lowest loss": "diamond", "different": "circle", "equal": "square", "can't tell": "circle-open"}
"""A filled marker is known, an open one is not."""


def verdict_figure(
    differences: Sequence[Difference],
    *,
    best: int,
    tolerance_nats: float,
    height: int = 260,
    empty: str = "No verdict yet: it needs finished runs of at least two ranks.",
) -> "go.Figure":
    """Ranks from left to right, evenly; zero is the best, the grey band what counts as equal."""
    known = [d for d in differences if d.low is not None]
    band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -tolerance_nats, "y1": tolerance_nats} | {
        "fillcolor": rgba(NEUTRAL, 0.13),
        "line": {"width": 0},
        "layer": "below",
    }
    return draw(
        [_markers(differences)] if differences else [],
        height=height,
        uirevision=f"verdict|{best}|{[d.r for d in differences]}",
        x={"type": "category"},
        y={"zeroline": True, "zerolinecolor": rgba(NEUTRAL, 0.7), "range": _range(differences, known, tolerance_nats)},
        x_title="LoRA rank r",
        y_title=f"loss above r = {best}, nats" if differences else "loss above the best, nats",
        say="" if differences else empty,
        shapes=[band] if differences else [],
        showlegend=False,
    )


def _markers(differences: Sequence[Difference]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [f"r = {d.r}" for d in differences],
        "y": [d.value for d in differences],
        "mode": "markers",
        "name": "loss above the best",
        "marker": {
            "color": MEASURED,
            "size": 11,
            "symbol": [SYMBOLS[d.call] for d in differences],
            "line": {"color": MEASURED, "width": 1.5},
        },
        "error_y": {
            "type": "data",
            "array": [d.high - d.value if _spans(d) else None for d in differences],
            "arrayminus": [d.value - d.low if _spans(d) else None for d in differences],
            "visible": any(_spans(d) for d in differences),
            "color": rgba(MEASURED, 0.7),
            "thickness": 1.3,
            "width": 4,
        },
        "hovertext": [_hover(d) for d in differences],
        "hoverinfo": "text",
        "cliponaxis": False,
    }


def _spans(d: Difference) -> bool:
    return d.low is not None and d.low < d.high


def _hover(d: Difference) -> str:
    span = "interval not known" if d.low is None else f"{d.low:+.4f} to {d.high:+.4f}"
    return f"<b>r = {d.r}</b>: {d.call}<br>{d.value:+.4f} nats<br>{span if d.call != 'lowest loss' else ''}"


def _range(differences: Sequence[Difference], known: Sequence[Difference], tolerance: float) -> list[float] | None:
    if not differences:
        return None
    ends = [d.value for d in differences] + [end for d in known for end in (d.low, d.high)] + [-tolerance, tolerance]
    room = 0.08 * (max(ends) - min(ends) or 1)
    return [min(ends) - room, max(ends) + room]
