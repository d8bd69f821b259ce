"""Commands that hang, refuse or fail hold nobody: neither the supervisor nor other jobs."""

import contextlib
import time

import pytest

from rankviz.engines import Attempt, Job
from rankviz.engines.local import Local
from rankviz.engines.slurm.engine import SENT
from rankviz.errors import EngineEndingError, EngineUnavailableError
from rankviz.store.ownership import Destination
from rankviz.supervisor import Supervisor
from tests.support.engines.slurm_cluster import UNREACHABLE, failure, success
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    lost_reasons,
    states,
    sweep,
    wait_for,
    waiting_for,
)
from tests.support.runs import questions

SHORT, LONG = 60.0, 600.0
"""Seconds in which what waits for no command is done, on a slow machine, and in which a command is given up."""
LIMIT = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"


@pytest.fixture
def hang(cluster):
    """Makes a command hang until the cluster is closed."""

    def start(name):
        def never(answer):
            while not cluster.is_closed:
                time.sleep(0.02)
            return failure(name, UNREACHABLE)

        cluster.faults[name] = never

    return start


def start(engine, run_id, number=1):
    return engine.start(Job(attempts=(Attempt(run_id, number),)))


def questions_to(cluster, name):
    return [question for command, question in cluster.asked if command == name]


def at_once(call):
    """What a call returns that may wait for no command."""
    began = time.monotonic()
    try:
        return call()
    finally:
        assert time.monotonic() - began < SHORT


def cancelled(engine, live):
    """The end of a job that is cancelled, asked for until it is there."""
    ends = []

    def has_ended():
        with contextlib.suppress(EngineEndingError):
            ends.append(at_once(lambda: engine.cancel(live)))
        return ends

    wait_for(has_ended)
    return ends[0]


def test_while_jobs_are_sent_they_say_so_and_take_the_places_of_the_server(store, cluster, hang):
    hang("sbatch")
    engine = cluster.engine(store, seconds=LONG)

    lives = [at_once(lambda run_id=run_id: start(engine, run_id)) for run_id in sweep(store, 4, 8)]

    assert [SENT] * 2 == [live.waits for live in lives]
    assert 0 == engine.room()
    assert [SENT] * 2 == [live.waits for live in at_once(engine.live)]
    assert [] == questions_to(cluster, "squeue")


def test_a_job_that_was_not_sent_yet_is_cancelled_at_once_and_never_sent(store, cluster, hang):
    hang("sbatch")
    engine = cluster.engine(store, seconds=1.0)
    first, second = [start(engine, run_id) for run_id in sweep(store, 4, 8)]
    wait_for(lambda: questions_to(cluster, "sbatch"))

    with pytest.raises(EngineEndingError):
        at_once(lambda: engine.cancel(first))
    end = at_once(lambda: engine.cancel(second))
    engine.forget(second)
    wait_for(lambda: at_once(engine.live)[0].waits != SENT)

    assert "The job was cancelled." == end.why
    assert 1 == len(questions_to(cluster, "sbatch"))


def test_a_local_run_of_another_goes_on_while_slurm_hangs(store, cluster, hang):
    for name in ("sbatch", "squeue", "sacct", "scancel"):
        hang(name)
    theirs = store.run_ids(store.create(questions.sweep(ranks=(1, 2)), "ann", Destination("slurm")))
    mine = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ben", Destination("local")))
    local = Local(store.home, commands={"finetune": COMPLETE_ALL})
    supervisor = Supervisor(store, engines=[cluster.engine(store, seconds=LONG), local], poll_seconds=0.05)

    wait_for(lambda: at_once(supervisor.tick) or states(store, mine) == ["completed"])
    store.ask_to_cancel(theirs[0])
    for _ in range(20):
        at_once(supervisor.tick)
    supervisor.stop()

    assert ["completed"] == states(store, mine)
    assert {SENT} == {store.get(run_id).waits for run_id in theirs}


def test_a_squeue_that_hangs_from_the_start_holds_no_app(store, cluster, supervise, hang):
    (run_id,) = sweep(store, 4)
    go = store.home.parent / "go"
    first = supervise(waiting_for(go))
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    hang("squeue")

    engine = cluster.engine(store, seconds=LONG)
    lives = at_once(engine.live)

    assert ["Slurm is asked how its job does."] == [live.waits for live in lives]
    go.touch()


def test_a_scancel_that_hangs_is_said_and_asked_for_again(store, cluster, supervise, hang):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    supervisor.stop()
    engine = cluster.engine(store, seconds=3.0)
    (live,) = engine.live()

    hang("scancel")
    with pytest.raises(EngineUnavailableError, match="does not answer"):
        cancelled(engine, live)
    del cluster.faults["scancel"]

    assert "The job was cancelled." == cancelled(engine, live).why
    assert "CANCELLED" == cluster.jobs[0].state


