"""A job of which no run is wanted any more is ended, whatever has ended its runs."""

from dataclasses import replace

import pytest
from rankviz.jobs.bounds import Bounds

from rankviz.jobs.supervisor import ending
from rankviz.settings import Limits
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import each_waits_for, states, wait_for, worker

STEPS = "[step(run_id, number) for number in range(1, 20 if run_id == run_ids[0] else 2)]"
SHORT = replace(Bounds.of(Limits()), journal_lines=10)
WRITES_TOO_MUCH = worker("begin(run_ids[0])\nfor number in range(1, 30): step(run_ids[0], number)\ntime.sleep(600)")
HANGS_WHEN_DONE = worker("for run_id in run_ids:\n    begin(run_id) and complete(run_id)\ntime.sleep(600)")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(ending, "DONE_SECONDS", 0.0)


def test_a_job_whose_run_has_failed_here_for_its_long_journal_is_ended(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(WRITES_TOO_MUCH, bounds=SHORT)

    wait_for(lambda: hub.jobs and only_job(hub).stage == "CANCELED", 120)

    supervisor.settle()
    assert ["failed"] == states(store, [run_id])
    assert "longer than this server takes" in store.get(run_id).error


def test_a_job_goes_on_for_its_other_runs_when_one_has_failed_here(supervise, store, hub, tmp_path):
    long, other = sweep(store, 2, 4)
    held = each_waits_for(tmp_path)
    lengthy = held[-1].replace("step(run_id)\n", f"{STEPS}\n")
    supervisor = supervise((*held[:-1], lengthy), bounds=SHORT)
    wait_for(lambda: store.get(long).state.ended)

    for rank in ("r2", "r4"):
        (tmp_path / rank).touch()
    supervisor.settle()

    assert ["failed", "completed"] == states(store, [long, other])
    assert (1, 1) == (store.get(other).attempt, len(hub.jobs))


def test_a_job_that_hangs_after_its_runs_is_ended(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    supervisor = supervise(HANGS_WHEN_DONE)

    wait_for(lambda: hub.jobs and only_job(hub).stage == "CANCELED", 120)

    supervisor.settle()
    assert ["completed"] * 2 == states(store, run_ids)
