"""The common look of all figures: one colour per meaning, traces, axes, and how a figure is written to a file."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from math import log10
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.errors import InvalidSettingError

if TYPE_CHECKING:
    import plotly.graph_objects as go


Rows = Sequence[Mapping[str, object]]
"""The numbers of a figure as table rows."""


class Drawing(NamedTuple):
    """A figure: traces and layout as plotly.js takes them, its numbers, and sentences on their origin."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    rows: Rows = ()
    source: str = ""

    def plotly(self) -> "go.Figure":
        """Return a Plotly figure with every property checked; the page draws without, 20 times faster."""
        import plotly.graph_objects as go

        return go.Figure({"data": self.data, "layout": self.layout})


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
"""Pixels added between the x axis, on which a marker may lie, and the tick labels."""
FONT = "Source Sans Pro, ui-sans-serif, system-ui, sans-serif"
LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": SMALL}}
MARGIN = {"l": 62, "r": 18, "t": 14, "b": 46}
NO_TEMPLATE = {"data": {"scatter": [{"type": "scatter"}]}}
"""Content of Plotly's template "none": 50 bytes in place of 6 kB for the default template."""


def rgba(colour: str, alpha: float) -> str:
    """Return a hex colour with an opacity from 0 to 1, so that it suits a white and a dark page."""
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
    rows: Rows = (),
    source: str = "",
    ranks: Sequence[tuple[float, int]] | None = None,
    **layout: Any,
) -> Drawing:
    """Return a drawing of these traces and axes in the common look. Properties that are None are left to plotly.js.

    uirevision: the page keeps the zoom while this string stays equal. message: a sentence in place of data; the axes
    stay. rows, source: as in Drawing. ranks: costs on the x axis with their ranks, which stand above the figure, where
    they lie on no mark; () only leaves room. The page itself shows titles, so there is no layout.title. The height is
    explicit, since Plotly may choose none.
    """
    if ranks:
        hidden = {"xaxis": "x2", "hoverinfo": "skip", "showlegend": False}  # an axis needs a trace
        data = [*data, scatter([place for place, _ in ranks], [None] * len(ranks), name="ranks", **hidden)]
        layout, x = {"xaxis2": _rank_axis(ranks, x), **layout}, {**x, "showgrid": False}
    if ranks is not None:
        layout = {"legend": LEGEND | {"y": 1.08}, "margin": MARGIN | {"t": 28}, **layout}
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
        place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": MEDIUM}}
        layout["annotations"] = [{"text": "<br>".join(wrap(message, 34)), **place}]
    title = {"standoff": 8, "font": {"size": BASE}}
    look = {
        "template": NO_TEMPLATE,
        "height": height,
        "margin": MARGIN,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": BASE, "color": "#475569"},
        "hoverlabel": {"font": {"family": FONT, "size": BASE}, "align": "left"},
        "legend": LEGEND,
        "uirevision": uirevision,
        "dragmode": "zoom",
        "xaxis": {**axis, "ticklabelstandoff": BELOW_MARKS, **x, "title": {**title, "text": x_title}},
        "yaxis": {**axis, **y, "title": {**title, "text": y_title}},
        **layout,
    }
    return Drawing([_known(trace) for trace in data], _known(look), rows, source)


def _known(properties: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in properties.items() if value is not None}
    return {name: _known(value) if isinstance(value, dict) else value for name, value in known.items()}


def scatter(x: Sequence[Any], y: Sequence[Any], *, mode: str = "markers", **more: Any) -> dict[str, Any]:
    """Return a plotly.js trace of points or of a line."""
    return {"type": "scatter", "x": list(x), "y": list(y), "mode": mode, **more}


def bars(
    above: Sequence[float | None], colour: str, *, below: Sequence[float] = (), opacity: float = 0.7, **more: Any
) -> dict[str, Any]:
    """Return error bars of these lengths, None for no bar. below: lengths below the points, if they differ."""
    shown = {"visible": any(error is not None for error in above), "color": rgba(colour, opacity)}
    errors = [error or 0 for error in above]
    return {"type": "data", "array": errors, "arrayminus": below or None, "thickness": 1.3, "width": 4, **shown, **more}


LABEL_CHARACTERS = 32
"""Labels of blocks and two spaces after each take at most this many characters below a figure on a phone."""


