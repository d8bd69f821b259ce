"""A figure as a file: HTML that opens without a network, PNG or SVG.

PNG and SVG are drawn by kaleido in a Chrome or Chromium of this machine.
"""

from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from rankviz.errors import InvalidSettingError
from rankviz.figures.style import LARGE, SMALL

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH, HEIGHT = 960, 560
INK = "#1e293b"
SOURCE_CHARACTERS = 145
"""In a line under the figure."""
LINE_PIXELS, TITLE_PIXELS = 15, 46


def image_problem() -> str:
    """What PNG and SVG files lack on this machine, and the remedy; empty where nothing."""
    if find_spec("kaleido") is None:
        return "the package kaleido is not installed (pip install kaleido)."
    from choreographer.browsers.chromium import Chromium

    return "" if Chromium.find_browser(skip_local=False) else "no Chrome or Chromium was found. Install one of them."


def plot_file(path: Path, *, image_problem: Callable[[], str] = image_problem) -> Path:
    """The path, if a figure can be written there; InvalidSettingError says what to change otherwise."""
    ending = path.suffix.lower()
    if ending not in (".html", ".png", ".svg"):
        raise InvalidSettingError(f"The name of a plot file ends in .html, .png or .svg (got {path.name}).")
    if not path.parent.is_dir():
        raise InvalidSettingError(f"The folder {path.parent} does not exist. Create it first.")
    if ending != ".html" and (problem := image_problem()):
        raise InvalidSettingError(f"{path.name} cannot be written: {problem} Or choose .html.")
    return path


def write_figure(figure: "go.Figure", path: Path, *, title: str, source: str = "") -> Path:
    """Write the figure on white, with its title above and what it rests on below; returns the path.

    Args:
        figure: Any figure of this package; it is left as it is.
        path: Ends in .html, .png or .svg; an existing file is replaced.
        title: One line.
        source: Sentences.
    """
    path = plot_file(path)
    page = _on_white(figure, title, source)
    if path.suffix.lower() == ".html":
        page.write_html(path, include_plotlyjs=True, config={"displaylogo": False})
        return path
    try:
        page.write_image(path, width=WIDTH, height=page.layout.height, scale=2)
    except RuntimeError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidSettingError(f"The browser could not draw {path.name}: {reason} Choose .html instead.") from error
    return path


def _on_white(figure: "go.Figure", title: str, source: str) -> "go.Figure":
    """A copy with room above and below for the words."""
    import plotly.graph_objects as go

    lines = wrap(escape(source), SOURCE_CHARACTERS)
    page = go.Figure(figure)
    top, bottom = page.layout.margin.t, page.layout.margin.b
    below = LINE_PIXELS * len(lines)
    page.update_layout(
        height=HEIGHT + below,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font_color=INK,
        title={
            "text": f"<b>{escape(title)}</b>",
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "pad": {"l": 16},
            "y": 0.98,
        }
        | {"yanchor": "top", "yref": "container", "font": {"size": LARGE}},
        margin={"t": top + TITLE_PIXELS, "b": bottom + 12 + below},
    )
    page.add_annotation(
        text="<br>".join(lines),
        xref="paper",
        yref="paper",
        x=0,
        y=0,
        xanchor="left",
        yanchor="top",
        yshift=-bottom,
        align="left",
        showarrow=False,
        font={"size": SMALL},
    )
    return page
