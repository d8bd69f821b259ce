"""The Runs tab lists sweeps with their runs, overlays selected runs, and shows one sweep and one run of it. Its
content comes from the store, so it survives reloads and restarts. A folded section publishes the open sweep or its open
run; a typed token is sent once and not stored, and its box is emptied."""

from functools import partial
from typing import Any

import gradio as gr

from rankviz import installed, units
from rankviz.api import Api
from rankviz.core.runs.metric import LOSS
from rankviz.endpoints.gate import MAX_LIST
from rankviz.figures import COST_AXES
from rankviz.publish import ADAPTER, DATASET, TRACKIO
from rankviz.settings import TEMP_HOURS
from rankviz.ui.parts import html, widgets
from rankviz.ui.parts.sweep import HEIGHT, connect, press, sweep_widgets, tolerance_label
from rankviz.ui.parts.sweep import NOT_DRAWN as OF_A_SWEEP
from rankviz.ui.parts.widgets import busy, busy_line, chart, done, file_button, handed, hidden, pickable, plain
from rankviz.ui.runs import view
from rankviz.ui.wiring import CLICKED, View, action, of_click, on_any, wire

SHOWING = "showing"
SELECTION_LINE = "runs-too-many"
ASK = """(id) => [confirm("Delete this %s? This cannot be undone.") ? id : ""]"""
SHOW_RUN = "() => document.querySelector('#run-detail .rv-detail')?.scrollIntoView({ block: 'nearest' })"
X_CHOICES = [(each.label, key) for key, each in COST_AXES.items()]
PUBLISH_AS = {
    DATASET: "Hub: dataset of this sweep",
    ADAPTER: "Hub: adapter of the selected run",
    TRACKIO: "Trackio: runs of this sweep",
}
NOT_DRAWN = ("x", "export_selected", *OF_A_SWEEP)
"""Widgets that view.runs_view does not update."""


def build(api: Api) -> View:
    """Build the tab. Return widgets and events: `judged` follows the metric; `showing` is SHOWING while this tab is
    open, else nothing is drawn; events in `chosen` follow the shown sweep or run."""
    w: dict[str, Any] = {}
    with gr.Row(visible=False, elem_classes="rv-bar", elem_id="runs-empty") as w["empty_box"]:
        plain(html.empty(view.NOTHING_OF_YOURS))
        train = gr.Button("Train your first sweep", variant="primary", size="sm", elem_id="runs-train")
    with gr.Row(elem_classes="rv-bar"):
        text = gr.Textbox(
            "", label="Filter", placeholder="base, data, rank, state, id", max_lines=1, min_width=160, scale=3
        )
        bring = gr.UploadButton("Import a zip of runs", file_types=[".zip"], size="sm", elem_id="import-runs")
        if api.workspace.shared:
            w["uploads"] = gr.Button("", visible=False, size="sm", elem_id="uploads-delete")
    filters = {"text": text}
    widgets.table_download(api, partial(view.matching_runs, api), filters, label="these runs", elem_id="runs-download")
    w["table"] = pickable(elem_id="runs-table")
    busy_line(SELECTION_LINE)
    kept, days = "", api.workspace.limits.days_kept
    if api.workspace.shared and days is not None:
        kept = html.paragraphs(
            f"Your runs stay for {units.counted(days, 'day')} after they end; imported and incomplete ones go sooner "
            f"when this server is full. Uploaded files stay for {units.counted(TEMP_HOURS, 'hour')}. Download what you "
            "want to keep."
        )
    plain(kept, elem_id="runs-kept")
    with gr.Column(visible=False, elem_id="selected-runs") as w["selected_box"]:
        w["selected_title"] = plain()
        with gr.Row(elem_classes="rv-bar"):
            w["x"] = gr.Dropdown(X_CHOICES, value="adapter", label="Cost axis", interactive=True, min_width=150)
            w["export_selected"] = gr.Button("Download the selected runs (zip)", size="sm", elem_id="export-runs")
            clear = gr.Button("Clear the selection", size="sm", elem_id="clear-runs")
        w["curve"] = widgets.panels(elem_id="runs-curve")
        w["caption"] = plain()
    zipped = file_button("runs-zip")
    choice = sweep_id, run_id = hidden(elem_id="runs-sweep"), hidden()
    w["message"] = plain(elem_id="sweep-message")
    looks = {"visible": False, "size": "sm", "elem_id": "broken-delete"}
    w["delete_broken"] = gr.Button("Delete this run", **looks)
    with gr.Column(visible=False, elem_id="sweep") as w["sweep_box"]:
        w |= sweep_widgets("sweep", whole=True)
        busy_line("sweep-busy")
        w["results"] = pickable(elem_id="sweep-results")
        w["detail"] = plain(elem_id="run-detail")
        w["cancel_run"] = gr.Button("Cancel this run", visible=False, size="sm", elem_id="cancel-run")
        with gr.Accordion("Details", open=False, elem_id="sweep-details") as details:
            written = {"max_lines": 1, "max_length": 20, "placeholder": f"{LOSS.tolerance:g}"}
            w["tolerance"] = gr.Textbox("", label=tolerance_label(LOSS), elem_id="sweep-tolerance", **written)
            w["above_best"] = plain(elem_id="sweep-verdict")
            looks = {"height": HEIGHT, "optional": True, "elem_id": "sweep-tradeoff"}
            w["tradeoff"] = chart("Quality against adapter size", **looks)
            w["words"] = plain(elem_id="sweep-words")
            looks = {"label": "runs of this sweep", "elem_id": "sweep-results-download"}
            widgets.table_download(api, partial(widgets.sweep_runs, api), {"sweep_id": sweep_id}, **looks)
            w["facts"] = plain(elem_id="sweep-facts")
        w["publish"], publishing = _publishing(api, sweep_id, run_id)
    shipped = file_button("sweep-adapter-file")

    # The browser keeps the ticked ids in the order of ticks, and says on the line when a tick is one too many.
    selected = hidden(f"RankViz.selection(props, trigger, {MAX_LIST}, {SELECTION_LINE!r}); // 'input'", value=[])
    showing = hidden(elem_id="runs-showing")
    w["seen"], w["timer"] = hidden(), gr.Timer(view.POLL_SECONDS, active=False)
    shown = {"selected": selected, "sweep_id": sweep_id, "run_id": run_id, "showing": showing}
    own = {name: w[name] for name in ("x", "metric", "tolerance", "seen")}
    outputs = {name: widget for name, widget in w.items() if name not in NOT_DRAWN}
    drawing = wire(partial(view.runs_view, api), inputs={**filters, **shown, **own}, outputs=outputs)
    w["timer"].tick(**drawing)
    on_any(text.change, w["x"].change, w["tolerance"].input).then(**drawing)
    # Nats say nothing of points, so another metric has its own tolerance again.
    judged = w["metric"].select(None, None, w["tolerance"], js="() => ''")
    judged.then(**drawing)

    chosen = []
    choose = of_click(partial(view.choice_of, api))
    for name in ("table", "curve", "by_rank", "loss", "tradeoff", "results"):
        opened = w[name].select(choose, run_id, [*choice], **CLICKED)
        opened.then(**drawing).then(None, js=SHOW_RUN)
        opened.then(**publishing)
        chosen.append(opened)
    on_any(selected.input).then(**drawing)
    clear.click(None, None, selected, js="() => [[]]").then(**drawing)
    shown_by = connect(api, w, sweep_id, drawing, "sweep-busy")
    w["cancel_run"].click(inputs=run_id, **action(partial(press, api.runs.cancel))).then(**drawing)
    w["share"].input(inputs=[sweep_id, w["share"]], **action(lambda *open: api.runs.open_to_all(*open))).then(**drawing)
    deleted = []
    for name, what in (("delete", "sweep, with its runs, losses and adapters"), ("delete_broken", "run")):
        deleting = {"inputs": sweep_id, "outputs": [*choice], "js": ASK % what}
        deleted.append(w[name].click(**deleting, **action(partial(view.delete, api))))
        deleted[-1].then(**drawing)
    if "uploads" in w:
        w["uploads"].click(outputs=w["uploads"], **action(partial(view.delete_uploads, api)))
    for button, file, make, inputs in (
        (w["ship"], shipped, view.shipped_adapter, [sweep_id, w["tolerance"], w["metric"]]),
        (w["export"], zipped, lambda api, sweep_id: view.zip_of(api, [sweep_id]), [sweep_id]),
        (w["export_selected"], zipped, view.zip_of, [selected]),
    ):
        button.click(inputs=inputs, outputs=file, **action(partial(make, api))).success(**handed(file))
    brought = bring.upload(inputs=bring, outputs=[*choice], **action(partial(view.imported, api)))
    brought.then(**drawing)

    return View(
        sweep_id=sweep_id,
        run_id=run_id,
        metric=w["metric"],
        judged=judged,
        tolerance=w["tolerance"],
        details=details,
        showing=showing,
        draw=drawing,
        chosen=[*chosen, brought, *deleted],
        train=train,
        onward=(w["longer"], shown_by),
    )


