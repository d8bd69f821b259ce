"""One colour a meaning, one look for every figure."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

# As in assets/css/tokens.css. Told apart under deuteranopia, protanopia and tritanopia, and at least 3 : 1 against both
# the white and the dark page.
ESTIMATED = "#64748b"
MEASURED = "#d9480f"
PUBLISHED = "#0d9488"
FAST_CURVE = "#a855f7"
CHOSEN = "#2563eb"
NEUTRAL = "#8b95a5"

# Type in pixels: what is written in a figure, its axes' titles, and a sentence instead of data.
SMALL = 12
BASE = 13
MEDIUM = 14
LARGE = 16

FONT = "Source Sans Pro, ui-sans-serif, system-ui, sans-serif"


def rgba(colour: str, alpha: float) -> str:
    """A hex colour with an opacity, so that it reads on a white page and on a dark one."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def draw(
    data: Sequence[Mapping[str, Any]],
    *,
    height: int,
    uirevision: str,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    x_title: str = "",
    y_title: str = "",
    message: str = "",
    **layout: Any,
) -> "go.Figure":
    """A figure of these traces and axes in the common look, built and checked in one step, which is ten times faster
    than updating one.

    uirevision: zoom is kept while this stays the same. message: a sentence where the data would be, axes kept. The
    template is "none": a figure then carries 75 bytes of layout instead of 6 kB. No layout.title, because titles are in
    the page; an explicit height, because a figure without one may come out with none.
    """
    # Here, because the page starts faster when plotly comes with the first figure.
    import plotly.graph_objects as go

    axis = {
        "tickfont": {"size": SMALL},
        "gridcolor": rgba(NEUTRAL, 0.25),
        "zeroline": False,
        "linecolor": rgba(NEUTRAL, 0.6),
        "showline": True,
        "automargin": True,
    }
    if message:
        axis |= {"showticklabels": False, "showgrid": False}
        text = "<br>".join(wrap(message, 34))
        layout["annotations"] = [
            {"text": text, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
            | {"font": {"size": MEDIUM}}
        ]
    return go.Figure(
        data=data,
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 62, "r": 18, "t": 14, "b": 46},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": BASE, "color": "#475569"},
            "hoverlabel": {"font": {"family": FONT, "size": BASE}, "align": "left"},
            "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": SMALL}},
            "uirevision": uirevision,
            "dragmode": "zoom",
            "xaxis": {**axis, **x, "title": _title(x_title)},
            "yaxis": {**axis, **y, "title": _title(y_title)},
            **layout,
        },
    )


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 8, "font": {"size": BASE}}


def vertical_line(x: float, colour: str) -> dict[str, Any]:
    """A shape over the whole height."""
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"} | {
        "line": {"color": colour, "width": 1.2},
        "layer": "below",
    }


def line_label(x: float, text: str, *, left: bool = False) -> dict[str, Any]:
    """The words of a vertical line, at its top; left: on its left side. On a logarithmic axis x is the logarithm."""
    return {
        "x": x,
        "y": 1,
        "yref": "paper",
        "yanchor": "top",
        "text": text,
        "showarrow": False,
        "align": "right" if left else "left",
        "xanchor": "right" if left else "left",
        "xshift": -5 if left else 5,
    }


def named_band(low: float, high: float, name: str) -> dict[str, Any]:
    """A grey band over the whole width, with its words in the legend."""
    return {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high} | {
        "fillcolor": rgba(NEUTRAL, 0.13),
        "line": {"width": 0},
        "layer": "below",
        "name": name,
        "showlegend": True,
    }
