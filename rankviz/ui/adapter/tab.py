"""The Adapter tab opens a trained adapter, shows which rank it really uses, and offers it at a lower rank.

What is shown follows from where the adapter is and what it is to be truncated to, so a reload at the same address shows
the same. Uploads have no address.
"""

import json
from contextlib import suppress
from functools import partial
from typing import Any

import gradio as gr

from rankviz.api import Api
from rankviz.api.adapters import SAMPLE
from rankviz.core.runs.words import base_name, data_name
from rankviz.errors import RankVizError
from rankviz.ui import link
from rankviz.ui.adapter import view
from rankviz.ui.adapter.view import AS_IT_IS, BY_ENERGY, BY_RANK, CAUTION
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import busy, busy_line, copyable, done, file_button, handed, hidden, pickable, plain
from rankviz.ui.wiring import View, action, clicked, of_click, put, quiet, wire

READING = "Reading the adapter…"
BUSY_OF_THE_ADDRESS = f"""() => {{
  if (new URL(location.href).searchParams.get("adapter")) RankViz.busy("adapter-busy", "{READING}");
}}"""
OF_TEXT = "(text, source) => text || source"
OF_FILES = "(files, source) => files?.length ? JSON.stringify(files.map((file) => file.path)) : source"
"""Where the adapter is; removing the files from the box changes nothing."""


