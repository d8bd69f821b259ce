"""Jobs of a stand-in for a Slurm cluster, which starts them as processes: how they wait and end, and what becomes of
their runs. What every engine must hold is in tests/engines/test_contract.py."""

import shutil
import time

import pytest

from rankviz.core.runs.events import RunRequeued
from rankviz.engines import Attempt, Job
from rankviz.engines.slurm.engine import JOB_ID
from rankviz.errors import EngineError, EngineUnavailableError
from rankviz.store import RunStore
from rankviz.supervisor import Supervisor
from tests.support import questions
from tests.support.slurm_cluster import TIMED_OUT, UNREACHABLE, SlurmCluster, failure
from tests.support.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    processes_of,
    states,
    sweep,
    wait_for,
    waiting_for,
    worker,
)

FIRST_HANGS = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        step(run_id)\n"
    "        while attempts[run_id] == '1' and run_id.endswith('r4'): time.sleep(0.02)\n"
    "        complete(run_id)"
)
"""A worker that holds the first attempt of the run with r = 4."""
HAS_A_CHILD_ELSEWHERE = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', str(store.home)],\n"
    "                         start_new_session=True)\n"
    "        step(run_id)\n"
    "        time.sleep(600)"
)


@pytest.fixture
def cluster():
    """Of two nodes; those that a test makes itself are closed too."""
    cluster = SlurmCluster(2)
    yield cluster
    cluster.close()


@pytest.fixture
def supervise(store, cluster):
    """Starts a supervisor with an engine of the cluster; all are stopped."""
    started = []

    def start(command=COMPLETE_ALL, *, cluster=cluster, turn_minutes=float("inf"), **settings) -> Supervisor:
        here = RunStore(store.home)
        engine = cluster.engine(here, command, **settings)
        supervisor = Supervisor(
            here, engines=[engine], poll_seconds=0.05, max_attempts=2, split_runs=3, turn_minutes=turn_minutes
        )
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


def asked(cluster, name):
    return [question for command, question in cluster.asked if command == name]


def lost_reasons(store, run_id):
    return [event.lost for event in store.events(run_id) if isinstance(event, RunRequeued)]


def test_one_job_carries_a_base_with_all_its_runs_by_the_options_of_the_server(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)

    supervise(partition="gpu", options=["--gres=gpu:1", "--time=60"]).settle()

    (job,) = cluster.jobs
    assert ["completed"] * 2 == states(store, run_ids)
    assert ("gpu", "gpu:1", "60") == tuple(job.options[name] for name in ("partition", "gres", "time"))
    assert ("", "NONE") == (job.options["no-requeue"], job.options["export"])
    assert {"node-0"} == {store.get(run_id).where for run_id in run_ids}


def test_versions_of_slurm_that_print_a_state_as_text_are_read_too(store, supervise):
    cluster = SlurmCluster(1, prints_lists=False)
    run_ids = sweep(store, 4, 8)

    supervise(cluster=cluster).settle()
    wait_for(lambda: not any((store.home / "slurm-jobs").iterdir()))
    cluster.close()

    assert ["completed"] * 2 == states(store, run_ids)


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
    assert "node-1" == store.get(run_ids[0]).where
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


def test_a_run_says_why_it_waits_in_slurm_and_starts_there(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    cluster.reason = "Priority"
    supervisor = supervise()
    wait_for(lambda: store.get(run_id).waits == "Other jobs of the cluster go first.")

    cluster.reason = "ReqNodeNotAvail, UnavailableNodes:node-0"
    cluster.schedule()
    wait_for(lambda: store.get(run_id).waits.startswith("A node that the job asks for is down, drained or reserved."))
    cluster.release()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])


def test_slurm_is_given_no_more_jobs_than_the_server_wants_there(store, cluster, supervise):
    run_ids = [*sweep(store, 1), *sweep(store, 2), *sweep(store, 3)]
    cluster.reason = "Resources"
    supervisor = supervise(at_once=2)
    wait_for(lambda: sum(bool(store.get(run_id).waits) for run_id in run_ids) == 2)

    cluster.release()
    supervisor.settle()

    assert ["completed"] * 3 == states(store, run_ids)
    assert 3 == len(cluster.jobs)


