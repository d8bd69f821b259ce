"""Train: what to train on what, what it will take, and the sweep as it goes.

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
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import busy, done, pickable, plain
from rankviz.ui.parts.curve import curve as by_rank
from rankviz.ui.train import form as train_form
from rankviz.ui.wiring import action, notice_html, quiet, show

POLL_SECONDS = 1.0
EMPTY = (
    "Nothing trained yet. Press Train: a fast curve trains the highest rank and cuts it to the lower ones; a sweep "
    "trains every rank, on the same data in the same order. Points appear here. You may close or reload the page "
    "meanwhile."
)


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
            with gr.Accordion("What to train", elem_classes="rv-fold"):
                w = train_form.form_widgets([(sample.title, sample.id) for sample in api.runs.samples()])
            expected = plain(elem_id="expected")
            refused = plain(elem_id="train-notice")
            start = gr.Button("Train", variant="primary", elem_id="train-button")
        with gr.Column(elem_classes="rv-answer"):
            status = plain(elem_id="status")
            cancel = gr.Button("Cancel this sweep", visible=False, size="sm", elem_id="cancel-sweep")
            with gr.Row(elem_classes="rv-charts"):
                loss = chart("Training loss by step", height=320, elem_id="train-loss")
                curve = chart("Held-out loss by rank", height=320, elem_id="train-curve")
            caption = plain(elem_id="train-words")
            results_file = tables.download_widgets("runs of this sweep", elem_id="results-download")
            results = pickable(elem_id="train-results")
            with gr.Accordion("What happened", open=True):
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
        outputs={name: w[name] for name in ("ranks", "anchors", "seeds", "mode_says")},
    )
    show(
        lambda **values: _Preview(train_form.preview_html(api, values)),
        inputs={"data": w["data"], "file": w["file"]},
        outputs={"preview": w["preview"]},
    )
    w["base"].change(**busy("base-busy", "Reading the layers of this base …"))
    show(
        lambda **values: _Expected(train_form.expected_html(api, values)),
        inputs=form,
        outputs={"expected": expected},
        notice=refused,
    ).then(**done("base-busy"))

    sweep_id = gr.State("")
    seen = gr.State(None)
    timer = gr.Timer(POLL_SECONDS, active=False)
    outputs = [status, cancel, loss, curve, caption, results, events, seen, timer]

    def draw(sweep_id: str, seen: Any) -> Any:
        """What changed since it was last looked at; nothing to draw is nothing sent."""
        if not sweep_id:
            blank = chart_value(rank_curve_figure(RankCurveInfo()), [], file="rank-curve")
            return [
                html.paragraphs(EMPTY, css="rv-empty"), gr.Button(visible=False), live.loss_chart([]), blank,
                "", "", "", None, gr.Timer(active=False),
            ]  # fmt: skip
        try:
            sweep = api.runs.sweep(sweep_id)
        except RankVizError as error:
            said = notice_html(str(error), kind="error")
            return [said, gr.Button(visible=False), "", "", "", "", "", None, gr.Timer(active=False)]
        now = live.fingerprint(sweep)
        if now == seen:
            return [gr.skip()] * (len(outputs) - 1) + [gr.Timer(active=not sweep.ended)]
        drawn = by_rank(api, sweep, height=320)
        return [
            live.status_html(sweep),
            gr.Button(visible=not sweep.ended),
            live.loss_chart([sweep]),
            drawn.chart,
            sweep_link(sweep_id) + drawn.words,
            live.results_table(api, sweep),
            live.events_html(api, sweep),
            now,
            gr.Timer(active=not sweep.ended),
        ]

    drawing = {"fn": draw, "inputs": [sweep_id, seen], "outputs": outputs, **quiet()}
    timer.tick(**drawing)

    def begin(**values: Any) -> tuple[str, None]:
        return api.runs.start(train_form.request_of(values)), None

    started = gr.on([start.click], inputs_kwargs=form, outputs=[sweep_id, seen], **action(begin))
    started.success(**drawing)
    tables.offer(results_file, partial(tables.sweep_runs, api), {"sweep_id": sweep_id})
    cancel.click(inputs=sweep_id, **action(partial(cancel_runs, api))).then(**drawing)
    return Training(sweep_id=sweep_id, seen=seen, draw=drawing, started=started, results=results, curve=curve)


def sweep_link(sweep_id: str) -> str:
    address = f"?tab=sweep&amp;sweep={quote(sweep_id)}"
    return f'<p class="rv-caption"><a href="{address}">This sweep on a page of its own</a></p>'


def cancel_runs(api: Api, run_or_sweep_id: str) -> None:
    api.runs.cancel(run_or_sweep_id)


class _Preview(NamedTuple):
    preview: str


class _Expected(NamedTuple):
    expected: str
