"""The Runs tab shows every run with its state, the selected runs in one figure, and one run in detail."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.json import run_json
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.errors import RankVizError, UserError
from rankviz.export.tables import Table
from rankviz.export.tables import runs_table as measured_table
from rankviz.figures.labels import base_name, data_name
from rankviz.ui.parts import html, live, points, tables
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import pickable, plain
from rankviz.ui.parts.html import Cell, Row
from rankviz.ui.runs.detail import detail_html
from rankviz.ui.train.tab import cancel_runs
from rankviz.ui.wiring import action, notice_html, quiet, unchanged, wire

POLL_SECONDS = 2.0
ANY_STATE = "any state"


class Running(NamedTuple):
    """What the rest of the page needs of this tab."""

    chosen: gr.State
    selected: gr.State
    seen: gr.State
    timer: gr.Timer
    draw: dict[str, Any]
    picked: Sequence[Any]
    """The clicks that chose a run."""


class RunsView(NamedTuple):
    """Everything that the tab shows."""

    table: str
    curve: str
    loss: str
    caption: str
    detail: str
    cancel: Any
    y: Any
    """The quality axes that the drawn runs have."""
    seen: Any
    """What was drawn, so that the next look can see whether anything changed."""


def all_sweeps(api: Api) -> list[Sweep]:
    """One's own, newest first, then the recorded ones."""
    return [*api.runs.sweeps(), *api.runs.recorded()]


def build(api: Api) -> Running:
    with gr.Row(elem_classes="rv-bar"):
        text = gr.Textbox("", label="Filter", placeholder="base, data, rank, id", max_lines=1, min_width=160, scale=3)
        state = gr.Dropdown(
            [ANY_STATE, *(s.value for s in RunState)], value=ANY_STATE, label="State", interactive=True, min_width=120
        )
        x = gr.Dropdown(points.X_CHOICES, value="adapter", label="Cost axis", interactive=True, min_width=150)
        y = gr.Dropdown(points.LOSS_CHOICES, value="loss", label="Quality axis", interactive=True, min_width=150)
    table_file = tables.download_widgets("these runs", elem_id="runs-download")
    table = pickable(elem_id="runs-table")
    with gr.Row(elem_classes="rv-charts"):
        curve = chart("Quality against cost, selected runs", height=340, elem_id="runs-curve")
        loss = chart("Training loss, selected runs", height=340, elem_id="runs-loss")
    caption = plain()
    detail = plain(elem_id="run-detail")
    with gr.Row(elem_classes="rv-bar"):
        cancel = gr.Button("Cancel this run", visible=False, size="sm", elem_id="cancel-run")
        export = gr.Button("Download the selected runs (zip)", size="sm", elem_id="export-runs")
        bring = gr.UploadButton("Import a zip of runs", file_types=[".zip"], size="sm", elem_id="import-runs")
    zipped = gr.DownloadButton("zip", visible="hidden", elem_id="runs-zip")

    chosen, selected, seen = gr.State(""), gr.State(None), gr.State(None)
    timer = gr.Timer(POLL_SECONDS, active=False)
    filters = {"text": text, "state": state}
    drawing = wire(
        partial(runs_view, api),
        inputs={**filters, "x": x, "y": y, "chosen": chosen, "selected": selected, "seen": seen},
        outputs={
            "table": table, "curve": curve, "loss": loss, "caption": caption, "detail": detail, "cancel": cancel,
            "y": y, "seen": seen,
        },
    )  # fmt: skip
    timer.tick(**drawing)
    gr.on([text.change, state.change, x.change, y.change], **drawing)

    clicks = [clicked.select(picked, None, chosen, **quiet()) for clicked in (table, curve, loss)]
    for click in clicks:
        click.then(**drawing)
    table.input(ticked, None, selected, **quiet()).then(**drawing)
    cancel.click(inputs=chosen, **action(partial(cancel_runs, api))).then(**drawing)
    export.click(inputs=selected, outputs=zipped, **action(partial(zip_of, api))).success(
        None, js="() => { setTimeout(() => document.querySelector('#runs-zip').click(), 60); }"
    )
    tables.offer(table_file, partial(matching_runs, api), filters)
    bring.upload(inputs=bring, outputs=[selected, chosen], **action(partial(imported, api))).then(**drawing)
    return Running(chosen=chosen, selected=selected, seen=seen, timer=timer, draw=drawing, picked=clicks)


def runs_view(
    api: Api, *, text: str, state: str, x: str, y: str, chosen: str, selected: list[str] | None, seen: Any
) -> RunsView:
    """Everything on this tab, or nothing when nothing changed since it was last drawn."""
    sweeps, unreadable = all_sweeps(api), api.runs.unreadable()
    now = (text, state, x, y, chosen, selected, tuple(unreadable), tuple(live.fingerprint(s) for s in sweeps))
    if now == seen:
        return unchanged(RunsView)
    shown = selected if selected is not None else newest(sweeps)
    overlaid = [s for s in sweeps if any(run.run_id in shown for run in s.runs)]
    qualities = points.quality_choices(run for sweep in overlaid for run in sweep.runs if run.run_id in shown)
    y = y if y in dict(qualities).values() else "loss"
    tradeoff = points.tradeoff_chart(overlaid, x=x, y=y, run_ids=shown, height=340)
    return RunsView(
        table=runs_table(sweeps, text=text, state=state, shown=shown, chosen=chosen, unreadable=unreadable),
        curve=tradeoff.chart,
        loss=live.loss_chart(overlaid, shown),
        caption=html.paragraphs(tradeoff.caption),
        detail=detail_of(api, chosen),
        cancel=gr.Button(visible=cancellable(api, chosen)),
        y=gr.Dropdown(choices=qualities, value=y),
        seen=now,
    )


