"""Makes what the Runs tab shows: the list, the selected runs, the chosen sweep, and the chosen run of it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.errors import BusyError, LimitError, RankVizError, quoted
from rankviz.store.temp import Usage
from rankviz.ui.parts import html, live, where
from rankviz.ui.parts.owned import not_here, uploads_button
from rankviz.ui.parts.place import telling
from rankviz.ui.runs.detail import detail_html
from rankviz.ui.runs.listing import Places, all_sweeps, list_html
from rankviz.ui.runs.selection import Choice, overlay
from rankviz.ui.runs.sweep import HEIGHT, standing_html, sweep_view
from rankviz.ui.wiring import notice_html

NOTHING_OF_YOURS = (
    "You have no runs yet. The recorded sweeps below ship with RankViz: click one to read it, or train your own."
)
POLL_SECONDS = 2.0
NO_UPLOADS = Usage(0, 0)
NO_QUESTIONS = {"sure": gr.Row(visible=False), "again_box": gr.Column(visible=False), "published_base": ""}
"""They, and what was answered, are about the chosen sweep. A drawing of the same sweep leaves them as they are."""
CHOOSE = "Click a sweep in the list to read it."


class Seen(NamedTuple):
    """What each part was last drawn of, as a hash; a part that is the same is not drawn again.

    The browser has it as a text beside what is drawn: an answer that comes too late changes neither.
    """

    listed: str = ""
    unreadable: str = str(hash(()))
    uploads: str = str(hash(NO_UPLOADS))
    overlaid: str = ""
    chosen: str = ""
    sweep: str = ""
    standing: str = ""
    run: str = ""

    @classmethod
    def of(cls, text: str) -> "Seen":
        """Nothing drawn yet, where it is no such text."""
        parts = text.split()
        return cls(*parts) if len(parts) == len(cls._fields) else cls()

    @property
    def text(self) -> str:
        return " ".join(self)


class RunsView(SimpleNamespace):
    """What changed, by the names of the tab's widgets; a widget that is not named stays as it is."""

    def _asdict(self) -> dict[str, Any]:
        return dict(vars(self))


def runs_view(
    api: Api,
    *,
    showing: str,
    text: str,
    state: str,
    x: str,
    y: str,
    selected: Sequence[str],
    sweep_id: str,
    run_id: str,
    open_id: str,
    metric: str,
    tolerance: str,
    seen: str,
) -> RunsView:
    """What changed since the parts were last drawn. Nothing while another tab is open, when `showing` is empty."""
    if not showing:
        return RunsView(timer=gr.Timer(active=False))
    before, choice = Seen.of(seen), Choice(sweep_id, run_id, open_id)
    reading, sweeps, unreadable = api.runs.reading(), all_sweeps(api), api.runs.unreadable()
    prints = tuple(live.fingerprint(sweep) for sweep in sweeps)
    chosen = next((sweep for sweep in sweeps if sweep.sweep_id == sweep_id), None) or _of_another(api, sweep_id)
    state_of_it = _state_of(api, chosen) if chosen else None
    of = {
        "listed": (text, state, tuple(selected), choice, tuple(unreadable), prints, reading),
        "unreadable": tuple(unreadable),
        "uploads": (uploads := api.uploads.usage()),
        "overlaid": (x, y, tuple(selected), prints if selected else ()),
        "chosen": sweep_id,
        "sweep": (sweep_id, tolerance, metric, state_of_it),
        "standing": (sweep_id, standing := standing_html(api, chosen) if chosen else ""),
        "run": (run_id, state_of_it),
    }
    now = Seen(**{name: str(hash(each)) for name, each in of.items()})
    drawn: dict[str, Any] = {}
    if now.listed != before.listed:
        own = bool(unreadable or reading) or any(not sweep.recorded for sweep in sweeps)
        owners = {sweep.sweep_id: api.runs.owner_of(sweep.runs[0].run_id) for sweep in sweeps}
        told, there = telling(api), api.whereabouts
        places = Places(lambda sweep: told(there.of_sweep(sweep)), lambda run: told(there.in_words(run)))
        filters = {"text": text, "state": state, "unreadable": unreadable, "owners": owners, "note": reading}
        filters |= {"places": places}
        drawn["empty_box"] = gr.Row(visible=not own)
        drawn["table"] = list_html(sweeps, **filters, selected=selected, choice=choice)
    if now.unreadable != before.unreadable:
        drawn["unreadable_box"] = gr.Row(visible=bool(unreadable))
        drawn["unreadable"] = gr.Dropdown(choices=list(unreadable), value=None)
    if now.uploads != before.uploads:
        drawn["uploads"] = uploads_button(uploads)
    if now.overlaid != before.overlaid:
        drawn |= _overlaid(api, sweeps, selected, x, y)
        if drawn.pop("is_busy", False):
            now = now._replace(overlaid=where.BUSY)
    if now.sweep != before.sweep:
        drawn |= _sweep(api, chosen, sweep_id, tolerance, metric, standing)
        if drawn.pop("is_busy", False):
            now = now._replace(sweep=where.BUSY)
    if now.chosen != before.chosen:
        drawn |= NO_QUESTIONS
    if now.standing != before.standing:
        drawn["status"] = standing
    if now.run != before.run:
        drawn |= _run(api, run_id)
    seconds = where.BUSY_SECONDS if where.BUSY in now else POLL_SECONDS
    return RunsView(**drawn, seen=now.text, timer=gr.Timer(seconds, active=True))


