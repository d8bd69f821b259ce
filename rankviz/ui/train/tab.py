"""The Train tab starts a sweep, and shows the expected memory and time and the progress.

The page never owns a run. It reads the store on a timer while there is something to see, and finds a sweep again by
its id in the address; the form then shows what that sweep was asked for.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.ui.parts import again, tables, where
from rankviz.ui.parts.added_run import add_run
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import busy, busy_line, copyable, done, file_button, pickable, plain, remembered
from rankviz.ui.parts.owned import cancel as cancel_runs
from rankviz.ui.parts.owned import may_change
from rankviz.ui.train import before, engine, examples, request
from rankviz.ui.train import form as train_form
from rankviz.ui.train.allowed import allowed_html, cannot_train_html
from rankviz.ui.train.progress import HEIGHT, POLL_SECONDS, TRAIN, progress, restoring_html
from rankviz.ui.train.scripts import BASE_BUSY, FOLD, IN_VIEW
from rankviz.ui.wiring import action, changes, on_any, put, quiet, show, wire

RUNS_ON = "runs_on"
"""The name of that choice among those of Explore's question."""


class Training(NamedTuple):
    """What the rest of the page needs of this tab."""

    sweep_id: gr.State
    """None until the page is restored from its address; then empty where no sweep is shown."""
    seen: gr.HTML
    draw: Any
    """Call with no arguments to redraw after sweep_id was set: returns keyword arguments for an event."""
    opened: tuple[dict[str, Any], ...]
    """The events that show the rest, for when the tab is opened: what the form's settings mean, and the recorded
    examples where there is no sweep to show."""
    fill: dict[str, Any]
    """The event that puts the shown sweep's own settings into the form."""
    form: dict[str, Any]
    """The form's widgets by name."""
    fill_from: Callable[[Mapping[str, Any]], dict[Any, Any]]
    """Takes values of request.DEFAULTS, as request.measuring makes them, and gives the updates of `form`."""
    replaced: dict[str, Any]
    """Widgets by the names of before.Replaced."""
    engine: gr.Radio
    """Where it is to run."""
    started: Any
    results: gr.HTML
    curve: gr.HTML


