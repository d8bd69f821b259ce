"""A job whose papers are damaged or have gone may run: it counts with all that it may cost until it is found and
ended. One whose papers cannot be read for now goes on, and costs no other job anything."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankviz.errors import RunUnreadError
from rankviz.jobs.hf_jobs import ONE_AT_A_TIME, missing
from rankviz.jobs.prices import RENTED, purse
from rankviz.store.ownership import read_destination
from tests.support.engines.hub_jobs import sweep
from tests.support.processes.failing_reads import failing_reads
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for, waiting_for


@pytest.mark.parametrize("file", [RENTED, "job.json"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_until_such_a_job_is_found_its_sweep_starts_no_other(supervise, store, hub, file, is_gone):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="5")
    sweep_id = store.get(run_id).request.sweep_id
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    path = store.home / "hf-jobs" / f"{run_id}-a1" / file
    path.write_text("")
    if is_gone:
        path.unlink()
        (store.home / "hf-jobs" / f"limit-{purse(sweep_id, 'ann')}").unlink()
    hub.hangs.add("GET /api/jobs/alice")

    engine = supervise(HANG_IN_EACH).engines[0]
    wait_for(lambda: states(store, [run_id]) == ["failed"] and engine.papers.missing())
    bill = engine.bill(sweep_id)
    store.requeue(run_id)
    wait_for(lambda: states(store, [run_id]) == ["failed"])

    assert (1, 4.99 <= bill.most_usd <= 5.01) == (len(hub.jobs), True)
    hub.hangs.clear()
    (job,) = hub.jobs.values()
    wait_for(lambda: job.stage == "CANCELED" and engine.bill(sweep_id)[:3] == (1, 0.013333, True))


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_missing_job_whose_file_is_damaged_is_still_looked_for(supervise, store, hub, content):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="5")
    sweep_id = store.get(run_id).request.sweep_id
    hub.loses_answers, hub.lists_nothing = 1, True
    first = supervise(HANG_IN_EACH, look_seconds=0.3)
    wait_for(lambda: len(hub.jobs) == 2 and store.get(run_id).steps)
    first.stop()
    (file,) = first.engines[0].papers.missing()
    file.write_text(content)
    hub.lists_nothing = False

    engine = supervise(HANG_IN_EACH).engines[0]

    lost, goes_on = hub.jobs.values()
    wait_for(lambda: lost.stage == "CANCELED" and not engine.papers.missing())
    assert ("RUNNING", 2) == (goes_on.stage, engine.bill(sweep_id).jobs)
    assert 0.013333 == engine.spending.jobs(sweep_id)[f"{run_id}-a1"].most


@pytest.mark.parametrize("file", [RENTED, "job.json"])
def test_runs_of_a_job_that_cannot_be_read_now_wait_and_others_go_on(supervise, store, hub, tmp_path, file):
    unread = sweep(store, 2, 4, flavor="l4x1", spend="5")
    first = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(unread[0]).steps)
    first.stop()

    with failing_reads(store.home / "hf-jobs" / f"{unread[0]}-a1", names=(file,)):
        supervisor = supervise()
        (other,) = sweep(store, 8)
        wait_for(lambda: states(store, [other]) == ["completed"])

        assert (["running", "queued"], {}) == (states(store, unread), supervisor.away)
        for run_id in unread:
            assert f"({unread[0]}-a1/{file}: Input/output error). Its runs wait" in store.get(run_id).waits
        assert 2 == len(hub.jobs)
    (tmp_path / "go").touch()
    supervisor.settle()

    assert (["completed"] * 3, 2) == (states(store, [*unread, other]), len(hub.jobs))


@pytest.mark.parametrize("files", [(RENTED,), ("job.json",), (RENTED, "request.json")])
def test_a_sweep_with_a_job_that_cannot_be_read_now_starts_no_other(supervise, store, hub, files):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="5")
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    beside = replace(store.get(run_id).request, run_id=f"{run_id}-again", learning_rate=1e-3)

    with failing_reads(store.home / "hf-jobs" / f"{run_id}-a1", names=files):
        store.add(beside, store.ownership(run_id), read_destination(store.run_dir(run_id)))
        supervise(HANG_IN_EACH)
        wait_for(lambda: ONE_AT_A_TIME in store.get(beside.run_id).waits)

    assert 1 == len(hub.jobs)


def test_a_job_whose_sweep_nobody_can_tell_holds_up_no_other(monkeypatch):
    def unread(*_):
        raise RunUnreadError("run", "Input/output error")

    def damaged(_):
        raise OSError("Input/output error")

    monkeypatch.setattr(missing, "whose", unread)
    papers = SimpleNamespace(all=lambda: [Path("hf-jobs/run-a1")], read=damaged, sweep_of=lambda _: "")

    assert [""] == list(missing.sweeps(papers, None))


@pytest.mark.parametrize("file", [RENTED, "job.json"])
def test_a_job_that_cannot_be_read_now_is_ended_where_its_runs_are_cancelled(supervise, store, hub, file):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="5")
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    (job,) = hub.jobs.values()

    with failing_reads(store.home / "hf-jobs" / f"{run_id}-a1", names=(file,)):
        supervisor = supervise(HANG_IN_EACH)
        wait_for(lambda: store.get(run_id).waits)
        supervisor.cancel(run_id)

    assert (["cancelled"], {}) == (states(store, [run_id]), supervisor.away)
    wait_for(lambda: job.stage == "CANCELED" and not supervisor.engines[0].papers.missing())
    assert 0 < supervisor.engines[0].bill(store.get(run_id).request.sweep_id).most_usd < 1


def test_a_job_that_cannot_be_read_any_more_is_forgotten_once_it_is_cancelled(supervise, store, hub, monkeypatch):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="5")
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    (job,), engine = hub.jobs.values(), supervisor.engines[0]
    forget, troubles = engine.forget, []

    def forgets(live):
        try:
            forget(live)
        except OSError as error:
            troubles.append(error)
            raise

    monkeypatch.setattr(engine, "forget", forgets)
    with failing_reads(store.home / "hf-jobs" / f"{run_id}-a1", names=("job.json",)):
        wait_for(lambda: store.get(run_id).waits)
        supervisor.cancel(run_id)

    assert (["cancelled"], {}, []) == (states(store, [run_id]), supervisor.away, troubles)
    wait_for(lambda: job.stage == "CANCELED" and not engine.papers.missing())
