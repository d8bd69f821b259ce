"""A sweep during and after training: state, cost, measured values beside estimates; and the choice of an engine."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from html import escape
from typing import Any

import gradio as gr

from rankviz import units
from rankviz.api import Api
from rankviz.api.engines import Plan
from rankviz.core.forecast.decision import Decision
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.core.runs.record import RunState, Sweep
from rankviz.core.runs.words import run_labels, sweep_title, title
from rankviz.errors import (
    RankVizError,
    UserError,
    quoted,
)
from rankviz.figures import training_figure, training_info
from rankviz.ui.parts import html
from rankviz.ui.parts.charts import chart_value
from rankviz.ui.parts.html import NATS, PER_TOKEN, Cell, exact, rounded


def fingerprint(sweep: Sweep) -> int:
    """Return a hash of all that the page shows of a sweep; while the hash stays equal there is nothing to redraw."""
    places = [run.place and (run.place.engine, run.place.where, run.place.waits) for run in sweep.runs]
    runs = [(str(run.state), run.attempt, run.stage, len(run.steps), len(run.cuts), run.ended_at) for run in sweep.runs]
    return hash((sweep.sweep_id, *places, *runs))


def standing_html(api: Api, sweep: Sweep) -> str:
    """Show a sweep's state, why it waits, its place and its cost so far; while it runs, its progress, time left and
    numbers of the current run."""
    state = html.prose(f"{state_of(sweep)} {api.runs.why_sweep_waits(sweep)}".strip())
    failed = next((run.error for run in sweep.runs if run.state is RunState.FAILED and run.error), "")
    return (
        f'<div class="rv-status"><h2>{escape(sweep_title(sweep))}</h2><p role="status">{state}</p>'
        f"{'' if sweep.ended else _how_far(api, sweep)}{html.notice_html(failed, kind='error')}</div>"
        f"{place_html(api, sweep)}"
    )


def _how_far(api: Api, sweep: Sweep) -> str:
    """Return a progress bar, the time left, and numbers of the current run. Without a share the bar pulses."""
    progress, running = api.runs.progress(sweep), sweep.running
    last = running.steps[-1] if running and running.steps else None
    pace = running.tokens_per_second if running else None
    known = {
        "Time left": "" if progress.trouble else Cell(progress.left_in_words, title=exact(progress.seconds_left or 0)),
        "This stage": progress.stage.partition(", ")[2],
        "Training loss": rounded(NATS, last.loss, PER_TOKEN) if last else "",
        "Tokens per second": f"{pace:,.0f}" if pace else "",
        "Memory in use": rounded(units.memory_size, last.memory_bytes, "bytes") if last else "",
    }
    return html.progress(progress.share, label="Share of the sweep") + html.stats(
        [pair for pair in known.items() if pair[1]]
    )


def state_of(sweep: Sweep) -> str:
    """Return the state of a sweep as a sentence."""
    runs, running = sweep.runs, sweep.running
    if sweep.ended:
        counts = Counter(run.state for run in runs)
        (first, n), *others = [(state.value, counts[state]) for state in RunState if state in counts]
        ended = ", ".join([f"{units.counted(n, 'run')} {first}", *(f"{count} {state}" for state, count in others)])
        by_admin = " (cancelled by the admin)" if any(run.cancelled_by_admin for run in runs) else ""
        recorded = "Recorded by RankViz and shipped with it: " if sweep.recorded else ""
        time = f", {units.duration(sweep.seconds_in_runs)} in runs" if sweep.seconds_in_runs else ""
        return f"{recorded}{ended}{by_admin}{time}."
    if running is None:
        return "Queued."
    label, doing = run_labels(sweep)[running.run_id], running.stage or "starting"
    return f"Run {runs.index(running) + 1} of {len(runs)}, {label}: {doing}."


def loss_chart(sweeps: Sequence[Sweep], run_ids: Collection[str] | None = None) -> str:
    """Return a chart's value of the training loss by step. run_ids: only these runs; None means all."""
    return chart_value(training_figure, training_info(sweeps, run_ids=run_ids), file="loss")


