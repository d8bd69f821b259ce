"""Where a sweep of Train runs: on this machine, on one that is rented, with its price before the button, or on what the
owner of the server has set up.

The choice is there for whoever has one.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.attempts import HF_JOBS, LOCAL
from rankviz.errors import RankVizError
from rankviz.ui.parts import html, rented
from rankviz.ui.parts.controls import plain
from rankviz.ui.train import before
from rankviz.ui.train.before import Before
from rankviz.ui.train.request import problem_in, request_of
from rankviz.ui.wiring import notice_html

NAMES = ("engine", "flavor", "spend")


class Choice(NamedTuple):
    """The widgets of the choice."""

    box: Any = gr.skip()
    engine: Any = gr.skip()
    about: Any = gr.skip()
    terms: Any = gr.skip()
    flavor: Any = gr.skip()


def widgets(api: Api) -> dict[str, Any]:
    """Build the choice; hidden until it is known who looks at it."""
    w: dict[str, Any] = {}
    places = [(engine.title, engine.name) for engine in api.engines.known()]
    with gr.Column(visible=False, elem_id="train-engine") as w["box"]:
        w["engine"] = gr.Radio(places, value=places[0][1], label="Runs on", elem_id="train-engine-choice")
        w["terms"], w["flavor"], w["spend"] = rented.terms_widgets(
            api, limit_label="Spending limit (US dollars)", elem_id="train"
        )
        w["about"] = plain(elem_id="train-engine-about")
    return w


def choice(api: Api, *, engine: str, flavor: str | None) -> Choice:
    """What is offered to whoever looks at the page. A choice that can stay is not sent back: it may be an older one."""
    offered = api.engines.offered()
    names = [each.name for each in offered]
    if HF_JOBS in names:
        with suppress(RankVizError):
            api.jobs.bring_back()
    if names in ([], [LOCAL]):
        return Choice(box=gr.Column(visible=False), engine=gr.Radio(value=LOCAL), terms=gr.Column(visible=False))
    chosen = next((each for each in offered if each.name == engine), offered[0])
    moved = {} if chosen.name == engine else {"value": chosen.name}
    shown = Choice(
        box=gr.Column(visible=True),
        engine=gr.Radio([(each.title, each.name) for each in offered], **moved),
        about=html.paragraphs(chosen.about) if chosen.about else "",
        terms=gr.Column(visible=chosen.name == HF_JOBS),
    )
    if chosen.name != HF_JOBS:
        return shown
    return shown._replace(flavor=rented.flavors(api, flavor))


def before_start(api: Api, *, engine: str, flavor: str | None, spend: float | None, **values: Any) -> Before:
    """What stands around the button: of this machine, or time, memory and cost where it is to run."""
    if engine == LOCAL:
        return before.before(api, **values)
    queue = before.queue_html(api, engine)
    if problem := problem_in(values):
        return before.wrong(*problem)._replace(queue=queue)
    try:
        plan = api.engines.check(request_of(values), engine, **rented.terms(engine, flavor, spend))
    except RankVizError as error:
        return Before(notice=notice_html(str(error), kind="error"), queue=queue)
    cost = f'<div id="train-cost">{html.paragraphs(*plan.offer.sentences)}</div>' if plan.offer else ""
    notes = notice_html(*plan.notes, plan.expected.warning if plan.expected else "")
    expected = before.expected_html(plan.expected) if plan.expected else ""
    not_known = html.paragraphs(plan.not_known) if plan.not_known else ""
    return Before(expected=cost + notes + expected + not_known, queue=queue)


def start(api: Api, values: Mapping[str, Any], *, engine: str, flavor: str | None, spend: float | None) -> str:
    """Queue the form's sweep where it is to run; returns its id."""
    return api.engines.start(request_of(values), engine, **rented.terms(engine, flavor, spend))
