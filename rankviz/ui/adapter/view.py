"""Makes what the Adapter tab shows of a spectrum: a sentence, figures, tables and a suggestion."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.core.spectrum.rank_pattern import Ranks
from rankviz.core.spectrum.spectrum import (
    FAINT,
    MOST,
    NEARLY_ALL,
    SHARES,
    LayerSpectrum,
    Spectrum,
    Spread,
    in_words,
    spread,
)
from rankviz.figures import modules_figure, modules_info, spectrum_figure, spectrum_info
from rankviz.figures.modules import NO_ADAPTER, share_text
from rankviz.figures.spectrum import NO_SPECTRUM, hardest_module
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.controls import code_html
from rankviz.ui.parts.html import Cell, Figure, Row
from rankviz.ui.wiring import notice_html
from rankviz.units import rounded_percent as percent

if TYPE_CHECKING:
    from rankviz.trained.resize import ResizePlan

ROWS_SHOWN = 1000
NAMED = 4
HEADERS = (
    "Module", "r", *(f"Rank for {percent(share, 0)}" for share in SHARES), "Effective rank", "Stable rank", "Norm",
    "Truncated to", "Energy kept",
)  # fmt: skip
CAUTION = (
    "Energy describes the weights, not the loss. The truncated part may matter more or less than its share of the "
    "energy. Evaluate the resized adapter before you use it."
)
WHAT_RANKS_MEAN = (
    "Effective rank: the exponential of the entropy of the singular values (Roy and Vetterli 2007). Stable rank: "
    "squared Frobenius norm over squared spectral norm (Rudelson and Vershynin 2007)."
)
HEAT_HEIGHT, VALUES_HEIGHT = 300, 320


class Resize(NamedTuple):
    """What the adapter is to be truncated to: one rank, or a share of each module's energy."""

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
    return AdapterView(
        notice="",
        top=html.paragraphs("Add a trained adapter to see which rank it really uses.", how, css="rv-empty"),
        heat=chart_value(modules_figure(NO_ADAPTER, height=HEAT_HEIGHT), [], file="heat"),
        values=chart_value(spectrum_figure(NO_SPECTRUM, height=VALUES_HEIGHT), [], file="singular-values"),
        table="",
        pattern="",
        sizes="",
        make=gr.Button(interactive=False),
    )


def adapter_view(spectrum: Spectrum, resize: Resize, plan: "ResizePlan | None", cell: str) -> AdapterView:
    """Everything of one adapter. cell: the name of the module that was clicked, or empty."""
    ranks = {layer.name: plan.by_module[layer.module] for layer in spectrum.layers} if plan else {}
    chosen = next((layer for layer in spectrum.layers if layer.name == cell), None) or hardest_module(spectrum)
    modules = modules_info(spectrum, r=resize.r, energy=resize.energy, ranks=ranks, chosen=chosen.name)
    values = spectrum_info(spectrum, module=chosen.name, r=ranks.get(chosen.name))
    return AdapterView(
        notice=notice_html(*spectrum.notes),
        top=_top(spectrum),
        heat=chart_value(
            modules_figure(modules, height=HEAT_HEIGHT), modules.rows, file="adapter-modules", source=modules.source
        ),
        values=chart_value(
            spectrum_figure(values, height=VALUES_HEIGHT), values.rows, file="singular-values", source=values.source
        ),
        table=_table(spectrum, ranks, chosen),
        pattern="",
        sizes=_sizes(plan, ranks) if plan else "",
        make=gr.Button(interactive=plan is not None),
    )


