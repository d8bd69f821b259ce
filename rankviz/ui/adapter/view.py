"""Makes everything on the right of the Adapter tab: numbers, a sentence, energy by rank, and module by module."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.adapters import SUGGESTED_ENERGY
from rankviz.core.runs.words import base_name, data_name
from rankviz.core.spectrum import (
    FAINT,
    MOST,
    NEARLY_ALL,
    SHARES,
    TERMS,
    LayerSpectrum,
    Ranks,
    Spectrum,
    Spread,
    in_words,
    spread,
)
from rankviz.errors import BusyError, RankVizError
from rankviz.figures import energy_figure, energy_info, modules_figure, modules_info, spectrum_figure, spectrum_info
from rankviz.figures.adapter import hardest_module, share_text
from rankviz.ui.adapter import resize
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.controls import code_html
from rankviz.ui.parts.html import Cell, Figure, Row, exact, exact_span, rounded
from rankviz.ui.wiring import notice_html, unchanged
from rankviz.units import rounded_percent as percent

if TYPE_CHECKING:
    from rankviz.core.runs.record import RunRecord

NAMED = 4
CAUTION = "Energy describes the weights, not the loss: evaluate the resized adapter before you use it."
ENERGY_HEIGHT, HEAT_HEIGHT = 340, 250


def empty_html(sample: "RunRecord") -> str:
    """What to do without an adapter, and what the sample is."""
    return html.paragraphs(
        "Open a trained LoRA adapter to see which rank it really uses, and to make it smaller.",
        f"The sample is a real adapter: {base_name(sample.request.base)}, r = {sample.request.r}, "
        f"{training_text(sample)}.",
        "RankViz reads adapter_config.json and adapter_model.safetensors. The base model is not needed.",
        css="rv-empty",
    )


def training_text(run: "RunRecord") -> str:
    """ "400 steps on phonemes, learning rate 0.001, held-out loss 4.21 → 0.95 nats"."""
    text = f"{run.steps_done} steps on {data_name(run.request.data)}, learning rate {run.request.learning_rate:g}"
    if run.loss_before and run.loss_after:
        text += f", held-out loss {run.loss_before.loss:.2f} → {run.loss_after.loss:.2f} nats"
    return text


def top_html(spectrum: Spectrum, run: "RunRecord | None") -> str:
    """Name and origin, five numbers, and what they mean in at most three sentences."""
    scales = {layer.scale for layer in spectrum.layers}
    scale = f"scale {next(iter(scales)):.4g}" if len(scales) == 1 else f"scale {min(scales):.4g} to {max(scales):.4g}"
    row = [
        Figure("Trained rank", f"r = {spectrum.r}", sub=f"α {spectrum.lora_alpha:g}, {scale}, {spectrum.dtype}"),
        Figure(
            f"Rank for {percent(NEARLY_ALL, 0)} of the energy",
            f"r = {spectrum.rank_for(NEARLY_ALL)}" if spectrum.kept[-1] else "–",
            sub=f"{percent(MOST, 0)}: r = {spectrum.rank_for(MOST)}" if spectrum.kept[-1] else "no update",
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
    return (
        f"{html.paragraphs(Cell(_origin(spectrum, run), title=exact(spectrum.file_bytes, 'bytes')))}{html.figures(row)}"
        f'<div class="rv-advice"><p>{escape(in_words(spectrum))}</p></div>'
        f"{html.paragraphs(*(f'{term.name}: {term.meaning} [{term.source}]' for term in TERMS))}"
    )


def _origin(spectrum: Spectrum, run: "RunRecord | None") -> str:
    """Name, size, base and training, as far as they are known."""
    parts = [spectrum.name, units.file_size(spectrum.file_bytes)]
    if spectrum.base_model:
        parts.append(f"on {_base_name(spectrum.base_model)}")
    if run:
        parts.append(training_text(run))
    elif spectrum.training_steps:
        parts.append(f"{spectrum.training_steps:,} steps")
    return ", ".join(parts)


def _base_name(base_model: str) -> str:
    """A Hub id as it is, a folder without its path."""
    path = PurePath(base_model)
    return path.name if path.is_absolute() else base_model


def _middle(name: str, over: Spread | None) -> Figure:
    if over is None:
        return Figure(name, "–", sub="no updated module")
    by_module = f"median; {over.low:.1f} to {over.high:.1f} by module"
    return Figure(name, rounded("{:.1f}".format, over.median, ""), sub=Cell(by_module, title=exact_span(over)))


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def energy_html(spectrum: Spectrum, r: int | None) -> str:
    """The energy that each rank keeps."""
    info = energy_info(spectrum, r=r)
    return chart_value(
        energy_figure.drawing(info, height=ENERGY_HEIGHT), info.rows, file="energy-by-rank", source=info.source
    )


def heat_chart(
    spectrum: Spectrum, *, r: int | None, energy: float | None, ranks: Mapping[str, int], chosen: str
) -> str:
    """Every module by block. chosen: the name of the framed one."""
    info = modules_info(spectrum, r=r, energy=energy, ranks=ranks, chosen=chosen)
    return chart_value(
        modules_figure.drawing(info, height=HEAT_HEIGHT), info.rows, file="adapter-modules", source=info.source
    )


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


class Shown(NamedTuple):
    """Everything on the right. `parts` holds all of it that needs an adapter."""

    notice: str
    top: str
    sample: Any
    parts: Any
    energy_chart: str
    choices: str
    sizes: str
    make: Any
    heat: str
    values: str
    table: str
    pattern: str


def shown(
    api: Api,
    *,
    source: str | list[str],
    mode: str,
    r: float,
    energy: float,
    dtype: str,
    cell: str,
    detailed: bool,
) -> Shown:
    """Everything on the right; an error stands where the result would. detailed: whether the details are open."""
    if not source:
        return _closed(api)
    try:
        spectrum = api.adapters.spectrum(source)
    except RankVizError as error:
        return _closed(api)._replace(notice=notice_html(str(error), kind="error"))
    try:
        return _opened(api, source, spectrum, resize.resize_of(mode, r, energy, dtype), cell, detailed)
    except BusyError as error:
        return unchanged(Shown, notice=notice_html(str(error), kind="error"))


def _opened(
    api: Api, source: str | list[str], spectrum: Spectrum, wanted: resize.Resize, cell: str, detailed: bool
) -> Shown:
    """BusyError where it has many modules and too many others are looked at."""
    plan, refused = None, resize.refused_energy(wanted)
    if refused:
        wanted = wanted._replace(energy=SUGGESTED_ENERGY)
    else:
        try:
            plan = api.adapters.plan_resize(source, **wanted._asdict())
        except BusyError:
            raise
        except RankVizError as error:
            refused = str(error)
    share = wanted.energy if plan and wanted.energy else SUGGESTED_ENERGY
    truncations = api.adapters.truncations(source, dtype=wanted.dtype)
    losses, run = api.adapters.truncated_losses(source), api.adapters.trained_by(source)
    suggested = api.adapters.suggested_ranks(source, share) if detailed else None
    with api.adapters.looking(spectrum):
        ranks = resize.by_module(spectrum, plan)
        chosen = next((layer for layer in spectrum.layers if layer.name == cell), None) or hardest_module(spectrum)
        choices = resize.choices_html(spectrum, truncations, wanted, plan, losses)
        result = unchanged(
            Shown,
            notice=notice_html(*spectrum.notes),
            top=top_html(spectrum, run),
            sample=gr.Button(visible=False),
            parts=gr.Column(visible=True),
            energy_chart=energy_html(spectrum, wanted.r),
            choices=notice_html(resize.few_steps_note(spectrum)) + choices + notice_html(refused, kind="error"),
            sizes=resize.sizes_html(plan) if plan else "",
            make=resize.button(spectrum, plan),
            heat=heat_chart(spectrum, r=wanted.r, energy=wanted.energy, ranks=ranks, chosen=chosen.name),
        )
        if not detailed:
            return result
        return result._replace(
            values=values_chart(spectrum, chosen, ranks),
            table=table_html(spectrum, ranks, chosen),
            pattern=pattern_html(suggested, share) if suggested else "",
        )


def _closed(api: Api) -> Shown:
    """Nothing is open: what to do, and the sample."""
    return unchanged(
        Shown,
        notice="",
        top=empty_html(api.adapters.sample()),
        sample=gr.Button(visible=True),
        parts=gr.Column(visible=False),
    )