def test_a_job_that_waits_in_slurm_is_taken_out_of_its_queue_by_cancel(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    cluster.reason = "Priority"
    supervisor = supervise()
    wait_for(lambda: store.get(run_id).waits)

    supervisor.cancel(run_id)
    wait_for(lambda: cluster.jobs[0].state == "CANCELLED")
    cluster.release()

    assert ["cancelled"] == states(store, [run_id])
    assert cluster.jobs[0].process is None


def test_cancel_ends_what_has_left_the_worker_s_process_group_too(store, supervise):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HAS_A_CHILD_ELSEWHERE)
    wait_for(lambda: store.get(run_id).steps)
    assert 2 == len(processes_of(store.home / "slurm-jobs"))

    supervisor.cancel(run_id)

    assert ["cancelled"] == states(store, [run_id])
    assert [] == processes_of(store.home / "slurm-jobs")


def test_cancel_ends_no_job_of_another_name(store, cluster, supervise):
    """Numbers of jobs begin anew where a cluster is set up anew."""
    ours, others = sweep(store, 4), sweep(store, 8)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: all(store.get(run_id).steps for run_id in (*ours, *others)))
    first, second = cluster.jobs
    first.id, second.id = second.id, first.id

    supervisor.cancel(ours[0])

    assert (["cancelled"], ["running"]) == (states(store, ours), states(store, others))
    supervisor.cancel(others[0])


@pytest.mark.parametrize("is_hanging", [False, True])
def test_a_job_whose_answer_was_lost_is_found_by_its_name_and_not_sent_twice(store, cluster, supervise, is_hanging):
    def loses(answer):
        answer()
        while is_hanging and not cluster.is_closed:
            time.sleep(0.02)
        return failure("sbatch", TIMED_OUT)

    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = loses

    supervise(seconds=3.0 if is_hanging else 60.0).settle()

    (job,) = cluster.jobs
    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    assert str(job.id) == store.get(run_id).place.job


