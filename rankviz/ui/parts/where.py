"""Chooses where a sweep runs or continues, with time and cost before the button; says where it is and what it cost."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from functools import partial
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
from rankviz.ui.events import toast
from rankviz.ui.parts import html
from rankviz.ui.parts.controls import plain
from rankviz.ui.wiring import View, action, on_any, quiet, wire

NAMES = ("engine", "flavor", "spend")
ASK_AGAIN_SECONDS = 0.7
BUSY_SECONDS = 15.0
"""Until it is asked again where others have all places."""
BUSY = "busy"
"""For the hash of what was drawn without its verdict, as others had all places: it is drawn again."""
BOX = "rv-where"
"""Of the boxes of the choice: what was asked about another choice is no longer answered (assets/js/newest.js)."""
ASKING = '<div class="rv-caption" role="status"><p>Asking{} for time, memory and cost {}…</p></div>'
ASKED = f"() => [{ASKING.format('', 'there ')!r}, {{ __type__: 'update', interactive: false }}]"
"""As soon as another place is chosen nothing is said of the one before."""
LIMIT = "Spending limit for the whole sweep (US dollars)"
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


def widgets(api: Api, *, limit_label: str, elem_id: str) -> dict[str, Any]:
    """Build the choice: the places, machine and limit of a rented one, what happens there, and the timer that asks
    again."""
    w: dict[str, Any] = {}

    def at(name: str) -> dict[str, Any]:
        return {"elem_id": f"{elem_id}-{name}", "elem_classes": BOX}

    known = [api.engines.place(engine.name) for engine in api.engines.known()]
    w["engine"] = gr.Radio(choices(known), value=known[0].name, label="Runs on", **at("choice"))
    with gr.Column(visible=False) as w["terms"], gr.Row(elem_classes="rv-pair"):
        w["flavor"] = gr.Dropdown([], value=None, label="Machine", interactive=True, min_width=160, **at("flavor"))
        w["spend"] = gr.Number(api.workspace.settings.jobs_spend, label=limit_label, min_width=100, **at("spend"))
    w["about"] = plain(elem_id=f"{elem_id}-about")
    w["again"] = gr.Timer(ASK_AGAIN_SECONDS, active=False)
    return w


def choices(places: Sequence[Any]) -> list[tuple[str, str]]:
    return [(place.title, place.name) for place in places]


def is_asked(api: Api) -> bool:
    """Whether there is more to choose than this machine."""
    return [place.name for place in api.engines.offered()] not in ([], [LOCAL])


def about_html(about: str) -> str:
    """What happens there."""
    return html.paragraphs(about) if about else ""


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


def machines(api: Api, found: Found, chosen: str | None, *, is_new: bool = False) -> Any:
    """The drop-down of machines. A choice that can stay is not sent back, as it may be an older one.

    is_new: where the drop-down does not hold the choice yet.
    """
    names = [name for _, name in found.machines]
    if not names:
        return gr.skip()
    value = next(name for name in (chosen, api.workspace.settings.jobs_flavor, names[0]) if name in names)
    return gr.Dropdown(list(found.machines), **({} if value == chosen and not is_new else {"value": value}))


def machine(flavor: str) -> gr.Dropdown:
    """The drop-down with a machine that a sweep has, before prices are known."""
    return gr.Dropdown([(flavor, flavor)], value=flavor)


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
    return {"engine": engine, "flavor": machine(flavor), "spend": limit}


def again_widgets(api: Api, *, elem_id: str) -> dict[str, Any]:
    """Build the choice of where failed and cancelled runs go on, hidden until it is asked for."""
    with gr.Column(visible=False, elem_id=elem_id, elem_classes="rv-again") as box:
        w = widgets(api, limit_label=LIMIT, elem_id=elem_id)
        with gr.Row(elem_classes="rv-bar"):
            w["go"] = gr.Button("", variant="primary", size="sm", elem_id=f"{elem_id}-go")
            w["leave"] = gr.Button("Not now", size="sm", elem_id=f"{elem_id}-not")
    return {"box": box, **w}


AGAIN = ("box", "engine", "terms", "flavor", "spend", "about", "go", "again")


def connect_again(api: Api, resume: gr.Button, w: dict[str, Any], sweep_id: Any, drawing: dict[str, Any]) -> None:
    """The button that runs again what did not complete, and the choice of where. drawing: after that."""
    shown, chosen = {name: w[name] for name in AGAIN}, {name: w[name] for name in NAMES}
    asking = wire(lambda **of: resume_or_ask(api, **of), inputs={"sweep_id": sweep_id}, outputs=shown)
    resume.click(**{**asking, **action(asking["fn"])}).then(**drawing)
    moved = wire(partial(shown_there, api), inputs={"sweep_id": sweep_id, **chosen}, outputs=shown)
    w["engine"].input(None, None, [w["about"], w["go"]], js=ASKED)
    on_any(*(widget.input for widget in chosen.values())).then(**moved)
    w["again"].tick(**moved)
    go = {"inputs": [sweep_id, *chosen.values()], "outputs": w["box"]}
    w["go"].click(**go, **action(partial(resume_there, api))).then(**drawing)
    w["leave"].click(lambda: gr.Column(visible=False), None, w["box"], **quiet())


def again_words(count: int) -> str:
    """Of the button that queues what did not complete."""
    return f"Train {units.counted(count, 'failed or cancelled run')} again"


def again_label(api: Api, sweep: Sweep) -> str:
    """The same with dots where more is asked first."""
    return again_words(len(sweep.resumable)) + (" …" if is_asked(api) else "")


def resume_or_ask(api: Api, sweep_id: str) -> View:
    """Ask where, with the place first where they were to run; resume them at once where there is no choice."""
    if not is_asked(api):
        api.moves.resume(sweep_id)
        return View(box=gr.Column(visible=False))
    offered = api.engines.offered()
    chosen = {"engine": offered[0].name, **of_sweep(api, sweep_id)}
    flavor = None
    if chosen["engine"] == HF_JOBS:
        flavor = api.moves.destination(sweep_id).options.get("flavor") or api.workspace.settings.jobs_flavor
    spend = chosen.get("spend", api.workspace.settings.jobs_spend)
    shown = shown_there(api, sweep_id=sweep_id, engine=chosen["engine"], flavor=flavor, spend=spend, is_new=True)
    places = gr.Radio(choices(offered), value=chosen["engine"])
    return View(**vars(shown), box=gr.Column(visible=True), engine=places, spend=spend)


def shown_there(
    api: Api, *, sweep_id: str, engine: str, flavor: str | None, spend: float | None, is_new: bool = False
) -> View:
    """What stands around the button, where it is chosen so; the button is off where they cannot go on there.

    is_new: where the drop-down of machines does not hold the choice yet.
    """
    words = again_words(len(api.runs.sweep(sweep_id).resumable))
    shown = View(terms=gr.Column(visible=engine == HF_JOBS), again=gr.Timer(active=False))
    check = partial(api.moves.check, sweep_id)
    found = find(api, ("again", sweep_id), check, engine=engine, flavor=flavor, spend=spend)
    if found is None:
        shown.about, shown.go = asking_html(api, engine), gr.Button(words, interactive=False)
        shown.flavor, shown.again = machine(flavor) if is_new and flavor else gr.skip(), gr.Timer(active=True)
        return shown
    shown.flavor = machines(api, found, flavor, is_new=is_new)
    shown.go = gr.Button(words, interactive=found.error is None or may_pass(found.error))
    if found.plan is None:
        shown.about = html.notice_html(str(found.error), kind="error")
    else:
        shown.about = html.paragraphs(*found.plan.sentences) + about_html(api.engines.place(engine).about)
    return shown


def resume_there(api: Api, sweep_id: str, engine: str, flavor: str | None, spend: float | None) -> gr.Column:
    """Queue them there; the choice goes."""
    api.moves.resume(sweep_id, engine, **terms(engine, flavor, spend))
    return gr.Column(visible=False)


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
    """Offers one more run of the rank that a repeat helps most, with its time and price, once all runs have ended."""
    r = decision.forecast.repeat_at if decision else None
    if r is None or not sweep.ended or not may_change(api, sweep) or api.engines.why_not_more(sweep):
        return gr.Button(visible=False)
    estimate = api.runs.expected_added(sweep.sweep_id, r)
    time = f"training {units.time_span(estimate.seconds)}" if estimate and estimate.seconds else ""
    price = job_price(api, sweep.sweep_id, lambda: api.moves.check_added(sweep.sweep_id, r))
    takes = ", ".join(filter(None, [time, price]))
    return gr.Button(f"Add a repeat at r = {r}{takes and f' ({takes})'}", visible=True)


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
    standing, spent = standing_on(api, sweep), api.spending.of_sweep(sweep)
    cost = spent.sentence
    once = not spent.rent and all(run.begun_attempts < 2 for run in sweep.runs)
    if sweep.ended and once and spent.time.in_words == units.duration(sweep.seconds_in_runs):
        cost = ""  # the sentence that it has ended tells this time
    words = " ".join(filter(None, [standing, cost, api.jobs.still_costs(sweep)]))
    return f'<p class="rv-caption">{html.prose(words)}</p>' if words else ""


def standing_on(api: Api, sweep: Sweep) -> str:
    """ "Running on this machine (GPU 0 and GPU 1)."; empty where that goes without saying."""
    doing = "Running" if sweep.running else "Ran" if sweep.ended else "Queued"
    if sweep.ended and not any(run.begun_attempts for run in sweep.runs):
        doing = "It was to run"
    return f"{doing} on {words}." if (words := telling(api)(api.locations.of_sweep(sweep))) else ""


def telling(api: Api) -> Callable[[str], str]:
    """A place in words as it is; "" instead of this machine, where whoever asks can train nowhere else."""
    others = any(engine.name != LOCAL and not api.engines.why_not(engine.name) for engine in api.engines.known())
    silent = "" if others else title(LOCAL)
    return lambda place: "" if place == silent else place


def place_in_sentences(api: Api, run: RunRecord) -> str:
    """Where a run is or was, why it waits, and what it has cost so far."""
    sweep = api.runs.sweep(run.request.sweep_id)
    if sweep.recorded:
        return ""
    place = telling(api)(api.locations.in_words(run))
    spent = api.spending.of_run(run).sentence
    sentences = [f"Place: {place}." if place else "", api.runs.why_waits(run), spent]
    if (of_sweep := api.spending.of_sweep(sweep)).rent:
        sentences.append(f"Its sweep: {of_sweep.in_words}; a job is billed as a whole, not by run.")
    return " ".join(filter(None, sentences))


def not_here(api: Api, run_or_sweep_id: str) -> str:
    """Of what whoever looks may not see, which is answered as what isn't there."""
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    return f"No run or sweep {quoted(run_or_sweep_id)} here{closed}."


