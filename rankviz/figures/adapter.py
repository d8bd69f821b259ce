"""Figures of one trained adapter: its singular values, and the energy that each rank keeps, in total and by module.

Of a large adapter at most MOST_POINTS points are drawn; the title of an axis says what is left out.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import chain
from typing import Any, NamedTuple

from rankviz.core.spectrum import MOST_POINTS, NEARLY_ALL, SHARES, LayerSpectrum, Spectrum, grid, spaced
from rankviz.figures.style import (
    CHOSEN,
    ESTIMATED,
    MEASURED,
    SMALL,
    Drawing,
    Rows,
    draw,
    figure,
    heatmap,
    level,
    map_axes,
    rgba,
    scatter,
    vertical_line,
)
from rankviz.units import rounded_percent as percent

FEW = 32
"""Highest rank for a linear rank axis; above it the axis is logarithmic with a tick at each power of two."""
MOST_RANKS = 256
"""Maximum number of ranks in a figure; of more ranks, some are left out evenly along the axis."""
MOST_ROWS = 64
"""Maximum number of modules in the map; more rows could not be distinguished."""


class EnergyInfo(NamedTuple):
    """Content of the figure of energy by rank, in percent. kept: share of all updates' energy at each rank. weakest:
    smallest share of its own energy that any module keeps. ranks: empty for an adapter without any update. r: the rank
    to truncate to."""

    ranks: Sequence[int] = ()
    kept: Sequence[float] = ()
    weakest: Sequence[float] = ()
    r: int | None = None
    source: str = ""
    rows: Rows = ()


def energy_info(spectrum: Spectrum, *, r: int | None = None) -> EnergyInfo:
    """Return the energy kept at each rank from 1 to the trained rank. r: a rank to truncate to, which is marked."""
    if not spectrum.kept[-1]:
        return EnergyInfo()
    r = r if r and r < spectrum.r else None
    ranks = spaced(spectrum.r, MOST_RANKS, always=[r] if r else ())
    shares = [(k, spectrum.energy_kept(k), spectrum.weakest(k)) for k in ranks]
    return EnergyInfo(
        ranks=ranks,
        kept=[100 * kept for _, kept, _ in shares],
        weakest=[100 * weakest for _, _, weakest in shares],
        r=r,
        source=f"Spectrum of the adapter {spectrum.name}.",
        rows=[{"r": k, "energy_kept": kept, "weakest_module": weakest} for k, kept, weakest in shares],
    )


@figure
def energy_figure(info: EnergyInfo, *, height: int = 300) -> Drawing:
    """Draw the energy kept by rank, in total and of the weakest module, with the rank to truncate to and the level of
    nearly all energy. A click on a point reports its rank."""
    titles = {"height": height, "uirevision": "energy", "x_title": "rank after truncation", "y_title": "energy kept"}
    if not info.ranks:
        return draw([], x={}, y={}, message="No module has an update.", **titles)
    highest = info.ranks[-1]
    ticks: dict[str, Any] = {"dtick": 1 if highest <= FEW // 2 else 4, "range": [0.5, highest + 0.5]}
    if highest > FEW:
        powers = [2**k for k in range(highest.bit_length())]
        ticks = {"type": "log", "tickvals": powers, "ticktext": [str(power) for power in powers]}
    label = {"text": percent(NEARLY_ALL, 0), "x": 1, "xref": "paper", "xanchor": "right", "showarrow": False}
    nearly_all = level(100 * NEARLY_ALL, rgba(MEASURED, 0.5), "dot", 1)
    return draw(
        [
            _energy_line(info.ranks, info.weakest, "the module that keeps least", rgba(MEASURED, 0.45), 1.2),
            _energy_line(info.ranks, info.kept, "all updates", MEASURED, 2),
        ],
        x={"showgrid": False, **ticks},
        y={"range": [min(info.weakest) - 3, 101.5], "ticksuffix": " %"},
        shapes=[nearly_all, *([vertical_line(info.r, CHOSEN)] if info.r else [])],
        annotations=[label | {"y": 100 * NEARLY_ALL, "yanchor": "top", "font": {"size": SMALL}}],
        showlegend=True,
        **titles,
    )


def _energy_line(ranks: Sequence[int], shares: Sequence[float], name: str, colour: str, width: float) -> dict[str, Any]:
    return scatter(
        ranks,
        shares,
        customdata=[f"r{k}" for k in ranks],
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": width},
        marker={"size": 3 + 2 * width, "color": colour},
        hovertemplate=f"r = %{{x}}: {name}: %{{y:.2f}} %<extra></extra>",
    )


class ModuleCell(NamedTuple):
    """One module in one block. id: reported on a click. value: percent of energy, or a rank; None without an update."""

    id: str
    value: float | None
    text: str


class ModulesInfo(NamedTuple):
    """Content of the map of modules (rows) by blocks (columns). A cell is None where the block has no such module.
    low, high: ends of the colour scale. low_stands_out: True where low values have the strong colour. chosen: row and
    column of the framed cell. left_out: modules and blocks that are not drawn. rows: the map as a table."""

    modules: Sequence[str]
    blocks: Sequence[str]
    cells: Sequence[Sequence[ModuleCell | None]]
    title: str
    unit: str
    low: float
    high: float
    low_stands_out: bool
    chosen: tuple[int, int] | None
    left_out: str = ""
    source: str = ""
    rows: Rows = ()


NO_ADAPTER = ModulesInfo([], [], [], title="", unit="", low=0, high=1, low_stands_out=False, chosen=None)


def modules_info(
    spectrum: Spectrum,
    *,
    r: int | None = None,
    energy: float | None = None,
    ranks: Mapping[str, int] | None = None,
    chosen: str = "",
) -> ModulesInfo:
    """Return a map of the share of its energy that each module keeps at a rank, or of the rank it needs for a share.

    Args:
        r: One rank for all modules.
        energy: A share of energy from 0 to 1, in place of r: the map then shows ranks.
        ranks: Rank by module name that a resize would use, for the table.
        chosen: Name of the module to frame.
    """
    layout = grid(spectrum)
    modules = layout.rows[:MOST_ROWS]
    blocks = layout.blocks[: MOST_POINTS // len(modules)]
    inside = [[layout.cells.get((row, block), ()) for block in blocks] for row in modules]
    drawn = [[_standing_out(layers, r, energy) for layers in row] for row in inside]
    cells = [
        [layer and ModuleCell(layer.name, _value(layer, r, energy), _hover(layer, r)) for layer in row] for row in drawn
    ]
    values = [cell.value for row in cells for cell in row if cell and cell.value is not None]
    low, high = (min(values, default=0.0), 100.0) if energy is None else (0.0, max(values, default=1.0))
    whole = len(spectrum.layers) <= MOST_POINTS
    places = ((y, x) for y, row in enumerate(inside) for x, layers in enumerate(row) if chosen in _names(layers))
    left_out = ((modules, layout.rows, "modules"), (blocks, layout.blocks, "blocks"))
    return ModulesInfo(
        modules=modules,
        blocks=blocks,
        cells=cells,
        title=f"energy kept at r = {r}" if energy is None else f"rank for {100 * energy:g} %",
        unit=" %" if energy is None else "",
        low=min(low, high - 1e-6),
        high=high,
        low_stands_out=energy is None,
        chosen=next(places, None),
        left_out=", ".join(
            f"first {len(some)} of {len(every):,} {what}" for some, every, what in left_out if some != every
        ),
        source=f"Spectrum of the adapter {spectrum.name}.",
        rows=[_row(layer, ranks or {}) for layer in (spectrum.layers if whole else filter(None, chain(*drawn)))],
    )


def _names(layers: Sequence[LayerSpectrum]) -> list[str]:
    return [layer.name for layer in layers]


def _standing_out(layers: Sequence[LayerSpectrum], r: int | None, energy: float | None) -> LayerSpectrum | None:
    """Return the most demanding layer of a cell, which experts share: the one that keeps least energy or needs the
    highest rank. None for an empty cell."""
    if len(layers) < 2:
        return next(iter(layers), None)
    sign = -1 if energy is None else 1
    return max(layers, key=lambda layer: (not layer.is_dead, sign * (_value(layer, r, energy) or 0)))


def _value(layer: LayerSpectrum, r: int | None, energy: float | None) -> float | None:
    if layer.is_dead:
        return None
    return 100 * (layer.energy_kept(r or 1) or 0) if energy is None else float(layer.rank_for(energy))


def _hover(layer: LayerSpectrum, r: int | None) -> str:
    if layer.is_dead:
        return f"{escape(layer.name)}<br>no update"
    kept = f"r = {r} keeps {share_text(layer.energy_kept(r) or 0)}<br>" if r else ""
    needs = [f"{percent(share, 0)} needs r = {k}" for share, k in zip(SHARES[::-1], layer.needs[::-1], strict=True)]
    return f"{escape(layer.name)}<br>{kept}{', '.join(needs)}"


def share_text(share: float) -> str:
    """Return a share in percent, rounded down, so that "100.00 %" means all of it."""
    return f"{math.floor(1e4 * share) / 100:.2f} %"


def _row(layer: LayerSpectrum, ranks: Mapping[str, int]) -> dict[str, object]:
    return {
        "module": layer.name,
        "r": layer.r,
        "scale": layer.scale,
        **{f"rank_for_{share:g}": k for share, k in zip(SHARES, layer.needs, strict=True)},
        "effective_rank": layer.effective_rank,
        "stable_rank": layer.stable_rank,
        "norm": layer.norm,
        "truncated_to": ranks.get(layer.name, ""),
        "energy_kept": layer.energy_kept(ranks[layer.name]) if layer.name in ranks and not layer.is_dead else "",
    }


@figure
def modules_figure(info: ModulesInfo, *, height: int = 340) -> Drawing:
    """Draw one cell per module and block; a cell without an update has a ×."""
    shapes = []
    if info.chosen is not None:
        y, x = info.chosen
        box = {"type": "rect", "x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
        shapes.append(box | {"line": {"color": CHOSEN, "width": 2}})
    return draw(
        [_heat(info)] if info.modules else [],
        height=height,
        uirevision="heat",
        **map_axes(info.blocks),
        x_title=f"block ({info.left_out})" if info.left_out else "block",
        message="" if info.modules else "No adapter yet.",
        shapes=shapes,
    )


def _heat(info: ModulesInfo) -> dict[str, Any]:
    # A cell without update is drawn at the faint end, with its ×; a module that the block lacks is no cell.
    faint = info.high if info.low_stands_out else info.low
    values = [[cell and (faint if cell.value is None else cell.value) for cell in row] for row in info.cells]
    title = {"text": info.title, "side": "right", "font": {"size": SMALL}}
    return heatmap(
        info.blocks,
        info.modules,
        values,
        MEASURED,
        text=[["×" if cell and cell.value is None else "" for cell in row] for row in info.cells],
        texttemplate="%{text}",
        textfont={"size": SMALL},
        reversescale=info.low_stands_out,
        zmin=info.low,
        zmax=info.high,
        customdata=[[cell.id if cell else "" for cell in row] for row in info.cells],
        hovertext=[[cell.text if cell else "" for cell in row] for row in info.cells],
        hovertemplate="%{hovertext}<extra></extra>",
        colorbar={"thickness": 8, "outlinewidth": 0, "len": 0.9, "ticksuffix": info.unit, "title": title},
    )


class SpectrumInfo(NamedTuple):
    """Content of the figure of singular values: one module, and modules of the same kind in other blocks. chosen: None
    for a module without update; `empty` is then the sentence to show. r: the rank to truncate to, marked by a line;
    None for no line."""

    chosen: LayerSpectrum | None
    others: Sequence[LayerSpectrum] = ()
    r: int | None = None
    empty: str = ""
    source: str = ""
    rows: Rows = ()


NO_SPECTRUM = SpectrumInfo(None, empty="No adapter yet.")


def spectrum_info(spectrum: Spectrum, *, module: str = "", r: int | None = None) -> SpectrumInfo:
    """Return the singular values of one module and of its peers in other blocks. module: its full name; by default the
    module that needs the highest rank. r: a rank to truncate to, which is marked."""
    chosen = next((layer for layer in spectrum.layers if layer.name == module), None) or hardest_module(spectrum)
    layout = grid(spectrum)
    row = next(row for (row, _), inside in layout.cells.items() if chosen in inside)
    peers = [layout.cells[row, block][0] for block in layout.blocks if (row, block) in layout.cells]
    others = [layer for layer in peers if layer is not chosen and not layer.is_dead][: MOST_POINTS // (chosen.r + 1)]
    return SpectrumInfo(
        chosen=None if chosen.is_dead else chosen,
        others=others,
        r=r if r and r < chosen.r else None,
        empty=f"{escape(chosen.name)} has no update, so it has no singular values." if chosen.is_dead else "",
        source=f"Singular values of {chosen.name} in the adapter {spectrum.name}.",
        rows=[
            {"module": layer.name, "index": i, "singular_value": layer.singular_values[i - 1]}
            for layer in (chosen, *others)
            for i in _indices(layer)
        ],
    )


def _indices(layer: LayerSpectrum) -> list[int]:
    return spaced(len(layer.singular_values), MOST_RANKS)


def hardest_module(spectrum: Spectrum) -> LayerSpectrum:
    """Return the module that needs the highest rank to keep nearly all of its energy (the last of SHARES)."""
    return max(spectrum.layers, key=lambda layer: (layer.needs[-1], layer.energy))


@figure
def spectrum_figure(info: SpectrumInfo, *, height: int = 340) -> Drawing:
    """Draw singular values by index on a logarithmic axis, other blocks faintly."""
    traces = []
    if info.others:  # all in one trace, a gap after each: one trace per line would be slow
        x = [place for layer in info.others for place in (*_indices(layer), None)]
        y = [i and (layer.singular_values[i - 1] or None) for layer in info.others for i in (*_indices(layer), None)]
        look = {"line": {"color": rgba(ESTIMATED, 0.4), "width": 1}, "hoverinfo": "skip"}
        traces.append(scatter(x, y, mode="lines", name="the same module in other blocks", **look))
    if info.chosen is not None:
        index = _indices(info.chosen)
        strong = scatter(
            index,
            [info.chosen.singular_values[i - 1] or None for i in index],
            mode="lines+markers",
            name=escape(info.chosen.name),
            line={"color": MEASURED, "width": 2},
            marker={"size": 5, "color": MEASURED},
            hovertemplate="σ<sub>%{x}</sub> = %{y:.4g}<extra></extra>",
        )
        traces.append(strong)
    values = [value for trace in traces for value in trace["y"] if value]
    decades = math.log10(max(values) / min(values)) if values else 0.0
    few = info.chosen is not None and info.chosen.r <= FEW // 2
    return draw(
        traces,
        height=height,
        uirevision="spectrum",
        # A tick for each index where there are few, since there is no index between two.
        x={"rangemode": "tozero", "showgrid": False, **({"dtick": 1} if few else {})},
        y={"type": "log", "exponentformat": "power", "dtick": 1 if decades >= 2 else "D2"},
        x_title="index of the singular value",
        y_title="singular value",
        message=info.empty,
        shapes=[vertical_line(info.r + 0.5, CHOSEN)] if info.r else [],
        showlegend=True,
    )
