"""The Adapter tab opens a trained adapter, shows which rank it really uses, and offers it at a lower rank.

What is shown follows from where the adapter is and what it is to be truncated to, so a reload at the same address shows
the same. Uploads have no address.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.api.adapters import SUGGESTED_ENERGY
from rankviz.errors import RankVizError
from rankviz.figures.labels import base_name, data_name
from rankviz.ui import link
from rankviz.ui.adapter.view import AdapterView, Resize, adapter_view, empty_view, pattern_html
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import busy, busy_line, copyable, done, pickable, plain
from rankviz.ui.wiring import action, notice_html, quiet, wire

HOW = (
    "Only adapter_config.json and adapter_model.safetensors are read. The singular values come from the factors A and "
    "B. The base model is not needed."
)
AS_IT_IS = "unchanged"
BY_RANK, BY_ENERGY = "rank", "energy"


class Adapting(NamedTuple):
    """What the rest of the page needs of this tab."""

    load: Any
    """Takes the page's request: the adapter that the address names."""
    loaded: Sequence[Any]
    """Its outputs."""
    open: dict[str, Any]
    draw: dict[str, Any]
    choices: dict[str, Any]
    """Finds this machine's runs anew."""
    source: gr.State
    opened: Sequence[Any]
    """Events after which another adapter is shown: the address is to name it."""


def build(api: Api) -> Adapting:
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question"):
            files = gr.File(
                label="Trained adapter (both files, or a zip)",
                file_count="multiple",
                height=150,
                elem_id="adapter-files",
            )
            ref = gr.Textbox(
                label="Hub id" if api.workspace.shared else "Hub id, folder, zip or run",
                placeholder="owner/name, then press Enter",
                max_lines=1,
                elem_id="adapter-ref",
            )
            runs = gr.Dropdown([], value=None, label="Finished run on this machine", elem_id="adapter-runs")
            busy_line("adapter-busy")
            plain('<h2 class="rv-section">Lower rank</h2>')
            mode = gr.Radio(
                [("One rank for all modules", BY_RANK), ("By energy of each module", BY_ENERGY)],
                value=BY_RANK,
                label="Ranks",
                show_label=False,
                elem_id="adapter-mode",
            )
            r = gr.Slider(1, 64, value=8, step=1, label="Rank", interactive=True, elem_id="adapter-r")
            energy = gr.Number(
                99.0, label="Energy to keep, %", interactive=True, visible=False, elem_id="adapter-energy"
            )
            dtype = gr.Dropdown(
                [AS_IT_IS, "fp32", "bf16", "fp16"],
                value=AS_IT_IS,
                label="Data type",
                interactive=True,
                elem_id="adapter-dtype",
            )
            sizes = plain(elem_id="adapter-sizes")
            make = gr.Button("Resize and download (zip)", interactive=False, elem_id="adapter-resize")
            zipped = gr.DownloadButton("zip", visible="hidden", elem_id="adapter-zip")
        with gr.Column(elem_classes="rv-answer"):
            notice = plain(elem_id="adapter-notice")
            top = plain(elem_id="adapter-top")
            heat = chart("Modules by block", height=300, elem_id="adapter-heat")
            values = chart("Singular values of one module", height=320, elem_id="adapter-values")
            table = pickable(elem_id="adapter-table")
            pattern = copyable(elem_id="adapter-pattern")
    source, cell = gr.State(""), gr.State("")

    drawing = wire(
        partial(view, api),
        inputs={"source": source, "mode": mode, "r": r, "energy": energy, "dtype": dtype, "cell": cell},
        outputs={
            "notice": notice, "top": top, "heat": heat, "values": values, "table": table, "pattern": pattern,
            "sizes": sizes, "make": make,
        },
    )  # fmt: skip
    opening = {"fn": partial(opened, api), "inputs": source, "outputs": [r, cell], **quiet()}

    shown = []
    for event, widget in ((files.change, files), (ref.submit, ref), (runs.input, runs)):
        event(**busy("adapter-busy", "Reading the adapter…"))
        located = event(source_of, widget, source, **quiet())
        shown.append(located.then(**opening).then(**drawing).then(**done("adapter-busy")))
    mode.change(by_mode, mode, [r, energy], **quiet()).then(**drawing)
    for widget in (r, energy, dtype):
        widget.change(**drawing)
    for clicked in (heat, table):
        clicked.select(picked, None, cell, **quiet()).then(**drawing)
    settings = [source, mode, r, energy, dtype]
    make.click(**busy("adapter-busy", "Resizing…"))
    make.click(inputs=settings, outputs=zipped, **action(partial(zip_of, api))).then(**done("adapter-busy")).success(
        None, js="() => { setTimeout(() => document.querySelector('#adapter-zip').click(), 60); }"
    )

    def load(request: gr.Request) -> list[Any]:
        address_ref = request.query_params.get("adapter", "")[:300]
        return [address_ref, address_ref]

    return Adapting(
        load=load,
        loaded=[source, ref],
        open=opening,
        draw=drawing,
        choices={"fn": partial(run_choices, api), "inputs": None, "outputs": runs, **quiet()},
        source=source,
        opened=shown,
    )


