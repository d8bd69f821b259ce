"""Who pays on a shared page: the login that a request brings, and nobody because of a browser's cookie."""

import time
from dataclasses import replace

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.core.runs.request import SweepRequest
from rankviz.errors import EngineUnavailableError
from rankviz.jobs.hub import LOGIN
from rankviz.store.ownership import WantedEngine, read_destination
from rankviz.visitor import Login, Visitor, acting_as
from tests.support.processes.workers import wait_for
from tests.support.runs import questions

COOKIE = Visitor("cookie-1")
ALICE = Visitor("hf:1", "alice", also=COOKIE.id, login=Login("hf_alice"))
BEN = Visitor("hf:2", "ben", also=COOKIE.id, login=Login("hf_ben"))
REQUEST = SweepRequest(ranks=(4,), seeds=(0,))


def asks_again(visitor: Visitor) -> Visitor:
    """In another request, with the same login."""
    return replace(visitor, login=Login(visitor.login.token))


def logins_of(api):
    return api.workspace.supervisor.by_name["hf-jobs"].logins


@pytest.mark.parametrize("visitor", [COOKIE, replace(ALICE, login=None)])
def test_whoever_has_a_browser_s_cookie_rents_nothing_with_the_login_that_was_in_it(shared, hub, visitor):
    with acting_as(ALICE):
        assert "" == shared.engines.why_not("hf-jobs")

    with acting_as(visitor):
        assert shared.engines.why_not("hf-jobs")
        assert "hf-jobs" not in [place.name for place in shared.engines.offered()]
        with pytest.raises(EngineUnavailableError):
            shared.runs.start(REQUEST, shared.engines.destination("hf-jobs", "l4x1", 5.0))


def test_what_a_cookie_has_queued_is_not_paid_by_who_logs_in_with_its_browser(shared, hub):
    store = shared.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4,)), COOKIE.id, WantedEngine("hf-jobs", {"flavor": "l4x1"}))
    (run_id,) = store.run_ids(sweep_id)
    with acting_as(ALICE):
        assert "" == shared.engines.why_not("hf-jobs")
    shared.workspace.work_queue()

    wait_for(lambda: store.get(run_id).waits == LOGIN)
    assert {} == hub.jobs


def test_a_sweep_of_a_cookie_that_goes_on_there_is_paid_by_whoever_asked_for_that(shared, hub):
    store = shared.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4,)), COOKIE.id, WantedEngine("local"))
    (run_id,) = store.run_ids(sweep_id)
    store.begin(run_id)
    store.append(run_id, RunFailed(time=time.time(), error="out of memory"))

    with acting_as(BEN):
        assert "" == shared.engines.why_not("hf-jobs")
    with acting_as(ALICE):
        shared.runs.resume(sweep_id, "hf-jobs", "l4x1", 2.0)
    with acting_as(BEN):
        added = shared.runs.add(sweep_id, 8)

    wait_for(lambda: hub.jobs)
    assert ["alice"] == [job.namespace for job in hub.jobs.values()]
    assert "hf:2" == read_destination(store.run_dir(added)).options["payer"]


def test_after_a_logout_nothing_that_waits_is_started(shared, hub):
    shared.workspace.supervisor.by_name["hf-jobs"].at_once = 1
    with acting_as(ALICE):
        sweep_id = shared.runs.start(REQUEST, shared.engines.destination("hf-jobs", "l4x1", 5.0))
        wait_for(lambda: hub.jobs)
        second = shared.runs.start(REQUEST, shared.engines.destination("hf-jobs", "l4x1", 5.0))
        store = shared.workspace.store

    shared.engines.log_out(ALICE.id)

    assert logins_of(shared).of(ALICE.id) is logins_of(shared).of(COOKIE.id) is None
    (waits,) = store.run_ids(second)
    wait_for(lambda: store.get(waits).waits == LOGIN)
    assert 1 == len(hub.jobs)
    with acting_as(asks_again(ALICE)):
        shared.runs.cancel(second)
        assert "" == shared.engines.why_not("hf-jobs")
        wait_for(lambda: "free machine" in shared.runs.sweep(sweep_id).runs[0].waits)
        shared.runs.cancel(sweep_id)


def test_whoever_goes_on_with_a_sweep_does_so_within_its_one_limit(shared, hub):
    hub.holds.set()
    store, engine = shared.workspace.store, shared.workspace.supervisor.by_name["hf-jobs"]
    sweep_id = store.create(questions.sweep(ranks=(4,)), COOKIE.id, WantedEngine("local"))
    (run_id,) = store.run_ids(sweep_id)
    store.begin(run_id)
    store.append(run_id, RunFailed(time=time.time(), error="out of memory"))
    engine.ledger.note(sweep_id, costs={"an-earlier-job": (0.5, 0.5)})

    with acting_as(ALICE):
        assert 0.5 == shared.runs.plan_resume(sweep_id, "hf-jobs", "l4x1", 3.0).offer.bill.most_usd
        shared.runs.resume(sweep_id, "hf-jobs", "l4x1", 3.0)
        wait_for(lambda: "free machine" in store.get(run_id).waits)
    with acting_as(BEN):
        assert 3.0 == shared.runs.plan_added(sweep_id, 8).offer.limit_usd
        assert 3.0 == shared.engines.spent(shared.runs.sweep(sweep_id)).limit_usd

    assert [int(60 * 2.5 / 0.013333 - 600)] == [job.spec["timeoutSeconds"] for job in hub.jobs.values()]
