"""A job that was asked for and of which nobody knows whether it runs is never forgotten."""

from contextlib import suppress

from rankviz.core.runs.events import Attempt
from rankviz.errors import EngineUnavailableError
from rankviz.jobs import Job
from rankviz.jobs.hf_jobs import HfJobs
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, wait_for


def started(engine, job):
    """Once its machines are known."""
    with suppress(EngineUnavailableError):
        return engine.start(job)


def test_a_lost_start_that_is_cancelled_as_it_counts_as_absent_is_ended_once_it_is_listed(store, hub, logins):
    (run_id,) = sweep(store, 4, flavor="l4x1")
    sweep_id = store.get(run_id).request.sweep_id
    hub.loses_answers, hub.lists_nothing = 1, True
    engine = HfJobs(store, logins, worker=HANG_IN_EACH, poll_seconds=0.1, look_seconds=0.3)
    job, lives = Job(attempts=(Attempt(run_id, 1),), owner="ann"), []
    wait_for(lambda: lives.append(started(engine, job)) or lives[-1])
    wait_for(lambda: engine._watches[f"{run_id}-a1"].renting.absent)

    engine.cancel(lives[-1])
    engine.forget(lives[-1])
    hub.lists_nothing = False

    wait_for(lambda: not engine.live() and only_job(hub).stage == "CANCELED")
    wait_for(lambda: engine.bill(sweep_id)[:3] == (1, 0.013333, True) and not engine.papers.missing())
    engine.release()