def _top(spectrum: Spectrum) -> str:
    scales = {layer.scale for layer in spectrum.layers}
    scale = f"scale {next(iter(scales)):.4g}" if len(scales) == 1 else f"scale {min(scales):.4g} to {max(scales):.4g}"
    row = [
        Figure("Trained rank", f"r = {spectrum.r}", sub=f"α {spectrum.lora_alpha:g}, {scale}, {spectrum.dtype}"),
        Figure(
            f"Rank for {percent(NEARLY_ALL, 0)} of the energy",
            f"r = {spectrum.rank_for(NEARLY_ALL)}",
            sub=f"{percent(MOST, 0)}: r = {spectrum.rank_for(MOST)}",
        ),
        _middle("Effective rank", spread(spectrum.layers, "effective_rank")),
        _middle("Stable rank", spread(spectrum.layers, "stable_rank")),
        Figure(
            "Modules without an update",
            f"{len(spectrum.dead)} of {len(spectrum.layers)}",
            sub=_named(spectrum.dead)
            or (
                f"{len(spectrum.faint)} below {percent(FAINT, 0)} of the median norm"
                if spectrum.faint
                else "every module is updated"
            ),
        ),
    ]
    base = f"{spectrum.name}, {units.file_size(spectrum.file_bytes)}" + (
        f", on {_base_name(spectrum.base_model)}" if spectrum.base_model else ""
    )
    return (
        f'<div class="rv-caption"><p>{escape(base)}</p></div>'
        f'<div class="rv-advice"><p>{escape(in_words(spectrum))}</p></div>{html.figures(row)}'
        + html.paragraphs(f"{WHAT_RANKS_MEAN} {CAUTION}")
    )


def _base_name(base_model: str) -> str:
    """A Hub id as it is, a folder without its path."""
    path = PurePath(base_model)
    return path.name if path.is_absolute() else base_model


def _middle(name: str, over: Spread | None) -> Figure:
    if over is None:
        return Figure(name, "–", sub="no updated module")
    return Figure(name, f"{over.median:.1f}", sub=f"median; {over.low:.1f} to {over.high:.1f} by module")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _table(spectrum: Spectrum, ranks: Mapping[str, int], chosen: LayerSpectrum) -> str:
    rows = [
        Row(cells=_cells(layer, ranks.get(layer.name)), pick=layer.name, chosen=layer is chosen)
        for layer in spectrum.layers[:ROWS_SHOWN]
    ]
    left_out = len(spectrum.layers) - ROWS_SHOWN
    more = (
        html.paragraphs(f"{left_out:,} more modules are in the CSV file of the figure above.") if left_out > 0 else ""
    )
    return html.table(HEADERS, rows, label="Modules") + more


def _cells(layer: LayerSpectrum, k: int | None) -> Sequence[Cell | str]:
    if layer.is_dead:
        return (layer.name, str(layer.r), "no update", *("–",) * 4, str(k or "–"), "–")
    kept = layer.energy_kept(k) if k else None
    return (
        layer.name,
        str(layer.r),
        str(layer.rank_for(MOST)),
        str(layer.rank_for(NEARLY_ALL)),
        f"{layer.effective_rank:.1f}",
        f"{layer.stable_rank:.2f}",
        f"{layer.norm:.3g}",
        str(k or "–"),
        share_text(kept) if kept is not None else "–",
    )


def _sizes(plan: "ResizePlan", ranks: Mapping[str, int]) -> str:
    low, high = min(ranks.values()), max(ranks.values())
    kept = share_text(plan.energy_kept) if plan.energy_kept is not None else "no update"
    return html.stats(
        [
            ("Ranks", str(low) if low == high else f"{low} – {high}"),
            ("Energy kept", kept),
            ("Parameters", f"{plan.parameters:,}"),
            ("File", f"{plan.file_bytes:,} bytes"),
            ("Before", f"{plan.file_bytes_before:,} bytes"),
            ("Smaller by", percent(plan.smaller_by)),
        ]
    )


def pattern_html(ranks: Ranks, energy: float) -> str:
    """The ranks for a new training. energy: the share of each module's that they keep."""
    title = f"Suggestion for a new training: per module the rank for {100 * energy:g} % of its energy in this adapter"
    return code_html(_as_python(ranks), title=title)


def _as_python(ranks: Ranks) -> str:
    """The arguments of PEFT's LoraConfig."""
    lines = [f"r={ranks.r},", f"lora_alpha={ranks.lora_alpha:g},"]
    for name in ("rank_pattern", "alpha_pattern"):
        if pattern := getattr(ranks, name):
            lines.append(f"{name}={json.dumps(pattern, indent=4)},")
    return "\n".join(lines)
