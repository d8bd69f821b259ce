"""What is written down of jobs and cannot be read: it costs its own runs, and no others."""

import json

import pytest

from rankviz.engines.hf_jobs.papers import RENTED
from rankviz.engines.hf_jobs.spending import SPENT
from tests.support.hub_jobs import sweep
from tests.support.workers import HANG_IN_EACH, states, wait_for


@pytest.mark.parametrize("file", [RENTED, "job.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"account": 1}', "[" * 5000, None])
def test_a_job_that_cannot_be_read_ends_its_runs_with_where_to_look_and_no_others(supervise, store, hub, file, content):
    lost = sweep(store, 2, 4, flavor="l4x1", spend="2")
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(lost[0]).steps)
    first.stop()
    path = store.home / "hf-jobs" / f"{lost[0]}-a1" / file
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "timeout_seconds": -1, "attempts": 3}) if content is None else content)
    other = sweep(store, 8)

    supervisor = supervise()
    supervisor.settle()

    assert ["failed", "failed", "completed"] == states(store, [*lost, *other])
    for run_id in lost:
        assert f"({lost[0]}-a1/{file}). Look at https://huggingface.co/settings/jobs" in store.get(run_id).error
    first_job, _ = hub.jobs.values()
    wait_for(lambda: first_job.stage == "CANCELED")
    bill = supervisor.engines[0].bill(store.get(lost[0]).request.sweep_id)
    assert (bill.jobs, bill.usd, bill.is_whole) != (1, 0.0, True)
    wait_for(lambda: supervisor.engines[0].papers.missing() == {})
    assert supervisor.engines[0].bill(store.get(lost[0]).request.sweep_id).most_usd > 0


def test_where_what_was_spent_cannot_be_read_runs_wait_and_say_so(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    file = store.home / "hf-jobs" / SPENT
    file.parent.mkdir(parents=True)
    file.write_text("{")

    supervisor = supervise()
    wait_for(lambda: "What jobs have cost cannot be read" in store.get(run_id).waits)
    assert {} == hub.jobs
    file.unlink()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])
