"""The Runs tab lists sweeps with their runs, overlays selected runs, and shows one sweep and one run of it.

As Train, it reads the store and owns nothing; what is shown here survives reloads and restarts.
"""

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.metric import LOSS, METRICS
from rankviz.core.runs.record import RunState
from rankviz.ui.parts import again, charts, html
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import busy_line, editable, file_button, pickable, plain, remembered, selection
from rankviz.ui.parts.where import SHARE, kept_words
from rankviz.ui.runs import publish
from rankviz.ui.runs import sweep as of_sweep
from rankviz.ui.runs.sweep import HEIGHT, USUAL, default_tolerance, tolerance_label
from rankviz.ui.runs.view import (
    ANY_STATE,
    NOTHING_OF_YOURS,
    POLL_SECONDS,
    Choice,
    choice_of,
    imported,
    matching_runs,
    runs_view,
    zip_of,
)
from rankviz.ui.wiring import action, clicked, on_any, quiet, wire

SHOWING = "showing"
SELECTION_LINE = "runs-too-many"
METRIC_CHOICES = [(metric.label, metric.key) for metric in METRICS.values()]
JUDGED = f"(metric, by, tolerance) => [metric, metric === by ? tolerance : {USUAL}[metric]]"
"""The usual tolerance of a metric that was just chosen, since nats say nothing of points. In the browser, so that no
drawing falls between. A drop-down reports its choice again when it loses the focus: then what was written stays."""
SHOW_RUN = "() => document.querySelector('#run-detail .rv-detail')?.scrollIntoView({ block: 'nearest' })"


class Running(NamedTuple):
    """What the rest of the page needs of this tab."""

    sweep_id: gr.HTML
    run_id: gr.HTML
    open_id: gr.HTML
    """The sweep whose runs are listed."""
    metric: gr.Dropdown
    judged_by: gr.HTML
    """The metric that the tolerance belongs to."""
    judged: Any
    """The event after which metric and tolerance belong together."""
    tolerance: gr.Textbox
    details: gr.Accordion
    showing: gr.HTML
    """SHOWING while this is the open tab, else empty; then nothing is drawn. Set in the browser, so in the order of
    clicks."""
    timer: gr.Timer
    draw: dict[str, Any]
    chosen: list[Any]
    """The events after which another sweep or run is open."""
    train: gr.Button
    """Leads to Train."""