def test_an_sacct_that_hangs_keeps_no_job_from_being_seen(store, cluster, supervise, hang):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: all(store.get(run_id).steps for run_id in run_ids))
    supervisor.stop()
    hang("sacct")
    engine = cluster.engine(store, seconds=LONG, missing_seconds=0.0)
    cluster.jobs[0].is_listed = False

    wait_for(lambda: {live.where for live in at_once(engine.live)} == {"", cluster.jobs[1].node})
    wait_for(lambda: questions_to(cluster, "sacct"))
    before = len(questions_to(cluster, "squeue")), len(questions_to(cluster, "sacct"))
    wait_for(lambda: at_once(engine.live) and len(questions_to(cluster, "squeue")) >= before[0] + 4)

    assert len(questions_to(cluster, "sacct")) <= before[1] + 1
    assert [None, None] == [live.end for live in engine.live()]
    for job in cluster.jobs:
        cluster.end(job, "CANCELLED")


def test_an_sacct_that_always_fails_leaves_a_job_to_its_exit_code(store, cluster, supervise):
    cluster.faults["sacct"] = lambda answer: failure("sacct", "Slurm accounting storage is disabled")
    (run_id,) = sweep(store, 4)
    go = store.home.parent / "go"
    supervisor = supervise(waiting_for(go), missing_seconds=3600)
    wait_for(lambda: store.get(run_id).steps)

    cluster.faults["squeue"] = lambda answer: success('{"jobs": []}')
    go.touch()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])


def test_a_job_that_is_refused_for_now_keeps_its_attempt_also_over_a_restart(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    cluster.faults["sbatch"] = lambda answer: failure("sbatch", LIMIT)
    first = supervise()
    wait_for(lambda: "job submit limit" in store.get(run_id).waits)
    wait_for(lambda: len(questions_to(cluster, "sbatch")) >= 3)
    first.stop()

    del cluster.faults["sbatch"]
    supervise(missing_seconds=3600).settle()

    assert (["completed"], 1, []) == (states(store, [run_id]), store.get(run_id).attempt, lost_reasons(store, run_id))
    assert 1 == len(cluster.jobs)


def test_a_job_that_is_refused_again_and_again_lets_others_be_tried(store, cluster, supervise):
    refused, others = sweep(store, 4), sweep(store, 8)

    def refuses_one(answer):
        is_refused = refused[0] in questions_to(cluster, "sbatch")[-1].option("job-name")
        return failure("sbatch", LIMIT) if is_refused else answer()

    cluster.faults["sbatch"] = refuses_one
    supervisor = supervise()
    wait_for(lambda: states(store, others) == ["completed"])

    assert ["queued"] == states(store, refused)
    supervisor.cancel(refused[0])
    assert ["cancelled"] == states(store, refused)
    assert 1 == len(cluster.jobs)


def test_a_look_that_failed_is_not_the_last(store, cluster, supervise):
    """Also where nobody else asks, as in a command line that cancels."""
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    supervisor.stop()
    engine = cluster.engine(store)
    (live,) = engine.live()

    cluster.faults["squeue"] = lambda answer: failure("squeue", UNREACHABLE)
    with pytest.raises(EngineUnavailableError, match="Unable to contact"):
        cancelled(engine, live)
    del cluster.faults["squeue"]

    assert "The job was cancelled." == cancelled(engine, live).why


@pytest.mark.parametrize("is_away", [False, True])
def test_while_cancels_wait_slurm_is_asked_no_more_than_it_may(store, cluster, supervise, is_away):
    run_ids = [*sweep(store, 4), *sweep(store, 8)]
    supervisor = supervise(HANG_IN_EACH, poll_seconds=0.5)
    wait_for(lambda: all(store.get(run_id).steps for run_id in run_ids))
    cluster.faults["scancel"] = lambda answer: success("")
    if is_away:
        cluster.faults["squeue"] = lambda answer: failure("squeue", UNREACHABLE)

    for run_id in run_ids:
        store.ask_to_cancel(run_id)
    began, before = time.monotonic(), len(questions_to(cluster, "squeue"))
    wait_for(lambda: time.monotonic() - began >= 3.0 and len(questions_to(cluster, "squeue")) >= before + 2)
    looks, seconds = len(questions_to(cluster, "squeue")) - before, time.monotonic() - began
    cluster.faults.clear()
    wait_for(lambda: states(store, run_ids) == ["cancelled"] * 2)

    assert looks <= seconds / 0.5 + 2  # one that had begun may have come only now
    supervisor.stop()
