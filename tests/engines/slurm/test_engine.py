"""Jobs of a stand-in for a Slurm cluster, which starts them as processes: how they wait, start and are cancelled. What
every engine must hold is in tests/engines/test_contract.py."""

import contextlib
import shutil

from rankviz.errors import EngineEndingError
from rankviz.store import RunStore
from rankviz.supervisor import Supervisor
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    processes_of,
    states,
    sweep,
    wait_for,
    waiting_for,
    worker,
)
from tests.support.runs import questions

HAS_A_CHILD_ELSEWHERE = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', str(store.home)],\n"
    "                         start_new_session=True)\n"
    "        step(run_id)\n"
    "        time.sleep(600)"
)


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


def test_versions_of_slurm_that_print_a_state_as_text_are_read_too(store, supervise, make_cluster):
    cluster = make_cluster(1, prints_lists=False)
    run_ids = sweep(store, 4, 8)

    supervise(cluster=cluster).settle()
    wait_for(lambda: not any((store.home / "slurm-jobs").iterdir()))

    assert ["completed"] * 2 == states(store, run_ids)


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
    wait_for(lambda: store.get(run_id).waits == "Other jobs of the cluster go first.")

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


def test_a_job_gives_way_between_two_runs_where_another_visitor_waits(store, supervise, make_cluster):
    cluster = make_cluster(1)
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

    started = [store.get(run_id).started_at for run_id in (mine[0], theirs[0], mine[1])]
    assert sorted(started) == started
    assert ["completed"] * 3 == states(store, [*mine, *theirs])


def test_a_folder_of_any_name_is_a_runs_folder(tmp_path, cluster):
    store = RunStore(tmp_path / 'it\'s "my" $(touch injected) %j; runs')
    run_ids = sweep(store, 4, 8)
    supervisor = Supervisor(store, engines=[cluster.engine(store, COMPLETE_ALL)], poll_seconds=0.05)
    supervisor.start()

    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 2 == states(store, run_ids)
    assert [] == [*tmp_path.rglob("injected")]


def has_ended(engine, live):
    with contextlib.suppress(EngineEndingError):
        return engine.cancel(live)


def test_a_copy_of_a_runs_folder_does_not_touch_the_jobs_of_the_original(store, cluster, supervise, tmp_path):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    shutil.copytree(store.home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.lock"))
    copy = RunStore(tmp_path / "copy")

    engine = cluster.engine(copy, missing_seconds=0.0)
    (live,) = engine.live()
    wait_for(lambda: has_ended(engine, live))

    assert ["running"] == states(store, [run_id])
    assert "RUNNING" == cluster.jobs[0].state
    supervisor.cancel(run_id)


def test_no_secret_of_the_page_reaches_slurm_or_a_job(store, cluster, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_quiet")
    monkeypatch.setenv("RANKVIZ_ADMIN_TOKEN", "admin_quiet_and_long")
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
