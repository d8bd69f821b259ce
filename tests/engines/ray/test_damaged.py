"""Files of jobs in a runs folder that are damaged or gone: their own runs are tried again, and the others go on."""

import pytest

from rankviz.core.runs.events import RunStarted
from rankviz.engines import Attempt, Job, bundle
from rankviz.engines.ray.engine import HOME_FILE, Ray
from rankviz.engines.ray.mirror import Mirror
from rankviz.engines.ray.terms import RESULT
from rankviz.supervisor import Supervisor
from tests.support.workers import COMPLETE_ALL, HANG_IN_EACH, lost_reasons, states, sweep, wait_for, waiting_for

SECONDS = 300.0
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def supervise(store):
    started = []

    def start(engine) -> Supervisor:
        supervisor = Supervisor(store, engines=[engine], poll_seconds=0.05, max_attempts=3)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


def packed(store, run_id):
    """The folder of a job that an earlier app has begun."""
    folder = store.home / "ray-jobs" / f"{run_id}-a1"
    bundle.pack(store, Job(attempts=(Attempt(run_id, 1),)), folder, engine="ray")
    store.begin(run_id)
    store.append(run_id, RunStarted(time=1.0, attempt=1, environment={}))
    return folder


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"why": 3}', b'{"later": true}', b"[" * 100_000])
def test_a_result_that_cannot_be_read_is_the_loss_of_its_own_job_only(store, content):
    damaged, whole = sweep(store, 4, 8)
    (packed(store, damaged) / RESULT).write_bytes(content)
    packed(store, whole)

    of_damaged, of_whole = Ray(store).live()

    assert of_damaged.end.lost
    assert f"How its job ended can no longer be read ({damaged}-a1/result.json in ray-jobs)." == of_damaged.end.why
    assert of_whole.end is None


def test_a_damaged_name_of_the_runs_folder_keeps_no_job_from_being_seen(store):
    (run_id,) = sweep(store, 4)
    packed(store, run_id)
    (store.home / HOME_FILE).write_bytes(b"\xff")
    engine = Ray(store, address="127.0.0.1:1")

    assert [None] == [live.end for live in engine.live()]
    engine.release()


@pytest.mark.parametrize("content", [b"", b"{", None])
def test_a_damaged_journal_is_not_that_of_a_run_that_has_ended(store, content):
    (run_id,) = sweep(store, 4)
    folder = packed(store, run_id)
    mirror = Mirror(folder)
    journal = bundle.journal(folder, run_id)
    journal.unlink() if content is None else journal.write_bytes(content)

    assert not mirror.is_complete()


def test_runs_whose_journals_are_gone_are_tried_again(tmp_path, two_slots, store, supervise):
    """One journal was removed before a driver looked, one while its run was going."""
    before, meanwhile = sweep(store, 4), sweep(store, 8)
    bundle.journal(packed(store, *before), *before).unlink()
    go = tmp_path / "go"
    supervisor = supervise(two_slots.engine(store, waiting_for(go)))
    wait_for(lambda: store.get(*meanwhile).steps)

    bundle.journal(store.home / "ray-jobs" / f"{meanwhile[0]}-a1", *meanwhile).unlink()
    wait_for(lambda: store.get(*meanwhile).attempt == 2)
    go.touch()
    supervisor.settle(SECONDS)

    assert ["completed"] * 2 == states(store, [*before, *meanwhile])
    reason = "A file of the job in ray-jobs was removed while it ran (events.jsonl)."
    assert [[reason], [reason]] == [lost_reasons(store, run_id) for run_id in (*before, *meanwhile)]


def test_the_slot_of_a_job_that_cannot_be_read_any_more_ends(two_slots, store, supervise):
    (run_id,) = sweep(store, 4)
    first = supervise(two_slots.engine(store, HANG_IN_EACH))
    wait_for(lambda: store.get(run_id).steps)
    first.stop()

    (store.home / "ray-jobs" / f"{run_id}-a1" / bundle.JOB_FILE).write_text("{")
    supervise(two_slots.engine(store, COMPLETE_ALL))

    wait_for(lambda: store.get(run_id).state.ended)
    assert ["failed"] == states(store, [run_id])
    wait_for(lambda: not two_slots.slots())
