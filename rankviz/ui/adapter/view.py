"""Makes everything on the right of the Adapter tab: numbers, a sentence, energy by rank, lower ranks, every module."""

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
    FEW_STEPS,
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
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.html import Cell, Figure, Row, code_html, exact, exact_span, notice_html, rounded
from rankviz.ui.wiring import View
from rankviz.units import rounded_percent as percent

if TYPE_CHECKING:
    from rankviz.core.runs.record import RunRecord
    from rankviz.core.spectrum import Truncation
    from rankviz.trained.resize import ResizePlan

BY_RANK, BY_ENERGY = "rank", "energy"
AS_IT_IS = "unchanged"
NAMED = 4
"""Modules that are named in one line."""
MAX_DIGITS = 10
"""Of a number in what a click reports."""
ROWS_SHOWN = 200
"""Of more modules, those that need the highest ranks."""
CAUTION = "Energy describes the weights, not the loss: evaluate the resized adapter before you use it."
ENERGY_HEIGHT, HEAT_HEIGHT, VALUES_HEIGHT = 340, 250, 320
HEADERS = (
    "Module", "r", *(f"Rank for {percent(share, 0)}" for share in SHARES), "Effective rank", "Stable rank", "Norm",
    "Truncated to", "Energy kept",
)  # fmt: skip


class Resize(NamedTuple):
    """What the adapter is to be truncated to: one rank, or a share of each module's energy."""

    r: int | None
    energy: float | None
    dtype: str | None


def resize_of(mode: str, r: float, energy: float, dtype: str) -> Resize:
    """The widgets' values. energy: in percent."""
    return Resize(
        r=int(r) if mode == BY_RANK else None,
        energy=(energy or 0) / 100 if mode == BY_ENERGY else None,
        dtype=None if dtype == AS_IT_IS else dtype,
    )


def choice_id(resize: "Resize | Truncation") -> str:
    """What a click on a choice reports: "r8", "e99"."""
    return f"e{100 * resize.energy:g}" if resize.r is None else f"r{resize.r}"


def chosen_of(choice: str) -> tuple[str, float] | None:
    """The mode and its value (a rank, or percent) of a click; None for anything else."""
    kind, number = choice[:1], choice[1:]
    if len(number) <= MAX_DIGITS and kind == "r" and number.isdecimal():
        return BY_RANK, int(number)
    if len(number) <= MAX_DIGITS and kind == "e" and number.replace(".", "", 1).isdecimal():
        return BY_ENERGY, float(number)
    return None


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
) -> View:
    """Everything on the right; an error stands where the result would. detailed: whether the details are open."""
    try:
        if not source:
            return _closed(api, "")
        spectrum = api.adapters.spectrum(source)
    except RankVizError as error:
        return _closed(api, notice_html(str(error), kind="error"))
    try:
        return _opened(api, source, spectrum, resize_of(mode, r, energy, dtype), cell, detailed)
    except BusyError as error:
        return View(notice=notice_html(str(error), kind="error"))


def _closed(api: Api, notice: str) -> View:
    """Nothing is open: what to do, and the sample."""
    top = empty_html(api.adapters.sample())
    return View(notice=notice, top=top, sample=gr.Button(visible=True), parts=gr.Column(visible=False))


def _opened(api: Api, source: str | list[str], spectrum: Spectrum, wanted: Resize, cell: str, detailed: bool) -> View:
    """BusyError where it has many modules and too many others are looked at."""
    plan, refused = None, ""
    if wanted.energy is not None and not 0 < wanted.energy <= 1:
        refused = f"The energy to keep must be above 0 % and at most 100 % (got {100 * wanted.energy:g} %)."
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
        ranks = {layer.name: plan.by_module[layer.module] for layer in spectrum.layers} if plan else {}
        chosen = next((layer for layer in spectrum.layers if layer.name == cell), None) or hardest_module(spectrum)
        choices = choices_html(spectrum, truncations, wanted, plan, losses)
        kept = energy_info(spectrum, r=wanted.r)
        heat = modules_info(spectrum, r=wanted.r, energy=wanted.energy, ranks=ranks, chosen=chosen.name)
        result = View(
            notice=notice_html(*spectrum.notes),
            top=top_html(spectrum, run),
            sample=gr.Button(visible=False),
            parts=gr.Column(visible=True),
            energy_chart=_chart(energy_figure, kept, ENERGY_HEIGHT, "energy-by-rank"),
            choices=notice_html(few_steps_note(spectrum)) + choices + notice_html(refused, kind="error"),
            sizes=sizes_html(plan) if plan else "",
            make=button(spectrum, plan),
            heat=_chart(modules_figure, heat, HEAT_HEIGHT, "adapter-modules"),
        )
        if detailed:
            values = spectrum_info(spectrum, module=chosen.name, r=ranks.get(chosen.name))
            result.values = _chart(spectrum_figure, values, VALUES_HEIGHT, "singular-values")
            result.table = table_html(spectrum, ranks, chosen)
            result.pattern = pattern_html(suggested, share) if suggested else ""
        return result


