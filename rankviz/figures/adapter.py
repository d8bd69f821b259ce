"""Figures of one trained adapter: its singular values, and the energy that each rank keeps, in total and by module."""

import math
from collections.abc import Iterable, Mapping
from html import escape
from itertools import chain
from typing import Any

from rankviz.core.spectrum import NEARLY_ALL, SHARES, LayerSpectrum, Losses, Spectrum, grid
from rankviz.figures import style
from rankviz.units import rounded_percent as percent

FEW = 32
"""Highest rank for a linear rank axis; above it the axis is logarithmic with a tick at each power of two."""
MOST_POINTS = 2000
MOST_RANKS = 256
"""Maximum number of ranks in a figure; of more ranks, some are left out evenly along the axis."""
MOST_ROWS = 64
"""Maximum number of modules in the map; more rows could not be distinguished."""


def spaced(count: int, *, always: Iterable[int] = ()) -> list[int]:
    """Return numbers from 1 to count: all, or about MOST_RANKS on a log scale with both ends, and those in `always`."""
    if count <= MOST_RANKS:
        return list(range(1, count + 1))
    return sorted({round(count ** (i / (MOST_RANKS - 1))) for i in range(MOST_RANKS)} | set(always))


def share_text(share: float | None) -> str:
    """Return a share in percent, rounded down, so that "100.00 %" means all of it; "–" for None."""
    return "–" if share is None else f"{math.floor(1e4 * share) / 100:.2f} %"


def hardest_module(spectrum: Spectrum) -> LayerSpectrum:
    """Return the module that needs the highest rank to keep nearly all of its energy."""
    return max(spectrum.layers, key=lambda layer: (layer.rank_for(NEARLY_ALL), layer.energy))


