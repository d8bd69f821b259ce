"""Where Hugging Face does not start a job now, nothing was started: the same attempt is asked for again."""

import json
import threading

import pytest
from rankviz.jobs.hf_jobs.following import watch as watch_module

from rankviz.errors import EngineUnavailableError
from rankviz.jobs.prices import RENTED, Papers
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for

START, LIST = "POST /api/jobs/alice", "GET /api/jobs/alice"
COMMIT = "POST /api/datasets/alice/rankviz-jobs/commit"


@pytest.mark.parametrize("code", [409, 429])
def test_a_start_that_is_declined_is_asked_for_again_and_sent_once(supervise, store, hub, code):
    (run_id,) = sweep(store, 4)
    hub.refuses[START] = (code, "not now")
    supervisor = supervise()
    wait_for(lambda: hub.calls.count(START) >= 2 and "not now" in store.get(run_id).waits)

    hub.refuses.clear()
    supervisor.settle()

    assert (["completed"], 1, 1) == (states(store, [run_id]), store.get(run_id).attempt, len(hub.jobs))
    assert {} == supervisor.engines[0].papers.missing()
    assert 1 == sum(call.startswith(COMMIT) for call in hub.calls[: hub.calls.index(START) + 4])


def test_the_longer_a_start_is_declined_the_more_rarely_it_is_asked_for(supervise, store, hub, monkeypatch):
    pauses, wait = [], threading.Event.wait
    monkeypatch.setattr(watch_module, "DECLINED_SECONDS", 0.5)

    def noted(event, seconds=None):
        if threading.current_thread().name.startswith("rankviz-job-"):
            pauses.append(seconds)
        return wait(event, seconds)

    monkeypatch.setattr(threading.Event, "wait", noted)
    sweep(store, 4)
    hub.refuses[START] = (429, "not now")
    supervise()

    wait_for(lambda: len(pauses) >= 5)

    assert [0.1, 0.2, 0.4, 0.5, 0.5] == pauses[:5]


def test_after_a_login_that_is_refused_the_next_one_asks_at_once(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4)
    hub.refuses[START] = (401, "Invalid credentials")
    supervisor = supervise()
    wait_for(lambda: logins.of("ann") is None)

    hub.refuses.clear()
    logins.give("ann", "hf_alice")
    supervisor.settle()

    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)


def test_a_run_whose_start_is_declined_can_be_cancelled(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.refuses[START] = (429, "not now")
    supervisor = supervise()
    wait_for(lambda: START in hub.calls)

    supervisor.cancel(run_id)

    assert (["cancelled"], {}) == (states(store, [run_id]), hub.jobs)


def test_a_job_that_could_not_be_written_down_was_not_asked_for(supervise, store, hub, monkeypatch):
    monkeypatch.setattr(watch_module, "PAUSE_SECONDS", 0.1)
    (run_id,) = sweep(store, 4)
    write, is_full = Papers.write, [True]

    def full(papers, folder, rented):
        if rented.is_asked and is_full:
            raise OSError(28, "No space left on device")
        write(papers, folder, rented)

    monkeypatch.setattr(Papers, "write", full)
    supervisor = supervise()
    wait_for(lambda: "OSError" in store.get(run_id).waits)
    assert START not in hub.calls
    assert 0.0 == supervisor.engines[0].bill(store.get(run_id).request.sweep_id).most_usd

    is_full.clear()
    supervisor.settle()

    assert (["completed"], 1) == (states(store, [run_id]), len(hub.jobs))


def test_where_the_home_has_no_readable_id_nothing_is_asked_for(supervise, store, hub, monkeypatch):
    monkeypatch.setattr(Papers, "labels", lambda *_: b"\xff".decode())
    (run_id,) = sweep(store, 4)
    supervisor = supervise()
    wait_for(lambda: "UnicodeDecodeError" in store.get(run_id).waits)

    supervisor.cancel(run_id)

    assert (["cancelled"], {}) == (states(store, [run_id]), supervisor.engines[0].papers.missing())


@pytest.fixture
def unwritten(supervise, store):
    """(a run whose job trains, the file that knows nothing of that job any more)."""
    (run_id,) = sweep(store, 4, spend="2")
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    file = store.home / "hf-jobs" / f"{run_id}-a1" / RENTED
    rented = json.loads(file.read_text())
    file.write_text(json.dumps({**rented, "is_asked": False, "job_id": "", "billed_seconds": None, "billed_at": 0.0}))
    return run_id, file


def test_a_job_is_looked_for_before_it_is_asked_for_where_what_was_written_down_of_it_was_lost(
    supervise, unwritten, hub
):
    run_id, file = unwritten

    supervisor = supervise(HANG_IN_EACH)

    wait_for(lambda: json.loads(file.read_text())["job_id"] == only_job(hub).id)
    supervisor.cancel(run_id)
    assert ("CANCELED", 1) == (only_job(hub).stage, hub.calls.count(START))


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_a_job_that_is_found_as_its_run_is_cancelled_is_ended(supervise, store, unwritten, hub, is_forgotten):
    run_id, file = unwritten
    hub.hangs.add(LIST)
    before = hub.calls.count(LIST)
    supervisor = supervise(HANG_IN_EACH)
    engine = supervisor.engines[0]
    forget = engine.forget
    wait_for(lambda: hub.calls.count(LIST) > before)

    def found_before(live):
        if not is_forgotten:
            hub.hangs.clear()
            wait_for(lambda: json.loads(file.read_text())["job_id"])
        forget(live)

    engine.forget = found_before
    supervisor.cancel(run_id)
    hub.hangs.clear()

    wait_for(lambda: only_job(hub).stage == "CANCELED" and not engine.papers.missing())


def test_what_an_earlier_login_is_told_late_changes_nothing_of_a_job_that_runs(supervise, store, hub, logins):
    hub.tokens["hf_weak"] = "alice"
    logins.forget("ann")
    logins.give("ann", "hf_weak")
    (run_id,) = sweep(store, 4)
    hub.hangs.add("POST /api/repos/create")
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: "POST /api/repos/create" in hub.calls)
    stale = next(iter(supervisor.engines[0]._watches.values()))
    logins.forget("ann")
    logins.give("ann", "hf_alice")
    wait_for(lambda: hub.calls.count("POST /api/repos/create") == 2)
    del hub.tokens["hf_weak"]

    hub.hangs.clear()

    wait_for(lambda: store.get(run_id).steps)
    stale.join()
    stale.renting.note(refusal="It is not allowed.")
    stale.renting.note(is_ending=True)
    rented = supervisor.engines[0].papers.read(supervisor.engines[0].papers.folder(f"{run_id}@1"))
    assert ("", False, only_job(hub).id) == (rented.refusal, rented.is_ending, rented.job_id)
    with pytest.raises(EngineUnavailableError):
        stale.note_ending()
    supervisor.cancel(run_id)