def bands(
    ranks: Sequence[Any], label: str, xs: Mapping[int, float] | None = None, narrow: str = ""
) -> list[dict[str, Any]]:
    """Return traces of a forecast: its 80 % band, 50 % band and median, or only the median where the ends are None.
    They share an entry of the legend.

    ranks: rows of a forecast (core.forecast). label: begins that entry. xs: places by rank; by default the rank.
    narrow: follows the label in a narrow figure, where there are bands.
    """
    places, traces = [xs[rank.r] if xs else rank.r for rank in ranks], []
    group, fill = {"mode": "lines", "legendgroup": label, "showlegend": False}, {"fill": "toself", "hoverinfo": "skip"}
    for opacity, share in ((0.16, "80"), (0.26, "50")):
        ends = [(getattr(rank, f"low_{share}"), getattr(rank, f"high_{share}")) for rank in ranks]
        if ends and all(low is not None for low, _ in ends):
            y = [*(high for _, high in ends), *(low for low, _ in reversed(ends))]
            look = {"name": f"{share} % band", "fillcolor": rgba(ESTIMATED, opacity), "line": {"width": 0}}
            traces.append(scatter([*places, *reversed(places)], y, **look, **fill, **group))
    words = [
        f"<b>r = {rank.r}</b><br>median {rank.median:.4g}"
        + (f"<br>80 % band {rank.low_80:.4g} to {rank.high_80:.4g}" if traces else "")
        for rank in ranks
    ]
    line = {"line": {"color": ESTIMATED, "width": 2}}
    median = [rank.median for rank in ranks]
    traces.append(scatter(places, median, name="median", hovertext=words, hoverinfo="text", **line, **group))
    name, short, look = label, label, {}
    if len(traces) > 1:
        name, short = f"{label}: median, 50 and 80 % bands", label + narrow
        look = {"fillcolor": rgba(ESTIMATED, 0.3), **fill}
    group |= {"name": name, "meta": {"short": short}, "showlegend": True}
    traces.append(scatter([None], [None], **line, **look, **group))
    return traces if ranks else []