def _chart(figure: Any, info: Any, height: int, file: str) -> str:
    return chart_value(figure.drawing(info, height=height), info.rows, file=file, source=info.source)


def empty_html(sample: "RunRecord") -> str:
    """What to do without an adapter, and what the sample is."""
    real = f"{base_name(sample.request.base)}, r = {sample.request.r}, {training_text(sample)}"
    return html.empty(
        "Open a trained LoRA adapter to see which rank it really uses, and to make it smaller.",
        f"The sample is a real adapter: {real}.",
        "RankViz reads adapter_config.json and adapter_model.safetensors. The base model is not needed.",
    )


def training_text(run: "RunRecord") -> str:
    """ "400 steps on phonemes, learning rate 0.001, held-out loss 4.21 → 0.95 nats"."""
    text = f"{run.steps_done} steps on {data_name(run.request.data)}, learning rate {run.request.learning_rate:g}"
    if run.loss_before and run.loss_after:
        text += f", held-out loss {run.loss_before.loss:.2f} → {run.loss_after.loss:.2f} nats"
    return text


def top_html(spectrum: Spectrum, run: "RunRecord | None") -> str:
    """Name and origin, five numbers, and what they mean in at most three sentences."""
    low, high = min(layer.scale for layer in spectrum.layers), max(layer.scale for layer in spectrum.layers)
    scale = f"scale {low:.4g}" if low == high else f"scale {low:.4g} to {high:.4g}"
    nearly, most = "–", "no update"
    if spectrum.kept[-1]:
        nearly = f"r = {spectrum.rank_for(NEARLY_ALL)}"
        most = f"{percent(MOST, 0)}: r = {spectrum.rank_for(MOST)}"
    dead = ", ".join(spectrum.dead[:NAMED])
    if len(spectrum.dead) > NAMED:
        dead += f" and {len(spectrum.dead) - NAMED} more"
    faint = f"{len(spectrum.faint)} below {percent(FAINT, 0)} of the median norm" if spectrum.faint else ""
    row = [
        Figure("Trained rank", f"r = {spectrum.r}", sub=f"α {spectrum.lora_alpha:g}, {scale}, {spectrum.dtype}"),
        Figure(f"Rank for {percent(NEARLY_ALL, 0)} of the energy", nearly, sub=most),
        _middle("Effective rank", spread(spectrum.layers, "effective_rank")),
        _middle("Stable rank", spread(spectrum.layers, "stable_rank")),
        Figure(
            "Modules without an update",
            f"{len(spectrum.dead)} of {len(spectrum.layers)}",
            sub=dead or faint or "every module is updated",
        ),
    ]
    path = PurePath(spectrum.base_model or "")
    base = path.name if path.is_absolute() else spectrum.base_model  # a folder without its path
    steps = f"{spectrum.training_steps:,} steps" if spectrum.training_steps else ""
    origin = [spectrum.name, units.file_size(spectrum.file_bytes), base and f"on {base}"]
    words = ", ".join(filter(None, [*origin, training_text(run) if run else steps]))
    return (
        f"{html.paragraphs(Cell(words, title=exact(spectrum.file_bytes, 'bytes')))}{html.figures(row)}"
        f'<div class="rv-advice"><p>{escape(in_words(spectrum))}</p></div>'
        f"{html.paragraphs(*(f'{term.name}: {term.meaning} [{term.source}]' for term in TERMS))}"
    )


def _middle(name: str, over: Spread | None) -> Figure:
    if over is None:
        return Figure(name, "–", sub="no updated module")
    by_module = f"median; {over.low:.1f} to {over.high:.1f} by module"
    return Figure(name, rounded("{:.1f}".format, over.median, ""), sub=Cell(by_module, title=exact_span(over)))