def build(api: Api) -> Training:
    samples = [(sample.title, sample.id) for sample in api.runs.samples()]
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question"):
            trainer = plain(cannot_train_html(api), elem_id="train-trainer")
            replaced_note = plain(elem_id="train-replaced")
            asked_notebook = gr.Button("", visible=False, size="sm", elem_id="train-asked-notebook")
            with gr.Accordion("Base, data and settings", elem_classes=["rv-fold", "rv-train-form"]):
                w = train_form.form_widgets(samples, shared=api.workspace.shared)
            place = engine.widgets(api)
            with gr.Column(elem_id="train-before"):
                w["breakdown"] = plain(elem_id="train-breakdown")
                plain(allowed_html(api), elem_id="train-allowed")
            with gr.Column(elem_id="train-bar"):
                queue = plain(elem_id="train-queue")
                w["expected"] = plain(elem_id="expected")
                w["notice"] = plain(elem_id="train-notice")
                with gr.Row(elem_classes="rv-bar"):
                    w["embedded"] = gr.Button(
                        "Use the embedded model instead", visible=False, size="sm", elem_id="train-embedded"
                    )
                    w["notebook"] = gr.Button("", visible=False, size="sm", elem_id="train-notebook")
                busy_line("train-busy")
                w["start"] = gr.Button(
                    TRAIN, variant="primary", interactive=not api.engines.why_none(), elem_id="train-button"
                )
        with gr.Column(elem_classes="rv-answer"):
            status = plain(restoring_html(), elem_id="status")
            with gr.Row(elem_classes="rv-bar", elem_id="train-stop"):
                cancel = gr.Button("", visible=False, variant="stop", size="sm", elem_id="train-cancel")
            sweep_id = gr.State(None)
            recorded_examples = examples.build(api, sweep_id)
            with gr.Row(elem_classes="rv-charts"):
                curve = chart("Held-out loss by rank", height=HEIGHT, elem_id="train-curve", optional=True)
                loss = chart("Training loss by step", height=HEIGHT, elem_id="train-loss", optional=True)
            words = plain(elem_id="train-words")
            with gr.Row(elem_classes="rv-bar", elem_id="train-next"):
                add = gr.Button("", visible=False, size="sm", elem_id="add-run")
                resume = gr.Button("", visible=False, size="sm", elem_id="train-resume")
            asks = again.widgets(api, elem_id="train-again")
            answers = plain(elem_id="train-answers")
            adapters = copyable(elem_id="train-adapters")
            with gr.Accordion("Runs: measured and estimated", open=False, visible=False) as runs_fold:
                results_file = tables.download_widgets(
                    "runs of this sweep", elem_id="results-download", may_be_empty=True
                )
                results = pickable(elem_id="train-results")
            with gr.Accordion("Events", open=False, visible=False) as events_fold:
                events = plain(elem_id="train-events")
    notebook_file = file_button("train-notebook-file")

    w |= {"trainer": trainer, "flavor": place["flavor"], "again": place["again"]}
    form = {name: w[name] for name in request.DEFAULTS}
    fillable = {**form, "mode_note": w["mode_note"]}
    w["data"].change(lambda data: gr.File(visible=data == request.OWN_FILE), w["data"], w["file"], **quiet())
    w["alpha_rule"].change(
        lambda rule: gr.Number(visible=rule == "fixed"), w["alpha_rule"], w["alpha_fixed"], **quiet()
    )
    show(
        train_form.mode_chosen,
        triggers=[w["mode"].input],
        inputs={"mode": w["mode"], "ranks": w["ranks"]},
        outputs={name: w[name] for name in train_form.Mode._fields},
    )
    data = {name: w[name] for name in ("data", "file", "kept")}
    previewing = wire(partial(before.preview, api), inputs=data, outputs={"preview": w["preview"]})
    on_any(*changes(data)).then(**previewing)
    w["base"].change(None, js=BASE_BUSY)
    terms = {name: place[name] for name in where.NAMES}
    estimating = wire(
        partial(engine.before_start, api),
        inputs={**form, **terms},
        outputs={name: w[name] for name in before.Before._fields},
    )
    choosing = wire(
        partial(engine.choice, api),
        inputs={"engine": place["engine"]},
        outputs={name: place[name] for name in engine.Choice._fields},
    )
    place["engine"].input(None, None, [w["expected"], w["notice"], w["breakdown"], place["about"]], js=engine.ASKED)
    place["engine"].change(**choosing)
    on_any(*changes({**form, **terms})).then(**estimating).then(**done("base-busy"))
    place["again"].tick(**estimating)
    asks_queue = gr.Timer(engine.IDLE_SECONDS, active=api.workspace.shared)
    queued = {"queue": queue, "asks": asks_queue}
    queueing = wire(partial(engine.queue, api), inputs={"engine": place["engine"]}, outputs=queued)

    def fill_from(values: Mapping[str, Any]) -> dict[Any, Any]:
        return put(train_form.filled(values, samples), fillable)

    gr.on(
        [w["embedded"].click],
        lambda **values: fill_from(before.instead(values)),
        inputs_kwargs=form,
        outputs=list(fillable.values()),
        **quiet(),
    )
    original = gr.State(None)
    replaced = {"original": original, "replaced": replaced_note, "asked_notebook": asked_notebook}
    w["base"].input(before.Replaced, None, list(replaced.values()), **quiet())
    for written in (
        gr.on(
            [w["notebook"].click], inputs_kwargs=form, outputs=notebook_file, **action(partial(before.notebook, api))
        ),
        asked_notebook.click(inputs=original, outputs=notebook_file, **action(partial(before.replaced_notebook, api))),
    ):
        written.success(
            None, js="() => { setTimeout(() => document.querySelector('#train-notebook-file').click(), 60); }"
        )

    seen = remembered()
    timer = gr.Timer(POLL_SECONDS, active=False)
    outputs = {
        "status": status,
        "start": w["start"],
        "cancel": cancel,
        "add": add,
        "resume": resume,
        "again_box": asks["box"],
        "loss": loss,
        "curve": curve,
        "words": words,
        "answers": answers,
        "adapters": adapters,
        "runs_fold": runs_fold,
        "results": results,
        "events_fold": events_fold,
        "events": events,
        "seen": seen,
        "timer": timer,
    }
    drawing = wire(partial(progress, api), inputs={"sweep_id": sweep_id, "seen": seen}, outputs=outputs)
    timer.tick(**drawing)

    w["start"].click(**busy("train-busy", "Starting …"))
    started = gr.on(
        [w["start"].click],
        inputs_kwargs={**form, **terms},
        outputs=[sweep_id, seen],
        **action(partial(start, api)),
    )
    cancel.click(**busy("train-busy", "Cancelling …"))
    cancelled = cancel.click(inputs=sweep_id, **action(partial(cancel_runs, api)))
    cancelled.then(**drawing).then(**done("train-busy"))
    started.then(**done("train-busy"))
    if api.workspace.shared:
        asks_queue.tick(**queueing)
        for changed in (place["engine"].change, started.then, cancelled.then):
            changed(**queueing)
    started.success(before.Replaced, None, list(replaced.values()), **quiet())
    started.success(**drawing).then(None, js=FOLD).then(None, js=IN_VIEW)
    tables.offer(api, results_file, partial(tables.sweep_runs, api), {"sweep_id": sweep_id}, of=results)
    add.click(inputs=sweep_id, **action(partial(add_run, api))).then(**drawing)
    again.connect(api, resume, asks, sweep_id, drawing)

    filled = [*fillable.values(), *replaced.values(), *terms.values()]

    def fill(shown: str) -> dict[Any, Any]:
        values = form_of(api, shown)
        if not values:
            return {widget: gr.skip() for widget in filled}
        return fill_from(values) | put(before.Replaced()._asdict(), replaced) | put(place_of(api, shown), terms)

    return Training(
        sweep_id=sweep_id,
        seen=seen,
        draw=drawing,
        opened=(previewing, choosing, estimating, recorded_examples, *([queueing] if api.workspace.shared else [])),
        fill={"fn": fill, "inputs": sweep_id, "outputs": filled, **quiet()},
        form=fillable,
        fill_from=fill_from,
        replaced=replaced,
        engine=place["engine"],
        started=started,
        results=results,
        curve=curve,
    )


