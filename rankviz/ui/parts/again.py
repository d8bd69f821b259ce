"""Where the failed and cancelled runs of a sweep go on, or one run more; time and cost stand before the button."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import Plan
from rankviz.core.forecast.decision import Decision
from rankviz.core.runs.events import HF_JOBS
from rankviz.core.runs.record import Sweep
from rankviz.errors import RankVizError, UserError
from rankviz.ui.parts import html, live, where
from rankviz.ui.parts.where import may_change
from rankviz.ui.wiring import action, notice_html, on_any, quiet, wire
from rankviz.units import time_span

LIMIT = "Spending limit for the whole sweep (US dollars)"


class Again(NamedTuple):
    """The widgets of the choice."""

    box: Any = gr.skip()
    engine: Any = gr.skip()
    terms: Any = gr.skip()
    flavor: Any = gr.skip()
    spend: Any = gr.skip()
    about: Any = gr.skip()
    go: Any = gr.skip()
    again: Any = gr.Timer(active=False)
    """Runs while the place is being asked."""


HIDDEN = Again(box=gr.Column(visible=False))


def widgets(api: Api, *, elem_id: str) -> dict[str, Any]:
    """Build the choice, hidden until it is asked for; with a button that leaves things as they are."""
    with gr.Column(visible=False, elem_id=elem_id, elem_classes="rv-again") as box:
        w = where.widgets(api, limit_label=LIMIT, elem_id=elem_id)
        with gr.Row(elem_classes="rv-bar"):
            w["go"] = gr.Button("", variant="primary", size="sm", elem_id=f"{elem_id}-go")
            w["leave"] = gr.Button("Not now", size="sm", elem_id=f"{elem_id}-not")
    return {"box": box, **w}


def connect(api: Api, resume: gr.Button, w: dict[str, Any], sweep_id: Any, drawing: dict[str, Any]) -> None:
    """The button that runs again what did not complete, and the choice of where. drawing: after that."""
    shown = {name: w[name] for name in Again._fields}
    terms = {name: w[name] for name in where.NAMES}
    resume.click(inputs=sweep_id, outputs=list(shown.values()), **action(partial(resume_or_ask, api))).then(**drawing)
    moved = wire(partial(shown_there, api), inputs={"sweep_id": sweep_id, **terms}, outputs=shown)
    w["engine"].input(None, None, [w["about"], w["go"]], js=ASKED)
    on_any(*(widget.input for widget in terms.values())).then(**moved)
    w["again"].tick(**moved)
    go = {"inputs": [sweep_id, *terms.values()], "outputs": list(shown.values())}
    w["go"].click(**go, **action(partial(resume_there, api))).then(**drawing)
    w["leave"].click(lambda: HIDDEN, None, list(shown.values()), **quiet())


ASKED = f"() => [{where.ASKING!r}, {{ __type__: 'update', interactive: false }}]"
"""As soon as another place is chosen nothing is said of the one before."""


def label(api: Api, sweep: Sweep) -> str:
    """Of the button that asks, with dots where more is asked first."""
    return live.again_label(len(sweep.resumable)) + (" …" if where.is_asked(api) else "")


def resume_or_ask(api: Api, sweep_id: str) -> Again:
    """Ask where, with the place first where they were to run; resume them at once where there is no choice."""
    if not where.is_asked(api):
        api.moves.resume(sweep_id)
        return HIDDEN
    offered = api.engines.offered()
    chosen = {"engine": offered[0].name, **where.of_sweep(api, sweep_id)}
    there, flavor = api.moves.destination(sweep_id), None
    if chosen["engine"] == HF_JOBS:
        flavor = there.options.get("flavor") or api.workspace.settings.jobs_flavor
    spend = chosen.get("spend", api.workspace.settings.jobs_spend)
    shown = shown_there(api, sweep_id, engine=chosen["engine"], flavor=flavor, spend=spend, is_new=True)
    places = gr.Radio(where.choices(offered), value=chosen["engine"])
    return shown._replace(box=gr.Column(visible=True), engine=places, spend=spend)


def shown_there(
    api: Api, sweep_id: str, *, engine: str, flavor: str | None, spend: float | None, is_new: bool = False
) -> Again:
    """What stands around the button, where it is chosen so; the button is off where they cannot go on there.

    is_new: where the drop-down of machines does not hold the choice yet.
    """
    again = live.again_label(len(api.runs.sweep(sweep_id).resumable))
    shown = Again(terms=gr.Column(visible=engine == HF_JOBS))
    check = partial(api.moves.check, sweep_id)
    found = where.find(api, ("again", sweep_id), check, engine=engine, flavor=flavor, spend=spend)
    if found is None:
        asking = where.asking_html(api, engine)
        machines = where.machine(flavor) if is_new and flavor else gr.skip()
        go = gr.Button(again, interactive=False)
        return shown._replace(about=asking, go=go, flavor=machines, again=gr.Timer(active=True))
    machines = where.machines(api, found, flavor, is_new=is_new)
    shown = shown._replace(flavor=machines, go=gr.Button(again, interactive=found.may_start))
    if found.plan is None:
        return shown._replace(about=notice_html(str(found.error), kind="error"))
    about = where.about_html(api.engines.place(engine).about)
    return shown._replace(about=where.note(api, found) + html.paragraphs(*found.plan.sentences) + about)


def resume_there(api: Api, sweep_id: str, engine: str, flavor: str | None, spend: float | None) -> Again:
    """Queue them there; the choice goes."""
    api.moves.resume(sweep_id, engine, **where.terms(engine, flavor, spend))
    return HIDDEN


def job_price(api: Api, sweep_id: str, check: Callable[[], Plan]) -> str:
    """ "a job of $0.04 – 0.17", where a sweep is to go on on a rented machine; empty where it is not, and where that is
    not known: what stands in the way is said when it is pressed. check: what it takes there."""
    with suppress(RankVizError):
        if api.moves.destination(sweep_id).engine != HF_JOBS:
            return ""
        answer = api.engines.ask(HF_JOBS, ("price", sweep_id), check)
        if answer is None:
            return "a job, price not known yet"
        if (offer := answer.get().offer) and offer.usd:
            return f"a job of {units.money_span(offer.usd)}"
    return ""


def add_button(api: Api, sweep: Sweep, decision: Decision | None) -> gr.Button:
    """Shown once all runs have ended."""
    r = decision.forecast.repeat_at if decision else None
    if r is None or not sweep.ended or not may_change(api, sweep) or api.engines.why_not_more(sweep):
        return gr.Button(visible=False)
    takes = ", ".join(_takes(api, sweep.sweep_id, r))
    return gr.Button(f"Add a repeat at r = {r}{takes and f' ({takes})'}", visible=True)


def _takes(api: Api, sweep_id: str, r: int) -> Iterator[str]:
    """Its training time, and the cost of a machine that is rented for it, as far as they are known."""
    estimate = api.runs.expected_added(sweep_id, r)
    if estimate and estimate.seconds:
        yield f"training {time_span(estimate.seconds)}"
    if price := job_price(api, sweep_id, lambda: api.moves.check_added(sweep_id, r)):
        yield price


def add_run(api: Api, sweep_id: str) -> None:
    """The run that the button names, worked out again from the sweep as it now is."""
    decision = api.decisions.of(sweep_id)
    if decision is None or decision.forecast.repeat_at is None:
        raise UserError("No repeat is offered for this sweep.")
    api.moves.add(sweep_id, decision.forecast.repeat_at)
