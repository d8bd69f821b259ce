"""Where a sweep of Train runs, and what it takes there, with its price before the button.

The choice is there for whoever has one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.ui.parts import html, where
from rankviz.ui.train import before
from rankviz.ui.train.before import Before
from rankviz.ui.train.request import problem_in, request_of
from rankviz.ui.wiring import notice_html

QUEUE_SECONDS = 5.0
"""Others come and go while somebody fills the form."""
IDLE_SECONDS = 30.0
"""Where there is nothing to say: every open page asks, on whichever tab."""
ASKED = f"() => [{where.ASKING!r}, '', '', '']"
"""As soon as another place is chosen nothing is said of the one before."""


class Choice(NamedTuple):
    """The widgets of the choice."""

    box: Any = gr.skip()
    engine: Any = gr.skip()
    about: Any = gr.skip()
    terms: Any = gr.skip()


def widgets(api: Api) -> dict[str, Any]:
    """Build the choice; hidden until it is known who looks at it."""
    with gr.Column(visible=False, elem_id="train-engine") as box:
        return {"box": box, **where.widgets(api, limit_label="Spending limit (US dollars)", elem_id="train-engine")}


def choice(api: Api, *, engine: str) -> Choice:
    """What is offered to whoever looks at the page. A choice that can stay is not sent back: it may be an older one."""
    offered = api.engines.offered()
    names = [place.name for place in offered]
    if HF_JOBS in names:
        api.engines.beside.ask(("back", api.workspace.visitor.id), "", api.jobs.bring_back)
    if not where.is_asked(api):
        return Choice(box=gr.Column(visible=False), engine=gr.Radio(value=LOCAL), terms=gr.Column(visible=False))
    chosen = next((place for place in offered if place.name == engine), offered[0])
    moved = {} if chosen.name == engine else {"value": chosen.name}
    return Choice(
        box=gr.Column(visible=True),
        engine=gr.Radio(where.choices(offered), **moved),
        about=where.about_html(chosen.about),
        terms=gr.Column(visible=chosen.name == HF_JOBS),
    )


class Queue(NamedTuple):
    queue: str
    asks: gr.Timer


def queue(api: Api, *, engine: str) -> Queue:
    """On a shared page, what waits on an engine already, for who waits for nothing yet: of a sweep of one's own, its
    state says it. With when to look again."""
    if engine == HF_JOBS or any(not sweep.ended for sweep in api.runs.made()):
        return Queue("", gr.Timer(IDLE_SECONDS))
    words = api.runs.queue_words(engine)
    return Queue(html.paragraphs(words) if words else "", gr.Timer(QUEUE_SECONDS if words else IDLE_SECONDS))


def before_start(api: Api, *, engine: str, flavor: str | None, spend: float | None, **values: Any) -> Before:
    """What stands around the button: of this machine, or time, memory and cost where it is to run. The button is off
    where nothing can be trained at all, and where these settings are refused."""
    never = bool(api.engines.why_none())
    shown = before.before(api, **values) if engine == LOCAL else _there(api, engine, flavor, spend, values)
    return shown._replace(start=gr.Button(interactive=False)) if never else shown


def _there(api: Api, engine: str, flavor: str | None, spend: float | None, values: Mapping[str, Any]) -> Before:
    if problem := problem_in(values):
        return before.wrong(*problem)
    request = request_of(values)
    check = partial(api.engines.check, request)
    found = where.find(api, ("start", repr(request)), check, engine=engine, flavor=flavor, spend=spend)
    if found is None:
        start = gr.Button(interactive=engine != HF_JOBS)  # nobody pays what they have not read
        asking = where.asking_html(api, engine)
        return Before(expected=asking, start=start, again=gr.Timer(where.ASK_AGAIN_SECONDS, active=True))
    machines = where.machines(api, found, flavor)
    if found.plan is None:
        return before.wrong(before.field_of(found.error), found.error)._replace(flavor=machines)
    plan = found.plan
    cost = f'<div id="train-cost">{html.paragraphs(*plan.offer.sentences)}</div>' if plan.offer else ""
    notes = notice_html(*plan.notes, plan.expected.warning if plan.expected else "")
    expected = before.expected_html(plan.expected, plan.not_known) if plan.expected else html.paragraphs(plan.not_known)
    expected = where.note(api, found) + cost + notes + expected
    breakdown = before.breakdown_html(plan.expected) if plan.expected else ""
    return Before(expected=expected, breakdown=breakdown, flavor=machines)


def start(api: Api, values: Mapping[str, Any], *, engine: str, flavor: str | None, spend: float | None) -> str:
    """Queue the form's sweep where it is to run; returns its id."""
    return api.engines.start(request_of(values), engine, **where.terms(engine, flavor, spend))
