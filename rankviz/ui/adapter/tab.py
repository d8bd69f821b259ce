"""The Adapter tab opens a trained adapter, shows which rank it really uses, and offers it at a lower rank.

What is shown follows from where the adapter is and what it is to be truncated to, so a reload at the same address shows
the same. Uploads have no address.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.api.adapters import SAMPLE
from rankviz.core.runs.words import base_name, data_name
from rankviz.errors import RankVizError
from rankviz.ui import link
from rankviz.ui.adapter import resize, view
from rankviz.ui.adapter.resize import AS_IT_IS, BY_ENERGY, BY_RANK, resize_of
from rankviz.ui.adapter.view import shown
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import busy, busy_line, copyable, done, file_button, pickable, plain, remembered
from rankviz.ui.wiring import action, clicked, notice_html, put, quiet, wire

READING = "Reading the adapter…"
BUSY_OF_THE_ADDRESS = f"""() => {{
  if (new URL(location.href).searchParams.get("adapter")) RankViz.busy("adapter-busy", "{READING}");
}}"""


OF_TEXT = "(text, source) => text || source"
OF_FILES = "(files, source) => files?.length ? JSON.stringify(files.map((file) => file.path)) : source"
"""Where the adapter is; removing the files from the box changes nothing."""


class Adapting(NamedTuple):
    """What the rest of the page needs of this tab."""

    load: Any
    """Takes the page's request: the adapter that the address names."""
    loaded: Sequence[Any]
    """Its outputs."""
    choices: dict[str, Any]
    """Finds this machine's runs anew, and says what to do while no adapter is open."""
    source: gr.HTML
    """Set in the browser, so in the order of clicks."""
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
            runs = gr.Dropdown([], value=None, label="Sample or finished run", elem_id="adapter-runs")
            busy_line("adapter-busy")
        with gr.Column(elem_classes="rv-answer"):
            notice = plain(elem_id="adapter-notice")
            top = plain(elem_id="adapter-top")
            with gr.Row(elem_classes="rv-bar"):
                sample = gr.Button("Open the sample adapter", variant="primary", elem_id="adapter-sample")
            # Not inside the parts: what becomes visible there shows it too.
            zipped = file_button("adapter-zip")
            with gr.Column(visible=False, elem_id="adapter-parts") as parts:
                with gr.Row(elem_classes="rv-charts"):
                    energy_chart = chart(
                        "Energy kept by rank", height=view.ENERGY_HEIGHT, elem_id="adapter-energy-kept"
                    )
                    with gr.Column(elem_id="adapter-lower"):
                        plain('<h2 class="rv-section">Make it smaller</h2>')
                        choices = pickable(elem_id="adapter-choices")
                        make = gr.Button("Resize", interactive=False, variant="primary", elem_id="adapter-resize")
                        busy_line("resize-busy")
                        made = plain(html.paragraphs(view.CAUTION), elem_id="adapter-made")
                with gr.Accordion("Another rank, energy or data type", open=False, elem_id="adapter-own"):
                    with gr.Row(elem_classes="rv-pair"):
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
                heat = chart("Modules by block", height=view.HEAT_HEIGHT, elem_id="adapter-heat")
                with gr.Accordion(
                    "Details: singular values, all modules, ranks for a new training", open=False
                ) as more:
                    values = chart(
                        "Singular values of one module",
                        height=view.VALUES_HEIGHT,
                        elem_id="adapter-values",
                        optional=True,
                    )
                    table = pickable(elem_id="adapter-table")
                    pattern = copyable(elem_id="adapter-pattern")
    source, cell, detailed = remembered(elem_id="adapter-source"), gr.State(""), gr.State(False)

    outputs = {
        "notice": notice, "top": top, "sample": sample, "parts": parts, "energy_chart": energy_chart,
        "choices": choices, "sizes": sizes, "make": make, "heat": heat, "values": values, "table": table,
        "pattern": pattern,
    }  # fmt: skip
    inputs = {"source": source, "mode": mode, "r": r, "energy": energy, "dtype": dtype, "cell": cell}
    drawing = wire(partial(_shown, api), inputs=inputs | {"detailed": detailed}, outputs=outputs)
    opening = {"fn": partial(opened, api), "inputs": source, "outputs": [r, cell, made], **quiet()}

    opened_by = []
    for event, widget, script in (
        (files.change, files, OF_FILES),
        (ref.submit, ref, OF_TEXT),
        (runs.input, runs, OF_TEXT),
    ):
        event(**busy("adapter-busy", READING))
        opened_by.append(event(None, [widget, source], source, js=script))
    sample.click(**busy("adapter-busy", READING))
    opened_by.append(sample.click(None, None, [source, runs], js=f"() => [{SAMPLE!r}, {SAMPLE!r}]"))
    opened_by = [located.then(**opening).then(**drawing).then(**done("adapter-busy")) for located in opened_by]

    mode.change(by_mode, mode, [r, energy], **quiet()).then(**drawing)
    for widget in (r, energy, dtype):
        widget.change(**drawing)
    for offers in (choices, energy_chart):
        offers.select(choose, None, [mode, r, energy], **clicked())
    heat.select(picked, None, cell, **clicked()).then(_open, None, [more, detailed], **quiet()).then(**drawing)
    table.select(picked, None, cell, **clicked()).then(**drawing)
    more.expand(lambda: True, None, detailed, **quiet()).then(**drawing)
    more.collapse(lambda: False, None, detailed, **quiet())
    settings = [source, mode, r, energy, dtype]
    make.click(**busy("resize-busy", "Resizing…"))
    make.click(inputs=settings, outputs=[zipped, made], **action(partial(zip_of, api))).then(
        **done("resize-busy")
    ).success(None, js="() => { setTimeout(() => document.querySelector('#adapter-zip').click(), 60); }")

    filled = {"source": source, "ref": ref, "runs": runs, "r": r, "cell": cell, **outputs}

    # Closures, since Gradio finds gr.Request by the function's own type hints and loses it in a partial.
    def load(request: gr.Request) -> dict[Any, Any]:
        return put(restored(api, request.query_params.get("adapter", "")[:300]), filled)

    def choose_from(shown: str, request: gr.Request) -> list[Any]:
        return offered(api, shown or request.query_params.get("adapter", ""))

    return Adapting(
        load=load,
        loaded=list(filled.values()),
        choices={"fn": choose_from, "inputs": source, "outputs": [runs, top], **quiet()},
        source=source,
        opened=opened_by,
    )


