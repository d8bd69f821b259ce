"""Makes everything on the right of the Adapter tab from where an adapter is and what it is to be truncated to."""

from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.api.adapters import SUGGESTED_ENERGY
from rankviz.core.spectrum import Spectrum
from rankviz.errors import BusyError, RankVizError
from rankviz.figures.adapter.spectrum import hardest_module
from rankviz.ui.adapter import details, resize, view
from rankviz.ui.wiring import notice_html, unchanged


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
            top=view.top_html(spectrum, run),
            sample=gr.Button(visible=False),
            parts=gr.Column(visible=True),
            energy_chart=view.energy_chart(spectrum, wanted.r),
            choices=notice_html(resize.few_steps_note(spectrum)) + choices + notice_html(refused, kind="error"),
            sizes=resize.sizes_html(plan) if plan else "",
            make=resize.button(spectrum, plan),
            heat=view.heat_chart(spectrum, r=wanted.r, energy=wanted.energy, ranks=ranks, chosen=chosen.name),
        )
        if not detailed:
            return result
        return result._replace(
            values=details.values_chart(spectrum, chosen, ranks),
            table=details.table_html(spectrum, ranks, chosen),
            pattern=details.pattern_html(suggested, share) if suggested else "",
        )


def _closed(api: Api) -> Shown:
    """Nothing is open: what to do, and the sample."""
    return unchanged(
        Shown,
        notice="",
        top=view.empty_html(api.adapters.sample()),
        sample=gr.Button(visible=True),
        parts=gr.Column(visible=False),
    )
