"""Makes what the Adapter tab shows of a spectrum: numbers, a sentence, the energy by rank and the modules by block."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING

from rankviz import units
from rankviz.core.runs.words import base_name, data_name
from rankviz.core.spectrum import FAINT, MOST, NEARLY_ALL, TERMS, Spectrum, Spread, in_words, spread
from rankviz.figures import energy_figure, energy_info, modules_figure, modules_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.html import Cell, Figure, exact, exact_span, rounded
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


def energy_chart(spectrum: Spectrum, r: int | None) -> str:
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