def restored(api: Api, ref: str) -> dict[str, Any]:
    """The adapter that the address names, shown; nothing where it names none."""
    if not ref:
        return {}
    values = {"source": ref, "ref": "" if ref == SAMPLE else ref, "runs": run_choices(api, chosen=ref)}
    slider, cell, _ = opened(api, ref)
    at = {"mode": BY_RANK, "r": _first_rank(api, ref), "energy": 99.0, "dtype": AS_IT_IS, "cell": cell}
    return values | {"r": slider} | _shown(api, source=ref, detailed=False, **at)._asdict()


def _first_rank(api: Api, source: str) -> int:
    """The rank that is selected first; 1 for what cannot be read, which the view says."""
    try:
        return api.adapters.proposed_rank(ref_of(source))
    except RankVizError:
        return 1


def ref_of(source: str) -> str | list[str]:
    """What the page remembers as the source, a text, as the API takes it: files are a JSON list of paths."""
    with suppress(ValueError, RecursionError):
        paths = json.loads(source)
        if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
            return paths
    return source


def _shown(api: Api, *, source: str, **settings: Any) -> Any:
    return shown(api, source=ref_of(source), **settings)


def opened(api: Api, source: str) -> list[Any]:
    """The slider for this adapter, at the rank that holds 99 % of its energy; no module is chosen yet."""
    made = html.paragraphs(view.CAUTION)
    if not source:
        return [gr.skip(), "", made]
    try:
        spectrum = api.adapters.spectrum(ref_of(source))
    except RankVizError:  # the view shows it
        return [gr.skip(), "", made]
    highest, first = max(2, spectrum.r - 1), _first_rank(api, source)
    return [gr.Slider(maximum=highest, value=first, interactive=spectrum.r > 2), "", made]


def by_mode(mode: str) -> list[Any]:
    return [gr.Slider(visible=mode == BY_RANK), gr.Number(visible=mode == BY_ENERGY)]


def choose(event: gr.EventData) -> list[Any]:
    """The mode and its value, of the choice or the point that was clicked."""
    chosen = resize.chosen_of(picked(event))
    if chosen is None:
        return [gr.skip(), gr.skip(), gr.skip()]
    mode, value = chosen
    return [mode, value if mode == BY_RANK else gr.skip(), value if mode == BY_ENERGY else gr.skip()]


def picked(event: gr.EventData) -> str:
    """What was clicked, in a picture or in a table."""
    return str(event._data.get("id", ""))


def _open() -> tuple[Any, bool]:
    return gr.Accordion(open=True), True


def address_of(source: str) -> str:
    ref = ref_of(source)
    return link.address({"adapter": ref if isinstance(ref, str) and ref else None})


def offered(api: Api, source: str) -> list[Any]:
    """The adapters to choose from, and what to do while none is open. The page is built without: it reads files.

    source: of the adapter that is shown, or will be as the address names it.
    """
    return [run_choices(api), gr.skip() if source else view.empty_html(api.adapters.sample())]


def run_choices(api: Api, *, chosen: str = "") -> Any:
    """The sample, and the finished runs whose adapter is here. chosen: what to select, if it is among them."""
    sample = api.adapters.sample()
    choices = [(f"Sample: {_run_text(sample)}", SAMPLE), *((_run_text(run), run.run_id) for run in api.adapters.runs())]
    none = "No finished run yet. Train one on the Train tab." if len(choices) == 1 else None
    selected = {"value": chosen} if chosen in {value for _, value in choices} else {}
    return gr.Dropdown(choices=choices, info=none, **selected)


def _run_text(run: Any) -> str:
    return f"r = {run.request.r}, {base_name(run.request.base)} on {data_name(run.request.data)}"


def zip_of(api: Api, source: str, mode: str, r: float, energy: float, dtype: str) -> tuple[str, str]:
    """The resized adapter's zip, and a sentence about it."""
    ref = ref_of(source)
    plan = api.adapters.plan_resize(ref, **resize_of(mode, r, energy, dtype)._asdict())
    path = api.adapters.zip_resized(ref, plan)
    return str(path), notice_html(resize.resized_text(path.name, plan))
