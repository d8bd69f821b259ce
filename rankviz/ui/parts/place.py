"""Says what a sweep or a run has cost so far, and where it is, on whichever engine."""

from collections.abc import Callable

from rankviz import units
from rankviz.api import Api
from rankviz.core.runs.events import LOCAL
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.words import title
from rankviz.ui.parts import html


def place_html(api: Api, sweep: Sweep) -> str:
    """Where a sweep runs, waits or ran, and what it has cost so far, of a rented machine in US dollars; that its job
    ends before its runs do, or after them."""
    if sweep.recorded:
        return ""
    standing = standing_on(api, sweep)
    spent = api.spending.of_sweep(sweep)
    cost = spent.sentence(api.whereabouts.engine_of_sweep(sweep) if standing else "")
    once = not spent.rent and spent.attempts == len(spent.attempts_of_each)
    if sweep.ended and once and spent.time.in_words == units.duration(sweep.seconds_in_runs):
        cost = ""  # the sentence that it has ended tells this time
    words = " ".join(filter(None, [standing, cost, api.jobs.ends_early(sweep), api.jobs.still_costs(sweep)]))
    return f'<p class="rv-caption">{html.prose(words)}</p>' if words else ""


def standing_on(api: Api, sweep: Sweep) -> str:
    """ "Running on this machine (GPU 0 and GPU 1)."; empty where that goes without saying."""
    doing = "Running" if sweep.running else "Ran" if sweep.ended else "Queued"
    if sweep.ended and not any(run.begun_attempts for run in sweep.runs):
        doing = "It was to run"
    return f"{doing} on {words}." if (words := telling(api)(api.whereabouts.of_sweep(sweep))) else ""


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
    place = telling(api)(api.whereabouts.in_words(run))
    named = api.whereabouts.of(run).engine if place else ""
    spent = api.spending.of_run(run).sentence(named)
    sentences = [f"Place: {place}." if place else "", api.runs.why_waits(run), spent]
    if (of_sweep := api.spending.of_sweep(sweep)).rent:
        sentences.append(f"Its sweep: {of_sweep.in_words_after(named)}; a job is billed as a whole, not by run.")
    return " ".join(filter(None, sentences))