BUSY_SECONDS = 5.0
"""Seconds until the page tries again when other visitors use all slots."""
NO_PRICE_YET = "a job, price not known yet"
BUSY = "busy"
"""Marker in place of the fingerprint of a sweep drawn without its verdict, so that the sweep is drawn again."""
SHARE = "Share: anyone who has the link can read this sweep"
COPY_IT = "Copy link, at the top of the page, copies the address of this sweep."
OF_ANOTHER = "This sweep belongs to another visitor, who shares it: you can read it, not change it."


def job_price(api: Api, sweep_id: str, check: Callable[[], Plan]) -> str:
    """Return "a job of $0.04 – 0.17" for a sweep that continues on a rented machine, NO_PRICE_YET while the price is
    computed, and empty for other engines. check: returns the plan there."""
    with suppress(RankVizError):
        if api.runs.destination(sweep_id).engine != HF_JOBS:
            return ""
        answer = api.engines.ask(HF_JOBS, ("price", sweep_id), check)
        if answer is None:
            return NO_PRICE_YET
        if (offer := answer.result().offer) and offer.usd:
            return f"a job of {units.money_span(offer.usd)}"
    return ""


def resume_button(api: Api, sweep: Sweep) -> dict[str, Any]:
    """Return an update of the button that queues failed and cancelled runs again; off while a price is unknown."""
    if not (sweep.resumable and may_change(api, sweep)) or api.runs.are_unwanted(sweep.runs):
        return gr.update(visible=False)
    price = job_price(api, sweep.sweep_id, lambda: api.runs.plan_resume(sweep.sweep_id))
    words = f"Train {units.counted(len(sweep.resumable), 'failed or cancelled run')} again"
    return gr.update(value=words + (f" ({price})" if price else ""), visible=True, interactive=price != NO_PRICE_YET)


def add_button(api: Api, sweep: Sweep, decision: Decision | None) -> dict[str, Any]:
    """Return an update of the button that adds a repeat at the most useful rank; hidden until all runs have ended."""
    r = decision.forecast.repeat_at if decision else None
    if r is None or not sweep.ended or not may_change(api, sweep):
        return gr.update(visible=False)
    if api.engines.why_not(api.engines.destination_of(sweep.runs).engine):
        return gr.update(visible=False)
    price = job_price(api, sweep.sweep_id, lambda: api.runs.plan_added(sweep.sweep_id, r))
    return gr.update(value=f"Add a repeat at r = {r}" + (f" ({price})" if price else ""), visible=True)


def waits_for_price(*buttons: dict[str, Any]) -> bool:
    """Return True where one of the buttons must be drawn again once its price is known."""
    return any(NO_PRICE_YET in button.get("value", "") for button in buttons)


def add_run(api: Api, sweep_id: str) -> None:
    """Add the run that the button offers, computed again from the current state of the sweep."""
    decision = api.verdicts.decide(sweep_id)
    if decision is None or decision.forecast.repeat_at is None:
        raise UserError("No repeat is offered for this sweep.")
    api.runs.add(sweep_id, decision.forecast.repeat_at)


def place_html(api: Api, sweep: Sweep) -> str:
    """Return where a sweep runs, waits or ran, its cost so far (US dollars for a rented machine), and a note on a
    cancelled job that still costs money."""
    if sweep.recorded:
        return ""
    place = telling(api, api.engines.places_in_words(sweep))
    doing = "Running" if sweep.running else "Ran" if sweep.ended else "Queued"
    cost = api.engines.spent(sweep).sentence
    standing = f"{doing} on {place}." if place else ""
    words = " ".join(filter(None, [standing, cost, api.engines.still_costs(sweep)]))
    return f'<p class="rv-caption">{html.prose(words)}</p>' if words else ""


def telling(api: Api, place: str) -> str:
    """Return the place unchanged, but "" for this machine where the visitor can train nowhere else."""
    others = any(engine.name != LOCAL and not api.engines.why_not(engine.name) for engine in api.engines.known())
    return place if others or place != title(LOCAL) else ""


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
