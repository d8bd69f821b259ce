"""A sweep during and after training: state, cost, measured values beside estimates; and the choice of an engine."""

import time
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import Plan
from rankviz.core.forecast.decision import Decision
from rankviz.core.runs.events import HF_JOBS, LOCAL, TRAINING
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.sweep_time import SweepProgress, progress_of
from rankviz.core.runs.words import run_label, sweep_title, title
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
from rankviz.figures import training_figure, training_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.controls import plain
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, exact, rounded


def fingerprint(sweep: Sweep) -> int:
    """Return a hash of all that the page shows of a sweep; while the hash stays equal there is nothing to redraw."""
    places = [run.place and (run.place.engine, run.place.where, run.place.waits) for run in sweep.runs]
    runs = [(str(run.state), run.attempt, run.stage, len(run.steps), len(run.cuts), run.ended_at) for run in sweep.runs]
    return hash((sweep.sweep_id, *places, *runs))


def status_html(sweep: Sweep, progress: SweepProgress | None = None, waiting: str = "") -> str:
    """Return the sweep's state in one line, and while it runs its progress, time left and numbers of the current run.
    progress: from api.runs.progress, which also uses earlier runs; None uses this sweep only. waiting: a sentence from
    api.runs.why_sweep_waits."""
    state = html.prose(f"{_state(sweep)} {waiting}".strip())
    far = "" if sweep.ended else _how_far(sweep, progress or progress_of(sweep, time.time()))
    failed = next((run.error for run in sweep.runs if run.state is RunState.FAILED and run.error), "")
    return (
        f'<div class="rv-status"><h2>{escape(sweep_title(sweep))}</h2><p role="status">{state}</p>{far}'
        f"{html.notice_html(failed, kind='error')}</div>"
    )


def one_line(sweep: Sweep) -> str:
    """Return title and state of the newest sweep in one line of HTML."""
    return f"Newest sweep: <b>{escape(sweep_title(sweep))}</b>. {escape(_state(sweep))}"


def _how_far(sweep: Sweep, progress: SweepProgress) -> str:
    """Return a progress bar, the time left, and numbers of the current run. Without a share the bar pulses."""
    running = sweep.running
    last = running.steps[-1] if running and running.steps else None
    pace = running.tokens_per_second if running else None
    left = Cell(progress.left_in_words, title=exact(progress.seconds_left, "seconds") if progress.seconds_left else "")
    known = [
        ("Time left", "" if progress.trouble else left),
        ("This stage", progress.stage.partition(", ")[2]),
        ("Step", f"{last.step} of {running.request.max_steps}" if last and running.stage != TRAINING else ""),
        ("Training loss", rounded(NATS, last.loss, PER_TOKEN) if last else ""),
        ("Tokens per second", f"{pace:,.0f}" if pace else ""),
        ("Memory in use", rounded(units.memory_size, last.memory_bytes, "bytes") if last else ""),
    ]
    share = None if progress.trouble else sweep.share_done if progress.share is None else progress.share
    return html.progress(share, label="Share of the sweep") + html.stats([pair for pair in known if pair[1]])


def _state(sweep: Sweep) -> str:
    runs, running = sweep.runs, sweep.running
    if sweep.ended:
        counts = {state: sum(run.state is state for run in runs) for state in RunState}
        (first, state), *others = [(n, state.value) for state, n in counts.items() if n]
        ended = ", ".join([f"{units.counted(first, 'run')} {state}", *(f"{n} {state}" for n, state in others)])
        by_admin = " (cancelled by the admin)" if any(run.cancelled_by_admin for run in runs) else ""
        recorded = "Recorded by RankViz and shipped with it: " if sweep.recorded else ""
        return f"{recorded}{ended}{by_admin}{_run_time(sweep)}."
    if running is None:
        return "Queued."
    doing = running.stage if running.steps_done in (0, running.request.max_steps) else "training"
    return f"Run {runs.index(running) + 1} of {len(runs)}, {run_label(running, sweep)}: {doing or 'starting'}."


def _run_time(sweep: Sweep) -> str:
    return f", {units.duration(sweep.seconds_in_runs)} in runs" if sweep.seconds_in_runs else ""


def loss_chart(sweeps: Sequence[Sweep], run_ids: Collection[str] | None = None) -> str:
    """Return a chart's value of the training loss by step. run_ids: only these runs; None means all."""
    info = training_info(sweeps, run_ids=run_ids)
    return chart_value(training_figure.drawing(info), info.rows, file="loss", source=info.source)