def choices_html(
    spectrum: Spectrum,
    choices: "Sequence[tuple[Truncation, ResizePlan]]",
    resize: Resize,
    selected: "ResizePlan | None",
    losses: Mapping[int, float],
) -> str:
    """A row for each choice with its exact size; a click selects it.

    Args:
        spectrum: The adapter as it is.
        choices: Truncations with their results.
        resize: The selected one, which gets a row of its own where it is none of the choices.
        selected: Its result; None where it cannot be.
        losses: Held-out loss by rank, where it was measured.
    """
    if not choices:
        return ""
    if selected and choice_id(resize) not in {choice_id(each) for each, _ in choices}:
        choices = [*choices, (resize, selected)]

    def loss(r: int | None) -> Cell | str:
        return rounded("held-out loss {:.3f}".format, losses[r], html.PER_TOKEN) if r in losses else ""

    def energy(plan: "ResizePlan", each: "Truncation | Resize") -> Cell | str:
        """What is kept of all updates, and of the module that keeps least."""
        if plan.energy_kept is None:
            return "–"
        least = f"≥ {percent(each.energy, 0)}" if each.r is None else share_text(spectrum.weakest(each.r) or 0)
        return Cell(share_text(plan.energy_kept), sub=f"weakest module {least}")

    rows = []
    for each, plan in choices:
        label, sub = (f"r = {each.r}", loss(each.r)) if each.r else (_ranks(plan), "each module its own")
        file = rounded(units.file_size, plan.file_bytes, "bytes", sub=_smaller(plan))
        picked = choice_id(each)
        cells = [Cell(label, kind="left", sub=sub), file, energy(plan, each)]
        rows.append(Row(cells, pick=picked, chosen=picked == choice_id(resize)))
    now = Cell(f"r = {spectrum.r} (now)", kind="left", sub=loss(spectrum.r))
    rows.append(Row([now, rounded(units.file_size, spectrum.file_bytes, "bytes"), "100.00 %"]))
    return html.table(["Rank", "File", "Energy kept"], rows, label="Choices of a lower rank")


def _ranks(plan: "ResizePlan") -> str:
    low, high = min(plan.by_module.values()), max(plan.by_module.values())
    return f"r = {low}" if low == high else f"r = {low} – {high}"


def _smaller(plan: "ResizePlan") -> str:
    return f"{percent(abs(plan.smaller_by))} {'smaller' if plan.smaller_by >= 0 else 'larger'}"


def sizes_html(plan: "ResizePlan") -> str:
    """The selected truncation, exactly."""
    return html.stats(
        [
            ("Ranks", _ranks(plan)),
            ("Energy kept", share_text(plan.energy_kept) if plan.energy_kept is not None else "no update"),
            ("Parameters", f"{plan.parameters:,}"),
            ("File", f"{plan.file_bytes:,} bytes"),
            ("Before", f"{plan.file_bytes_before:,} bytes"),
            ("Change", _smaller(plan)),
        ]
    )


def few_steps_note(spectrum: Spectrum) -> str:
    """That no rank is recommended after few steps; "" otherwise."""
    if not spectrum.after_few_steps:
        return ""
    return (
        f"After {units.counted(spectrum.training_steps, 'step')}, the spectrum is mostly noise, so no rank is "
        f"recommended: half the trained rank is offered. Train for {FEW_STEPS} steps or more, then look again."
    )


def button(spectrum: Spectrum, plan: "ResizePlan | None") -> gr.Button:
    """Resizes to the selected ranks. It stands out only where a rank can be recommended."""
    variant = "secondary" if spectrum.after_few_steps else "primary"
    text = f"Resize to {_ranks(plan)} and download ({units.file_size(plan.file_bytes)})" if plan else "Resize"
    return gr.Button(text, variant=variant, interactive=plan is not None)


def resized_text(name: str, plan: "ResizePlan") -> str:
    """What was made, and what to do with it."""
    return (
        f"{name} has {_ranks(plan)} and {plan.file_bytes:,} bytes of weights. Unpack it and load it with "
        "PeftModel.from_pretrained(base, folder), then compare its answers with those of the original."
    )


def table_html(spectrum: Spectrum, ranks: Mapping[str, int], chosen: LayerSpectrum) -> str:
    """Every module or, of a large adapter, those that need the highest ranks. ranks: what each is truncated to."""
    layers, more = spectrum.layers, ""
    if len(layers) > ROWS_SHOWN:
        needs = {layer.name: layer.needs[-1] for layer in layers}
        names = set(sorted(needs, key=needs.get, reverse=True)[:ROWS_SHOWN]) | {chosen.name}
        more = (
            f"{len(names)} of {len(layers):,} modules: those that need the highest ranks, the others at most r = "
            f"{max(k for name, k in needs.items() if name not in names)} for {percent(NEARLY_ALL, 0)}."
        )
        layers = [layer for layer in layers if layer.name in names]
    rows = [Row(_cells(layer, ranks.get(layer.name)), pick=layer.name, chosen=layer is chosen) for layer in layers]
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
    """The ranks for a new training, as arguments of PEFT's LoraConfig. energy: the share of each module's that they
    keep."""
    lines = [f"r={ranks.r},", f"lora_alpha={ranks.lora_alpha:g},"]
    for name in ("rank_pattern", "alpha_pattern"):
        if pattern := getattr(ranks, name):
            lines.append(f"{name}={json.dumps(pattern, indent=4)},")
    title = f"Suggestion for a new training: per module the rank for {100 * energy:g} % of its energy in this adapter"
    return code_html("\n".join(lines), title=title)