def picked(event: gr.EventData) -> str:
    """The id of what was clicked: a row or a point."""
    return str(event._data.get("id", ""))


def ticked(event: gr.EventData) -> list[str]:
    return [str(run_id) for run_id in event._data.get("ids", ())]


def newest(sweeps: Sequence[Sweep]) -> list[str]:
    """The runs to draw when none is selected: those of the newest sweep that has something to draw."""
    drawable = [sweep for sweep in sweeps if any(run.steps for run in sweep.runs)]
    return [run.run_id for run in (drawable or sweeps)[0].runs] if sweeps else []


def cancellable(api: Api, run_id: str) -> bool:
    try:
        return bool(run_id) and not api.runs.get(run_id).state.ended
    except RankVizError:
        return False


def detail_of(api: Api, run_id: str) -> str:
    if not run_id:
        return html.paragraphs("Click a run in the table or in a figure to see its details.", css="rv-empty")
    try:
        return detail_html(api, api.runs.get(run_id))
    except RankVizError as error:
        return notice_html(str(error), kind="error")


HEADERS = (
    "Run",
    "State",
    "Base",
    "Data",
    "α",
    "Learning rate",
    "Seed",
    "Loss",
    "Gain",
    "Adapter file",
    "Memory",
    "Time",
    "Requested",
)


def runs_table(
    sweeps: Sequence[Sweep],
    *,
    text: str,
    state: str,
    shown: Sequence[str],
    chosen: str,
    unreadable: Mapping[str, str] | None = None,
) -> str:
    """unreadable: folders that hold no run, with the reason of each; listed where nothing is filtered."""
    pairs = filtered(sweeps, text=text, state=state)
    broken = {} if text or state != ANY_STATE else unreadable or {}
    if not pairs and not broken:
        return html.paragraphs(
            "No run matches the filter." if sweeps else "No runs yet. Train a sweep.", css="rv-empty"
        )
    return html.table(
        HEADERS,
        [
            Row(cells=run_cells(sweep, run), pick=run.run_id, chosen=run.run_id == chosen, tick=run.run_id in shown)
            for sweep, run in pairs
        ]
        + [Row(cells=unreadable_cells(run_id, reason)) for run_id, reason in broken.items()],
        label="All runs",
        left=4,
    )


def matching_runs(api: Api, *, text: str, state: str) -> Table:
    """The runs that the filter lets through, as a file has them."""
    records = [run for _, run in filtered(all_sweeps(api), text=text, state=state)]
    return measured_table([(run, run_json(api.runs.summary(run.run_id))) for run in records])


def filtered(sweeps: Sequence[Sweep], *, text: str, state: str) -> list[tuple[Sweep, RunRecord]]:
    return [
        (sweep, run)
        for sweep in sweeps
        for run in sweep.runs
        if (state == ANY_STATE or run.state == state) and matches(run, text)
    ]


def matches(run: RunRecord, text: str) -> bool:
    request = run.request
    names = f"{run.run_id} {request.sweep_id} {base_name(request.base)} {request.data} r={request.r} r = {request.r}"
    return all(word in names.lower() for word in (text or "").lower().split())


def run_cells(sweep: Sweep, run: RunRecord) -> Sequence[Cell]:
    request, done = run.request, run.completed
    state = "recorded" if sweep.recorded else run.state.value
    if run.state is RunState.RUNNING and run.steps:
        state = f"running, step {run.steps[-1].step} of {request.max_steps}"
    return (
        Cell(f"r = {request.r}", title=run.run_id),
        Cell(state),
        Cell(base_name(request.base), title=request.base),
        Cell(data_name(request.data), title=request.data),
        Cell(f"{request.lora.lora_alpha:g}"),
        Cell(f"{request.learning_rate:g}"),
        Cell(str(request.seed)),
        Cell(f"{run.loss_after.loss:.4f}" if run.loss_after else "–"),
        Cell(f"{run.gain:.4f}" if run.gain is not None else "–"),
        Cell(units.file_size(run.adapter_bytes) if run.adapter_bytes else "–"),
        Cell(units.memory_size(done.peak_memory_bytes) if done else "–"),
        Cell(units.duration(done.train_seconds) if done else "–"),
        Cell(time.strftime("%Y-%m-%d %H:%M", time.localtime(request.created_at))),
    )


def unreadable_cells(run_id: str, reason: str) -> Sequence[Cell]:
    return (Cell(run_id), Cell("unreadable"), Cell(reason, kind="wrap"), *[Cell("–")] * (len(HEADERS) - 3))


def zip_of(api: Api, selected: list[str] | None) -> str:
    """A zip of the selected runs, in a folder of its own so that two visitors don't share a file."""
    run_ids = selected if selected is not None else newest(all_sweeps(api))
    if not run_ids:
        raise UserError("Select at least one run: tick its box in the table.")
    return str(api.runs.export(run_ids, Path(mkdtemp(prefix="rankviz-")) / "rankviz-runs.zip"))


def imported(api: Api, file: str) -> tuple[list[str], str]:
    run_ids = list(api.runs.import_(Path(file)))
    gr.Info(f"{units.counted(len(run_ids), 'run')} imported.")
    return run_ids, run_ids[0]
