"""The Train tab starts a sweep, and shows the expected memory and time and the progress.

The page never owns a run. It reads the store on a timer while there is something to see, and finds a sweep again by
its id in the address.
"""

from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.figures import RankCurveInfo, rank_curve_figure
from rankviz.ui.parts import html, live, tables
from rankviz.ui.parts.added_run import add_button, add_run
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import busy, done, pickable, plain
from rankviz.ui.parts.curve import curve as by_rank
from rankviz.ui.train import examples
from rankviz.ui.train import form as train_form
from rankviz.ui.wiring import action, notice_html, quiet, show, unchanged, wire

POLL_SECONDS = 1.0
EMPTY = (
    "Nothing trained yet. Press Train. A quick look trains a low and a high rank and forecasts the ranks between; a "
    "fast curve trains the highest rank and truncates its adapter to the lower ranks; a sweep trains every rank. The "
    "results appear here. You can close or reload the page while it runs."
)
CANNOT_TRAIN = "Nothing trained yet, and nothing can be trained here: the note above the Train button says why."


class Training(NamedTuple):
    """What the rest of the page needs of this tab."""

    sweep_id: gr.State
    seen: gr.State
    draw: Any
    """Call with no arguments to redraw after sweep_id was set: returns keyword arguments for an event."""
    started: Any
    results: gr.HTML
    curve: gr.HTML


def build(api: Api) -> Training:
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question"):
            with gr.Accordion("Base, data and settings", elem_classes="rv-fold"):
                w = train_form.form_widgets([(sample.title, sample.id) for sample in api.runs.samples()])
            expected = plain(elem_id="expected")
            refused = plain(elem_id="train-notice")
            if obstacle := api.workspace.why_not_train():
                plain(notice_html(obstacle), elem_id="train-trainer")
            start = gr.Button("Train", variant="primary", interactive=not obstacle, elem_id="train-button")
        with gr.Column(elem_classes="rv-answer"):
            status = plain(elem_id="status")
            sweep_id = gr.State("")
            examples.build(api, sweep_id)
            cancel = gr.Button("Cancel this sweep", visible=False, size="sm", elem_id="cancel-sweep")
            add = gr.Button("", visible=False, size="sm", elem_id="add-run")
            with gr.Row(elem_classes="rv-charts"):
                loss = chart("Training loss by step", height=320, elem_id="train-loss")
                curve = chart("Held-out loss by rank", height=320, elem_id="train-curve")
            caption = plain(elem_id="train-words")
            results_file = tables.download_widgets("runs of this sweep", elem_id="results-download", may_be_empty=True)
            results = pickable(elem_id="train-results")
            with gr.Accordion("Events", open=True):
                events = plain(elem_id="train-events")

    form = {name: w[name] for name in train_form.NAMES}
    w["data"].change(lambda data: gr.File(visible=data == train_form.OWN_FILE), w["data"], w["file"], **quiet())
    w["alpha_rule"].change(
        lambda rule: gr.Number(visible=rule == "fixed"), w["alpha_rule"], w["alpha_fixed"], **quiet()
    )
    show(
        train_form.mode_chosen,
        triggers=[w["mode"].change],
        inputs={"mode": w["mode"]},
        outputs={name: w[name] for name in ("ranks", "independent", "seeds", "mode_note")},
    )
    show(
        lambda **values: _Preview(train_form.preview_html(api, values)),
        inputs={"data": w["data"], "file": w["file"]},
        outputs={"preview": w["preview"]},
    )
    w["base"].change(**busy("base-busy", "Reading the layers of this base model …"))
    show(
        lambda **values: _Expected(train_form.expected_html(api, values)),
        inputs=form,
        outputs={"expected": expected},
        notice=refused,
    ).then(**done("base-busy"))

    seen = gr.State(None)
    timer = gr.Timer(POLL_SECONDS, active=False)
    outputs = {
        "status": status,
        "cancel": cancel,
        "add": add,
        "loss": loss,
        "curve": curve,
        "words": caption,
        "results": results,
        "events": events,
        "seen": seen,
        "timer": timer,
    }
    drawing = wire(partial(progress, api), inputs={"sweep_id": sweep_id, "seen": seen}, outputs=outputs)
    timer.tick(**drawing)

    def begin(**values: Any) -> tuple[str, None]:
        return api.runs.start(train_form.request_of(values)), None

    started = gr.on([start.click], inputs_kwargs=form, outputs=[sweep_id, seen], **action(begin))
    started.success(**drawing)
    tables.offer(results_file, partial(tables.sweep_runs, api), {"sweep_id": sweep_id}, of=results)
    cancel.click(inputs=sweep_id, **action(partial(cancel_runs, api))).then(**drawing)
    add.click(inputs=sweep_id, **action(partial(add_run, api))).then(**drawing)
    return Training(sweep_id=sweep_id, seen=seen, draw=drawing, started=started, results=results, curve=curve)


class Progress(NamedTuple):
    """The right column."""

    status: str = ""
    cancel: Any = gr.Button(visible=False)
    add: Any = gr.Button(visible=False)
    loss: str = ""
    curve: str = ""
    words: str = ""
    results: str = ""
    events: str = ""
    seen: Any = None
    timer: Any = gr.Timer(active=False)


def progress(api: Api, *, sweep_id: str, seen: Any) -> Progress:
    """What changed since it was last drawn."""
    if not sweep_id:
        blank = chart_value(rank_curve_figure(RankCurveInfo()), [], file="rank-curve")
        empty = CANNOT_TRAIN if api.workspace.why_not_train() else EMPTY
        return Progress(status=html.paragraphs(empty, css="rv-empty"), loss=live.loss_chart([]), curve=blank)
    try:
        sweep = api.runs.sweep(sweep_id)
    except RankVizError as error:
        return Progress(status=notice_html(str(error), kind="error"))
    timer, now = gr.Timer(active=not sweep.ended), live.fingerprint(sweep)
    if now == seen:
        return unchanged(Progress, timer=timer)
    drawn = by_rank(api, sweep, height=320)
    return Progress(
        status=live.status_html(sweep),
        cancel=gr.Button(visible=not sweep.ended),
        add=add_button(api, sweep, drawn.decision),
        loss=live.loss_chart([sweep]),
        curve=drawn.chart,
        words=sweep_link(sweep_id) + drawn.words,
        results=live.results_table(api, sweep),
        events=live.events_html(api, sweep),
        seen=now,
        timer=timer,
    )


def sweep_link(sweep_id: str) -> str:
    address = f"?tab=runs&amp;sweep={quote(sweep_id)}"
    return f'<p class="rv-caption"><a href="{address}">Open this sweep on its own page</a></p>'


def cancel_runs(api: Api, run_or_sweep_id: str) -> None:
    api.runs.cancel(run_or_sweep_id)


class _Preview(NamedTuple):
    preview: str


class _Expected(NamedTuple):
    expected: str
