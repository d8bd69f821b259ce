"""Why a run has not begun, as far as its journal and its sweep say it. The place in the queue is rankviz.api's."""

from collections.abc import Sequence

from rankviz import units
from rankviz.core.runs.attempts import HF_JOBS
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.core.runs.state import RunState

AFTER_OTHERS = "It starts when another run of its sweep has ended."
STARTING = "Its worker is starting{where}."
LOST = "The last attempt was lost: {}"
CANCEL_ASKED = "A cancel was requested{of}. The job goes on{cost} until that is done."


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


def cancel_in_words(asked: Sequence[RunRecord], unended: Sequence[RunRecord]) -> str:
    """Of runs that have not ended and of those among them that somebody asks to cancel; empty where there is none."""
    if not asked:
        return ""
    of = "" if len(asked) == len(unended) else f" of {units.counted(len(asked), 'run')}"
    costs = any(run.engine == HF_JOBS for run in asked)
    return CANCEL_ASKED.format(of=of, cost=", and costs," if costs else "")
