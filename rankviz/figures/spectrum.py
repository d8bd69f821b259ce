"""A trained adapter: a number a module as blocks × modules, and singular values one by one. Measured, so vermilion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.figures.style import CHOSEN, ESTIMATED, MEASURED, draw, rgba, vertical_line

if TYPE_CHECKING:
    import plotly.graph_objects as go


class HeatCell(NamedTuple):
    """One module in one block. id: what a click reports. value: None where there is no update, which is drawn as ×."""

    id: str
    value: float | None
    text: str


class SpectrumLine(NamedTuple):
    """Singular values, falling. label: of the line that stands out; others are drawn faintly."""

    name: str
    values: Sequence[float]


def heat_figure(
    rows: Sequence[str],
    blocks: Sequence[str],
    cells: Sequence[Sequence[HeatCell | None]],
    *,
    title: str,
    unit: str,
    low: float,
    high: float,
    dark_is_low: bool = False,
    chosen: tuple[str, str] | None,
    height: int = 340,
    say: str = "",
) -> "go.Figure":
    """Modules (rows) by blocks (columns). chosen: row and block, framed. dark_is_low: low values stand out."""
    every = max(1, -(-len(blocks) // 8))
    faint = high if dark_is_low else low
    heat = {
        "type": "heatmap",
        "x": blocks,
        "y": rows,
        # A cell without update is drawn at the faint end, with its ×; a module that the block lacks is no cell.
        "z": [[None if cell is None else faint if cell.value is None else cell.value for cell in row] for row in cells],
        "text": [["×" if cell is not None and cell.value is None else "" for cell in row] for row in cells],
        "texttemplate": "%{text}",
        "textfont": {"size": 12},
        "colorscale": [[0, rgba(MEASURED, 0.12)], [1, rgba(MEASURED, 0.95)]],
        "reversescale": dark_is_low,
        "zmin": low,
        "zmax": high,
        "xgap": 1,
        "ygap": 1,
        "customdata": [["" if cell is None else cell.id for cell in row] for row in cells],
        "hovertext": [["" if cell is None else cell.text for cell in row] for row in cells],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "hoverongaps": False,
        "colorbar": {"thickness": 8, "outlinewidth": 0, "len": 0.9, "ticksuffix": unit}
        | {"title": {"text": title, "side": "right", "font": {"size": 12}}},
    }
    return draw(
        [heat] if rows and not say else [],
        height=height,
        uirevision="heat",
        x={"showgrid": False, "type": "category", "tickangle": 0, "tickmode": "array", "tickvals": blocks[::every]},
        y={"showgrid": False, "type": "category", "autorange": "reversed"},
        x_title="block",
        say=say,
        shapes=_frame(rows, blocks, chosen),
    )


def _frame(rows: Sequence[str], blocks: Sequence[str], chosen: tuple[str, str] | None) -> list[dict[str, Any]]:
    if chosen is None:
        return []
    y, x = list(rows).index(chosen[0]), list(blocks).index(chosen[1])
    box = {"type": "rect", "x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
    return [box | {"line": {"color": CHOSEN, "width": 2}}]


def spectrum_figure(
    chosen: SpectrumLine | None,
    others: Sequence[SpectrumLine],
    *,
    r: int | None = None,
    height: int = 340,
    say: str = "",
) -> "go.Figure":
    """Singular values on a logarithmic axis: one module's, and faintly those of the same module in other blocks.

    r: a rank to cut at, as a line after it.
    """
    traces = []
    if others:
        traces.append(_faint(others))
    if chosen is not None:
        traces.append(_strong(chosen))
    return draw(
        traces,
        height=height,
        uirevision="spectrum",
        x={"rangemode": "tozero", "showgrid": False},
        y={"type": "log", "exponentformat": "power", "dtick": 1},
        x_title="index of the singular value",
        y_title="singular value",
        say=say,
        shapes=[vertical_line(r + 0.5, CHOSEN)] if r else [],
        showlegend=True,
    )


def _strong(line: SpectrumLine) -> dict[str, Any]:
    drawn = [value or None for value in line.values]
    return {
        "type": "scatter",
        "x": list(range(1, len(drawn) + 1)),
        "y": drawn,
        "mode": "lines+markers",
        "name": line.name,
        "line": {"color": MEASURED, "width": 2},
        "marker": {"size": 5, "color": MEASURED},
        "hovertemplate": "σ<sub>%{x}</sub> = %{y:.4g}<extra></extra>",
    }


def _faint(lines: Sequence[SpectrumLine]) -> dict[str, Any]:
    """All in one trace, a gap after each: a trace a line would be slow."""
    x: list[int | None] = []
    y: list[float | None] = []
    for line in lines:
        x += [*range(1, len(line.values) + 1), None]
        y += [*(value or None for value in line.values), None]
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "lines",
        "name": "the same module in other blocks",
        "line": {"color": rgba(ESTIMATED, 0.4), "width": 1},
        "hoverinfo": "skip",
    }
