"""Where a sweep of Train runs: on this machine, or on one of Hugging Face, with its price before the button.

The choice is there for whoever can use it: a visitor who is logged in, or the owner of a machine with a token.
"""

from collections.abc import Mapping
from contextlib import suppress
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.attempts import HF_JOBS, LOCAL
from rankviz.core.runs.record import RunState, Sweep
from rankviz.errors import RankVizError
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.train import before
from rankviz.ui.train.before import Before
from rankviz.ui.train.request import problem_in, request_of
from rankviz.ui.wiring import notice_html

PLACES = [("This machine", LOCAL), ("Hugging Face Jobs", HF_JOBS)]
NAMES = ("engine", "flavor", "spend")
ABOUT = "Your Hugging Face account pays. The data and RankViz's code go into a private repository of yours."


class Choice(NamedTuple):
    """The widgets of the choice."""

    box: Any = gr.skip()
    engine: Any = gr.skip()
    terms: Any = gr.skip()
    flavor: Any = gr.skip()


def widgets(api: Api) -> dict[str, Any]:
    """Build the choice; hidden until it is known who looks at it."""
    w: dict[str, Any] = {}
    with gr.Column(visible=False, elem_id="train-engine") as w["box"]:
        w["engine"] = gr.Radio(PLACES, value=LOCAL, label="Runs on", elem_id="train-engine-choice")
        with gr.Column(visible=False) as w["terms"]:
            with gr.Row(elem_classes="rv-pair"):
                w["flavor"] = gr.Dropdown(
                    [], value=None, label="Machine", interactive=True, min_width=160, elem_id="train-flavor"
                )
                w["spend"] = gr.Number(
                    api.workspace.settings.jobs_spend,
                    label="Spending limit (US dollars)",
                    min_width=100,
                    elem_id="train-spend",
                )
            plain(html.paragraphs(ABOUT))
    return w


def choice(api: Api, *, engine: str, flavor: str | None) -> Choice:
    """What is offered to whoever looks at the page. A choice that can stay is not sent back: it may be an older one."""
    if api.jobs.why_not():
        return Choice(box=gr.Column(visible=False), engine=gr.Radio(value=LOCAL), terms=gr.Column(visible=False))
    with suppress(RankVizError):
        api.jobs.bring_back()
    here = not api.workspace.why_not_train()
    radio = gr.Radio(PLACES) if here else gr.Radio(PLACES[1:], value=HF_JOBS)
    chosen = HF_JOBS if not here else engine
    shown = Choice(box=gr.Column(visible=True), engine=radio, terms=gr.Column(visible=chosen == HF_JOBS))
    if chosen != HF_JOBS:
        return shown
    try:
        flavors = api.jobs.flavors()
    except RankVizError:
        return shown  # said where the cost stands
    names = [each.name for each in flavors]
    usual = api.workspace.settings.jobs_flavor
    first = usual if usual in names else next(iter(names), None)
    choices = [(f"{each.name}, {units.usd(each.usd_per_hour)}/h", each.name) for each in flavors]
    return shown._replace(flavor=gr.Dropdown(choices, **({} if flavor in names else {"value": first})))


def before_start(api: Api, *, engine: str, flavor: str | None, spend: float | None, **values: Any) -> Before:
    """What stands around the button: of this machine, or time, memory and cost on the one that is rented."""
    if engine != HF_JOBS:
        return before.before(api, **values)
    if problem := problem_in(values):
        return before.wrong(*problem)
    try:
        offer = api.jobs.check(request_of(values), flavor or "", spend)
    except RankVizError as error:
        return Before(notice=notice_html(str(error), kind="error"))
    cost = f'<div id="train-cost">{html.paragraphs(*offer.sentences)}</div>'
    return Before(expected=cost + notice_html(offer.expected.warning) + before.expected_html(offer.expected))


def start(api: Api, values: Mapping[str, Any], *, engine: str, flavor: str | None, spend: float | None) -> str:
    """Queue the form's sweep where it is to run; returns its id."""
    request = request_of(values)
    return api.jobs.start(request, flavor or "", spend) if engine == HF_JOBS else api.runs.start(request)


def place_html(api: Api, sweep: Sweep) -> str:
    """What a sweep on a rented machine has cost so far, and why it waits; nothing of any other."""
    if sweep.recorded or (spent := api.jobs.spent(sweep.sweep_id)) is None:
        return ""
    limit = api.jobs.limit(sweep.sweep_id)
    most = f" of at most {units.usd(limit)}" if limit else ""
    waits = next((run.waits for run in sweep.runs if run.waits and run.state is not RunState.COMPLETED), "")
    words = f"Hugging Face Jobs: {units.usd(spent)}{most} so far. {'' if sweep.ended else waits}".strip()
    return f'<p class="rv-caption">{escape(words)}</p>'
