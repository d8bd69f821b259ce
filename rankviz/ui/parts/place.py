"""Says what a sweep or a run has cost so far, and where it is, on whichever engine."""

from html import escape

from rankviz.api import Api
from rankviz.core.runs.record import RunRecord, Sweep


def place_html(api: Api, sweep: Sweep) -> str:
    """Where a sweep runs now, and what it has cost so far, of a rented machine in US dollars; nothing of one that has
    not begun."""
    if sweep.recorded:
        return ""
    spent = api.spending.of_sweep(sweep).in_words
    sentences = [running_on(sweep), f"Cost so far: {spent}." if spent else ""]
    words = " ".join(filter(None, sentences))
    return f'<p class="rv-caption">{escape(words)}</p>' if words else ""


def running_on(sweep: Sweep) -> str:
    """ "Running on GPU 0 and GPU 1."; empty where nothing runs, or it is not known where."""
    places = dict.fromkeys(run.engine_and_where for run in sweep.runs if run.state == "running")
    named = list(filter(None, places))
    return f"Running on {' and '.join(named)}." if named else ""


def place_in_sentences(api: Api, run: RunRecord) -> str:
    """Where a run is or was, why it waits, and what it has cost so far."""
    sweep = api.runs.sweep(run.request.sweep_id)
    if sweep.recorded:
        return ""
    sentences = [f"Place: {run.place_in_words}." if run.place_in_words else "", api.runs.why_waits(run)]
    if spent := api.spending.of_run(run).in_words:
        sentences.append(f"Cost so far: {spent}.")
    if (of_sweep := api.spending.of_sweep(sweep)).rent:
        sentences.append(f"Its sweep: {of_sweep.in_words}; a job is billed as a whole, not by run.")
    return " ".join(filter(None, sentences))
