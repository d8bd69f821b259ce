"""The choice of a rented machine and of what it may cost."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import Plan
from rankviz.core.runs.attempts import HF_JOBS
from rankviz.errors import RankVizError


def terms_widgets(api: Api, *, limit_label: str, elem_id: str) -> tuple[Any, Any, Any]:
    """Build it, hidden: the row, the machine, the limit. elem_id: what the ids of its parts begin with."""
    with gr.Column(visible=False) as box, gr.Row(elem_classes="rv-pair"):
        flavor = gr.Dropdown(
            [], value=None, label="Machine", interactive=True, min_width=160, elem_id=f"{elem_id}-flavor"
        )
        spend = gr.Number(
            api.workspace.settings.jobs_spend, label=limit_label, min_width=100, elem_id=f"{elem_id}-spend"
        )
    return box, flavor, spend


def job_price(api: Api, sweep_id: str, check: Callable[[], Plan]) -> str:
    """ "a job of $0.04 – 0.17", where a sweep is to go on on a rented machine; empty where it is not, and where that is
    not known: what stands in the way is said when it is pressed. check: what it takes there."""
    with suppress(RankVizError):
        if api.moves.destination(sweep_id).engine == HF_JOBS and (offer := check().offer) and offer.usd:
            return f"a job of {units.money_span(offer.usd)}"
    return ""


def flavors(api: Api, chosen: str | None, first: str = "") -> Any:
    """The machines with today's prices, for the drop-down. A choice that can stay is not sent back: it may be an older
    one. What cannot be read changes nothing: that is said where the cost stands.

    first: what is chosen where nothing is; without it, the machine of the settings.
    """
    try:
        offered = api.jobs.flavors()
    except RankVizError:
        return gr.skip()
    names = [each.name for each in offered]
    usual = first or api.workspace.settings.jobs_flavor
    value = usual if usual in names else next(iter(names), None)
    choices = [(f"{each.name}, {units.usd(each.usd_per_hour)}/h", each.name) for each in offered]
    return gr.Dropdown(choices, **({} if chosen in names else {"value": value}))


def terms(engine: str, flavor: str | None, spend: float | None) -> dict[str, Any]:
    """What the widgets hold, where a rented machine is chosen."""
    return {"flavor": flavor or "", "spend": spend} if engine == HF_JOBS else {}
