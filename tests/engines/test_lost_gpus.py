"""A GPU that loses each worker, beside others that work, and runs that every worker is lost with."""

import os
import signal

import pytest

from rankviz.jobs.local import Local
from rankviz.jobs.supervisor import Supervisor
from tests.support.processes.workers import lost_reasons, states, sweep, wait_for, worker


@pytest.fixture
def supervise(store):
    """Of two GPUs; each lost worker leaves a line in the file `lost`."""
    started = []

    def start(program, distrust_seconds=600.0, **settings):
        seconds = {"rest_seconds": 0.1, "distrust_seconds": distrust_seconds}
        engine = Local(store.home, commands={"finetune": worker(program)}, gpus=("0", "1"), **seconds)
        supervisor = Supervisor(store, engines=[engine], poll_seconds=0.02, **settings)
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


GPU_1_IS_DEAD = (
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        step(run_id)\n"
    "        if os.environ['CUDA_VISIBLE_DEVICES'] == '1':\n"
    "            with open('lost', 'a') as lost: lost.write('x')\n"
    "            os._exit(75)\n"
    "        while len(Path('lost').read_text()) < 4: time.sleep(0.02)\n"
    "        complete(run_id)\n"
)


def test_a_dead_gpu_fails_no_run_while_another_works(supervise, store):
    """The other one is at its first run until the dead one has lost four workers."""
    run_ids = sweep(store, *range(1, 21))
    (store.home / "lost").touch()
    supervisor = supervise(GPU_1_IS_DEAD, max_attempts=2)

    supervisor.settle()

    assert ["completed"] * 20 == states(store, run_ids)
    assert {"GPU 0"} == {store.get(run_id).where for run_id in run_ids}
    assert 1 == max(len(lost_reasons(store, run_id)) for run_id in run_ids)


def test_a_run_that_kills_every_worker_fails_on_another_gpu_and_takes_no_other_with_it(supervise, store):
    """The GPU that it was lost on works on, and is trusted again once a worker there has ended well."""
    run_ids = sweep(store, *range(1, 9))
    kills = (
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        if run_id.endswith('r5'): os._exit(75)\n"
        "        while run_id.endswith('r1') and not (store.home / 'go').exists(): time.sleep(0.02)\n"
        "        complete(run_id)\n"
    )
    supervisor = supervise(kills, max_attempts=2)

    wait_for(lambda: supervisor.tick() or states(store, run_ids[4:5]) == ["failed"])
    (store.home / "go").touch()
    supervisor.settle()

    assert ["completed"] * 4 + ["failed"] + ["completed"] * 3 == states(store, run_ids)
    assert store.get(run_ids[4]).error.startswith("The GPU failed, and its worker with it.")


def test_where_every_gpu_is_dead_a_sweep_fails(supervise, store):
    run_ids = sweep(store, *range(1, 9))
    supervisor = supervise("begin(run_ids[0]); os._exit(75)", max_attempts=2)

    supervisor.settle()

    assert ["failed"] * 8 == states(store, run_ids)
    assert "Not started: 2 workers in a row completed no run" in store.get(run_ids[-1]).error


R8_IS_LOST_ONCE = (
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        step(run_id)\n"
    "        if run_id.endswith('r8') and attempts[run_id] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
    "        while run_id.endswith('r4') and not (store.home / 'go').exists(): time.sleep(0.02)\n"
    "        complete(run_id)\n"
)


def test_a_lost_run_says_that_it_waits_for_another_gpu(supervise, store):
    (long,), (lost,) = sweep(store, 4), sweep(store, 8)
    supervisor = supervise(R8_IS_LOST_ONCE, max_attempts=2)

    wait_for(lambda: supervisor.tick() or store.get(lost).waits)
    assert "It waits for a place that has not just lost its worker." == store.get(lost).waits
    (store.home / "go").touch()
    supervisor.settle()

    assert ["completed"] * 2 == states(store, [long, lost])
    assert ["GPU 0", ""] == [store.get(lost).where, store.get(lost).waits]


def test_a_lost_run_does_not_wait_without_end_beside_an_idle_gpu(supervise, store):
    (long,), (lost,) = sweep(store, 4), sweep(store, 8)
    supervisor = supervise(R8_IS_LOST_ONCE, max_attempts=2, distrust_seconds=0.2)

    wait_for(lambda: supervisor.tick() or store.get(lost).state.ended)

    assert ["running", "completed"] == states(store, [long, lost])
    assert "GPU 1" == store.get(lost).where
    (store.home / "go").touch()
    supervisor.settle()


HOLDS_EACH = (
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        step(run_id)\n"
    "        while not (store.home / 'go').exists(): time.sleep(0.02)\n"
    "        complete(run_id)\n"
)


@pytest.fixture
def found(supervise, store):
    """A supervisor of workers on both GPUs that an earlier one started, and their runs."""
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    earlier = supervise(HOLDS_EACH)
    wait_for(lambda: earlier.tick() or all(store.get(run_id).steps for run_id in run_ids))
    earlier.stop()
    return supervise(HOLDS_EACH, max_attempts=2), run_ids


def test_a_gpu_whose_worker_ended_well_after_a_restart_of_the_app_does_not_rest(found, store, caplog):
    supervisor, run_ids = found
    supervisor.tick()

    (store.home / "go").touch()
    supervisor.settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert "has lost its worker" not in caplog.text


def test_a_gpu_whose_worker_was_lost_in_a_run_after_a_restart_of_the_app_rests(found, store, caplog):
    supervisor, run_ids = found
    supervisor.tick()
    lost = store.get(run_ids[1])

    os.kill(lost.environment["pid"], signal.SIGKILL)
    wait_for(lambda: supervisor.tick() or "has lost its worker" in caplog.text)
    (store.home / "go").touch()
    supervisor.settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert 1 == caplog.text.count("has lost its worker")
    assert f"{lost.where} has lost its worker" in caplog.text
    assert lost.where != store.get(lost.run_id).where
