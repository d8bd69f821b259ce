"""An app that goes while a job is being ended: the next one knows by whom it was."""

import pytest

from rankviz.store import RunStore
from rankviz.supervisor import Supervisor
from tests.support.processes.workers import HANG_IN_EACH, sweep, wait_for, worker

STAYS_A_WHILE = worker(
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        step(run_id)\n"
    "        time.sleep(600)"
)
"""Until it is killed."""


@pytest.mark.timeout(1200)
def test_a_run_that_took_too_long_says_so_also_where_the_app_was_killed_while_its_job_was_ended(store, two_slots):
    (run_id,) = sweep(store, 4)
    engine = two_slots.engine(store, STAYS_A_WHILE)
    supervisor = Supervisor(store, engines=[engine], max_attempts=3, run_minutes=0.01)
    wait_for(lambda: supervisor.tick() or engine._ending)
    engine._line._process.kill()
    supervisor.stop()

    here = RunStore(store.home)
    later = Supervisor(here, engines=[two_slots.engine(here, HANG_IN_EACH)], max_attempts=3, run_minutes=60)
    wait_for(lambda: later.tick() or store.get(run_id).state.ended or store.get(run_id).attempt > 1)
    later.cancel(run_id, timeout_seconds=600)
    later.stop()

    assert "took more than 60 minutes" in store.get(run_id).error
