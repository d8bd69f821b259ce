"""The choice of a rented machine and of what it may cost."""

from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
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