def build(api: Api) -> Running:
    w: dict[str, Any] = {}
    with gr.Row(visible=False, elem_classes="rv-bar", elem_id="runs-empty") as w["empty_box"]:
        plain(html.paragraphs(NOTHING_OF_YOURS, css="rv-empty"))
        train = gr.Button("Train your first sweep", variant="primary", size="sm", elem_id="runs-train")
    with gr.Row(elem_classes="rv-bar"):
        text = gr.Textbox("", label="Filter", placeholder="base, data, rank, id", max_lines=1, min_width=160, scale=3)
        state = gr.Dropdown(
            [ANY_STATE, *(s.value for s in RunState)], value=ANY_STATE, label="State", interactive=True, min_width=120
        )
        bring = gr.UploadButton("Import a zip of runs", file_types=[".zip"], size="sm", elem_id="import-runs")
        if api.workspace.shared:
            w["uploads"] = gr.Button("", visible=False, size="sm", elem_id="uploads-delete")
    table_file = charts.download_widgets("these runs", elem_id="runs-download", may_be_empty=True)
    w["table"] = editable(elem_id="runs-table")
    busy_line(SELECTION_LINE)
    plain(kept_words(api), elem_id="runs-kept")
    with gr.Row(visible=False, elem_classes="rv-bar", elem_id="unreadable-runs") as w["unreadable_box"]:
        w["unreadable"] = gr.Dropdown(
            [], value=None, label="Runs that cannot be read", interactive=True, elem_id="unreadable-run"
        )
        w["delete_unreadable"] = gr.Button("Delete this run", variant="stop", size="sm", elem_id="unreadable-delete")
    with gr.Column(visible=False, elem_id="selected-runs") as w["selected_box"]:
        x = _selected_widgets(w)
    zipped = file_button("runs-zip")
    choice = sweep_id, run_id, open_id = remembered(elem_id="runs-sweep"), remembered(), remembered()
    w["message"] = plain(elem_id="sweep-message")
    with gr.Column(visible=False, elem_id="sweep") as w["sweep_box"]:
        details, results_file, asks = _sweep_widgets(api, w)
        w["publish"], w["published_base"], publishing = publish.build(api, sweep_id, run_id)
    delete_it, keep, delete_unreadable = (w.pop(name) for name in ("delete_it", "keep", "delete_unreadable"))
    cancel_words, cancel_it, leave_it = (w.pop(name) for name in ("cancel_words", "cancel_it", "leave_it"))
    shipped = file_button("sweep-adapter-file")

    selected, judged_by = selection(SELECTION_LINE), remembered(LOSS.key)
    showing = remembered(elem_id="runs-showing")
    asked = gr.State("")
    w["seen"], w["timer"] = remembered(), gr.Timer(POLL_SECONDS, active=False)
    filters = {"text": text, "state": state}
    judge = {"metric": w["metric"], "tolerance": w["tolerance"]}
    drawing = wire(
        partial(runs_view, api),
        inputs={**filters, "x": x, "y": w["y"], "selected": selected, "sweep_id": sweep_id, "run_id": run_id}
        | {"open_id": open_id, **judge, "showing": showing, "seen": w["seen"]},
        outputs=w,
    )
    w["timer"].tick(**drawing)
    on_any(text.change, state.change, x.change, w["y"].change, w["tolerance"].input).then(**drawing)
    judging = [w["metric"], judged_by, w["tolerance"]]
    judged = w["metric"].input(None, judging, judging[1:], js=JUDGED)
    judged.then(**drawing)

    chosen = []
    shows_runs = ("table", "curve", "selected_loss", "by_rank", "loss", "tradeoff", "results")
    for name in shows_runs:
        opened = w[name].select(_choosing(api), [*choice], [*choice], **clicked())
        opened.then(**drawing).then(None, js=SHOW_RUN)
        opened.then(**publishing)
        chosen.append(opened)
    on_any(selected.input).then(**drawing)
    w["clear"].click(None, None, selected, js="() => [[]]").then(**drawing)
    w["add"].click(inputs=sweep_id, **action(partial(of_sweep.add, api))).then(**drawing)
    again.connect(api, w["resume"], asks, sweep_id, drawing)
    w["share"].input(inputs=[sweep_id, w["share"]], **action(partial(of_sweep.share, api))).then(**drawing)
    for button, asks in ((w["delete"], True), (keep, False)):
        button.click(partial(gr.Row, visible=asks), None, w["sure"], **quiet())
    deleted = delete_it.click(inputs=sweep_id, outputs=[*choice], **action(partial(of_sweep.delete, api)))
    deleted.then(**drawing)
    delete_unreadable.click(inputs=w["unreadable"], **action(partial(of_sweep.delete_unreadable, api))).then(**drawing)
    if "uploads" in w:
        w["uploads"].click(outputs=w["uploads"], **action(partial(of_sweep.delete_uploads, api)))
    asking = [asked, w["cancel_sure"], cancel_words]
    for button, of in ((w["cancel"], sweep_id), (w["cancel_run"], run_id)):
        button.click(inputs=of, outputs=asking, **action(partial(of_sweep.cancel_or_ask, api))).then(**drawing)
    cancel_it.click(inputs=asked, outputs=asking, **action(partial(of_sweep.cancel, api))).then(**drawing)
    leave_it.click(lambda: of_sweep.NOT_ASKING, None, asking, **quiet())
    for button, file, make, inputs in (
        (w["ship"], shipped, of_sweep.shipped_adapter, [sweep_id, w["tolerance"], w["metric"]]),
        (w["export"], zipped, lambda api, sweep_id: zip_of(api, [sweep_id]), [sweep_id]),
        (w["export_selected"], zipped, zip_of, [selected]),
    ):
        button.click(inputs=inputs, outputs=file, **action(partial(make, api))).success(
            None, js=f"() => {{ setTimeout(() => document.querySelector('#{file.elem_id}').click(), 60); }}"
        )
    charts.offer(api, table_file, partial(matching_runs, api), filters, of=w["table"])
    charts.offer(api, results_file, partial(charts.sweep_runs, api), {"sweep_id": sweep_id}, of=w["results"])
    brought = bring.upload(inputs=bring, outputs=[*choice], **action(partial(imported, api)))
    brought.then(**drawing)

    return Running(
        sweep_id=sweep_id,
        run_id=run_id,
        open_id=open_id,
        metric=w["metric"],
        judged_by=judged_by,
        judged=judged,
        tolerance=w["tolerance"],
        details=details,
        showing=showing,
        timer=w["timer"],
        draw=drawing,
        chosen=[*chosen, brought, deleted],
        train=train,
    )


def first_sweep(api: Api) -> str:
    """The id of the newest sweep that whoever asks made, or else of the first recorded one."""
    return next((sweep.sweep_id for sweep in (*api.runs.made(), *api.runs.recorded())), "")


