"""The Train tab starts a sweep, shows its expected memory and time, and its progress, on every tab in one line."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.core.runs.sweep_time import SweepProgress
from rankviz.errors import RankVizError
from rankviz.ui.parts import again, charts, where
from rankviz.ui.parts.again import add_run
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import busy, busy_line, copyable, done, file_button, pickable, plain, remembered
from rankviz.ui.parts.where import cancel as cancel_runs
from rankviz.ui.parts.where import may_change
from rankviz.ui.train import before, engine, request
from rankviz.ui.train import form as train_form
from rankviz.ui.train import progress as examples
from rankviz.ui.train.before import allowed_html, cannot_train_html
from rankviz.ui.train.progress import HEIGHT, POLL_SECONDS, TRAIN, progress, restoring_html
from rankviz.ui.wiring import action, changes, on_any, put, quiet, show, wire

RUNNING_SECONDS = 3.0
MOST_RANKS = 3
"""That are named one by one."""
IDLE_SECONDS = 30.0
"""A training may be started on the command line or on another page too."""


class Badge(NamedTuple):
    """What the rest of the page needs."""

    line: gr.HTML
    draw: dict[str, Any]


class Now(NamedTuple):
    line: str
    timer: gr.Timer


def build_badge(api: Api) -> Badge:
    line = pickable(elem_id="badge")
    timer = gr.Timer(IDLE_SECONDS)
    drawing = wire(lambda: now(api), inputs={}, outputs={"line": line, "timer": timer})
    timer.tick(**drawing)
    return Badge(line=line, draw=drawing)


def now(api: Api) -> Now:
    """What runs, and when to look again."""
    unfinished = [sweep for sweep in api.runs.sweeps() if not sweep.ended]
    seconds = RUNNING_SECONDS if unfinished else IDLE_SECONDS
    return Now(badge_html(api, unfinished), gr.Timer(seconds))


def badge_html(api: Api, unfinished: Sequence[Sweep]) -> str:
    """The sweep that runs, else the oldest one that waits; nothing where there is none. unfinished: newest first."""
    if not unfinished:
        return ""
    running = [sweep for sweep in unfinished if sweep.running]
    shown = running[0] if running else unfinished[-1]
    words = ", ".join(
        filter(None, [in_words(shown, api.runs.progress(shown)), _turn(api, shown), _others(running, unfinished)])
    )
    return (
        f'<button type="button" class="rv-button" data-pick="{escape(shown.sweep_id)}" title="Open on Train">'
        f"{escape(words)}</button>"
    )


def _turn(api: Api, shown: Sweep) -> str:
    """Of a sweep that waits, where that is for others; Train says in sentences what else it waits for."""
    place = None if shown.running or any(run.waits for run in shown.runs) else api.runs.waiting(shown.sweep_id)
    if place is None or place.trouble:
        return ""
    return f"{units.counted(place.ahead, 'sweep')} before it" if place.ahead else "next"


def _others(running: Sequence[Sweep], unfinished: Sequence[Sweep]) -> str:
    """How many more there are of each kind, beside the one that is shown."""
    more = max(0, len(running) - 1)
    waiting = len(unfinished) - more - 1
    if not more:
        return f"{units.counted(waiting, 'more sweep')} queued" if waiting else ""
    return f"{units.counted(more, 'more sweep')} running" + (f", {waiting:,} queued" if waiting else "")


def in_words(sweep: Sweep, progress: SweepProgress) -> str:
    """ "Training r = 4, 64: run 1 of 2, 34 %, time left about 3 min"; without what is not known yet."""
    ranks = sorted({run.request.r for run in sweep.runs})
    shown = ", ".join(map(str, ranks)) if len(ranks) <= MOST_RANKS else f"{ranks[0]} to {ranks[-1]}"
    if progress.number is None:
        return f"Queued r = {shown}: {units.counted(progress.runs, 'run')}"
    share = "" if progress.share is None else f", {100 * progress.share:.0f} %"
    left = "" if progress.seconds_left is None else f", time left about {units.duration(progress.seconds_left)}"
    return f"Training r = {shown}: run {progress.number} of {progress.runs}{share}{left}"


def chosen(event: gr.EventData) -> tuple[str, str, Any]:
    """The sweep of the line, to be drawn anew on Train."""
    return str(event._data["id"]), "", gr.Tabs(selected="train")


BASE_BUSY = """() =>
  RankViz.busy("base-busy", "Reading the layers of this base model …" + RankVizExplore.usually())"""
FOLD = """() => {
  const fold = document.querySelector(".rv-train-form > button");
  const shown = document.querySelector("#status:not(:has(.rv-newest)) .rv-status");
  if (shown && fold?.offsetParent && fold.classList.contains("open")) fold.click();
}"""
"""Where a sweep was chosen, on a phone the form folds, so that button and progress stand one under the other."""
FOLD_AS_RESTORED = f"() => RankViz.isAsRestored && ({FOLD})()"
READY = """() => {
  document.querySelector("#train-button").focus({ preventScroll: true });
  const fold = document.querySelector(".rv-train-form > button");
  const replaced = document.querySelector("#train-replaced .rv-notice");
  if (replaced && fold?.offsetParent && fold.classList.contains("open")) fold.click();
  if (innerWidth < 900) document.querySelector("#train-bar").scrollIntoView({ block: "end" });
  else scrollTo(0, 0);
}"""
"""Where Explore has filled the form, the next press starts it. On a phone the form folds under a note on what was
replaced, so that note and button are both in view."""
IN_VIEW = """() => {
  const status = document.querySelector("#status");
  status.tabIndex = -1;
  status.focus({ preventScroll: true });
  const top = innerWidth < 900 ? document.querySelector("#train-bar") : status;
  setTimeout(() => {
    const { top: y } = top.getBoundingClientRect();
    if (y < 0 || y > innerHeight / 2) top.scrollIntoView({ block: "start" });
  }, 100);
}"""


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
                results_file = charts.download_widgets(
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
    charts.offer(api, results_file, partial(charts.sweep_runs, api), {"sweep_id": sweep_id}, of=results)
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