def may_change(api: Api, sweep: Sweep) -> bool:
    """Whether whoever looks at it may cancel, extend, export and delete it."""
    return not sweep.recorded and api.runs.is_mine(sweep.sweep_id)


def cancel(api: Api, run_or_sweep_id: str) -> None:
    """Cancel a run or a sweep. Where that is not possible now and the wish is kept, a note says so, and no error."""
    try:
        api.runs.cancel(run_or_sweep_id)
    except (EngineUnavailableError, WorkerError) as error:
        is_sweep = api.runs.is_sweep(run_or_sweep_id)
        runs = api.runs.sweep(run_or_sweep_id).runs if is_sweep else [api.runs.get(run_or_sweep_id)]
        if not all(run.state.ended for run in runs) and not api.runs.are_unwanted(runs):
            raise
        gr.Info(toast(error), duration=10)


def words_on_owner(api: Api, sweep: Sweep, mine: bool) -> str:
    """Whose it is, where that is not plain; nothing on a page of one's own."""
    if not api.workspace.shared or sweep.recorded:
        return ""
    if not mine:
        return html.paragraphs(OF_ANOTHER)
    if owner := api.runs.owner_of(sweep.runs[0].run_id):
        return html.paragraphs(f"This sweep belongs to {owner}.")
    return html.paragraphs(COPY_IT) if api.runs.is_open(sweep.sweep_id) else ""
