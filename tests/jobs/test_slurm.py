"""Jobs of a stand-in for a Slurm cluster, which starts them as processes. What every engine must hold is in
test_contract.py; the same on a true Slurm, in test_true_slurm.py."""

import json
import time

import pytest

from rankviz.jobs.slurm import Slurm, end_of, read_jobs, states_of
from tests.support.engines.slurm_cluster import TIMED_OUT, SlurmCluster, failure
from tests.support.processes.workers import (
    FIRST_HANGS,
    Patient,
    lost_reasons,
    on_cluster,
    processes_of,
    states,
    sweep,
    wait_for,
    waiting_for,
    worker,
)

ME, SOMEBODY = 1000, 1001


@pytest.fixture
def cluster():
    """A stand-in with two nodes."""
    cluster = SlurmCluster(2)
    yield cluster
    cluster.close()


supervise = pytest.fixture(on_cluster)


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


def row(**fields):
    return {"job_id": 7, "name": "mine", "user_id": ME, "job_state": "RUNNING", "nodes": "node-1"} | fields


def test_one_job_carries_a_base_with_all_its_runs_by_the_options_of_the_server(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)
    go = store.home.parent / "go"

    supervisor = supervise(waiting_for(go), partition="gpu", options=["--gres=gpu:1", "--time=60"])
    wait_for(lambda: {"node-0"} == {store.get(run_id).where for run_id in run_ids})
    go.touch()
    supervisor.settle()

    (job,) = cluster.jobs
    assert ["completed"] * 2 == states(store, run_ids)
    assert ("gpu", "gpu:1", "60") == tuple(job.options[name] for name in ("partition", "gres", "time"))
    assert ("", "NONE") == (job.options["no-requeue"], job.options["export"])


def test_no_secret_of_the_page_reaches_slurm_or_a_job(store, cluster, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_quiet")
    monkeypatch.setenv("RANKVIZ_ADMIN_TOKEN", "admin_quiet_and_long")
    (run_id,) = sweep(store, 4)
    prints = worker(
        "print(dict(os.environ), flush=True)\nfor run_id in run_ids:\n    begin(run_id) and complete(run_id)"
    )
    supervisor = Patient(store, engines=[cluster.engine(store, prints)], poll_seconds=0.05)
    supervisor.start()

    supervisor.finish()

    log = (store.run_dir(run_id) / "worker.log").read_text()
    assert "SLURM_JOB_ID" in log
    assert not any("quiet" in text for text in (log, str(cluster.asked), cluster.jobs[0].question.script))


def test_a_job_whose_answer_was_lost_is_found_by_its_name_and_not_sent_twice(store, cluster, supervise):
    def loses(answer):
        answer()
        while not cluster.is_closed:
            time.sleep(0.02)
        return failure("sbatch", TIMED_OUT)

    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = loses
    go = store.home.parent / "go"

    supervisor = supervise(waiting_for(go), seconds=3.0)
    wait_for(lambda: store.get(run_id).place and store.get(run_id).place.job)
    go.touch()
    supervisor.settle()

    (job,) = cluster.jobs
    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    assert str(job.id) == store.get(run_id).place.job


def test_a_job_that_slurm_refuses_for_now_waits_and_is_not_sent_again_at_once(store, cluster, supervise):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    limit = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    cluster.faults["sbatch"] = lambda answer: failure("sbatch", f"Batch job submission failed: {limit}")

    supervisor = supervise(poll_seconds=0.5)
    wait_for(lambda: all("job submit limit" in store.get(run_id).waits for run_id in run_ids))
    wait_for(lambda: sum(command == "sbatch" for command, _ in cluster.asked) >= 3)
    del cluster.faults["sbatch"]
    supervisor.settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert {1} == {store.get(run_id).attempt for run_id in run_ids}


def test_a_job_that_slurm_has_forgotten_is_settled_by_its_exit_code(store, cluster, supervise):
    def kill_worker(job):
        (process,) = processes_of(store.home / "slurm-jobs")
        process.kill()

    run_id = ended_while_no_app_looked(store, cluster, supervise, kill_worker)

    supervise(missing_seconds=3600).settle()

    assert (["completed"], 2) == (states(store, [run_id]), store.get(run_id).attempt)
    assert ["SIGKILL" in reason for reason in lost_reasons(store, run_id)] == [True]


def test_states_are_read_as_versions_write_them_and_of_ones_own_jobs_alone():
    """A text in older versions, which also ignore --me where they print JSON, and a list in newer ones."""
    assert states_of(row(job_state="RUNNING by 1")) == states_of(row(job_state=["RUNNING"])) == {"RUNNING"}
    assert {} == read_jobs(json.dumps({"jobs": [row(user_id=SOMEBODY, job_state="COMPLETED")]}), user=ME)
    for state in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "PREEMPTED"):  # processes of it may be left
        assert end_of({state, "COMPLETING"}, 0) is end_of({"COMPLETING"}, 0) is None
        assert end_of({state}, 0) is not None


@pytest.mark.parametrize(
    ("options", "gpus", "has_gpu"),
    [
        (["--gres=gpu:1"], [], True),
        (["--time=5", "--gres=gpu:a100:1"], ["A100"], True),
        (["--gpus=h100:1"], ["H100"], True),
        (["--gpus-per-node=1"], [], True),
        (["--gres=shard:2,gpu:l4:1"], ["L4"], True),
        (["--gres=shard:2", "--mem=32G"], [], False),
    ],
)
def test_the_gpu_of_a_job_is_what_its_options_ask_for(store, options, gpus, has_gpu):
    engine = Slurm(store, options=options)

    assert (gpus, has_gpu) == (engine.gpu_models, engine.has_gpu)
