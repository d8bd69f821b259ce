"""One colour a meaning, one look for every figure; and how a figure is made, for a page or as Plotly's own."""

import functools
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypedDict

if TYPE_CHECKING:
    import plotly.graph_objects as go

Asked = ParamSpec("Asked")


class Drawing(TypedDict):
    """A figure as plotly.js takes it."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]


class Drawn(Protocol[Asked]):
    """A function that draws."""

    drawing: Callable[Asked, Drawing]
    """The same for a page: unchecked, in a twentieth of the time, and without the package plotly."""

    def __call__(self, *args: Asked.args, **kwargs: Asked.kwargs) -> "go.Figure":
        """Plotly's own figure, every property checked."""


def figure(drawing: Callable[Asked, Drawing]) -> Drawn[Asked]:
    """Makes a function that draws of one that describes what is drawn."""

    @functools.wraps(drawing)
    def drawn(*args: Asked.args, **kwargs: Asked.kwargs) -> "go.Figure":
        # Here, since neither the page nor an info needs plotly.
        import plotly.graph_objects as go

        return go.Figure(drawing(*args, **kwargs))

    drawn.drawing = drawing
    return drawn


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

BELOW_MARKS = 6
"""Pixels between the x axis, on which a mark may lie, and its numbers, beside Plotly's own few."""
FONT = "Source Sans Pro, ui-sans-serif, system-ui, sans-serif"
LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": SMALL}}
NO_TEMPLATE = {"data": {"scatter": [{"type": "scatter"}]}}
"""What Plotly's template "none" is: 50 bytes in place of the 6 kB of the usual one."""


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
) -> Drawing:
    """These traces and axes in the common look. What is None is left to plotly.js.

    uirevision: zoom is kept while this stays the same. message: a sentence where the data would be, axes kept. No
    layout.title, because titles are in the page; an explicit height, because a figure without one may come out with
    none.
    """
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
    look = {
        "template": NO_TEMPLATE,
        "height": height,
        "margin": {"l": 62, "r": 18, "t": 14, "b": 46},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": BASE, "color": "#475569"},
        "hoverlabel": {"font": {"family": FONT, "size": BASE}, "align": "left"},
        "legend": LEGEND,
        "uirevision": uirevision,
        "dragmode": "zoom",
        "xaxis": {**axis, "ticklabelstandoff": BELOW_MARKS, **x, "title": _title(x_title)},
        "yaxis": {**axis, **y, "title": _title(y_title)},
        **layout,
    }
    return Drawing(data=[_known(trace) for trace in data], layout=_known(look))


def _known(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that are None."""
    return {
        name: _known(value) if isinstance(value, dict) else value
        for name, value in properties.items()
        if value is not None
    }


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 8, "font": {"size": BASE}}


def vertical_line(x: float, colour: str, name: str = "") -> dict[str, Any]:
    """A shape over the whole height, with its words (name) in the legend: beside it they would cross a mark."""
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"} | {
        "line": {"color": colour, "width": 1.2},
        "layer": "below",
        "name": name,
        "showlegend": bool(name),
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
