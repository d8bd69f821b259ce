"""Chooses where a sweep runs or continues, with time and cost before the button; says where it is and what it cost."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import Plan
from rankviz.core.forecast.decision import Decision
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import title
from rankviz.errors import (
    BusyError,
    EngineUnavailableError,
    HubUnavailableError,
    RankVizError,
    StorageError,
    UserError,
    WorkerError,
    quoted,
)
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain

NAMES = ("engine", "flavor", "spend")
ASK_AGAIN_SECONDS = 0.7
BUSY_SECONDS = 5.0
"""Until it is asked again where others have all places."""
NO_PRICE_YET = "a job, price not known yet"
BUSY = "busy"
"""For the hash of what was drawn without its verdict, as others had all places: it is drawn again."""
BOX = "rv-where"
"""Of the boxes of the choice: what was asked about another choice is no longer answered (assets/js/newest.js)."""
ASKING = '<div class="rv-caption" role="status"><p>Asking{} for time, memory and cost {}…</p></div>'
SHARE = "Share: anyone who has the link can read this sweep"
COPY_IT = "Copy link, at the top of the page, copies the address of this sweep."
OF_ANOTHER = "This sweep belongs to another visitor, who shares it: you can read it, not change it."


class Found(NamedTuple):
    """What a sweep takes in the place that is chosen, or why it cannot run there."""

    plan: Plan | None = None
    error: RankVizError | None = None
    machines: Sequence[tuple[str, str]] = ()
    """Choices of the drop-down, where they are rented."""


def may_pass(error: RankVizError) -> bool:
    """Whether a try may succeed though nothing is changed: what cannot be reached or done now may be in a moment."""
    return isinstance(error, BusyError | EngineUnavailableError | HubUnavailableError | StorageError | WorkerError)


def widgets(api: Api, *, elem_id: str) -> dict[str, Any]:
    """Build the choice: the places, machine and limit of a rented one, what happens there, and the timer that asks
    again."""
    w: dict[str, Any] = {}

    def at(name: str) -> dict[str, Any]:
        return {"elem_id": f"{elem_id}-{name}", "elem_classes": BOX}

    known = [api.engines.place(engine.name) for engine in api.engines.known()]
    limit = api.workspace.settings.jobs_spend
    w["engine"] = gr.Radio(choices(known), value=known[0].name, label="Runs on", **at("choice"))
    with gr.Column(visible=False) as w["terms"], gr.Row(elem_classes="rv-pair"):
        w["flavor"] = gr.Dropdown([], value=None, label="Machine", interactive=True, min_width=160, **at("flavor"))
        w["spend"] = gr.Number(limit, label="Spending limit (US dollars)", min_width=100, **at("spend"))
    w["about"] = plain(elem_id=f"{elem_id}-about")
    w["again"] = gr.Timer(ASK_AGAIN_SECONDS, active=False)
    return w


def choices(places: Sequence[Any]) -> list[tuple[str, str]]:
    return [(place.title, place.name) for place in places]


def is_asked(api: Api) -> bool:
    """Whether there is more to choose than this machine."""
    return [place.name for place in api.engines.offered()] not in ([], [LOCAL])


def find(
    api: Api, question: Hashable, check: Callable[..., Plan], *, engine: str, flavor: str | None, spend: float | None
) -> Found | None:
    """What a sweep takes there; None while that is being asked.

    question: the same for the same sweep. check: what it takes on an engine, by its name and terms.
    """

    def ask() -> Found:
        machines = _machines(api) if engine == HF_JOBS else ()
        try:
            return Found(check(engine, **terms(engine, flavor, spend)), None, machines)
        except RankVizError as error:
            return Found(None, error, machines)

    answer = api.engines.ask(engine, (engine, flavor, spend, question), ask)
    return answer and answer.get()


def asking_html(api: Api, engine: str) -> str:
    """While it is being asked."""
    return ASKING.format(f" {escape(api.engines.place(engine).title)}", "")


def _machines(api: Api) -> list[tuple[str, str]]:
    """What can be rented, with today's prices. What cannot be read is said where the cost stands."""
    with suppress(RankVizError):
        return [(f"{each.name}, {units.usd(each.usd_per_hour)}/h", each.name) for each in api.jobs.flavors()]
    return []


def machines(api: Api, found: Found, chosen: str | None) -> Any:
    """The drop-down of machines. A choice that can stay is not sent back, as it may be an older one."""
    names = [name for _, name in found.machines]
    if not names:
        return gr.skip()
    value = next(name for name in (chosen, api.workspace.settings.jobs_flavor, names[0]) if name in names)
    return gr.Dropdown(list(found.machines), **({} if value == chosen else {"value": value}))


def terms(engine: str, flavor: str | None, spend: float | None) -> dict[str, Any]:
    """What the widgets hold, where a rented machine is chosen."""
    return {"flavor": flavor or "", "spend": spend} if engine == HF_JOBS else {}


def of_sweep(api: Api, sweep_id: str) -> dict[str, Any]:
    """Updates of the choice to where a sweep is, with its machine and limit; none where whoever asks cannot choose
    that."""
    there = api.moves.destination(sweep_id)
    engine = api.engines.name(there.engine)
    if engine not in [place.name for place in api.engines.offered()]:
        return {}
    if engine != HF_JOBS:
        return {"engine": engine}
    limit = api.spending.limit(api.runs.sweep(sweep_id)) or api.workspace.settings.jobs_spend
    flavor = there.options.get("flavor") or api.workspace.settings.jobs_flavor
    return {"engine": engine, "flavor": gr.Dropdown([(flavor, flavor)], value=flavor), "spend": limit}


