"""Pictures of one trained adapter: its singular values, and the energy that ranks keep, in all and by module."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import chain
from math import floor
from typing import Any, NamedTuple

from rankviz.core.lora.targets import listed
from rankviz.core.spectrum import (
    MOST_POINTS,
    NEARLY_ALL,
    QUANTILES,
    SHARES,
    Grid,
    LayerSpectrum,
    Spectrum,
    grid,
    grouped,
    quantiles,
    spaced,
)
from rankviz.figures.style import (
    CHOSEN,
    ESTIMATED,
    MEASURED,
    SMALL,
    Drawing,
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
"""Up to this rank the axis is linear; above, in powers of two."""
MOST_RANKS = 256
"""That are drawn: of a higher rank, some are left out, evenly on the axis."""


class EnergyInfo(NamedTuple):
    """What the figure of energy by rank shows, in percent."""

    ranks: Sequence[int] = ()
    """Empty for an adapter without any update."""
    kept: Sequence[float] = ()
    """Of all updates together."""
    weakest: Sequence[float] = ()
    """Of the module that keeps least."""
    r: int | None = None
    """A rank to truncate to."""
    left_out: int = 0
    """Ranks that are not drawn."""
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()


def energy_info(spectrum: Spectrum, *, r: int | None = None) -> EnergyInfo:
    """Energy kept at each rank from 1 to the trained one."""
    if not spectrum.kept[-1]:
        return EnergyInfo()
    ranks = spaced(spectrum.r, MOST_RANKS, always=[r] if r and r < spectrum.r else ())
    shares = [(k, spectrum.energy_kept(k), spectrum.weakest(k)) for k in ranks]
    return EnergyInfo(
        ranks=ranks,
        kept=[100 * kept for _, kept, _ in shares],
        weakest=[100 * weakest for _, _, weakest in shares],
        r=r if r and r < spectrum.r else None,
        left_out=spectrum.r - len(ranks),
        source=f"Spectrum of the adapter {spectrum.name}.",
        rows=[{"r": k, "energy_kept": kept, "weakest_module": weakest} for k, kept, weakest in shares],
    )


@figure
def energy_figure(info: EnergyInfo, *, height: int = 300) -> Drawing:
    """Two measured lines by rank, the rank to truncate to, and where nearly all of the energy is. A click on a point
    reports its rank."""
    lines = [
        _energy_line(info.ranks, info.weakest, "the module that keeps least", rgba(MEASURED, 0.45), 1.2),
        _energy_line(info.ranks, info.kept, "all updates", MEASURED, 2),
    ]
    look = {"height": height, "uirevision": "energy"}
    drawn = f" ({len(info.ranks)} of {len(info.ranks) + info.left_out:,} ranks drawn)" if info.left_out else ""
    titles = {"x_title": f"rank after truncation{drawn}", "y_title": "energy kept"}
    if not info.ranks:
        return draw([], x={}, y={}, message="No module has an update.", **look, **titles)
    label = {"text": percent(NEARLY_ALL, 0), "x": 1, "xref": "paper", "xanchor": "right", "showarrow": False}
    nearly_all = level(100 * NEARLY_ALL, rgba(MEASURED, 0.5), "dot", 1)
    return draw(
        lines,
        x={"showgrid": False, **_ticks(info.ranks[-1])},
        y={"range": [min(info.weakest) - 3, 101.5], "ticksuffix": " %"},
        shapes=[
            nearly_all,
            *([vertical_line(info.r, CHOSEN)] if info.r else []),
        ],
        annotations=[label | {"y": 100 * NEARLY_ALL, "yanchor": "top", "font": {"size": SMALL}}],
        showlegend=True,
        **look,
        **titles,
    )


def _ticks(highest: int) -> dict[str, Any]:
    if highest <= FEW:
        return {"dtick": 1 if highest <= FEW // 2 else 4, "range": [0.5, highest + 0.5]}
    powers = [2**k for k in range(highest.bit_length())]
    return {"type": "log", "tickvals": powers, "ticktext": [str(power) for power in powers]}


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


MOST_ROWS = 64
"""Of the map: more cannot be told apart."""


class ModuleCell(NamedTuple):
    """One module in one block. id: what a click reports. value: None where there is no update, which is drawn as ×."""

    id: str
    value: float | None
    text: str


class ModulesInfo(NamedTuple):
    """What the map of modules shows: modules (rows) by blocks, or groups of neighbouring ones (columns)."""

    modules: Sequence[str]
    blocks: Sequence[str]
    cells: Sequence[Sequence[ModuleCell | None]]
    """None: the block lacks the module."""
    title: str
    unit: str
    low: float
    high: float
    low_stands_out: bool
    chosen: tuple[int, int] | None
    """The row and the column of the cell that is framed."""
    left_out: str = ""
    """What is not shown of a large adapter."""
    source: str = ""
    rows: Sequence[Mapping[str, object]] = ()
    """The spectrum's numbers by module, as a table."""


