"""How runs start, how they end, and what is left when a worker or a supervisor dies."""

import fcntl
import os
import signal

from rankviz.jobs.process import is_held, lock_file
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    states,
    supervise,
    sweep,
    wait_for,
    waiting_for,
    worker,
)


def test_a_queued_sweep_runs_to_its_end_in_one_worker(store):
    run_ids = sweep(store, 4, 16)

    supervisor = supervise(store, COMPLETE_ALL)
    supervisor.settle()
    supervisor.stop()

    assert ["completed", "completed"] == states(store, run_ids)
    assert 1 == len({store.get(run_id).environment["pid"] for run_id in run_ids})


def test_a_second_sweep_waits_for_the_first(store):
    first, second = sweep(store, 8), sweep(store, 4)

    supervisor = supervise(store, COMPLETE_ALL)
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 2 == states(store, first + second)
    assert store.get(first[0]).ended_at < store.get(second[0]).started_at


def test_a_worker_that_dies_without_a_word_leaves_a_failed_run_and_the_rest_goes_on(store):
    run_ids = sweep(store, 4, 8, 16)
    dies_at_rank_8 = worker(
        "for run_id in run_ids:\n"
        "    begin(run_id)\n"
        "    if run_id.endswith('r8'):\n"
        "        print('out of luck', flush=True); raise SystemExit(9)\n"
        "    complete(run_id)"
    )

    supervisor = supervise(store, dies_at_rank_8)
    supervisor.settle()
    supervisor.stop()

    assert ["completed", "failed", "completed"] == states(store, run_ids)
    failed = store.get(run_ids[1])
    assert "The worker stopped with exit code 9; the end of its log says why." == failed.error
    assert 9 == failed.exit_code


def test_the_failed_run_keeps_the_tail_of_its_log(store):
    run_ids = sweep(store, 4)

    supervisor = supervise(store, worker("begin(run_ids[0]); raise SystemExit('no such base')"))
    supervisor.settle()
    supervisor.stop()

    assert "no such base" == store.get(run_ids[0]).log_tail


def test_a_killed_worker_is_told_as_short_of_memory(store):
    run_ids = sweep(store, 4)

    supervisor = supervise(store, worker("begin(run_ids[0]); os.kill(os.getpid(), signal.SIGKILL)"))
    supervisor.settle()
    supervisor.stop()

    assert store.get(run_ids[0]).error.startswith("The worker was killed (SIGKILL), most likely because the machine")
    assert -9 == store.get(run_ids[0]).exit_code


def test_a_sweep_whose_workers_complete_nothing_is_given_up_after_two(store):
    run_ids = sweep(store, 1, 2, 4, 8)

    supervisor = supervise(store, worker("begin(run_ids[0]); raise SystemExit(1)"))
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 4 == states(store, run_ids)
    assert store.get(run_ids[1]).error.startswith("The worker stopped with exit code 1")
    assert store.get(run_ids[2]).error.startswith("Not started: 2 workers in a row completed no run of this sweep.")


def test_a_worker_that_dies_before_it_begins_anything_does_not_loop(store):
    run_ids = sweep(store, 1, 2)

    supervisor = supervise(store, worker("raise SystemExit('cannot import')"))
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 2 == states(store, run_ids)
    assert "cannot import" in store.get(run_ids[0]).log_tail


def test_a_command_that_does_not_exist_fails_the_sweep_with_the_reason(store):
    run_ids = sweep(store, 4, 8)

    supervisor = supervise(store, ("/no/such/python",))
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 2 == states(store, run_ids)
    assert store.get(run_ids[0]).error.startswith("The worker could not be started")


