"""What becomes of runs whose job ends before them, while an app looks and while none does."""

import pytest

from rankviz.machine import disk
from tests.support.processes.workers import (
    COMPLETE_ALL,
    FIRST_HANGS,
    lost_reasons,
    processes_of,
    states,
    sweep,
    wait_for,
    worker,
)

FULL = (
    "def full(run_id):\n"
    f"    write(run_id, RunFailed(time=time.time(), error={disk.FULL_SENTENCE!r}))\n"
    "    raise SystemExit(74)\n"
)
"""How a worker finds the disk full at a run. A quota shows nowhere else."""
FULL_ONCE = worker(
    f"{FULL}jobs = open(store.home.parent.parent / 'jobs', 'a+'); jobs.write('x'); jobs.flush()\n"
    "for run_id in run_ids: begin(run_id) and (full if jobs.tell() < 2 else complete)(run_id)"
)
FULL_AT_EACH = worker(f"{FULL}for run_id in run_ids: begin(run_id) and (step(run_id), full(run_id))")
FULL_BEFORE_ANY = worker("raise SystemExit(74)")
GIVEN_UP = f"Not started: 2 workers in a row completed no run of this sweep. The last: {disk.FULL_SENTENCE}"


@pytest.mark.parametrize("state", ["PREEMPTED", "BOOT_FAIL"])
def test_a_run_whose_node_is_taken_away_is_tried_again(store, cluster, supervise, state):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(FIRST_HANGS)
    wait_for(lambda: store.get(run_ids[0]).steps)

    cluster.end(cluster.jobs[0], state)
    supervisor.settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert [2, 1] == [store.get(run_id).lost_attempts + 1 for run_id in run_ids]


def test_a_run_whose_node_fails_is_tried_again_on_another(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(FIRST_HANGS)
    wait_for(lambda: store.get(run_ids[0]).steps)

    cluster.lose("node-0")
    supervisor.settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert ["node-0", "node-1"] == [job.node for job in cluster.jobs]
    assert ["The node failed in the middle of the job."] == lost_reasons(store, run_ids[0])


def test_a_run_that_reaches_the_time_limit_fails_and_the_others_go_on(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(FIRST_HANGS)
    wait_for(lambda: store.get(run_ids[0]).steps)

    cluster.end(cluster.jobs[0], "TIMEOUT")
    supervisor.settle()

    assert ["failed", "completed"] == states(store, run_ids)
    assert "The job reached its time limit in Slurm." in store.get(run_ids[0]).error
    assert [] == lost_reasons(store, run_ids[0])


def test_a_run_that_needs_more_memory_than_was_asked_for_fails_with_the_option_to_set(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(FIRST_HANGS)
    wait_for(lambda: store.get(run_ids[0]).steps)

    cluster.run_out_of_memory(cluster.jobs[0])
    supervisor.settle()

    assert ["failed", "completed"] == states(store, run_ids)
    assert "--mem in RANKVIZ_SLURM_OPTIONS" in store.get(run_ids[0]).error


def test_a_job_that_somebody_cancels_in_slurm_fails_the_run_that_it_was_at(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(FIRST_HANGS)
    wait_for(lambda: store.get(run_ids[0]).steps)

    cluster.end(cluster.jobs[0], "CANCELLED")
    supervisor.settle()

    assert ["failed", "completed"] == states(store, run_ids)
    assert "The job was cancelled in Slurm." == store.get(run_ids[0]).error


def ended_while_no_app_looked(store, cluster, supervise, end):
    """A run of a job that ended in the middle, and that squeue no longer lists."""
    (run_id,) = sweep(store, 4)
    supervisor = supervise(FIRST_HANGS)
    wait_for(lambda: store.get(run_id).steps)
    supervisor.stop()
    end(cluster.jobs[0])
    wait_for(lambda: cluster.jobs[0].has_ended)
    cluster.forget_ended()
    return run_id


def test_a_job_that_slurm_has_forgotten_is_settled_by_its_exit_code(store, cluster, supervise):
    def kill_worker(job):
        (process,) = processes_of(store.home / "slurm-jobs")
        process.kill()

    run_id = ended_while_no_app_looked(store, cluster, supervise, kill_worker)

    supervise(missing_seconds=3600).settle()

    assert (["completed"], 2) == (states(store, [run_id]), store.get(run_id).attempt)
    assert ["SIGKILL" in reason for reason in lost_reasons(store, run_id)] == [True]


def test_where_accounting_is_on_it_says_how_a_forgotten_job_ended(store, supervise, make_cluster):
    cluster = make_cluster(1, accounts=True)
    start = lambda command=COMPLETE_ALL, **settings: supervise(command, cluster=cluster, **settings)  # noqa: E731
    run_id = ended_while_no_app_looked(store, cluster, start, lambda job: cluster.end(job, "TIMEOUT"))

    start(missing_seconds=3600).settle()

    assert ["failed"] == states(store, [run_id])
    assert "time limit" in store.get(run_id).error


def test_a_job_of_which_nothing_is_known_any_more_is_lost(store, cluster, supervise):
    run_id = ended_while_no_app_looked(store, cluster, supervise, lambda job: cluster.lose(job.node))

    supervise(missing_seconds=0.3).settle()

    assert (["completed"], 2) == (states(store, [run_id]), store.get(run_id).attempt)
    assert "does not know the job any more" in lost_reasons(store, run_id)[0]


def test_a_worker_that_cannot_be_started_says_so_in_the_run_s_error(store, supervise):
    run_ids = sweep(store, 4, 8)

    supervise(("no-such-python",)).settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert "exit code 127" in store.get(run_ids[0]).error
    assert "no-such-python" in (store.run_dir(run_ids[0]) / "worker.log").read_text()


def test_a_full_quota_ends_the_run_that_met_it_and_the_others_wait_until_there_is_room(store, supervise):
    run_ids = sweep(store, 4, 8, 16)

    supervise(FULL_ONCE).settle()

    assert ["failed", "completed", "completed"] == states(store, run_ids)
    assert disk.FULL_SENTENCE == store.get(run_ids[0]).error


@pytest.mark.parametrize("command, met_it", [(FULL_AT_EACH, 2), (FULL_BEFORE_ANY, 0)])
def test_a_quota_that_stays_full_costs_two_jobs_and_not_one_for_each_run(store, cluster, supervise, command, met_it):
    run_ids = sweep(store, 4, 8, 16, 32)
    supervise(command)

    wait_for(lambda: states(store, run_ids) == ["failed"] * 4 or len(cluster.jobs) > 2)

    assert 2 == len(cluster.jobs)
    assert [disk.FULL_SENTENCE] * met_it + [GIVEN_UP] * (4 - met_it) == [store.get(run_id).error for run_id in run_ids]


def test_after_a_full_quota_nothing_is_sent_at_once(store, cluster, supervise):
    run_ids = sweep(store, 4, 8, 16)
    supervisor = supervise(FULL_ONCE, room_seconds=3600)
    wait_for(lambda: states(store, run_ids)[0] == "failed")
    wait_for(lambda: not supervisor.with_job)

    for _ in range(3):
        supervisor.tick()

    assert (["failed", "queued", "queued"], 1) == (states(store, run_ids), len(cluster.jobs))