def source_of(value: str | list[str] | None) -> Any:
    """Where the adapter is; removing the files from the box changes nothing."""
    return value if value else gr.skip()


def opened(api: Api, source: str | list[str]) -> list[Any]:
    """The slider for this adapter, at the rank that holds 99 % of its energy; no module is chosen yet."""
    if not source:
        return [gr.skip(), ""]
    try:
        spectrum = api.adapters.spectrum(source)
    except RankVizError:  # the view shows it
        return [gr.skip(), ""]
    highest = max(1, spectrum.r - 1)
    proposed = api.adapters.proposed_rank(source)
    return [gr.Slider(maximum=max(2, highest), value=proposed, interactive=spectrum.r > 2), ""]


def by_mode(mode: str) -> list[Any]:
    return [gr.Slider(visible=mode == BY_RANK), gr.Number(visible=mode == BY_ENERGY)]


def picked(event: gr.EventData) -> str:
    """The name of the module that was clicked, in the picture or in the table."""
    return str(event._data.get("id", ""))


def address_of(source: str | list[str]) -> str:
    return link.address({"adapter": source if isinstance(source, str) and source else None})


def run_choices(api: Api) -> Any:
    choices = [
        (f"r = {run.request.r}, {base_name(run.request.base)} on {data_name(run.request.data)}", run.run_id)
        for run in api.adapters.runs()
    ]
    return gr.Dropdown(
        choices=choices,
        interactive=bool(choices),
        info=None if choices else "No finished run yet. Train one on the Train tab.",
    )


def resize_of(mode: str, r: float, energy: float, dtype: str) -> Resize:
    return Resize(
        r=int(r) if mode == BY_RANK else None,
        energy=(energy or 0) / 100 if mode == BY_ENERGY else None,
        dtype=None if dtype == AS_IT_IS else dtype,
    )


def view(
    api: Api, *, source: str | list[str], mode: str, r: float, energy: float, dtype: str, cell: str
) -> AdapterView:
    """Everything on the right, and the size after a resize; an error stands where the result would."""
    if not source:
        return empty_view(HOW)
    resize = resize_of(mode, r, energy, dtype)
    try:
        spectrum = api.adapters.spectrum(source)
    except RankVizError as error:
        return empty_view(HOW)._replace(notice=notice_html(str(error), kind="error"))
    try:
        plan = api.adapters.plan_resize(source, **resize._asdict())
    except RankVizError as error:
        return adapter_view(spectrum, resize, None, cell)._replace(
            sizes=notice_html(str(error), kind="error"), make=gr.Button(interactive=False)
        )
    energy = resize.energy or SUGGESTED_ENERGY
    return adapter_view(spectrum, resize, plan, cell)._replace(
        pattern=pattern_html(api.adapters.suggested_ranks(source, energy), energy)
    )


def zip_of(api: Api, source: str | list[str], mode: str, r: float, energy: float, dtype: str) -> str:
    plan = api.adapters.plan_resize(source, **resize_of(mode, r, energy, dtype)._asdict())
    return str(api.adapters.zip_resized(source, plan))
