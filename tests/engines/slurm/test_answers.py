"""What becomes of runs where Slurm's commands refuse, hang, or say nothing, and how often they are asked."""

import time

import pytest

from rankviz.engines import Attempt, Job
from rankviz.engines.slurm import papers
from rankviz.engines.slurm.engine import NOT_SET_UP
from rankviz.errors import EngineUnavailableError
from tests.support.engines.slurm_cluster import TIMED_OUT, UNREACHABLE, failure
from tests.support.processes.workers import (
    HANG_IN_EACH,
    lost_reasons,
    processes_of,
    states,
    sweep,
    wait_for,
    waiting_for,
)


def questions_to(cluster, name):
    return [question for command, question in cluster.asked if command == name]


@pytest.mark.parametrize("is_hanging", [False, True])
def test_a_job_whose_answer_was_lost_is_found_by_its_name_and_not_sent_twice(store, cluster, supervise, is_hanging):
    def loses(answer):
        answer()
        while is_hanging and not cluster.is_closed:
            time.sleep(0.02)
        return failure("sbatch", TIMED_OUT)

    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = loses
    go = store.home.parent / "go"

    supervisor = supervise(waiting_for(go), seconds=3.0 if is_hanging else 60.0)
    wait_for(lambda: store.get(run_id).place and store.get(run_id).place.job)
    go.touch()
    supervisor.settle()

    (job,) = cluster.jobs
    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    assert str(job.id) == store.get(run_id).place.job