def energy_figure(
    spectrum: Spectrum, measured: Losses | None = None, *, r: int | None = None, height: int = 300
) -> style.Drawing:
    """Draw the percentage of all updates' energy that each rank keeps, from 1 to the trained rank, with the level of
    nearly all energy; and below it the measured losses. A click on a point reports its rank. r: a rank to truncate to,
    which is marked."""
    titles = {"height": height, "uirevision": "energy", "x_title": "rank after truncation", "y_title": "energy kept"}
    if not spectrum.kept[-1]:
        return style.draw([], x={}, y={}, message="No module has an update.", **titles)
    r, measured = r if r and r < spectrum.r else None, measured or {}
    ranks = spaced(spectrum.r, always=[*([r] if r else ()), *measured])
    kept, highest = [100 * spectrum.energy_kept(k) for k in ranks], ranks[-1]
    ticks: dict[str, Any] = {"dtick": 1 if highest <= FEW // 2 else 4, "range": [0.5, highest + 0.5]}
    if highest > FEW:
        powers = [2**k for k in range(highest.bit_length())]
        ticks = {"type": "log", "tickvals": powers, "ticktext": [str(power) for power in powers]}
    line = style.scatter(
        ranks,
        kept,
        customdata=[f"r{k}" for k in ranks],
        mode="lines+markers",
        line={"color": style.MEASURED, "width": 2},
        marker={"size": 7, "color": style.MEASURED},
        hovertemplate="r = %{x}: %{y:.2f} %<extra></extra>",
        showlegend=False,
    )
    losses = []
    for is_trained, name, symbol in (
        (False, "measured loss", "circle"),
        (True, "after some more steps", "circle-open"),
    ):
        if of := {k: loss for k, (loss, steps) in measured.items() if bool(steps) == is_trained}:
            looks = {"yaxis": "y2", "marker": {"size": 8, "symbol": symbol, "color": style.FAST_CURVE}}
            hover = {"customdata": [f"r{k}" for k in of], "hovertemplate": "r = %{x}: %{y:.4f} nats"}
            losses.append(style.scatter([*of], [*of.values()], name=name, **looks, **hover))
    nearly_all = style.level(100 * NEARLY_ALL, style.rgba(style.MEASURED, 0.5), "dot", percent(NEARLY_ALL, 0))
    upper, lower = ({"domain": [0.46, 1]}, {"anchor": "y2"}) if losses else ({}, {})
    drawing = style.draw(
        [line, *losses],
        x={"showgrid": False, **ticks, **lower},
        y={"range": [min(kept) - 3, 101.5], "ticksuffix": " %", **upper},
        rows=[
            {"r": k, "energy_kept": spectrum.energy_kept(k)}
            | dict(zip(("loss", "steps_after_truncation"), measured.get(k, ("", "")), strict=True) if losses else ())
            for k in ranks
        ],
        source=f"Spectrum of the adapter {spectrum.name}.",
        shapes=[nearly_all, *([style.vertical_line(r, style.CHOSEN)] if r else [])],
        showlegend=True,
        **titles,
    )
    if losses:
        axis = {name: each for name, each in drawing.layout["yaxis"].items() if name not in ("range", "ticksuffix")}
        title = axis["title"] | {"text": "held-out loss, nats"}
        drawing.layout["yaxis2"] = axis | {"domain": [0, 0.34], "title": title}
    return drawing


def _share(layer: LayerSpectrum, r: int) -> float:
    """Return the energy kept at rank r in percent; 100 for a module without an update, which loses nothing."""
    kept = layer.energy_kept(r)
    return 100.0 if kept is None else 100 * kept


def modules_figure(
    spectrum: Spectrum, *, r: int, ranks: Mapping[str, int] | None = None, chosen: str = "", height: int = 340
) -> style.Drawing:
    """Draw one cell per module and block: one layer, or of several experts the one that keeps the least energy. A cell
    without an update has a ×.

    Args:
        spectrum: The adapter.
        r: One rank for all modules.
        ranks: Rank by module name that a resize would use, for the table.
        chosen: Name of the module to frame.
    """
    (every_module, every_block, layers_at), ranks = grid(spectrum), ranks or {}
    modules = every_module[:MOST_ROWS]
    blocks = every_block[: MOST_POINTS // len(modules)]
    inside = [[layers_at.get((row, block), ()) for block in blocks] for row in modules]
    drawn = [[min(layers, key=lambda layer: _share(layer, r), default=None) for layers in row] for row in inside]
    places = (
        (y, x)
        for y, row in enumerate(inside)
        for x, layers in enumerate(row)
        if any(layer.name == chosen for layer in layers)
    )

    def hover(layer: LayerSpectrum) -> str:
        if layer.is_dead:
            return f"{escape(layer.name)}<br>no update"
        needs = ", ".join(f"{percent(share, 0)} needs r = {layer.rank_for(share)}" for share in SHARES[::-1])
        measures = f"effective rank {layer.effective_rank:.1f}, stable rank {layer.stable_rank:.1f}"
        kept = share_text(layer.energy_kept(r))
        return f"{escape(layer.name)}, r = {layer.r}<br>r = {r} keeps {kept}<br>{needs}<br>{measures}"

    left_out = ((modules, every_module, "modules"), (blocks, every_block, "blocks"))
    whole = len(spectrum.layers) <= MOST_POINTS
    values = [[cell and _share(cell, r) for cell in row] for row in drawn]
    lowest = min((value for row in values for value in row if value is not None), default=0.0)
    title = {"text": f"energy kept at r = {r}", "side": "right", "font": {"size": style.SMALL}}
    look = {
        "text": [["×" if cell and cell.is_dead else "" for cell in row] for row in drawn],
        "texttemplate": "%{text}",
        "textfont": {"size": style.SMALL},
        "reversescale": True,
        "zmin": min(lowest, 100 - 1e-6),
        "zmax": 100.0,
        "customdata": [[cell.name if cell else "" for cell in row] for row in drawn],
        "hovertext": [[hover(cell) if cell else "" for cell in row] for row in drawn],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "colorbar": {"ticksuffix": " %", "title": title},
    }
    return style.module_map(
        modules,
        blocks,
        values,
        style.MEASURED,
        look,
        chosen=next(places, None),
        left_out=", ".join(
            f"first {len(some)} of {len(every):,} {what}" for some, every, what in left_out if some != every
        ),
        height=height,
        uirevision="heat",
        source=f"Spectrum of the adapter {spectrum.name}.",
        rows=[
            {
                "module": layer.name,
                "r": layer.r,
                "scale": layer.scale,
                **{f"rank_for_{share:g}": layer.rank_for(share) for share in SHARES},
                **{name: getattr(layer, name) for name in ("effective_rank", "stable_rank", "norm")},
                "truncated_to": ranks.get(layer.name, ""),
                "energy_kept": layer.energy_kept(ranks[layer.name]) if layer.name in ranks and layer.energy else "",
            }
            for layer in (spectrum.layers if whole else filter(None, chain(*drawn)))
        ],
    )


def spectrum_figure(spectrum: Spectrum, *, module: str = "", r: int | None = None, height: int = 340) -> style.Drawing:
    """Draw the singular values of one module by index on a logarithmic axis. module: its full name; by default the
    module that needs the highest rank. r: a rank to truncate to, which is marked."""
    chosen = next((layer for layer in spectrum.layers if layer.name == module), None) or hardest_module(spectrum)
    values = {i: chosen.singular_values[i - 1] for i in spaced(chosen.r)}
    line = style.scatter(
        [*values],
        [value or None for value in values.values()],
        mode="lines+markers",
        line={"color": style.MEASURED, "width": 2},
        marker={"size": 5, "color": style.MEASURED},
        hovertemplate="σ<sub>%{x}</sub> = %{y:.4g}<extra></extra>",
    )
    above_0 = list(filter(None, values.values()))
    decades = math.log10(max(above_0) / min(above_0)) if above_0 else 0.0
    few = chosen.is_dead or chosen.r <= FEW // 2
    return style.draw(
        [] if chosen.is_dead else [line],
        height=height,
        uirevision="spectrum",
        # A tick for each index where there are few, since there is no index between two.
        x={"rangemode": "tozero", "showgrid": False, **({"dtick": 1} if few else {})},
        y={"type": "log", "exponentformat": "power", "dtick": 1 if decades >= 2 else "D2"},
        x_title="index of the singular value",
        y_title="singular value",
        message=f"{escape(chosen.name)} has no update, so it has no singular values." if chosen.is_dead else "",
        rows=[{"module": chosen.name, "index": i, "singular_value": value} for i, value in values.items()],
        source=f"Singular values of {chosen.name} in the adapter {spectrum.name}.",
        shapes=[style.vertical_line(r + 0.5, style.CHOSEN)] if r and r < chosen.r else [],
    )