def test_a_job_that_slurm_never_had_is_sent_again_after_a_while(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = lambda answer: failure("sbatch", TIMED_OUT)
    supervisor = supervise(missing_seconds=0.5)
    wait_for(lambda: store.get(run_id).waits == "It is not known yet whether Slurm has the job.")
    wait_for(lambda: len(asked(cluster, "sbatch")) == 3)

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
    wait_for(lambda: cluster.jobs[-1].has_ended)

    assert ["COMPLETED", "FAILED"] == [job.state for job in cluster.jobs]
    assert (["completed"], 1) == (states(store, [run_id]), len(store.get(run_id).steps))


def test_a_job_that_slurm_refuses_for_good_fails_its_runs_with_slurm_s_reason(store, cluster, supervise):
    run_ids = sweep(store, 4, 8)

    supervise(partition="no-such").settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert "Invalid partition name specified" in store.get(run_ids[0]).error
    assert 1 == len(asked(cluster, "sbatch"))


def test_a_job_that_slurm_refuses_for_now_waits_and_is_not_sent_again_at_once(store, cluster, supervise):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    limit = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    cluster.faults["sbatch"] = lambda answer: failure("sbatch", f"Batch job submission failed: {limit}")

    began = time.monotonic()
    supervisor = supervise(poll_seconds=0.5)
    wait_for(lambda: all("job submit limit" in store.get(run_id).waits for run_id in run_ids))
    wait_for(lambda: len(asked(cluster, "sbatch")) == 3)
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
    before = len(asked(cluster, "squeue"))
    supervise(waiting_for(go), missing_seconds=0.1)
    wait_for(lambda: len(asked(cluster, "squeue")) > before + 1)
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


def test_where_accounting_is_on_it_says_how_a_forgotten_job_ended(store, supervise):
    cluster = SlurmCluster(1, accounts=True)
    start = lambda command=COMPLETE_ALL, **settings: supervise(command, cluster=cluster, **settings)  # noqa: E731
    run_id = ended_while_no_app_looked(store, cluster, start, lambda job: cluster.end(job, "TIMEOUT"))

    start(missing_seconds=3600).settle()
    cluster.close()

    assert ["failed"] == states(store, [run_id])
    assert "time limit" in store.get(run_id).error


def test_a_job_of_which_nothing_is_known_any_more_is_lost(store, cluster, supervise):
    run_id = ended_while_no_app_looked(store, cluster, supervise, lambda job: cluster.lose(job.node))

    supervise(missing_seconds=0.3).settle()

    assert (["completed"], 2) == (states(store, [run_id]), store.get(run_id).attempt)
    assert "does not know the job any more" in lost_reasons(store, run_id)[0]


def test_squeue_is_asked_for_all_jobs_at_once_and_no_sooner_than_the_server_wants(store, cluster, supervise):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    go = store.home.parent / "go"

    began = time.monotonic()
    supervisor = supervise(waiting_for(go), poll_seconds=0.5)
    wait_for(lambda: all(store.get(run_id).steps for run_id in run_ids))
    wait_for(lambda: len(asked(cluster, "squeue")) == 4)

    assert time.monotonic() - began >= 1.5
    go.touch()
    supervisor.settle()


def test_the_place_of_a_job_whose_worker_has_ended_is_free_before_slurm_is_asked_again(store, supervise):
    cluster = SlurmCluster(1)
    run_ids = [*sweep(store, 4), *sweep(store, 8)]

    supervise(cluster=cluster, poll_seconds=3600)
    wait_for(lambda: states(store, run_ids) == ["completed"] * 2)

    assert 1 == len(asked(cluster, "squeue"))
    cluster.close()


def test_without_jobs_slurm_is_not_asked(store, cluster):
    assert [] == cluster.engine(store).live()
    assert [] == cluster.asked


def test_a_job_gives_way_between_two_runs_where_another_visitor_waits(store, supervise):
    cluster = SlurmCluster(1)
    mine = store.run_ids(store.create(questions.sweep(ranks=(1, 2)), "ann"))
    go = store.home.parent / "go"
    yields = worker(
        "for number, run_id in enumerate(run_ids):\n"
        "    if number and (store.home / 'worker.yield').exists(): break\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        f"        while not (os.path.exists({str(go)!r}) and (number or (store.home / 'worker.yield').exists() or"
        " len(run_ids) == 1)): time.sleep(0.02)\n"
        "        complete(run_id)"
    )
    supervisor = supervise(yields, cluster=cluster, turn_minutes=0.0)
    wait_for(lambda: store.get(mine[0]).steps)
    theirs = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ben"))
    go.touch()

    supervisor.settle()
    cluster.close()

    started = [store.get(run_id).started_at for run_id in (mine[0], theirs[0], mine[1])]
    assert sorted(started) == started
    assert ["completed"] * 3 == states(store, [*mine, *theirs])


def test_a_worker_that_cannot_be_started_says_so_in_the_run_s_error(store, supervise):
    run_ids = sweep(store, 4, 8)

    supervise(("no-such-python",)).settle()

    assert ["failed"] * 2 == states(store, run_ids)
    assert "exit code 127" in store.get(run_ids[0]).error
    assert "no-such-python" in (store.run_dir(run_ids[0]) / "worker.log").read_text()


def test_a_folder_of_any_name_is_a_runs_folder(tmp_path, cluster):
    store = RunStore(tmp_path / 'it\'s "my" $(touch injected) %j; runs')
    run_ids = sweep(store, 4, 8)
    supervisor = Supervisor(store, engines=[cluster.engine(store, COMPLETE_ALL)], poll_seconds=0.05)
    supervisor.start()

    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 2 == states(store, run_ids)
    assert [] == [*tmp_path.rglob("injected")]


def test_a_copy_of_a_runs_folder_does_not_touch_the_jobs_of_the_original(store, cluster, supervise, tmp_path):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    shutil.copytree(store.home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.lock"))
    copy = RunStore(tmp_path / "copy")

    engine = cluster.engine(copy, missing_seconds=0.0)
    (live,) = engine.live()
    engine.cancel(live)

    assert ["running"] == states(store, [run_id])
    assert "RUNNING" == cluster.jobs[0].state
    supervisor.cancel(run_id)


def test_no_secret_of_the_page_reaches_slurm_or_a_job(store, cluster, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_quiet")
    monkeypatch.setenv("RANKVIZ_ADMIN_TOKEN", "admin_quiet")
    (run_id,) = sweep(store, 4)
    prints = worker(
        "print(dict(os.environ), flush=True)\nfor run_id in run_ids:\n    begin(run_id) and complete(run_id)"
    )
    supervisor = Supervisor(store, engines=[cluster.engine(store, prints)], poll_seconds=0.05)
    supervisor.start()

    supervisor.settle()
    supervisor.stop()

    log = (store.run_dir(run_id) / "worker.log").read_text()
    assert "SLURM_JOB_ID" in log
    assert not any("quiet" in text for text in (log, str(cluster.asked), cluster.jobs[0].question.script))


def test_a_job_that_cannot_be_sent_leaves_no_folder(store, cluster):
    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = lambda answer: failure(
        "sbatch", "Batch job submission failed: Invalid qos specification"
    )
    engine = cluster.engine(store)

    with pytest.raises(EngineError):
        engine.start(Job(attempts=(Attempt(run_id, 1),)))

    assert 2 == engine.room()
    assert [] == [*(store.home / "slurm-jobs").glob(f"*/{JOB_ID}")]
