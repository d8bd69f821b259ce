"""Offers a repeat of a sweep's lowest rank, where no rank was trained twice: it measures the noise of a run."""

from collections.abc import Iterator

import gradio as gr

from rankviz.api import Api
from rankviz.core.forecast.decision import Decision
from rankviz.core.runs.record import Sweep
from rankviz.errors import UserError
from rankviz.ui.parts import rented
from rankviz.ui.parts.owned import may_change
from rankviz.units import time_span


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
    if price := rented.job_price(api, sweep_id, lambda: api.moves.check_added(sweep_id, r)):
        yield price


def add_run(api: Api, sweep_id: str) -> None:
    """The run that the button names, worked out again from the sweep as it now is."""
    decision = api.decisions.of(sweep_id)
    if decision is None or decision.forecast.repeat_at is None:
        raise UserError("No repeat is offered for this sweep.")
    api.moves.add(sweep_id, decision.forecast.repeat_at)
