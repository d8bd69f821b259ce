"""Where the failed and cancelled runs of a sweep go on: time and cost there stand before the button.

Where there is one place alone and it has no price, they go on at once.
"""

from typing import Any, NamedTuple

import gradio as gr

from rankviz.api import Api
from rankviz.core.runs.attempts import HF_JOBS, LOCAL
from rankviz.errors import RankVizError
from rankviz.ui.parts import html, live, rented
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import notice_html

LIMIT = "Spending limit for the whole sweep (US dollars)"
NAMES = ("engine", "flavor", "spend")


class Again(NamedTuple):
    """The widgets of the choice."""

    box: Any = gr.skip()
    engine: Any = gr.skip()
    terms: Any = gr.skip()
    flavor: Any = gr.skip()
    spend: Any = gr.skip()
    about: Any = gr.skip()
    go: Any = gr.skip()


HIDDEN = Again(box=gr.Column(visible=False))


def widgets(api: Api) -> dict[str, Any]:
    """Build the choice, hidden until it is asked for; with a button that leaves things as they are."""
    w: dict[str, Any] = {}
    places = [(engine.title, engine.name) for engine in api.engines.known()]
    with gr.Column(visible=False, elem_id="sweep-again", elem_classes="rv-again") as w["box"]:
        w["engine"] = gr.Radio(places, value=places[0][1], label="Runs on", elem_id="sweep-again-engine")
        w["terms"], w["flavor"], w["spend"] = rented.terms_widgets(api, limit_label=LIMIT, elem_id="sweep-again")
        w["about"] = plain(elem_id="sweep-again-about")
        with gr.Row(elem_classes="rv-bar"):
            w["go"] = gr.Button("", variant="primary", size="sm", elem_id="sweep-again-go")
            w["leave"] = gr.Button("Not now", size="sm", elem_id="sweep-again-not")
    return w


def resume_or_ask(api: Api, sweep_id: str) -> Again:
    """Ask where, with the place first where they were to run; resume them at once where there is no choice."""
    offered = [engine.name for engine in api.engines.offered()]
    if offered in ([], [LOCAL]):
        api.moves.resume(sweep_id)
        return HIDDEN
    there = api.moves.destination(sweep_id)
    now = api.engines.name(there.engine)
    engine = now if now in offered else offered[0]
    limit = api.spending.limit(api.runs.sweep(sweep_id)) or api.workspace.settings.jobs_spend
    flavor = there.options.get("flavor") or api.workspace.settings.jobs_flavor
    shown = shown_there(api, sweep_id, engine=engine, flavor=flavor, spend=limit)
    chosen = gr.Radio([(each.title, each.name) for each in api.engines.offered()], value=engine)
    machines = rented.flavors(api, None, first=flavor) if engine == HF_JOBS else gr.skip()
    return shown._replace(box=gr.Column(visible=True), engine=chosen, flavor=machines, spend=limit)


def shown_there(api: Api, sweep_id: str, *, engine: str, flavor: str | None, spend: float | None) -> Again:
    """What stands around the button, where it is chosen so."""
    rents = engine == HF_JOBS
    again = len(api.runs.sweep(sweep_id).resumable)
    shown = Again(
        terms=gr.Column(visible=rents),
        flavor=rented.flavors(api, flavor) if rents else gr.skip(),
        go=gr.Button(live.again_label(again)),
    )
    try:
        plan = api.moves.check(sweep_id, engine, **rented.terms(engine, flavor, spend))
    except RankVizError as error:
        return shown._replace(about=notice_html(str(error), kind="error"))
    about = next(each.about for each in api.engines.known() if each.name == engine)
    return shown._replace(about=html.paragraphs(*filter(None, [*plan.sentences, about])))


def resume_there(api: Api, sweep_id: str, engine: str, flavor: str | None, spend: float | None) -> Again:
    """Queue them there; the choice goes."""
    api.moves.resume(sweep_id, engine, **rented.terms(engine, flavor, spend))
    return HIDDEN
