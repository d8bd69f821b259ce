"""Why a run has not begun, as far as its journal and its sweep say it. The place in the queue is rankviz.api's."""

from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.state import RunState

AFTER_OTHERS = "It starts when another run of its sweep has ended."
STARTING = "Its worker is starting{where}."
LOST = "The last attempt was lost: {}"


def why_it_waits(run: RunRecord, sweep: Sweep, *, has_job: bool) -> str:
    """Sentences; empty where it waits for nothing, or for its turn. has_job: whether an engine has started a job with
    it."""
    if run.state.ended:
        return ""
    words = run.waits or (_of_queued(run, sweep, has_job) if run.state is RunState.QUEUED else "")
    lost = LOST.format(run.lost) if run.lost and run.state is RunState.QUEUED else ""
    return " ".join(filter(None, [lost, words]))


def _of_queued(run: RunRecord, sweep: Sweep, has_job: bool) -> str:
    if sweep.running:
        return AFTER_OTHERS
    return STARTING.format(where=f" on {run.where}" if run.where else "") if has_job else ""