def _publishing(api: Api, sweep_id: gr.HTML, run_id: gr.HTML) -> tuple[gr.Accordion, dict[str, Any]]:
    """Build the section that publishes; return it with the event that draws it for the open sweep."""
    w: dict[str, Any] = {}

    def text(label: str, max_length: int = 200, **more: Any) -> gr.Textbox:
        return gr.Textbox("", label=label, max_lines=1, max_length=max_length, min_width=200, **more)

    with gr.Accordion("Publish", open=False, elem_id="sweep-publish") as box:
        with gr.Row(elem_classes="rv-bar"):
            offered = [(label, to) for to, label in PUBLISH_AS.items() if to != TRACKIO or installed.has("trackio")]
            looks = {"interactive": True, "min_width": 220, "elem_id": "publish-to"}
            to = gr.Dropdown(offered, value=DATASET, label="Publish as", **looks)
            w["place"] = text("Repository (owner/name)")
            here = "" if api.workspace.shared else ", empty: this machine"
            w["space"] = text(f"Trackio Space (owner/name){here}", visible=False)
            w["base_model"] = text("Base model on the Hub (owner/name)", visible=False)
            label = "Hugging Face token with write access (empty: a login)"
            token = text(label, 500, type="password", elem_id="publish-token")
        with gr.Row(elem_classes="rv-bar"):
            public = gr.Checkbox(False, label="Public: everyone can see it", elem_id="publish-public")
            label = "Use the Hugging Face login of this machine"
            w["use_login"] = gr.Checkbox(False, label=label, visible=False, elem_id="publish-login")
            button = gr.Button("Publish", variant="primary", size="sm", elem_id="publish-it")
        busy_line("publish-busy")
        w["status"] = plain(elem_id="publish-status")
    drawing = wire(partial(view.publish_form, api), inputs={"to": to, "sweep_id": sweep_id}, outputs=w)
    for event in (box.expand, to.input):
        event(**drawing)
    form = {**w, "to": to, "public": public, "token": token, "sweep_id": sweep_id, "run_id": run_id}
    del form["status"]
    button.click(**busy("publish-busy", "Publishing…"))
    sent = button.click(inputs_kwargs=form, outputs=w["status"], **action(partial(view.publish, api)))
    sent.then(**done("publish-busy")).then(None, None, token, js="() => ''")
    return box, drawing
