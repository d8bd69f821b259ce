"""Shows an adapter module by module: the singular values of one, a table of all, and ranks for a new training."""

import json
from collections.abc import Mapping, Sequence

from rankviz.core.spectrum import MOST, NEARLY_ALL, SHARES, LayerSpectrum, Ranks, Spectrum
from rankviz.figures import spectrum_figure, spectrum_info
from rankviz.figures.adapter.modules import share_text
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.controls import code_html
from rankviz.ui.parts.html import Cell, Row, rounded
from rankviz.units import rounded_percent as percent

ROWS_SHOWN = 200
"""Of more modules, those that need the highest ranks."""
VALUES_HEIGHT = 320
HEADERS = (
    "Module", "r", *(f"Rank for {percent(share, 0)}" for share in SHARES), "Effective rank", "Stable rank", "Norm",
    "Truncated to", "Energy kept",
)  # fmt: skip


def values_chart(spectrum: Spectrum, chosen: LayerSpectrum, ranks: Mapping[str, int]) -> str:
    """The singular values of one module."""
    info = spectrum_info(spectrum, module=chosen.name, r=ranks.get(chosen.name))
    return chart_value(
        spectrum_figure.drawing(info, height=VALUES_HEIGHT), info.rows, file="singular-values", source=info.source
    )


def table_html(spectrum: Spectrum, ranks: Mapping[str, int], chosen: LayerSpectrum) -> str:
    """Every module or, of a large adapter, those that need the highest ranks. ranks: what each is truncated to."""
    layers, more = spectrum.layers, ""
    if len(layers) > ROWS_SHOWN:
        needs = {layer.name: layer.needs[-1] for layer in layers}
        shown = set(sorted(needs, key=needs.get, reverse=True)[:ROWS_SHOWN]) | {chosen.name}
        more = (
            f"{len(shown)} of {len(layers):,} modules: those that need the highest ranks, the others at most r = "
            f"{max(k for name, k in needs.items() if name not in shown)} for {percent(NEARLY_ALL, 0)}."
        )
        layers = [layer for layer in layers if layer.name in shown]
    rows = [
        Row(cells=_cells(layer, ranks.get(layer.name)), pick=layer.name, chosen=layer is chosen) for layer in layers
    ]
    return html.table(HEADERS, rows, label="Modules") + html.paragraphs(more)


def _cells(layer: LayerSpectrum, k: int | None) -> Sequence[Cell | str]:
    if layer.is_dead:
        return (layer.name, str(layer.r), "no update", *("–",) * 4, str(k or "–"), "–")
    kept = layer.energy_kept(k) if k else None
    return (
        layer.name,
        str(layer.r),
        str(layer.rank_for(MOST)),
        str(layer.rank_for(NEARLY_ALL)),
        rounded("{:.1f}".format, layer.effective_rank, ""),
        rounded("{:.2f}".format, layer.stable_rank, ""),
        rounded("{:.3g}".format, layer.norm, ""),
        str(k or "–"),
        share_text(kept) if kept is not None else "–",
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