NAMES = ("engine", "flavor", "spend")
ASK_AGAIN_SECONDS = 0.7
BUSY_SECONDS = 5.0
"""Seconds until the page tries again when other visitors use all slots."""
NO_PRICE_YET = "a job, price not known yet"
BUSY = "busy"
"""Marker in place of the fingerprint of a sweep drawn without its verdict, so that the sweep is drawn again."""
BOX = "rv-where"
"""CSS class of the widgets of the engine choice; a script drops answers to an older choice (assets/js/newest.js)."""
ASKING = '<div class="rv-caption" role="status"><p>Asking{} for time, memory and cost {}…</p></div>'
SHARE = "Share: anyone who has the link can read this sweep"
COPY_IT = "Copy link, at the top of the page, copies the address of this sweep."
OF_ANOTHER = "This sweep belongs to another visitor, who shares it: you can read it, not change it."


class Found(NamedTuple):
    """Answer to whether a sweep can run on the chosen engine: its plan there, or the error that prevents it."""

    plan: Plan | None = None
    error: RankVizError | None = None
    machines: Sequence[tuple[str, str]] = ()
    """Label and name of each machine that can be rented; empty for other engines."""


def may_pass(error: RankVizError) -> bool:
    """Return True where a later try may succeed without any change, as when a service is down for a moment."""
    return isinstance(error, BusyError | EngineUnavailableError | HubUnavailableError | StorageError | WorkerError)


def widgets(api: Api, *, elem_id: str) -> dict[str, Any]:
    """Build the choice of an engine, the machine and spending limit of a rented one, the description of the chosen
    engine, and the timer that asks again."""
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
    """Return True where the visitor can choose an engine other than this machine."""
    return [place.name for place in api.engines.offered()] not in ([], [LOCAL])


def find(
    api: Api, question: Hashable, check: Callable[..., Plan], *, engine: str, flavor: str | None, spend: float | None
) -> Found | None:
    """Return the plan of a sweep on an engine, or its error; None while the answer is computed in the background.
    question: a key that is equal for equal sweeps. check: returns the plan for an engine's name and terms."""

    def ask() -> Found:
        machines = _machines(api) if engine == HF_JOBS else ()
        try:
            return Found(check(engine, **terms(engine, flavor, spend)), None, machines)
        except RankVizError as error:
            return Found(None, error, machines)

    answer = api.engines.ask(engine, (engine, flavor, spend, question), ask)
    return answer and answer.get()


def asking_html(api: Api, engine: str) -> str:
    """Return the line to show while `find` has no answer yet."""
    return ASKING.format(f" {escape(api.engines.place(engine).title)}", "")


def _machines(api: Api) -> list[tuple[str, str]]:
    """Return the machines to rent with today's prices; empty if the prices cannot be read, as the plan reports."""
    with suppress(RankVizError):
        return [(f"{each.name}, {units.usd(each.usd_per_hour)}/h", each.name) for each in api.jobs.flavors()]
    return []


def machines(api: Api, found: Found, chosen: str | None) -> Any:
    """Return an update of the machine dropdown. A valid choice is not sent back, as the user may have changed it."""
    names = [name for _, name in found.machines]
    if not names:
        return gr.skip()
    value = next(name for name in (chosen, api.workspace.settings.jobs_flavor, names[0]) if name in names)
    return gr.Dropdown(list(found.machines), **({} if value == chosen else {"value": value}))


def terms(engine: str, flavor: str | None, spend: float | None) -> dict[str, Any]:
    """Return machine and spending limit for a rented machine; empty for other engines."""
    return {"flavor": flavor or "", "spend": spend} if engine == HF_JOBS else {}


def of_sweep(api: Api, sweep_id: str) -> dict[str, Any]:
    """Return updates that set the choice to the engine of a sweep, with its machine and limit; empty where the visitor
    may not choose that engine."""
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
    """Return "a job of $0.04 – 0.17" for a sweep that continues on a rented machine, NO_PRICE_YET while the price is
    computed, and empty for other engines. check: returns the plan there."""
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
    """Return an update of the button that queues failed and cancelled runs again; off while a price is unknown."""
    if not (sweep.resumable and may_change(api, sweep)) or api.runs.are_unwanted(sweep.runs):
        return gr.update(visible=False)
    price = job_price(api, sweep.sweep_id, lambda: api.moves.check(sweep.sweep_id))
    words = f"Train {units.counted(len(sweep.resumable), 'failed or cancelled run')} again"
    return gr.update(value=words + (f" ({price})" if price else ""), visible=True, interactive=price != NO_PRICE_YET)


