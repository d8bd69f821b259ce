"""A line beside the header that says on every tab what trains now; a click opens it on Train."""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.core.runs.sweep_time import SweepProgress
from rankviz.ui.parts.controls import pickable
from rankviz.ui.wiring import wire

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


def build(api: Api) -> Badge:
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
