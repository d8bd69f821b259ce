"""The limit of one run on time."""

import time

from rankviz.core.runs.record import RunState
from rankviz.jobs.local import Local
from rankviz.jobs.supervisor import Supervisor
from tests.supervisor.test_turns import queued
from tests.support.processes.workers import states, supervise, wait_for, worker


def test_a_run_that_takes_too_long_fails_with_the_limit_and_the_rest_of_its_sweep_goes_on(store, clock):
    run_ids = queued(store, "ann", 4, 8)
    hangs_at_rank_4 = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        if run_id.endswith('r4'): time.sleep(600)\n"
        "        complete(run_id)"
    )

    supervisor = Supervisor(store, command=hangs_at_rank_4, run_minutes=0.05)
    wait_for(lambda: supervisor.tick() or store.get(run_ids[0]).steps)
    supervisor.tick()  # by now it is seen to run
    clock[0] += 3.5
    supervisor.settle()
    supervisor.stop()

    assert ["failed", "completed"] == states(store, run_ids)
    assert store.get(run_ids[0]).error.startswith(
        "This run took more than 0.05 minutes, the most that this server allows. Use fewer steps, less gradient "
        "accumulation, "
    )


def test_a_place_that_the_owner_of_the_runs_pays_for_has_no_limit_of_this_server(store):
    class Paid(Local):
        is_limited = False

    (run_id,) = queued(store, "ann")
    slow = worker("begin(run_ids[0]); step(run_ids[0]); time.sleep(1.5); complete(run_ids[0])")

    supervisor = Supervisor(store, engines=[Paid(store.home, commands={"finetune": slow})], run_minutes=0.005)
    supervisor.start()
    supervisor.settle()
    supervisor.stop()

    assert RunState.COMPLETED is store.get(run_id).state


def test_the_clock_of_the_limit_is_not_the_one_that_can_be_set(store):
    """A run whose journal says that it began hours ago, since the clock was set meanwhile, has just begun here."""
    run_ids = queued(store, "ann")
    began_long_ago = worker(
        "store.begin(run_ids[0])\n"
        "store.append(run_ids[0], RunStarted(time=time.time() - 9e4, environment={'pid': os.getpid()}))\n"
        "time.sleep(0.5); complete(run_ids[0])"
    )

    supervisor = supervise(store, began_long_ago, run_minutes=5)
    supervisor.settle()
    supervisor.stop()

    assert RunState.COMPLETED is store.get(run_ids[0]).state
    assert time.time() - store.get(run_ids[0]).started_at > 8e4