def test_a_sweep_waits_for_what_is_left_of_the_last_worker(store):
    supervisor = Supervisor(store, command=COMPLETE_ALL)
    supervisor.tick()  # it supervises now, and knows of no worker
    (run_id,) = sweep(store, 4)
    fd = os.open(lock_file(store.home), os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    supervisor.tick()
    meanwhile = states(store, [run_id])

    os.close(fd)
    supervisor.settle()
    supervisor.stop()

    assert ["queued"] == meanwhile
    assert ["completed"] == states(store, [run_id])


def test_a_restarted_supervisor_watches_the_worker_that_still_lives(store):
    run_ids = sweep(store, 4, 8)
    go = store.home / "go"
    waits = waiting_for(go)
    first = supervise(store, waits)
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()

    second = supervise(RunStore(store.home), waits)
    wait_for(lambda: second.with_job)
    assert ["running", "queued"] == states(store, run_ids)
    go.touch()
    second.settle()
    second.stop()

    assert ["completed"] * 2 == states(store, run_ids)
    assert 1 == len({store.get(run_id).environment["pid"] for run_id in run_ids})


def test_a_worker_that_died_while_nobody_watched_leaves_its_run_orphaned_and_the_queue_goes_on(store):
    run_ids = sweep(store, 4, 8)
    first = supervise(store, HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()
    os.kill(store.get(run_ids[0]).environment["pid"], signal.SIGKILL)
    wait_for(lambda: not is_held(lock_file(store.home)))

    second = supervise(RunStore(store.home), COMPLETE_ALL)
    second.settle()
    second.stop()

    assert ["failed", "completed"] == states(store, run_ids)
    assert store.get(run_ids[0]).error.startswith("The app or the machine stopped while this run was going")
    assert 1 == len(store.get(run_ids[0]).steps)


def test_only_one_of_two_supervisors_works_and_the_other_takes_over(store):
    first_runs = sweep(store, 4)
    first = supervise(store, COMPLETE_ALL)
    first.settle()
    second = supervise(RunStore(store.home), worker("begin(run_ids[0]); raise SystemExit('the second one')"))
    assert ["completed"] == states(store, first_runs)

    while_both = sweep(store, 8)
    first.settle()
    first.stop()
    after = sweep(store, 16)
    second.settle()
    second.stop()

    assert ["completed"] == states(store, while_both)
    assert ["failed"] == states(store, after)


def test_a_log_that_cannot_be_written_fails_its_sweep_and_the_next_goes_on(store):
    run_ids = sweep(store, 4)
    (store.run_dir(run_ids[0]) / "worker.log").mkdir()
    later = sweep(store, 8)

    supervisor = supervise(store, COMPLETE_ALL)
    supervisor.settle()
    supervisor.stop()

    assert ["failed", "completed"] == states(store, run_ids + later)


def test_a_sweep_resumes_from_the_runs_that_are_done(store, tmp_path):
    run_ids = sweep(store, 4, 8, 16)
    luck = tmp_path / "luck"
    dies_once = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        f"        if run_id.endswith('r8') and not os.path.exists({str(luck)!r}): raise SystemExit(9)\n"
        "        complete(run_id)"
    )
    supervisor = supervise(store, dies_once)
    supervisor.settle()
    done_before = store.get(run_ids[0]).ended_at
    assert ["completed", "failed", "completed"] == states(store, run_ids)

    luck.touch()
    store.requeue(run_ids[1])
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 3 == states(store, run_ids)
    assert done_before == store.get(run_ids[0]).ended_at


def test_a_worker_sees_one_gpu_numbered_as_the_driver_numbers_them(store, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    (run_id,) = sweep(store, 4)

    supervisor = supervise(
        store,
        worker(
            "begin(run_ids[0]); complete(run_ids[0])\n"
            "print(os.environ['CUDA_DEVICE_ORDER'], os.environ['CUDA_VISIBLE_DEVICES'])"
        ),
    )
    supervisor.settle()
    supervisor.stop()

    assert "PCI_BUS_ID 1" == (store.run_dir(run_id) / "worker.log").read_text().strip()


def test_a_worker_whose_gpu_failed_is_followed_by_another_and_the_sweep_goes_on(store):
    run_ids = sweep(store, 4, 8, 16)
    fails_at_rank_8 = worker(
        "for run_id in run_ids:\n"
        "    begin(run_id)\n"
        "    if run_id.endswith('r8'):\n"
        "        store.append(run_id, RunFailed(time=time.time(), error='The GPU failed.')); raise SystemExit(75)\n"
        "    complete(run_id)"
    )

    supervisor = supervise(store, fails_at_rank_8)
    supervisor.settle()
    supervisor.stop()

    assert ["completed", "failed", "completed"] == states(store, run_ids)


def test_a_gpu_that_fails_each_worker_before_any_run_is_done_is_said_with_what_to_do(store):
    run_ids = sweep(store, 4, 8, 16)

    supervisor = supervise(store, worker("begin(run_ids[0]); raise SystemExit(75)"))
    supervisor.settle()
    supervisor.stop()

    assert store.get(run_ids[0]).error.startswith("The GPU failed, and its worker with it. Run `rankviz doctor`")
    assert store.get(run_ids[2]).error.endswith("look for Xid errors of the driver.")
