"""What a rented machine costs, for the button that queues one more run on it."""

from collections.abc import Callable
from contextlib import suppress

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import Plan
from rankviz.core.runs.events import HF_JOBS
from rankviz.errors import RankVizError


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
