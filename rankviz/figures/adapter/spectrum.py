"""A trained adapter's singular values, one by one: one module's, and those of the same module in other blocks."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from rankviz.core.lora.targets import listed
from rankviz.core.spectrum import MOST_POINTS, QUANTILES, LayerSpectrum, Spectrum, grid, quantiles, spaced
from rankviz.figures.style import CHOSEN, ESTIMATED, MEASURED, Drawing, draw, figure, rgba, vertical_line


class SpectrumLine(NamedTuple):
    """Singular values, falling."""

    name: str
    values: Sequence[float]
    index: Sequence[int]
    """Of each value, from 1."""


class SpectrumInfo(NamedTuple):
    """What the figure of singular values shows."""

    chosen: SpectrumLine | None
    """The line that stands out."""
    others: Sequence[SpectrumLine] = ()
    others_name: str = ""
    """What the others are, in the legend."""
    r: int | None = None
    """A rank to truncate to, a line after it."""
    empty: str = ""
    """A sentence where there is no chosen line."""
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


MOST_INDICES = 256
"""Of one line: of more, some are left out, evenly on a logarithmic scale."""
MOST_TICKS = 16
"""One for each index, up to so many."""
NO_SPECTRUM = SpectrumInfo(None, empty="No adapter yet.")


def spectrum_info(spectrum: Spectrum, *, module: str = "", r: int | None = None) -> SpectrumInfo:
    """One module's singular values.

    Args:
        spectrum: The adapter.
        module: The module's full name; without one, the module that needs the highest rank.
        r: The rank to truncate it to.
    """
    chosen = next((layer for layer in spectrum.layers if layer.name == module), None) or hardest_module(spectrum)
    layout = grid(spectrum)
    row = next(row for (row, _), inside in layout.cells.items() if chosen in inside)
    peers = [layout.cells[row, block][0] for block in layout.blocks if (row, block) in layout.cells]
    others = [layer for layer in peers if layer is not chosen and not layer.is_dead]
    lines, others_name = _peers(others)
    strong = _line(chosen.name, chosen.singular_values)
    return SpectrumInfo(
        chosen=None if chosen.is_dead else strong,
        others=lines,
        others_name=others_name,
        r=r if r and r < chosen.r else None,
        empty=f"{escape(chosen.name)} has no update, so it has no singular values." if chosen.is_dead else "",
        source=f"Singular values of {chosen.name} in the adapter {spectrum.name}.",
        rows=[
            {"module": line.name, "index": i, "singular_value": value}
            for line in (strong, *lines)
            for i, value in zip(line.index, line.values, strict=True)
        ],
    )


def _peers(layers: Sequence[LayerSpectrum]) -> tuple[Sequence[SpectrumLine], str]:
    """Their lines, and what those are: each block's own, or quantiles over the blocks where those would be too many."""
    name = "the same module in other blocks"
    if sum(layer.r for layer in layers) <= MOST_POINTS:
        return [_line(layer.name, layer.singular_values) for layer in layers], name
    lines = quantiles([layer.singular_values for layer in layers])
    return (
        [_line(f"{quantile} of other blocks", values) for quantile, values in lines.items()],
        f"the same module in {len(layers):,} other blocks: {listed(QUANTILES)}",
    )


def hardest_module(spectrum: Spectrum) -> LayerSpectrum:
    """The module that needs the highest rank for nearly all of its energy."""
    return max(spectrum.layers, key=lambda layer: (layer.needs[-1], layer.energy))


def _line(name: str, values: Sequence[float]) -> SpectrumLine:
    index = spaced(len(values), MOST_INDICES)
    return SpectrumLine(name, [values[i - 1] for i in index], index)


@figure
def spectrum_figure(info: SpectrumInfo, *, height: int = 340) -> Drawing:
    """Singular values on a logarithmic axis; those of other blocks are drawn faintly."""
    traces = []
    if info.others:
        traces.append(_faint(info.others, info.others_name))
    if info.chosen is not None:
        traces.append(_strong(info.chosen))
    return draw(
        traces,
        height=height,
        uirevision="spectrum",
        x={"rangemode": "tozero", "showgrid": False, **_whole_steps(info)},
        y={"type": "log", "exponentformat": "power", "dtick": 1 if _decades(info) >= 2 else "D2"},
        x_title="index of the singular value",
        y_title="singular value",
        message=info.empty,
        shapes=[vertical_line(info.r + 0.5, CHOSEN)] if info.r else [],
        showlegend=True,
    )


def _whole_steps(info: SpectrumInfo) -> dict[str, Any]:
    """A tick for each index where there are few, since there is no index between two."""
    few = info.chosen is not None and len(info.chosen.values) <= MOST_TICKS
    return {"dtick": 1} if few else {}


def _decades(info: SpectrumInfo) -> float:
    """Powers of ten between the smallest and the largest value drawn."""
    lines = (*filter(None, [info.chosen]), *info.others)
    drawn = [value for line in lines for value in line.values if value > 0]
    return math.log10(max(drawn) / min(drawn)) if drawn else 0.0


def _strong(line: SpectrumLine) -> dict[str, Any]:
    drawn = [value or None for value in line.values]
    return {
        "type": "scatter",
        "x": list(line.index),
        "y": drawn,
        "mode": "lines+markers",
        "name": escape(line.name),
        "line": {"color": MEASURED, "width": 2},
        "marker": {"size": 5, "color": MEASURED},
        "hovertemplate": "σ<sub>%{x}</sub> = %{y:.4g}<extra></extra>",
    }


def _faint(lines: Sequence[SpectrumLine], name: str) -> dict[str, Any]:
    """All in one trace, a gap after each: one trace per line would be slow."""
    x: list[int | None] = []
    y: list[float | None] = []
    for line in lines:
        x += [*line.index, None]
        y += [*(value or None for value in line.values), None]
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "lines",
        "name": name,
        "line": {"color": rgba(ESTIMATED, 0.4), "width": 1},
        "hoverinfo": "skip",
    }
