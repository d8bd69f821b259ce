"""The Train tab starts a sweep, shows its expected memory and time, and its progress, on every tab in one line."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from rankviz.api import Api
from rankviz.errors import RankVizError
from rankviz.ui.parts import where
from rankviz.ui.parts.charts import chart
from rankviz.ui.parts.controls import busy, busy_line, copyable, done, hidden, pickable, plain
from rankviz.ui.runs import view as runs
from rankviz.ui.train import before
from rankviz.ui.train import form as train_form
from rankviz.ui.train import progress as shown
from rankviz.ui.wiring import View, action, of_click, on_any, put, quiet, wire

RUNNING_SECONDS, IDLE_SECONDS = 3.0, 30.0
"""Between two looks at what runs: a training may be started on the command line or on another page too."""
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
  if (innerWidth < 900) document.querySelector("#train-bar").scrollIntoView({ block: "end" });
  else scrollTo(0, 0);
}"""
"""Where Explore has filled the form, the next press starts it."""
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
ASKED = f"() => [{where.ASKING.format('', 'there ')!r}, '', '', '']"
"""As soon as another place is chosen nothing is said of the one before."""
RUNS_ON = "runs_on"
"""The name of that choice among those of Explore's question."""


def build_badge(api: Api) -> tuple[gr.HTML, dict[str, Any]]:
    """The line that says on every tab what runs, and the event that draws it."""
    line, timer = pickable(elem_id="badge"), gr.Timer(IDLE_SECONDS)
    drawing = wire(lambda: now(api), inputs={}, outputs={"line": line, "timer": timer})
    timer.tick(**drawing)
    return line, drawing


def now(api: Api) -> View:
    """What runs, and when to look again."""
    unfinished = [sweep for sweep in api.runs.sweeps() if not sweep.ended]
    timer = gr.Timer(RUNNING_SECONDS if unfinished else IDLE_SECONDS)
    return View(line=shown.badge_html(api, unfinished), timer=timer)


def build(api: Api) -> View:
    """Build the tab; returns what the rest of the page needs of it. `sweep_id` is None until the page is restored from
    its address, then empty where no sweep is shown; `draw` draws it, `fill` puts its settings into the form, and the
    events `opened` show the rest when the tab is opened. `fill_from` makes updates of `form` from values of
    form.DEFAULTS and a note on what was replaced."""
    samples = [(sample.title, sample.id) for sample in api.runs.samples()]
    w: dict[str, Any] = {}
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question"):
            w["trainer"] = plain(before.cannot_train_html(api), elem_id="train-trainer")
            w["replaced"] = plain(elem_id="train-replaced")
            with gr.Accordion("Base, data and settings", elem_classes=["rv-fold", "rv-train-form"]):
                w |= train_form.form_widgets(samples, shared=api.workspace.shared)
            with gr.Column(visible=False, elem_id="train-engine") as box:
                place = {"box": box, **where.widgets(api, elem_id="train-engine")}
            with gr.Column(elem_id="train-before"):
                w["breakdown"] = plain(elem_id="train-breakdown")
            with gr.Column(elem_id="train-bar"):
                w["expected"] = plain(elem_id="expected")
                w["notice"] = plain(elem_id="train-notice")
                busy_line("train-busy")
                can = not api.engines.why_none()
                w["start"] = gr.Button(shown.TRAIN, variant="primary", interactive=can, elem_id="train-button")
        with gr.Column(elem_classes="rv-answer"):
            right, of_examples = _right()
    sweep_id, seen, timer = gr.State(None), hidden(), gr.Timer(shown.POLL_SECONDS, active=False)

    w |= {"flavor": place["flavor"], "again": place["again"]}
    form = {name: w[name] for name in train_form.DEFAULTS}
    fillable = {**form, "mode_note": w["mode_note"], "replaced": w["replaced"]}
    terms = {name: place[name] for name in where.NAMES}
    w["data"].change(lambda data: gr.File(visible=data == train_form.OWN_FILE), w["data"], w["file"], **quiet())
    fixed = {"inputs": w["alpha_rule"], "outputs": w["alpha_fixed"], **quiet()}
    w["alpha_rule"].change(lambda rule: gr.Number(visible=rule == "fixed"), **fixed)
    of_mode = {name: w[name] for name in ("ranks", "independent", "repeat", "seeds", "mode_note")}
    chosen_mode = {"mode": w["mode"], "ranks": w["ranks"]}
    on_any(w["mode"].input).then(**wire(train_form.mode_chosen, inputs=chosen_mode, outputs=of_mode))
    data = {name: w[name] for name in ("data", "file", "kept")}
    previewing = wire(partial(before.preview, api), inputs=data, outputs={"preview": w["preview"]})
    on_any(*_changes(data)).then(**previewing)
    w["base"].change(None, js=BASE_BUSY)
    around = {name: w[name] for name in (*before.BEFORE, "trainer", "start", "flavor", "again")}
    estimating = wire(partial(before.before_start, api), inputs={**form, **terms}, outputs=around)
    offered = {name: place[name] for name in ("box", "engine", "about", "terms")}
    choosing = wire(partial(before.choice, api), inputs={"engine": place["engine"]}, outputs=offered)
    place["engine"].input(None, None, [w["expected"], w["notice"], w["breakdown"], place["about"]], js=ASKED)
    place["engine"].change(**choosing)
    on_any(*_changes({**form, **terms})).then(**estimating).then(**done("base-busy"))
    place["again"].tick(**estimating)

    def fill_from(values: Mapping[str, Any], replaced: str = "") -> dict[Any, Any]:
        return put({**train_form.filled(values, samples), "replaced": replaced}, fillable)

    w["base"].input(lambda: "", None, w["replaced"], **quiet())
    outputs = {**right, "start": w["start"], "seen": seen, "timer": timer}
    drawing = wire(partial(shown.progress, api), inputs={"sweep_id": sweep_id, "seen": seen}, outputs=outputs)
    timer.tick(**drawing)
    recorded = wire(partial(shown.examples, api), inputs={"sweep_id": sweep_id}, outputs=of_examples)

    w["start"].click(**busy("train-busy", "Starting …"))
    starting = {"inputs_kwargs": {**form, **terms}, "outputs": [sweep_id, seen], **action(partial(start, api))}
    started = w["start"].click(**starting)
    right["cancel"].click(**busy("train-busy", "Cancelling …"))
    cancelled = right["cancel"].click(inputs=sweep_id, **action(partial(runs.cancel, api)))
    cancelled.then(**drawing).then(**done("train-busy"))
    started.then(**done("train-busy"))
    started.success(lambda: "", None, w["replaced"], **quiet())
    started.success(**drawing).then(None, js=FOLD).then(None, js=IN_VIEW)
    right["add"].click(inputs=sweep_id, **action(partial(where.add_run, api))).then(**drawing)
    right["resume"].click(inputs=sweep_id, **action(partial(runs.resume, api))).then(**drawing)

    filled = [*fillable.values(), *terms.values()]

    def fill(sweep: str) -> dict[Any, Any]:
        values = form_of(api, sweep)
        if not values:
            return {widget: gr.skip() for widget in filled}
        there = {} if api.runs.sweep(sweep).recorded else where.of_sweep(api, sweep)
        return fill_from(values) | put(there, terms)

    return View(
        sweep_id=sweep_id,
        seen=seen,
        draw=drawing,
        opened=(previewing, choosing, estimating, recorded),
        fill={"fn": fill, "inputs": sweep_id, "outputs": filled, **quiet()},
        form=fillable,
        fill_from=fill_from,
        engine=place["engine"],
        started=started,
        curve=right["curve"],
    )