NO_ADAPTER = ModulesInfo([], [], [], title="", unit="", low=0, high=1, low_stands_out=False, chosen=None)


def modules_info(
    spectrum: Spectrum,
    *,
    r: int | None = None,
    energy: float | None = None,
    ranks: Mapping[str, int] | None = None,
    chosen: str = "",
) -> ModulesInfo:
    """The share of its energy that each module keeps at one rank, or the rank that it needs for a share.

    Args:
        spectrum: The adapter.
        r: One rank for all modules.
        energy: A share from 0 to 1 instead of a rank.
        ranks: The rank that each module is to be resized to, for the table.
        chosen: The name of the module to frame.
    """
    layout = grid(spectrum)
    modules = _standing_out_rows(layout)
    groups = grouped(layout.blocks, MOST_POINTS // len(modules))
    inside = [
        [[each for block in group for each in layout.cells.get((row, block), ())] for group in groups]
        for row in modules
    ]
    every = [((y, x), layers) for y, row in enumerate(inside) for x, layers in enumerate(row)]
    drawn = [[_standing_out(layers, r, energy) for layers in row] for row in inside]
    cells = [
        [layer and ModuleCell(layer.name, _value(layer, r, energy), _hover(layer, r)) for layer in row] for row in drawn
    ]
    values = [cell.value for row in cells for cell in row if cell and cell.value is not None]
    listed_layers = spectrum.layers if len(spectrum.layers) <= MOST_POINTS else filter(None, chain(*drawn))
    low, high = (min(values, default=0.0), 100.0) if energy is None else (0.0, max(values, default=1.0))
    return ModulesInfo(
        modules=modules,
        blocks=[group[0] if len(group) == 1 else f"{group[0]}–{group[-1]}" for group in groups],
        cells=cells,
        title=f"energy kept at r = {r}" if energy is None else f"rank for {100 * energy:g} %",
        unit=" %" if energy is None else "",
        low=min(low, high - 1e-6),
        high=high,
        low_stands_out=energy is None,
        chosen=next((place for place, layers in every if any(layer.name == chosen for layer in layers)), None),
        left_out=_left_out(layout, modules, groups),
        source=f"Spectrum of the adapter {spectrum.name}.",
        rows=[_row(layer, ranks or {}) for layer in listed_layers],
    )


def _standing_out_rows(layout: Grid) -> Sequence[str]:
    """All modules or, of too many, those that need the highest ranks."""
    if len(layout.rows) <= MOST_ROWS:
        return layout.rows
    needs = {row: 0 for row in layout.rows}
    for (row, _), layers in layout.cells.items():
        needs[row] = max(needs[row], *(layer.needs[-1] for layer in layers))
    highest = set(sorted(needs, key=needs.get, reverse=True)[:MOST_ROWS])
    return [row for row in layout.rows if row in highest]


def _left_out(layout: Grid, modules: Sequence[str], groups: Sequence[Sequence[str]]) -> str:
    """What a map of a large adapter does not show, as the end of its axis title."""
    parts = []
    if len(groups[0]) > 1:
        parts.append(f"one column for {len(groups[0])} blocks, with the module that stands out")
    if len(modules) < len(layout.rows):
        parts.append(f"{len(modules)} of {len(layout.rows):,} modules: those that need the highest ranks")
    return "; ".join(parts)


def _standing_out(layers: Sequence[LayerSpectrum], r: int | None, energy: float | None) -> LayerSpectrum | None:
    """Of several in one cell the one that keeps least, or needs the highest rank; one without update comes last."""
    if len(layers) < 2:
        return next(iter(layers), None)
    sign = -1 if energy is None else 1
    return max(layers, key=lambda layer: (not layer.is_dead, sign * (_value(layer, r, energy) or 0)))


def _value(layer: LayerSpectrum, r: int | None, energy: float | None) -> float | None:
    if layer.is_dead:
        return None
    return 100 * (layer.energy_kept(r or 1) or 0) if energy is None else float(layer.rank_for(energy))


def _hover(layer: LayerSpectrum, r: int | None) -> str:
    name = escape(layer.name)
    if layer.is_dead:
        return f"{name}<br>no update"
    kept = f"r = {r} keeps {share_text(layer.energy_kept(r) or 0)}<br>" if r else ""
    needs = ", ".join(
        f"{percent(share, 0)} needs r = {k}" for share, k in zip(SHARES[::-1], layer.needs[::-1], strict=True)
    )
    return f"{name}<br>{kept}{needs}"


def share_text(share: float) -> str:
    """A share in percent, rounded down: 100 % is all of it."""
    return f"{floor(1e4 * share) / 100:.2f} %"


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
def modules_figure(info: ModulesInfo, *, height: int = 340, empty: str = "No adapter yet.") -> Drawing:
    """One cell per module and block; a cell without an update has a ×."""
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
        message="" if info.modules else empty,
        shapes=shapes,
    )


