"""A job whose papers are damaged or have gone may run: it counts with all that it may cost until it is found and
ended."""

import pytest

from rankviz.engines.hf_jobs.papers import RENTED
from rankviz.engines.hf_jobs.spending import purse
from tests.support.engines.hub_jobs import sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for


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