def measuring(
    api: Api, training: Training, question: Mapping[str, Any], tabs: gr.Tabs, mode: str = "quick"
) -> dict[str, Any]:
    """The event of one of Explore's buttons: the form filled with Explore's question, on Train, with no sweep shown.
    Where this machine is to train and cannot train the model, with the embedded one."""
    shown = [training.sweep_id, training.seen, tabs]

    def fill(**values: Any) -> dict[Any, Any]:
        engine = values.pop(RUNS_ON)
        form, replaced = before.trainable(api, request.measuring(api, values, engine, mode), engine)
        filled = training.fill_from(form) | put(replaced._asdict(), training.replaced)
        return {**filled, **dict(zip(shown, ("", "", gr.Tabs(selected="train")), strict=True))}

    return {
        "inputs_kwargs": {**question, RUNS_ON: training.engine},
        "outputs": [*training.form.values(), *training.replaced.values(), *shown],
        **action(fill),
    }


def start(api: Api, **values: Any) -> tuple[str, str]:
    """Start these settings, beside whatever waits or runs already; the new sweep is shown."""
    terms = {name: values.pop(name) for name in where.NAMES}
    return engine.start(api, values, **terms), ""


def place_of(api: Api, sweep_id: str) -> dict[str, Any]:
    """Where a sweep of one's own is, for the choice; of another, nothing is chosen."""
    return {} if api.runs.sweep(sweep_id).recorded else where.of_sweep(api, sweep_id)


def form_of(api: Api, sweep_id: str) -> dict[str, Any] | None:
    """The form that the sweep came from; None where there is no such sweep, or where it is another visitor's."""
    if not sweep_id:
        return None
    try:
        sweep = api.runs.sweep(sweep_id)
    except RankVizError:
        return None
    if not (sweep.recorded or may_change(api, sweep)):
        return None
    runs = [run.request for run in sweep.runs]
    return request.values_of(runs, [sample.id for sample in api.runs.samples()])
