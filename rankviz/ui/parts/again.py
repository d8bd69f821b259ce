"""Where the failed and cancelled runs of a sweep go on: time and cost there stand before the button.

Where there is one place alone and it has no price, they go on at once. Train and Runs have the same.
"""

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.events import HF_JOBS
from rankviz.core.runs.record import Sweep
from rankviz.ui.parts import html, live, where
from rankviz.ui.wiring import action, notice_html, on_any, quiet, wire

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