def _selected_widgets(w: dict[str, Any]) -> gr.Dropdown:
    """The charts of the selected runs; returns the choice of the cost axis."""
    w["selected_title"] = plain()
    with gr.Row(elem_classes="rv-bar"):
        x = gr.Dropdown(charts.X_WITHOUT_PRICE, value="adapter", label="Cost axis", interactive=True, min_width=150)
        w["y"] = gr.Dropdown(charts.LOSS_CHOICES, value="loss", label="Quality axis", interactive=True, min_width=150)
        w["export_selected"] = gr.Button("Download the selected runs (zip)", size="sm", elem_id="export-runs")
        w["clear"] = gr.Button("Clear the selection", size="sm", elem_id="clear-runs")
    with gr.Row(elem_classes="rv-charts"):
        w["curve"] = chart("Quality against cost, selected runs", height=HEIGHT, elem_id="runs-curve")
        w["selected_loss"] = chart("Training loss, selected runs", height=HEIGHT, elem_id="runs-loss")
    w["caption"] = plain()
    return x


def _sweep_widgets(api: Api, w: dict[str, Any]) -> tuple[gr.Accordion, charts.Offer, dict[str, Any]]:
    """The chosen sweep: figure, answers, the chosen run, details; with the table's file, and the choice of where what
    did not complete goes on."""
    w["status"] = plain(elem_id="sweep-status")
    with gr.Row(elem_classes="rv-bar"):
        w["resume"] = gr.Button("Run failed and cancelled runs again", visible=False, size="sm", elem_id="sweep-resume")
        w["cancel"] = gr.Button("Cancel this sweep", visible=False, size="sm", elem_id="sweep-cancel")
        w["add"] = gr.Button("", visible=False, size="sm", elem_id="sweep-add")
        w["ship"] = gr.Button("Download the adapter", visible=False, size="sm", elem_id="sweep-ship")
        w["export"] = gr.Button("Download this sweep (zip)", visible=False, size="sm", elem_id="sweep-export")
        w["share"] = gr.Checkbox(False, label=SHARE, visible=False, elem_id="sweep-share")
        w["delete"] = gr.Button("Delete this sweep", visible=False, size="sm", elem_id="sweep-delete")
    asks = again.widgets(api, elem_id="sweep-again")
    w["again_box"] = asks["box"]
    with gr.Row(visible=False, elem_classes="rv-bar", elem_id="sweep-sure") as w["sure"]:
        plain(html.paragraphs(of_sweep.SURE))
        w["delete_it"] = gr.Button("Delete", variant="stop", size="sm", elem_id="sweep-delete-it")
        w["keep"] = gr.Button("Keep", size="sm", elem_id="sweep-keep")
    with gr.Row(visible=False, elem_classes="rv-bar", elem_id="cancel-sure") as w["cancel_sure"]:
        w["cancel_words"] = plain()
        w["cancel_it"] = gr.Button("Cancel it", variant="stop", size="sm", elem_id="cancel-it")
        w["leave_it"] = gr.Button("Let it train", size="sm", elem_id="cancel-not")
    w["owner"] = plain(elem_id="sweep-owner")
    w["metric"] = gr.Dropdown(
        METRIC_CHOICES, value=LOSS.key, label="Quality", interactive=True, visible=False, elem_id="sweep-metric"
    )
    w["by_rank"] = chart("Quality by rank", height=HEIGHT, elem_id="sweep-curve", optional=True)
    w["summary"] = plain(elem_id="sweep-summary")
    w["detail"] = plain(elem_id="run-detail")
    w["cancel_run"] = gr.Button("Cancel this run", visible=False, size="sm", elem_id="cancel-run")
    with gr.Accordion("Details", open=False, elem_id="sweep-details") as details:
        w["tolerance"] = gr.Textbox(
            default_tolerance(LOSS.key),
            label=tolerance_label(LOSS),
            max_lines=1,
            max_length=20,
            elem_id="sweep-tolerance",
        )
        w["above_best"] = chart("Difference from the best rank", height=HEIGHT, elem_id="sweep-verdict", optional=True)
        with gr.Row(elem_classes="rv-charts"):
            w["tradeoff"] = chart(
                "Quality against adapter size", height=HEIGHT, elem_id="sweep-tradeoff", optional=True
            )
            w["loss"] = chart("Training loss by step", height=HEIGHT, elem_id="sweep-loss", optional=True)
        w["words"] = plain(elem_id="sweep-words")
        results_file = charts.download_widgets(
            "runs of this sweep", elem_id="sweep-results-download", may_be_empty=True
        )
        w["results"] = pickable(elem_id="sweep-results")
        w["facts"] = plain(elem_id="sweep-facts")
    return details, results_file, asks


# A closure: Gradio finds gr.EventData by the function's own type hints and loses it in a partial.
def _choosing(api: Api) -> Any:
    def chosen(event: gr.EventData, sweep_id: str, run_id: str, open_id: str) -> Choice:
        return choice_of(api, clicked_id(event), Choice(sweep_id, run_id, open_id))

    return chosen


def clicked_id(event: gr.EventData) -> str:
    """The id of what was clicked: a row, a box or a point."""
    return str(event._data.get("id", ""))