def test_a_job_that_slurm_never_had_is_sent_again_after_a_while(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = lambda answer: failure("sbatch", TIMED_OUT)
    supervisor = supervise(missing_seconds=0.5)
    wait_for(lambda: store.get(run_id).waits == "It is not known yet whether Slurm has the job.")
    wait_for(lambda: len(questions_to(cluster, "sbatch")) >= 3)

    del cluster.faults["sbatch"]
    supervisor.settle()

    assert (["completed"], 1) == (states(store, [run_id]), len(cluster.jobs))
    assert [] == lost_reasons(store, run_id)


def test_a_job_that_arrives_after_it_was_given_up_runs_nothing(store, cluster, supervise):
    late = []

    def keeps(answer):
        late.append(answer)
        return failure("sbatch", TIMED_OUT)

    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = lambda answer: answer() if late else keeps(answer)

    supervise(missing_seconds=0.5).settle()
    late[0]()
    wait_for(lambda: len(cluster.jobs) == 2 and all(job.has_ended for job in cluster.jobs))

    assert ["COMPLETED", "FAILED"] == [job.state for job in cluster.jobs]
    assert (["completed"], 1) == (states(store, [run_id]), len(store.get(run_id).steps))


def test_a_job_that_slurm_refuses_for_good_fails_its_runs_with_slurm_s_reason(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)

    supervise(partition="no-such").settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert "Invalid partition name specified" in store.get(run_ids[0]).error
    assert "Change RANKVIZ_SLURM_PARTITION or RANKVIZ_SLURM_OPTIONS" in store.get(run_ids[0]).error
    assert 1 == len(questions_to(cluster, "sbatch"))


def test_a_job_that_slurm_refuses_for_now_waits_and_is_not_sent_again_at_once(store, cluster, supervise):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    limit = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    cluster.faults["sbatch"] = lambda answer: failure("sbatch", f"Batch job submission failed: {limit}")

    began = time.monotonic()
    supervisor = supervise(poll_seconds=0.5)
    wait_for(lambda: all("job submit limit" in store.get(run_id).waits for run_id in run_ids))
    wait_for(lambda: len(questions_to(cluster, "sbatch")) >= 3)
    assert time.monotonic() - began >= 3.0
    del cluster.faults["sbatch"]
    supervisor.settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert {1} == {store.get(run_id).attempt for run_id in run_ids}


def test_while_slurm_cannot_be_asked_runs_go_on_and_nothing_is_decided(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    go = store.home.parent / "go"
    supervisor = supervise(waiting_for(go), missing_seconds=0.1)
    wait_for(lambda: store.get(run_id).steps)

    cluster.faults["squeue"] = lambda answer: failure("squeue", UNREACHABLE)
    wait_for(lambda: "Unable to contact slurm controller" in store.get(run_id).waits)
    supervisor.stop()
    before = len(questions_to(cluster, "squeue"))
    supervise(waiting_for(go), missing_seconds=0.1)
    wait_for(lambda: len(questions_to(cluster, "squeue")) > before + 1)
    wait_for(lambda: "Unable to contact slurm controller" in store.get(run_id).waits)
    go.touch()
    wait_for(lambda: states(store, [run_id]) == ["completed"])

    assert (1, 1) == (len(cluster.jobs), store.get(run_id).attempt)
    assert "Unable to contact slurm controller" in store.get(run_id).waits


def test_a_cancel_waits_until_slurm_can_be_asked(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)

    cluster.faults["squeue"] = lambda answer: failure("squeue", UNREACHABLE)
    with pytest.raises(EngineUnavailableError):
        supervisor.cancel(run_id)
    assert ["running"] == states(store, [run_id])
    store.ask_to_cancel(run_id)
    del cluster.faults["squeue"]

    wait_for(lambda: states(store, [run_id]) == ["cancelled"])
    assert [] == processes_of(store.home / "slurm-jobs")


def test_squeue_is_asked_for_all_jobs_at_once_and_no_sooner_than_the_server_wants(store, cluster, supervise):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    go = store.home.parent / "go"

    began = time.monotonic()
    supervisor = supervise(waiting_for(go), poll_seconds=0.5)
    wait_for(lambda: all(store.get(run_id).steps for run_id in run_ids))
    wait_for(lambda: len(questions_to(cluster, "squeue")) >= 4)

    assert time.monotonic() - began >= 1.5
    go.touch()
    supervisor.settle()


def test_the_place_of_a_job_whose_worker_has_ended_is_free_before_slurm_is_asked_again(store, supervise, make_cluster):
    cluster = make_cluster(1)
    run_ids = [*sweep(store, 4), *sweep(store, 8)]

    supervise(cluster=cluster, poll_seconds=3600)
    wait_for(lambda: states(store, run_ids) == ["completed"] * 2)

    assert len(questions_to(cluster, "squeue")) <= 1


def test_without_jobs_slurm_is_not_asked(store, cluster):
    assert [] == cluster.engine(store).live()
    assert [] == cluster.asked


def test_where_it_is_not_set_up_nothing_is_sent_and_what_slurm_has_is_followed(store, cluster, supervise):
    (running,) = sweep(store, 4)
    go = store.home.parent / "go"
    supervisor = supervise(waiting_for(go))
    wait_for(lambda: store.get(running).steps)
    cluster.faults["sbatch"] = lambda answer: failure("sbatch", "Batch job submission failed: job submit limit")
    (packed,) = sweep(store, 8)
    wait_for(lambda: questions_to(cluster, "sbatch")[1:])
    supervisor.stop()
    del cluster.faults["sbatch"]
    (queued,) = sweep(store, 16)
    wait_for(lambda: not papers.is_asked(store.home / "slurm-jobs" / f"{packed}-a1"))

    before = len(questions_to(cluster, "squeue"))
    supervisor = supervise(waiting_for(go), is_set_up=False, at_once=3)
    wait_for(lambda: all(store.get(run_id).waits == NOT_SET_UP for run_id in (packed, queued)))
    wait_for(lambda: len(questions_to(cluster, "squeue")) > before + 3)
    assert 1 == len(cluster.jobs)
    go.touch()
    wait_for(lambda: states(store, [running]) == ["completed"])
    supervisor.stop()
    supervise(waiting_for(go)).settle()

    assert ["completed"] * 3 == states(store, [running, packed, queued])


def test_a_job_that_cannot_be_sent_leaves_no_folder(store, cluster):
    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = lambda answer: failure(
        "sbatch", "Batch job submission failed: Invalid qos specification"
    )
    engine = cluster.engine(store)
    engine.start(Job(attempts=(Attempt(run_id, 1),)))
    assert 1 == engine.room()

    wait_for(lambda: engine.live()[0].end)
    (live,) = engine.live()
    engine.forget(live)

    assert "Invalid qos specification" in live.end.why
    assert 2 == engine.room()
    assert [] == [*(store.home / "slurm-jobs").iterdir()]