def _right() -> tuple[dict[str, Any], dict[str, Any]]:
    """The right column: widgets of progress.progress and of progress.examples."""
    w: dict[str, Any] = {"status": plain(shown.RESTORING, elem_id="status")}
    with gr.Row(elem_classes="rv-bar", elem_id="train-stop"):
        w["cancel"] = gr.Button("", visible=False, variant="stop", size="sm", elem_id="train-cancel")
    looks = {"height": shown.HEIGHT}
    with gr.Row(elem_classes="rv-charts", elem_id="examples", visible=False) as box:
        e: dict[str, Any] = {"box": box}
        for name, example in shown.EXAMPLES.items():
            with gr.Column():
                e[name] = chart(example.title, elem_id=f"example-{name}", **looks)
                e[f"{name}_words"] = plain(elem_id=f"example-{name}-words")
    with gr.Row(elem_classes="rv-charts"):
        w["curve"] = chart("Held-out loss by rank", elem_id="train-curve", optional=True, **looks)
        w["loss"] = chart("Training loss by step", elem_id="train-loss", optional=True, **looks)
    w["words"] = plain(elem_id="train-words")
    with gr.Row(elem_classes="rv-bar", elem_id="train-next"):
        w["add"] = gr.Button("", visible=False, size="sm", elem_id="add-run")
        w["resume"] = gr.Button("", visible=False, size="sm", elem_id="train-resume")
    w["answers"] = plain(elem_id="train-answers")
    w["adapters"] = copyable(elem_id="train-adapters")
    with gr.Accordion("Events", open=False, visible=False) as w["events_fold"]:
        w["events"] = plain(elem_id="train-events")
    return w, e


def _changes(widgets: Mapping[str, Any]) -> list[Any]:
    """The events that say that a value of these has changed; a State has none past the queue."""
    return [widget.change for widget in widgets.values() if hasattr(widget, "change")]


def measuring(
    api: Api, training: View, question: Mapping[str, Any], tabs: gr.Tabs, mode: str = "quick"
) -> dict[str, Any]:
    """The event of one of Explore's buttons: the form filled with Explore's question, on Train, with no sweep shown.
    Where this machine is to train and cannot train the model, with the embedded one."""

    def fill(**values: Any) -> dict[Any, Any]:
        engine = values.pop(RUNS_ON)
        form = before.trainable(api, train_form.measuring(api, values, engine, mode), engine)
        at = {training.sweep_id: "", training.seen: "", tabs: gr.Tabs(selected="train")}
        return training.fill_from(*form) | at

    return {
        "inputs_kwargs": {**question, RUNS_ON: training.engine},
        "outputs": [*training.form.values(), training.sweep_id, training.seen, tabs],
        **action(fill),
    }


def start(api: Api, **values: Any) -> tuple[str, str]:
    """Start these settings, beside whatever waits or runs already; the new sweep is shown."""
    engine, flavor, spend = (values.pop(name) for name in where.NAMES)
    return api.engines.start(train_form.request_of(values), engine, **where.terms(engine, flavor, spend)), ""


def form_of(api: Api, sweep_id: str) -> dict[str, Any] | None:
    """The form that the sweep came from; None where there is no such sweep, or where it is another visitor's."""
    try:
        sweep = api.runs.sweep(sweep_id) if sweep_id else None
    except RankVizError:
        return None
    if sweep is None or not (sweep.recorded or where.may_change(api, sweep)):
        return None
    return train_form.values_of([run.request for run in sweep.runs], [sample.id for sample in api.runs.samples()])


chosen = of_click(lambda sweep_id: (sweep_id, "", gr.Tabs(selected="train")))
"""The sweep of the line, to be drawn again on Train."""
