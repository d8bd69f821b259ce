"""Jobs that Hugging Face did not know for long, and that run after all: ended, and on the bill."""

import json

from rankviz.jobs.hf_jobs.answers import Seen
from rankviz.jobs.hf_jobs.missing import Missing

from rankviz.jobs.prices import RENTED, Flavor, Papers, Rented, Spending
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for

TERMS = {"flavor": "l4x1", "usd_per_minute": 0.01, "timeout_seconds": 600, "sweep_id": "s"}


class Hub:
    """Has one job, which it ends when it is asked to; `waits` is called before each answer."""

    def __init__(self, name, waits=lambda: None):
        self.name, self.stage, self._waits = name, "RUNNING", waits

    def find(self, labels):
        self._waits()
        return [Seen("1", self.stage, seconds=61.0, flavor="l4x1")]

    def cancel(self, job_id):
        self.stage = "CANCELED"

    def flavors(self):
        return [Flavor(name="l4x1", label="L4", usd_per_minute=0.02)]


def missing(home, hubs):
    papers = Papers(home)
    spending = Spending(papers.place)
    return papers, spending, Missing(papers, hubs.get, spending, 0.02, lambda name: ("ann", "s", "5"))


def test_nobody_waits_for_the_account_of_another(tmp_path):
    hung = []
    hubs = {"ann": Hub("alice", lambda: hung.append(1) or wait_for(lambda: not hung)), "ben": Hub("ben")}
    papers, _, looking = missing(tmp_path, hubs)
    for owner, account in (("ann", "alice"), ("ben", "ben")):
        papers.miss(f"{owner}-a1", Rented(owner=owner, account=account, **TERMS))

    looking.look()

    wait_for(lambda: hubs["ben"].stage == "CANCELED" and len(papers.missing()) == 1)
    assert "RUNNING" == hubs["ann"].stage
    hung.clear()
    looking.stop()


def test_a_job_whose_folder_is_still_here_is_left_to_who_follows_it(tmp_path):
    hub = Hub("alice")
    papers, spending, looking = missing(tmp_path, {"ann": hub})
    rented = Rented(owner="ann", account="alice", **TERMS)
    papers.miss("r4-a1", rented)
    (papers.place / "r4-a1").mkdir()
    papers.write(papers.place / "r4-a1", rented)

    looking._look_for(hub, *next(iter(papers.missing().items())))
    assert "RUNNING" == hub.stage
    papers.remove(papers.place / "r4-a1")
    looking.look()

    wait_for(lambda: papers.missing() == {})
    assert ("CANCELED", 0.02) == (hub.stage, spending.bill("s", {}).usd)
    looking.stop()


def test_a_job_that_is_listed_nowhere_is_looked_for_by_its_id(tmp_path):
    hub = Hub("alice")
    papers, spending, looking = missing(tmp_path, {"ann": hub})
    labels = papers.labels(papers.place / "r4-a1")
    hub.find, hub.job = lambda labels: [], lambda job_id: Seen(job_id, hub.stage, seconds=61.0, labels=labels)
    papers.miss("r4-a1", Rented(owner="ann", account="alice", job_id="1", **TERMS))

    looking.look()

    wait_for(lambda: papers.missing() == {})
    assert ("CANCELED", 0.02) == (hub.stage, spending.bill("s", {}).usd)


def test_a_job_whose_papers_were_damaged_costs_what_its_machine_costs_once_it_is_found(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="2")
    sweep_id = store.get(run_id).request.sweep_id
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    (store.home / "hf-jobs" / f"{run_id}-a1" / RENTED).write_text(json.dumps({}))

    engine = supervise().engines[0]

    wait_for(lambda: only_job(hub).stage == "CANCELED" and not engine.papers.missing())
    assert (1, 0.013333, True, 0.013333) == engine.bill(sweep_id)
    store.requeue(run_id)
    wait_for(lambda: states(store, [run_id]) == ["completed"])


def test_a_job_that_was_unknown_for_long_and_runs_after_all_is_ended_and_on_the_bill(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1")
    sweep_id = store.get(run_id).request.sweep_id
    hub.holds.set()
    engine = supervise(HANG_IN_EACH, look_seconds=0.5).engines[0]
    wait_for(lambda: "free machine" in store.get(run_id).waits and engine.bill(sweep_id).is_whole)
    first = only_job(hub)
    hub.refuses[f"GET /api/jobs/alice/{first.id}"] = (404, "Not found")
    hub.lists_nothing = True
    wait_for(lambda: len(hub.jobs) == 2)

    hub.refuses.clear()
    hub.holds.clear()
    hub.lists_nothing = False

    wait_for(lambda: first.stage == "CANCELED")
    wait_for(lambda: store.get(run_id).steps and not engine.papers.missing())
    assert (2, 2) == (store.get(run_id).attempt, engine.bill(sweep_id).jobs)
    assert 0.013333 <= engine.spending.jobs(sweep_id)[f"{run_id}-a1"].least
