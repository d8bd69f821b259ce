"""A line beside the header that says on every tab what trains now; a click opens it on Train."""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.record import Sweep
from rankviz.ui.parts.controls import pickable
from rankviz.ui.wiring import wire

RUNNING_SECONDS = 3.0
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
    return Now(badge_html(unfinished), gr.Timer(seconds))


def badge_html(unfinished: Sequence[Sweep]) -> str:
    """The sweep that runs, else the oldest one that waits; nothing where there is none. Newest first."""
    if not unfinished:
        return ""
    shown = next((sweep for sweep in unfinished if sweep.running), unfinished[-1])
    words = in_words(shown)
    if len(unfinished) > 1:
        words += f", {units.counted(len(unfinished) - 1, 'more sweep')} queued"
    return (
        f'<button type="button" class="rv-button" data-pick="{escape(shown.sweep_id)}" title="Open on Train">'
        f"{escape(words)}</button>"
    )


def in_words(sweep: Sweep) -> str:
    """ "Training: run 1 of 2, 34 %, about 3 min left"."""
    if sweep.running is None:
        return f"Queued: {units.counted(len(sweep.runs), 'run')}"
    number = sweep.runs.index(sweep.running) + 1
    left = f"about {units.duration(sweep.seconds_left)} left" if sweep.seconds_left else "time left not known yet"
    return f"Training: run {number} of {len(sweep.runs)}, {100 * sweep.share_done:.0f} %, {left}"


def chosen(event: gr.EventData) -> tuple[str, None, Any]:
    """The sweep of the line, to be drawn anew on Train."""
    return str(event._data["id"]), None, gr.Tabs(selected="train")