def _heat(info: ModulesInfo) -> dict[str, Any]:
    faint = info.high if info.low_stands_out else info.low
    # A cell without update is drawn at the faint end, with its ×; a module that the block lacks is no cell.
    values = [[cell and (faint if cell.value is None else cell.value) for cell in row] for row in info.cells]
    map_of = heatmap(info.blocks, info.modules, values, MEASURED)
    title = {"text": info.title, "side": "right", "font": {"size": SMALL}}
    return map_of | {
        "text": [["×" if cell is not None and cell.value is None else "" for cell in row] for row in info.cells],
        "texttemplate": "%{text}",
        "textfont": {"size": SMALL},
        "reversescale": info.low_stands_out,
        "zmin": info.low,
        "zmax": info.high,
        "customdata": [["" if cell is None else cell.id for cell in row] for row in info.cells],
        "hovertext": [["" if cell is None else cell.text for cell in row] for row in info.cells],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "colorbar": map_of["colorbar"] | {"ticksuffix": info.unit, "title": title},
    }


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
    traces, few = [], info.chosen is not None and len(info.chosen.values) <= MOST_TICKS
    if info.others:  # all in one trace, a gap after each: one trace per line would be slow
        x = [place for line in info.others for place in (*line.index, None)]
        y = [value or None for line in info.others for value in (*line.values, None)]
        look = {"line": {"color": rgba(ESTIMATED, 0.4), "width": 1}, "hoverinfo": "skip"}
        traces.append(scatter(x, y, mode="lines", name=info.others_name, **look))
    if info.chosen is not None:
        strong = scatter(
            info.chosen.index,
            [value or None for value in info.chosen.values],
            mode="lines+markers",
            name=escape(info.chosen.name),
            line={"color": MEASURED, "width": 2},
            marker={"size": 5, "color": MEASURED},
            hovertemplate="σ<sub>%{x}</sub> = %{y:.4g}<extra></extra>",
        )
        traces.append(strong)
    values = [value for line in (*filter(None, [info.chosen]), *info.others) for value in line.values if value > 0]
    decades = math.log10(max(values) / min(values)) if values else 0.0
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
