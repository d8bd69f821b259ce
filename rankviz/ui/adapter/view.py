"""What the Adapter tab shows of a spectrum: a sentence, numbers in a row, two pictures, a table, a suggestion."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from math import floor
from pathlib import PurePath
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.core.spectrum.grid import Grid, grid
from rankviz.core.spectrum.rank_pattern import Ranks, suggested
from rankviz.core.spectrum.spectrum import LayerSpectrum, Spectrum, in_words
from rankviz.figures import HeatCell, SpectrumLine, heat_figure, spectrum_figure
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.controls import code_html
from rankviz.ui.parts.html import Cell, Figure, Row
from rankviz.ui.wiring import notice_html

if TYPE_CHECKING:
    from rankviz.trained.resize import ResizePlan

ROWS_SHOWN = 1000
NAMED = 4
SUGGESTED_ENERGY = 0.99
HEADERS = (
    "Module", "r", "Rank for 90 %", "Rank for 99 %", "Effective rank", "Stable rank", "Norm", "Cut to", "Energy kept",
)  # fmt: skip
CAUTION = (
    "Energy is of the weights, not of the loss: what is cut may matter more or less than its share. Evaluate the "
    "resized adapter before you ship it."
)
WHAT_RANKS_MEAN = (
    "Effective rank: the exponential of the entropy of the singular values (Roy and Vetterli 2007). Stable rank: "
    "squared Frobenius norm over squared spectral norm (Rudelson and Vershynin 2007)."
)


class Asked(NamedTuple):
    """What the adapter is to be cut to."""

    r: int | None
    energy: float | None
    dtype: str | None


class AdapterView(NamedTuple):
    notice: str
    top: str
    heat: str
    values: str
    table: str
    pattern: str
    sizes: str
    make: Any


def empty_view(how: str) -> AdapterView:
    say = "No adapter yet."
    return AdapterView(
        notice="",
        top=html.paragraphs(
            "Which rank does a trained adapter really use? Drop one in on the left.", how, css="rv-empty"
        ),
        heat=chart_value(
            heat_figure([], [], [], title="", unit="", low=0, high=1, chosen=None, height=300, say=say), [], file="heat"
        ),
        values=chart_value(spectrum_figure(None, [], height=320, say=say), [], file="singular-values"),
        table="",
        pattern="",
        sizes="",
        make=gr.Button(interactive=False),
    )


def adapter_view(found: Spectrum, asked: Asked, plan: "ResizePlan | None", cell: str) -> AdapterView:
    cells = grid(found)
    ranks = {layer.name: plan.by_module[layer.module] for layer in found.layers} if plan else {}
    chosen = next((layer for layer in found.layers if layer.name == cell), None) or _busiest(found)
    return AdapterView(
        notice=notice_html(*found.notes),
        top=_top(found),
        heat=_heat(found, cells, asked, ranks, chosen),
        values=_values(cells, chosen, ranks.get(chosen.name)),
        table=_table(found, ranks, chosen),
        pattern=_pattern(found, asked.energy or SUGGESTED_ENERGY),
        sizes=_sizes(plan, ranks) if plan else "",
        make=gr.Button(interactive=plan is not None),
    )


def _busiest(found: Spectrum) -> LayerSpectrum:
    """The module to begin with: the one that needs most."""
    return max(found.layers, key=lambda layer: (layer.rank_for(0.99), layer.energy))


def _top(found: Spectrum) -> str:
    used = [layer for layer in found.layers if not layer.is_dead]
    scales = {layer.scale for layer in found.layers}
    scale = f"scale {next(iter(scales)):.4g}" if len(scales) == 1 else f"scale {min(scales):.4g} to {max(scales):.4g}"
    row = [
        Figure("Trained at", f"r = {found.r}", sub=f"α {found.lora_alpha:g}, {scale}, {found.dtype}"),
        Figure("99 % of the energy", f"r = {found.rank_for(0.99)}", sub=f"90 %: r = {found.rank_for(0.9)}"),
        _middle("Effective rank", [layer.effective_rank for layer in used]),
        _middle("Stable rank", [layer.stable_rank for layer in used]),
        Figure(
            "Without an update",
            f"{len(found.dead)} of {len(found.layers)}",
            sub=_named(found.dead)
            or (f"{len(found.faint)} under 1 % of the median norm" if found.faint else "none dead"),
        ),
    ]
    base = f"{found.name}, {units.file_size(found.file_bytes)}" + (
        f", on {_base_name(found.base_model)}" if found.base_model else ""
    )
    return (
        f'<div class="rv-caption"><p>{escape(base)}</p></div>'
        f'<div class="rv-advice"><p>{escape(in_words(found))}</p></div>{html.figures(row)}'
        + html.paragraphs(f"{WHAT_RANKS_MEAN} {CAUTION}")
    )


def _base_name(base_model: str) -> str:
    """A base by its Hub id, or a folder by its name alone: where it lies says nothing."""
    path = PurePath(base_model)
    return path.name if path.is_absolute() else base_model


def _middle(name: str, values: Sequence[float]) -> Figure:
    if not values:
        return Figure(name, "–", sub="no module has an update")
    return Figure(name, f"{median(values):.1f}", sub=f"median; {min(values):.1f} to {max(values):.1f} by module")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _heat(found: Spectrum, cells: Grid, asked: Asked, ranks: Mapping[str, int], chosen: LayerSpectrum) -> str:
    """At one rank the energy that it keeps; by energy the rank that it takes."""
    by_energy = asked.energy is not None
    layers = [[_shown(cells.cells.get((row, block), ())) for block in cells.blocks] for row in cells.rows]

    def value(layer: LayerSpectrum) -> float | None:
        if layer.is_dead:
            return None
        return float(layer.rank_for(asked.energy)) if by_energy else 100 * (layer.energy_kept(asked.r or 1) or 0)

    drawn = [[layer and HeatCell(layer.name, value(layer), _hover(layer, asked)) for layer in row] for row in layers]
    values = [cell.value for row in drawn for cell in row if cell and cell.value is not None]
    low, high = (0.0, max(values, default=1.0)) if by_energy else (min(values, default=0.0), 100.0)
    figure = heat_figure(
        cells.rows,
        cells.blocks,
        drawn,
        title=f"rank for {100 * asked.energy:g} %" if by_energy else f"energy kept at r = {asked.r}",
        unit="" if by_energy else " %",
        low=min(low, high - 1e-6),
        high=high,
        dark_is_low=not by_energy,
        chosen=next((place for place, inside in cells.cells.items() if chosen in inside), None),
        height=300,
    )
    rows = [_csv_row(layer, ranks) for layer in found.layers]
    return chart_value(figure, rows, file="adapter-modules", source=f"Spectrum of the adapter {found.name}.")


def _shown(layers: Sequence[LayerSpectrum]) -> LayerSpectrum | None:
    """Of several in one cell the one that needs the highest rank."""
    return max(layers, key=lambda layer: layer.rank_for(0.99), default=None)


def _hover(layer: LayerSpectrum, asked: Asked) -> str:
    name = escape(layer.name)
    if layer.is_dead:
        return f"{name}<br>no update"
    kept = f"r = {asked.r} keeps {_kept(layer.energy_kept(asked.r) or 0)}<br>" if asked.r else ""
    return f"{name}<br>{kept}99 % needs r = {layer.rank_for(0.99)}, 90 % r = {layer.rank_for(0.9)}"


def _csv_row(layer: LayerSpectrum, ranks: Mapping[str, int]) -> dict[str, Any]:
    return {
        "module": layer.name,
        "r": layer.r,
        "scale": layer.scale,
        "rank_for_0.9": layer.rank_for(0.9),
        "rank_for_0.99": layer.rank_for(0.99),
        "effective_rank": layer.effective_rank,
        "stable_rank": layer.stable_rank,
        "norm": layer.norm,
        "cut_to": ranks.get(layer.name, ""),
        "energy_kept": layer.energy_kept(ranks[layer.name]) if layer.name in ranks and not layer.is_dead else "",
    }


def _values(cells: Grid, chosen: LayerSpectrum, k: int | None) -> str:
    row = next(row for (row, _), inside in cells.cells.items() if chosen in inside)
    peers = [cells.cells[row, block][0] for block in cells.blocks if (row, block) in cells.cells]
    others = [layer for layer in peers if layer is not chosen and not layer.is_dead]
    figure = spectrum_figure(
        None if chosen.is_dead else SpectrumLine(escape(chosen.name), chosen.singular_values),
        [SpectrumLine(escape(layer.name), layer.singular_values) for layer in others],
        r=k if k and k < chosen.r else None,
        height=320,
        say=f"{chosen.name} has no update, so no singular values." if chosen.is_dead else "",
    )
    rows = [
        {"module": layer.name, "index": i, "singular_value": value}
        for layer in (chosen, *others)
        for i, value in enumerate(layer.singular_values, 1)
    ]
    return chart_value(figure, rows, file="singular-values")


def _table(found: Spectrum, ranks: Mapping[str, int], chosen: LayerSpectrum) -> str:
    rows = [
        Row(cells=_cells(layer, ranks.get(layer.name)), pick=layer.name, chosen=layer is chosen)
        for layer in found.layers[:ROWS_SHOWN]
    ]
    left_out = len(found.layers) - ROWS_SHOWN
    more = html.paragraphs(f"{left_out:,} more are in the CSV of the picture above.") if left_out > 0 else ""
    return html.table(HEADERS, rows, label="Modules") + more


def _cells(layer: LayerSpectrum, k: int | None) -> Sequence[Cell | str]:
    if layer.is_dead:
        return (layer.name, str(layer.r), "no update", *("–",) * 4, str(k or "–"), "–")
    kept = layer.energy_kept(k) if k else None
    return (
        layer.name,
        str(layer.r),
        str(layer.rank_for(0.9)),
        str(layer.rank_for(0.99)),
        f"{layer.effective_rank:.1f}",
        f"{layer.stable_rank:.2f}",
        f"{layer.norm:.3g}",
        str(k or "–"),
        _kept(kept) if kept is not None else "–",
    )


def _kept(share: float) -> str:
    """Rounded down: 100 % is all of it."""
    return f"{floor(1e4 * share) / 100:.2f} %"


def _sizes(plan: "ResizePlan", ranks: Mapping[str, int]) -> str:
    low, high = min(ranks.values()), max(ranks.values())
    kept = _kept(plan.energy_kept) if plan.energy_kept is not None else "no update to keep"
    return html.stats(
        [
            ("Ranks", str(low) if low == high else f"{low} – {high}"),
            ("Energy kept", kept),
            ("Parameters", f"{plan.parameters:,}"),
            ("File", f"{plan.file_bytes:,} bytes"),
            ("Before", f"{plan.file_bytes_before:,} bytes"),
            ("Smaller by", f"{100 * (1 - plan.file_bytes / plan.file_bytes_before):.1f} %"),
        ]
    )


def _pattern(found: Spectrum, energy: float) -> str:
    if not 0 < energy <= 1:
        return ""
    title = f"For a new training: each module with the rank that {100 * energy:g} % of its energy needed here"
    return code_html(_as_python(suggested(found, energy)), title=title)


def _as_python(ranks: Ranks) -> str:
    """The arguments of PEFT's LoraConfig."""
    lines = [f"r={ranks.r},", f"lora_alpha={ranks.lora_alpha:g},"]
    for name in ("rank_pattern", "alpha_pattern"):
        if pattern := getattr(ranks, name):
            lines.append(f"{name}={json.dumps(pattern, indent=4)},")
    return "\n".join(lines)
