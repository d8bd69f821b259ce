"""A trained adapter by module and block: the energy that one rank keeps, or the rank that an energy needs. Measured."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import chain
from math import floor
from typing import Any, NamedTuple

from rankviz.core.spectrum import MOST_POINTS, SHARES, Grid, LayerSpectrum, Spectrum, grid, grouped
from rankviz.figures.style import CHOSEN, MEASURED, SMALL, Drawing, draw, figure, rgba
from rankviz.units import rounded_percent as percent

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
    drawn = [[_standing_out(layers, r, energy) for layers in row] for row in inside]
    cells = [
        [layer and ModuleCell(layer.name, _value(layer, r, energy), _hover(layer, r)) for layer in row] for row in drawn
    ]
    values = [cell.value for row in cells for cell in row if cell and cell.value is not None]
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
        chosen=next(
            (
                (y, x)
                for y, row in enumerate(inside)
                for x, layers in enumerate(row)
                if any(layer.name == chosen for layer in layers)
            ),
            None,
        ),
        left_out=_left_out(layout, modules, groups),
        source=f"Spectrum of the adapter {spectrum.name}.",
        rows=[
            _row(layer, ranks or {})
            for layer in (spectrum.layers if len(spectrum.layers) <= MOST_POINTS else filter(None, chain(*drawn)))
        ],
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
    parts = [
        f"one column for {len(groups[0])} blocks, with the module that stands out" if len(groups[0]) > 1 else "",
        f"{len(modules)} of {len(layout.rows):,} modules: those that need the highest ranks"
        if len(modules) < len(layout.rows)
        else "",
    ]
    return "; ".join(filter(None, parts))


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
    every = max(1, -(-len(info.blocks) // 8))
    return draw(
        [_heat(info)] if info.modules else [],
        height=height,
        uirevision="heat",
        x={
            "showgrid": False,
            "type": "category",
            "tickangle": 0,
            "tickmode": "array",
            "tickvals": info.blocks[::every],
        },
        y={"showgrid": False, "type": "category", "autorange": "reversed"},
        x_title=f"block ({info.left_out})" if info.left_out else "block",
        message="" if info.modules else empty,
        shapes=_frame(info),
    )


def _heat(info: ModulesInfo) -> dict[str, Any]:
    faint = info.high if info.low_stands_out else info.low
    cells = info.cells
    return {
        "type": "heatmap",
        "x": info.blocks,
        "y": info.modules,
        # A cell without update is drawn at the faint end, with its ×; a module that the block lacks is no cell.
        "z": [[None if cell is None else faint if cell.value is None else cell.value for cell in row] for row in cells],
        "text": [["×" if cell is not None and cell.value is None else "" for cell in row] for row in cells],
        "texttemplate": "%{text}",
        "textfont": {"size": SMALL},
        "colorscale": [[0, rgba(MEASURED, 0.12)], [1, rgba(MEASURED, 0.95)]],
        "reversescale": info.low_stands_out,
        "zmin": info.low,
        "zmax": info.high,
        "xgap": 1,
        "ygap": 1,
        "customdata": [["" if cell is None else cell.id for cell in row] for row in cells],
        "hovertext": [["" if cell is None else cell.text for cell in row] for row in cells],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "hoverongaps": False,
        "colorbar": {"thickness": 8, "outlinewidth": 0, "len": 0.9, "ticksuffix": info.unit}
        | {"title": {"text": info.title, "side": "right", "font": {"size": SMALL}}},
    }


def _frame(info: ModulesInfo) -> list[dict[str, Any]]:
    if info.chosen is None:
        return []
    y, x = info.chosen
    box = {"type": "rect", "x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
    return [box | {"line": {"color": CHOSEN, "width": 2}}]