def build(api: Api) -> View:
    """Build the tab; returns what the rest of the page needs of it. `load` takes the page's request and fills `loaded`
    with the adapter that the address names; the event `choices` lists this machine's runs. After each event of `opened`
    another adapter is shown, and the address is to name `source`."""
    w: dict[str, Any] = {}
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question"):
            label = "Trained adapter (both files, or a zip)"
            files = gr.File(label=label, file_count="multiple", height=150, elem_id="adapter-files")
            label = "Hub id" if api.workspace.shared else "Hub id, folder, zip or run"
            hint = "owner/name, then press Enter"
            ref = gr.Textbox(label=label, placeholder=hint, max_lines=1, elem_id="adapter-ref")
            runs = gr.Dropdown([], value=None, label="Sample or finished run", elem_id="adapter-runs")
            busy_line("adapter-busy")
        with gr.Column(elem_classes="rv-answer"):
            w["notice"] = plain(elem_id="adapter-notice")
            w["top"] = plain(elem_id="adapter-top")
            with gr.Row(elem_classes="rv-bar"):
                w["sample"] = gr.Button("Open the sample adapter", variant="primary", elem_id="adapter-sample")
            # Not inside the parts: what becomes visible there shows it too.
            zipped = file_button("adapter-zip")
            with gr.Column(visible=False, elem_id="adapter-parts") as w["parts"]:
                with gr.Row(elem_classes="rv-charts"):
                    title = "Energy kept by rank"
                    w["energy_chart"] = chart(title, height=view.ENERGY_HEIGHT, elem_id="adapter-energy-kept")
                    with gr.Column(elem_id="adapter-lower"):
                        plain('<h2 class="rv-section">Make it smaller</h2>')
                        w["choices"] = pickable(elem_id="adapter-choices")
                        looks = {"interactive": False, "variant": "primary", "elem_id": "adapter-resize"}
                        w["make"] = gr.Button("Resize", **looks)
                        busy_line("resize-busy")
                        made = plain(html.paragraphs(CAUTION), elem_id="adapter-made")
                with gr.Accordion("Another rank, energy or data type", open=False, elem_id="adapter-own"):
                    with gr.Row(elem_classes="rv-pair"):
                        modes = [("One rank for all modules", BY_RANK), ("By energy of each module", BY_ENERGY)]
                        looks = {"label": "Ranks", "show_label": False, "elem_id": "adapter-mode"}
                        mode = gr.Radio(modes, value=BY_RANK, **looks)
                        r = gr.Slider(1, 64, value=8, step=1, label="Rank", interactive=True, elem_id="adapter-r")
                        looks = {"interactive": True, "visible": False, "elem_id": "adapter-energy"}
                        energy = gr.Number(99.0, label="Energy to keep, %", **looks)
                        dtypes = [AS_IT_IS, "fp32", "bf16", "fp16"]
                        looks = {"label": "Data type", "interactive": True, "elem_id": "adapter-dtype"}
                        dtype = gr.Dropdown(dtypes, value=AS_IT_IS, **looks)
                    w["sizes"] = plain(elem_id="adapter-sizes")
                w["heat"] = chart("Modules by block", height=view.HEAT_HEIGHT, elem_id="adapter-heat")
                title = "Details: singular values, all modules, ranks for a new training"
                with gr.Accordion(title, open=False) as more:
                    looks = {"height": view.VALUES_HEIGHT, "elem_id": "adapter-values", "optional": True}
                    w["values"] = chart("Singular values of one module", **looks)
                    w["table"] = pickable(elem_id="adapter-table")
                    w["pattern"] = copyable(elem_id="adapter-pattern")
    source, cell, detailed = hidden(elem_id="adapter-source"), gr.State(""), gr.State(False)
    settings = {"source": source, "mode": mode, "r": r, "energy": energy, "dtype": dtype}
    drawing = wire(partial(_shown, api), inputs=settings | {"cell": cell, "detailed": detailed}, outputs=w)
    opening = {"fn": partial(opened, api), "inputs": source, "outputs": [r, cell, made], **quiet()}

    opened_by = []
    for event, widget, script in (
        (files.change, files, OF_FILES),
        (ref.submit, ref, OF_TEXT),
        (runs.input, runs, OF_TEXT),
    ):
        event(**busy("adapter-busy", READING))
        opened_by.append(event(None, [widget, source], source, js=script))
    w["sample"].click(**busy("adapter-busy", READING))
    opened_by.append(w["sample"].click(None, None, [source, runs], js=f"() => [{SAMPLE!r}, {SAMPLE!r}]"))
    opened_by = [located.then(**opening).then(**drawing).then(**done("adapter-busy")) for located in opened_by]

    mode.change(
        lambda mode: [gr.Slider(visible=mode == BY_RANK), gr.Number(visible=mode == BY_ENERGY)],
        mode,
        [r, energy],
        **quiet(),
    ).then(**drawing)
    for widget in (r, energy, dtype):
        widget.change(**drawing)
    for offers in (w["choices"], w["energy_chart"]):
        offers.select(of_click(choose), None, [mode, r, energy], **clicked())
    picked = of_click(lambda name: name)
    details = {"fn": lambda: (gr.Accordion(open=True), True), "outputs": [more, detailed], **quiet()}
    w["heat"].select(picked, None, cell, **clicked()).then(**details).then(**drawing)
    w["table"].select(picked, None, cell, **clicked()).then(**drawing)
    more.expand(lambda: True, None, detailed, **quiet()).then(**drawing)
    more.collapse(lambda: False, None, detailed, **quiet())
    w["make"].click(**busy("resize-busy", "Resizing…"))
    resizing = {"inputs": list(settings.values()), "outputs": [zipped, made], **action(partial(zip_of, api))}
    w["make"].click(**resizing).then(**done("resize-busy")).success(**handed(zipped))
    filled = {"source": source, "ref": ref, "runs": runs, "r": r, "cell": cell, **w}

    # Closures, since Gradio finds gr.Request by the function's own type hints and loses it in a partial.
    def load(request: gr.Request) -> dict[Any, Any]:
        return put(restored(api, request.query_params.get("adapter", "")[:300]), filled)

    def choose_from(shown: str, request: gr.Request) -> list[Any]:
        """The adapters to choose from, and what to do while none is open. The page is built without: it reads files."""
        is_open = shown or request.query_params.get("adapter", "")
        return [run_choices(api), gr.skip() if is_open else view.empty_html(api.adapters.sample())]

    return View(
        load=load,
        loaded=list(filled.values()),
        choices={"fn": choose_from, "inputs": source, "outputs": [runs, w["top"]], **quiet()},
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
    return values | {"r": slider, "cell": cell} | vars(_shown(api, source=ref, detailed=False, **at))


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


def _shown(api: Api, *, source: str, **settings: Any) -> View:
    return view.shown(api, source=ref_of(source), **settings)


def opened(api: Api, source: str) -> list[Any]:
    """The slider for this adapter, at the rank that holds 99 % of its energy; no module is chosen yet."""
    slider = gr.skip()
    with suppress(RankVizError):  # the view shows it
        if source:
            spectrum = api.adapters.spectrum(ref_of(source))
            highest, first = max(2, spectrum.r - 1), _first_rank(api, source)
            slider = gr.Slider(maximum=highest, value=first, interactive=spectrum.r > 2)
    return [slider, "", html.paragraphs(CAUTION)]


def choose(choice: str) -> list[Any]:
    """The mode, its rank and its energy, of the choice or the point that was clicked."""
    mode, value = view.chosen_of(choice) or (gr.skip(), None)
    return [mode, value if mode == BY_RANK else gr.skip(), value if mode == BY_ENERGY else gr.skip()]


def address_of(source: str) -> str:
    ref = ref_of(source)
    return link.address({"adapter": ref if isinstance(ref, str) and ref else None})


def run_choices(api: Api, *, chosen: str = "") -> Any:
    """The sample, and the finished runs whose adapter is here. chosen: what to select, if it is among them."""

    def words(run: Any) -> str:
        return f"r = {run.request.r}, {base_name(run.request.base)} on {data_name(run.request.data)}"

    sample = (f"Sample: {words(api.adapters.sample())}", SAMPLE)
    choices = [sample, *((words(run), run.run_id) for run in api.adapters.runs())]
    none = "No finished run yet. Train one on the Train tab." if len(choices) == 1 else None
    selected = {"value": chosen} if chosen in {value for _, value in choices} else {}
    return gr.Dropdown(choices=choices, info=none, **selected)


def zip_of(api: Api, source: str, mode: str, r: float, energy: float, dtype: str) -> tuple[str, str]:
    """The resized adapter's zip, and a sentence about it."""
    ref = ref_of(source)
    plan = api.adapters.plan_resize(ref, **view.resize_of(mode, r, energy, dtype)._asdict())
    path = api.adapters.zip_resized(ref, plan)
    return str(path), html.notice_html(view.resized_text(path.name, plan))
