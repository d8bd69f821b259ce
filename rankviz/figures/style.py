"""One colour a meaning, one look for every figure."""

from textwrap import wrap

import plotly.graph_objects as go

# Told apart under deuteranopia, protanopia and tritanopia, and at least 3 : 1 against both the white and the dark page.
ESTIMATED = "#64748b"
MEASURED = "#d9480f"
PUBLISHED = "#0d9488"
FAST_CURVE = "#a855f7"
CHOSEN = "#3b82f6"
NEUTRAL = "#8b95a5"

FONT = "Source Sans Pro, ui-sans-serif, system-ui, sans-serif"


def rgba(colour: str, alpha: float) -> str:
    """A hex colour with an opacity, so that it reads on a white page and on a dark one."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def blank_figure(*, height: int, uirevision: str) -> go.Figure:
    """Axes and nothing on them. uirevision: zoom is kept while this stays the same.

    The template is "none": a figure then carries 75 bytes of layout instead of 6 kB. No layout.title, because titles
    are in the page; an explicit height, because a figure without one may come out with none.
    """
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 62, "r": 18, "t": 14, "b": 46},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": "#475569"},
        hoverlabel={"font": {"family": FONT, "size": 13}, "align": "left"},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        uirevision=uirevision,
        dragmode="zoom",
    )
    axis = {
        "tickfont": {"size": 12},
        "gridcolor": rgba(NEUTRAL, 0.25),
        "zeroline": False,
        "linecolor": rgba(NEUTRAL, 0.6),
        "showline": True,
    }
    figure.update_xaxes(**axis, title={"standoff": 8, "font": {"size": 13}}, automargin=True)
    figure.update_yaxes(**axis, title={"standoff": 8, "font": {"size": 13}}, automargin=True)
    return figure


def say(figure: go.Figure, sentence: str) -> go.Figure:
    """The same axes with a sentence where the data would be."""
    figure.add_annotation(
        text="<br>".join(wrap(sentence, 34)),
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 14},
    )
    figure.update_xaxes(showticklabels=False, showgrid=False)
    figure.update_yaxes(showticklabels=False, showgrid=False)
    return figure