def _state_of(api: Api, sweep: Sweep) -> tuple[int, bool, str]:
    """All that changes what is shown of it."""
    is_open = not sweep.recorded and api.runs.is_open(sweep.sweep_id)
    return live.fingerprint(sweep), is_open, api.runs.why_sweep_waits(sweep)


def _of_another(api: Api, sweep_id: str) -> Sweep | None:
    """A sweep that is not listed here, since another visitor shares it by its address."""
    try:
        return api.runs.sweep(sweep_id)
    except RankVizError:
        return None


def _overlaid(api: Api, sweeps: Sequence[Sweep], selected: Sequence[str], x: str, y: str) -> dict[str, Any]:
    if not selected:
        return {"selected_box": gr.Column(visible=False)}
    try:
        over = overlay(api, sweeps, selected, x=x, y=y, height=HEIGHT)
    except LimitError as error:
        nothing = dict.fromkeys(("selected_title", "curve", "selected_loss"), "")
        notice = notice_html(str(error), kind="error")
        is_busy = isinstance(error, BusyError)
        return {"selected_box": gr.Column(visible=True), **nothing, "caption": notice, "is_busy": is_busy}
    return {
        "selected_box": gr.Column(visible=True),
        "selected_title": html.titled(over.heading, ""),
        "curve": over.curve,
        "selected_loss": over.loss,
        "caption": html.paragraphs(over.caption),
        "y": gr.Dropdown(choices=over.qualities, **({} if over.y == y else {"value": over.y})),
    }


def _sweep(api: Api, chosen: Sweep | None, sweep_id: str, tolerance: str, metric: str, standing: str) -> dict[str, Any]:
    if chosen is None:
        reason = api.runs.unreadable().get(sweep_id)
        words = f"Run {quoted(sweep_id)} cannot be read: {reason}" if reason else not_here(api, sweep_id)
        gone = notice_html(words, kind="error") if sweep_id else ""
        message = gone or html.paragraphs(CHOOSE, css="rv-empty")
        return {"message": message, "sweep_box": gr.Column(visible=False)}
    view = sweep_view(api, chosen, tolerance=tolerance, metric=metric, standing=standing)
    return {"message": "", **view._asdict()}


def _run(api: Api, run_id: str) -> dict[str, Any]:
    if not run_id:
        return {"detail": "", "cancel_run": gr.Button(visible=False)}
    try:
        run = api.runs.get(run_id)
    except RankVizError as error:
        return {"detail": notice_html(str(error), kind="error"), "cancel_run": gr.Button(visible=False)}
    can_end = not run.state.ended and api.runs.is_mine(run_id) and not api.runs.are_unwanted([run])
    return {"detail": detail_html(api, run), "cancel_run": gr.Button(visible=can_end)}