def add_button(api: Api, sweep: Sweep, decision: Decision | None) -> dict[str, Any]:
    """Return an update of the button that adds a repeat at the most useful rank; hidden until all runs have ended."""
    r = decision.forecast.repeat_at if decision else None
    if r is None or not sweep.ended or not may_change(api, sweep) or api.engines.why_not_more(sweep):
        return gr.update(visible=False)
    estimate = api.runs.expected_added(sweep.sweep_id, r)
    time = f"training {units.time_span(estimate.seconds)}" if estimate and estimate.seconds else ""
    price = job_price(api, sweep.sweep_id, lambda: api.moves.check_added(sweep.sweep_id, r))
    takes = ", ".join(filter(None, [time, price]))
    return gr.update(value=f"Add a repeat at r = {r}{takes and f' ({takes})'}", visible=True)


def waits_for_price(*buttons: dict[str, Any]) -> bool:
    """Return True where one of the buttons must be drawn again once its price is known."""
    return any(NO_PRICE_YET in button.get("value", "") for button in buttons)


def add_run(api: Api, sweep_id: str) -> None:
    """Add the run that the button offers, computed again from the current state of the sweep."""
    decision = api.decisions.of(sweep_id)
    if decision is None or decision.forecast.repeat_at is None:
        raise UserError("No repeat is offered for this sweep.")
    api.moves.add(sweep_id, decision.forecast.repeat_at)


def place_html(api: Api, sweep: Sweep) -> str:
    """Return where a sweep runs, waits or ran, its cost so far (US dollars for a rented machine), and a note on a
    cancelled job that still costs money."""
    if sweep.recorded:
        return ""
    place = telling(api, api.locations.of_sweep(sweep))
    doing = "Running" if sweep.running else "Ran" if sweep.ended else "Queued"
    cost = api.spending.of_sweep(sweep).sentence
    standing = f"{doing} on {place}." if place else ""
    words = " ".join(filter(None, [standing, cost, api.jobs.still_costs(sweep)]))
    return f'<p class="rv-caption">{html.prose(words)}</p>' if words else ""


def telling(api: Api, place: str) -> str:
    """Return the place unchanged, but "" for this machine where the visitor can train nowhere else."""
    others = any(engine.name != LOCAL and not api.engines.why_not(engine.name) for engine in api.engines.known())
    return place if others or place != title(LOCAL) else ""


def place_in_sentences(api: Api, run: RunRecord) -> str:
    """Return where a run is or was, why it waits, and its cost so far."""
    sweep = api.runs.sweep(run.request.sweep_id)
    if sweep.recorded:
        return ""
    place = telling(api, api.locations.in_words(run))
    spent = api.spending.of_run(run).sentence
    sentences = [f"Place: {place}." if place else "", api.runs.why_waits(run), spent]
    if (of_sweep := api.spending.of_sweep(sweep)).rent:
        sentences.append(f"Its sweep: {of_sweep.in_words}; a job is billed as a whole, not by run.")
    return " ".join(filter(None, sentences))


def not_here(api: Api, run_or_sweep_id: str) -> str:
    """Return the one message for a run or sweep that does not exist, or that the visitor may not see."""
    closed = ", or its owner does not share it" if api.workspace.shared else ""
    return f"No run or sweep {quoted(run_or_sweep_id)} here{closed}."


def may_change(api: Api, sweep: Sweep) -> bool:
    """Return True where the visitor may cancel, extend, export and delete the sweep."""
    return not sweep.recorded and api.runs.is_mine(sweep.sweep_id)


def words_on_owner(api: Api, sweep: Sweep, mine: bool) -> str:
    """Return a sentence on the sweep's owner where it matters; empty on a page that is not shared."""
    if not api.workspace.shared or sweep.recorded:
        return ""
    if not mine:
        return html.paragraphs(OF_ANOTHER)
    if owner := api.runs.owner_of(sweep.runs[0].run_id):
        return html.paragraphs(f"This sweep belongs to {owner}.")
    return html.paragraphs(COPY_IT) if api.runs.is_open(sweep.sweep_id) else ""