def job_price(api: Api, sweep_id: str, check: Callable[[], Plan]) -> str:
    """ "a job of $0.04 – 0.17", where a sweep is to go on on a rented machine, or NO_PRICE_YET; empty elsewhere.
    check: what it takes there."""
    with suppress(RankVizError):
        if api.moves.destination(sweep_id).engine != HF_JOBS:
            return ""
        answer = api.engines.ask(HF_JOBS, ("price", sweep_id), check)
        if answer is None:
            return NO_PRICE_YET
        if (offer := answer.get().offer) and offer.usd:
            return f"a job of {units.money_span(offer.usd)}"
    return ""


def resume_button(api: Api, sweep: Sweep) -> dict[str, Any]:
    """Queues what failed or was cancelled again where the sweep was to run; off until the price of a job is known."""
    if not (sweep.resumable and may_change(api, sweep)) or api.runs.are_unwanted(sweep.runs):
        return gr.update(visible=False)
    price = job_price(api, sweep.sweep_id, lambda: api.moves.check(sweep.sweep_id))
    words = f"Train {units.counted(len(sweep.resumable), 'failed or cancelled run')} again"
    return gr.update(value=words + (f" ({price})" if price else ""), visible=True, interactive=price != NO_PRICE_YET)


def add_button(api: Api, sweep: Sweep, decision: Decision | None) -> dict[str, Any]:
    """Offers one more run of the rank that a repeat helps most, with its time and price, once all runs have ended."""
    r = decision.forecast.repeat_at if decision else None
    if r is None or not sweep.ended or not may_change(api, sweep) or api.engines.why_not_more(sweep):
        return gr.update(visible=False)
    estimate = api.runs.expected_added(sweep.sweep_id, r)
    time = f"training {units.time_span(estimate.seconds)}" if estimate and estimate.seconds else ""
    price = job_price(api, sweep.sweep_id, lambda: api.moves.check_added(sweep.sweep_id, r))
    takes = ", ".join(filter(None, [time, price]))
    return gr.update(value=f"Add a repeat at r = {r}{takes and f' ({takes})'}", visible=True)


def waits_for_price(*buttons: dict[str, Any]) -> bool:
    """Whether one of them is to be drawn again once its price is known."""
    return any(NO_PRICE_YET in button.get("value", "") for button in buttons)


def add_run(api: Api, sweep_id: str) -> None:
    """The run that the button names, worked out again from the sweep as it now is."""
    decision = api.decisions.of(sweep_id)
    if decision is None or decision.forecast.repeat_at is None:
        raise UserError("No repeat is offered for this sweep.")
    api.moves.add(sweep_id, decision.forecast.repeat_at)


def place_html(api: Api, sweep: Sweep) -> str:
    """Where a sweep runs, waits or ran, and what it has cost so far, of a rented machine in US dollars; that its job
    ends before its runs do, or after them."""
    if sweep.recorded:
        return ""
    place = telling(api, api.locations.of_sweep(sweep))
    doing = "Running" if sweep.running else "Ran" if sweep.ended else "Queued"
    cost = api.spending.of_sweep(sweep).sentence(api.locations.engine_of_sweep(sweep) if place else "")
    standing = f"{doing} on {place}." if place else ""
    words = " ".join(filter(None, [standing, cost, api.jobs.ends_early(sweep), api.jobs.still_costs(sweep)]))
    return f'<p class="rv-caption">{html.prose(words)}</p>' if words else ""


def telling(api: Api, place: str) -> str:
    """A place in words as it is; "" instead of this machine, where whoever asks can train nowhere else."""
    others = any(engine.name != LOCAL and not api.engines.why_not(engine.name) for engine in api.engines.known())
    return place if others or place != title(LOCAL) else ""


def place_in_sentences(api: Api, run: RunRecord) -> str:
    """Where a run is or was, why it waits, and what it has cost so far."""
    sweep = api.runs.sweep(run.request.sweep_id)
    if sweep.recorded:
        return ""
    place = telling(api, api.locations.in_words(run))
    named = api.locations.of(run).engine if place else ""
    spent = api.spending.of_run(run).sentence(named)
    sentences = [f"Place: {place}." if place else "", api.runs.why_waits(run), spent]
    if (of_sweep := api.spending.of_sweep(sweep)).rent:
        sentences.append(f"Its sweep: {of_sweep.in_words_after(named)}; a job is billed as a whole, not by run.")
    return " ".join(filter(None, sentences))


def not_here(api: Api, run_or_sweep_id: str) -> str:
    """Of what whoever looks may not see, which is answered as what isn't there."""
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    return f"No run or sweep {quoted(run_or_sweep_id)} here{closed}."


def may_change(api: Api, sweep: Sweep) -> bool:
    """Whether whoever looks at it may cancel, extend, export and delete it."""
    return not sweep.recorded and api.runs.is_mine(sweep.sweep_id)


def words_on_owner(api: Api, sweep: Sweep, mine: bool) -> str:
    """Whose it is, where that is not plain; nothing on a page of one's own."""
    if not api.workspace.shared or sweep.recorded:
        return ""
    if not mine:
        return html.paragraphs(OF_ANOTHER)
    if owner := api.runs.owner_of(sweep.runs[0].run_id):
        return html.paragraphs(f"This sweep belongs to {owner}.")
    return html.paragraphs(COPY_IT) if api.runs.is_open(sweep.sweep_id) else ""