def module_map(
    modules: Sequence[str],
    blocks: Sequence[str],
    values: Sequence[Sequence[float | None]],
    colour: str,
    look: Mapping[str, Any],
    *,
    chosen: tuple[int, int] | None = None,
    left_out: str = "",
    message: str = "",
    **how: Any,
) -> Drawing:
    """Return a drawing of modules (rows) by blocks (columns) in one colour, with labels on as many blocks as have
    room on a phone.

    Args:
        values: What the colour shows; None leaves a cell empty, where the block has no such module.
        look: Further properties of the trace.
        chosen: Row and column of the framed cell.
        left_out: Modules and blocks that are not drawn, in words.
        message: A sentence in place of a map without modules.
        how: More arguments of `draw`.
    """
    bar, axis = {"thickness": 8, "outlinewidth": 0, "len": 0.9}, {"showgrid": False, "type": "category"}
    labelled = blocks[:: max(1, len(blocks) * (2 + max(map(len, blocks), default=0)) // LABEL_CHARACTERS)]
    trace = {
        **{"type": "heatmap", "x": blocks, "y": modules, "z": values},
        "colorscale": [[0, rgba(colour, 0.15)], [1, rgba(colour, 0.95)]],
        **{"xgap": 1, "ygap": 1, "hoverongaps": False, **look, "colorbar": bar | look.get("colorbar", {})},
    }
    y, x = chosen or (0, 0)
    frame = {"type": "rect", "x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
    return draw(
        [trace] if modules else [],
        x={**axis, "tickangle": 0, "tickmode": "array", "tickvals": labelled},
        y={**axis, "autorange": "reversed"},
        x_title=f"block ({left_out})" if left_out else "block",
        message="" if modules else message,
        shapes=[{**frame, "line": {"color": CHOSEN, "width": 2}}] if chosen else [],
        **how,
    )


def ticks_at(pairs: Sequence[tuple[float, str]]) -> dict[str, Any]:
    """Return axis properties for ticks at these values, each with its text."""
    return {"tickmode": "array", "tickvals": [at for at, _ in pairs], "ticktext": [text for _, text in pairs]}


CHARACTER = 0.024
"""Width of a character of a label, as a share of the width of a figure on a phone."""


def _rank_axis(ranks: Sequence[tuple[float, int]], x: Mapping[str, Any]) -> dict[str, Any]:
    """Return the axis of these costs' ranks, above the figure. Ranks too close together share a label. x: properties of
    the axis of costs."""
    is_log, groups = x.get("type") == "log", []
    at = sorted((log10(cost) if is_log else cost, r) for cost, r in ranks)
    low, high = x.get("range") or (at[0][0], at[-1][0])

    def label(i: int) -> tuple[float, str]:
        place, ranks = zip(*groups[i], strict=True)
        text = "–".join(dict.fromkeys(map(str, (min(ranks), max(ranks)))))
        return (place[0] + place[-1]) / 2, text if i else f"r = {text}"

    for each in at:
        groups.append([each])
        while len(groups) > 1:
            (left, one), (right, other) = label(len(groups) - 2), label(len(groups) - 1)
            if right - left > CHARACTER * (high - low) * (len(one) + len(other) + 2) / 2:
                break
            groups[-2:] = [groups[-2] + groups[-1]]
    ticks = [(10**place if is_log else place, text) for place, text in map(label, range(len(groups)))]
    look = {"tickfont": {"size": SMALL}, "tickangle": 0, "gridcolor": rgba(NEUTRAL, 0.25), "zeroline": False}
    return {"overlaying": "x", "matches": "x", "side": "top", "type": x.get("type"), **look, **ticks_at(ticks)}


ONE_TWO_FIVE = [(step * 10.0**power, f"{step * 10.0**power:,g}") for power in range(-3, 7) for step in (1, 2, 5)]
"""Ticks of a logarithmic axis at 1, 2 and 5 times each power of ten; Plotly's default labels are single digits."""


class CostAxis(NamedTuple):
    """One kind of cost of a rank. value: the cost, None where unknown. ticks: ticks of a logarithmic axis; empty for a
    linear axis. label: name in a choice. text: a cost in words. unit: divisor for short tick labels. unknown: a
    sentence on what to do if no rank has a value. from_zero: True for an axis that starts at 0."""

    title: str
    value: Callable[[Any], float | None]
    ticks: Sequence[tuple[float, str]] = ()
    label: str = ""
    text: Callable[[float], str] = str
    unit: int = 1
    unknown: str = ""
    from_zero: bool = False


class Point(NamedTuple):
    """One rank of a study, a sweep or a fast curve. error: half the length of its error bar, None where unknown.
    chosen: rank that a click selects, if it is not r. call: the verdict on the rank; empty without a verdict."""

    r: int
    x: float
    y: float
    text: str
    error: float | None = None
    run_id: str = ""
    chosen: int | None = None
    call: str = ""


def level(y: float, colour: str, dash: str, name: str) -> dict[str, Any]:
    """Return a horizontal line over the whole width of a figure. name: its entry in the legend; it has no other label,
    which would lie on bars or lines."""
    line = {"line": {"color": colour, "width": 1.4, "dash": dash}, "layer": "above", "name": name, "showlegend": True}
    return {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": y, "y1": y} | line


def vertical_line(x: float, colour: str, name: str = "") -> dict[str, Any]:
    """Return a line over the whole height of a figure. name: its entry in the legend, where no marker is crossed."""
    line = {"line": {"color": colour, "width": 1.2}, "layer": "below", "name": name, "showlegend": bool(name)}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"} | line


WIDTH, HEIGHT = 960, 560
INK = "#1e293b"
SOURCE_CHARACTERS = 145
"""Maximum length of a line of source text below a figure."""
LINE_PIXELS, TITLE_PIXELS = 15, 46


def image_problem() -> str:
    """Return what this machine lacks for writing PNG and SVG files, and the remedy; empty where nothing is missing."""
    if find_spec("kaleido") is None:
        return "kaleido is not installed: run pip install '.[png]' in the RankViz folder to add it."
    from choreographer.browsers.chromium import Chromium

    return "" if Chromium.find_browser(skip_local=False) else "no Chrome or Chromium was found. Install one of them."


def plot_file(path: Path, *, image_problem: Callable[[], str] = image_problem) -> Path:
    """Return the path if a figure can be written to it; raise InvalidSettingError with the remedy otherwise."""
    ending = path.suffix.lower()
    if ending not in (".html", ".png", ".svg"):
        raise InvalidSettingError(f"The name of a plot file ends in .html, .png or .svg (got {path.name}).")
    if not path.parent.is_dir():
        raise InvalidSettingError(f"The folder {path.parent} does not exist. Create it first.")
    if ending != ".html" and (problem := image_problem()):
        raise InvalidSettingError(f"{path.name} cannot be written: {problem} Or choose .html.")
    return path


def write_figure(drawing: Drawing, path: Path, *, title: str, source: str = "") -> Path:
    """Write the figure on white, with a title above and its source below; return the path.

    Args:
        path: A path that ends in .html, .png or .svg; an existing file is replaced.
        title: One line of text.
        source: Sentences on the origin of the numbers; the drawing's if empty.
    """
    path, page = plot_file(path), drawing.plotly()
    lines = wrap(escape(source or drawing.source), SOURCE_CHARACTERS)
    top, bottom, below = page.layout.margin.t, page.layout.margin.b, LINE_PIXELS * len(lines)
    corner = {"x": 0, "xanchor": "left", "yanchor": "top"}
    head = {"y": 0.98, "xref": "container", "yref": "container", "pad": {"l": 16}, "font": {"size": LARGE}}
    page.update_layout(
        height=HEIGHT + below,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font_color=INK,
        title={"text": f"<b>{escape(title)}</b>", **corner, **head},
        margin={"t": top + TITLE_PIXELS, "b": bottom + 12 + below},
    )
    foot = {"xref": "paper", "yref": "paper", "y": 0, "yshift": -bottom, "align": "left", "showarrow": False}
    page.add_annotation(text="<br>".join(lines), font={"size": SMALL}, **corner, **foot)
    if path.suffix.lower() == ".html":
        page.write_html(path, include_plotlyjs=True, config={"displaylogo": False})
        return path
    try:
        page.write_image(path, width=WIDTH, height=page.layout.height, scale=2)
    except RuntimeError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidSettingError(f"The browser could not draw {path.name}: {reason} Choose .html instead.") from error
    return path
