"""Machines of Hugging Face, for whoever has a login there: what they cost, and who pays."""

import shutil
import time
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.api.engines import STILL_COSTS
from rankviz.core.runs.events import AttemptPlaced, RunCancelled, RunFailed
from rankviz.core.runs.request import SweepRequest
from rankviz.errors import EngineUnavailableError, InvalidSettingError, LimitError
from rankviz.jobs.bundle import JobTerms, Submission
from rankviz.jobs.hub import LOGIN
from rankviz.store.journal import WantedEngine, read_destination
from rankviz.visitor import Login, Visitor, acting_as
from tests.support.engines.hub_jobs import use
from tests.support.processes.workers import wait_for
from tests.support.runs import questions

COOKIE = Visitor("cookie-1")
ALICE = Visitor("hf:1", "alice", also=COOKIE.id, login=Login("hf_alice"))
BEN = Visitor("hf:2", "ben", also=COOKIE.id, login=Login("hf_ben"))
TERMS = JobTerms(account="a", flavor="f", usd_per_minute=0.1, timeout_seconds=1, sweep_id="s", limit_usd=1.0)
REQUEST = SweepRequest(ranks=(4, 16), seeds=(0,))


def test_the_cost_is_a_range_with_what_it_assumes_and_what_the_limit_means(rented):
    plan = rented.runs.plan(REQUEST, rented.engines.destination("hf-jobs", "l4x1", 5.0))
    offer = plan.offer

    # 0.013333 a minute: 2 to 10 minutes of starting are part of it, and 375 minutes are paid for.
    assert 3 * 0.013333 <= offer.usd.low <= offer.usd.expected <= offer.usd.high
    assert int(60 * 5 / 0.013333 - 600) == offer.timeout_seconds
    assert "1x Nvidia L4 (l4x1): $0.80 per hour today. Cost: $0." in offer.sentences[0]
    assert "ends the job after 6 h 5 min" in offer.sentences[1]
    assert "NVIDIA L4" == plan.expected.device_name


def test_a_machine_that_there_is_not_and_a_limit_that_pays_for_nothing_are_refused(rented):
    with pytest.raises(InvalidSettingError, match="has no flavor 'h900'"):
        rented.runs.plan(REQUEST, rented.engines.destination("hf-jobs", "h900"))
    with pytest.raises(InvalidSettingError, match=r"\$0.05 does not pay for a job"):
        rented.runs.plan(REQUEST, rented.engines.destination("hf-jobs", "l4x1", 0.05))


def test_a_sweep_keeps_its_machine_and_limit_and_no_token(rented):
    sweep_id = rented.runs.start(REQUEST, rented.engines.destination("hf-jobs", "l4x1", 5.0))

    run = rented.runs.sweep(sweep_id).runs[0]
    destination = read_destination(rented.workspace.store.run_dir(run.run_id))
    assert ("hf-jobs", {"flavor": "l4x1", "spend": "5"}) == (destination.engine, destination.options)
    assert 5.0 == rented.engines.limit(rented.runs.sweep(sweep_id))


def test_a_page_without_a_trainer_and_its_limits_do_not_stand_in_the_way_of_who_pays(shared):
    large = SweepRequest(base="meta-llama/Llama-3.1-8B", seeds=(0,), training=questions.sweep(max_steps=400).training)

    with acting_as(ALICE):
        with pytest.raises(LimitError):
            shared.runs.check_sweep_can_start(large)
        offer = shared.runs.plan(large, shared.engines.destination("hf-jobs", "a100-large", 5.0)).offer

    assert offer.usd.low > 0


def test_adapters_that_are_too_large_for_a_shared_page_are_refused_before_anything_is_paid(shared):
    many = SweepRequest(base="meta-llama/Llama-3.1-8B", ranks=(64, 128, 160), seeds=(0, 1), learning_rates=(1e-4, 2e-4))

    words = r"of this sweep take .* at most 10\.00 GB .* lower ranks, .* fewer runs"
    with acting_as(ALICE), pytest.raises(LimitError, match=words):
        shared.runs.plan(many, shared.engines.destination("hf-jobs", "a100-large", 50.0))


def test_a_cancelled_sweep_whose_job_goes_on_says_that_it_still_costs_and_what_to_do(rented, monkeypatch):
    store = rented.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4,)), "", WantedEngine("hf-jobs"))
    (run_id,) = store.run_ids(sweep_id)
    store.append(run_id, AttemptPlaced(time=1.0, attempt=1, engine="hf-jobs", where="l4x1", job="a-job"))
    engine, jobs = rented.workspace.supervisor.by_name["hf-jobs"], {"a": Submission(submitted=True, terms=TERMS)}
    monkeypatch.setattr(engine, "jobs", lambda sweep_id: jobs)
    assert "" == rented.engines.still_costs(rented.runs.sweep(sweep_id))

    store.append(run_id, RunCancelled(time=2.0))
    assert STILL_COSTS == rented.engines.still_costs(rented.runs.sweep(sweep_id))
    monkeypatch.setattr(engine.logins, "of", lambda owner: None)
    assert f"{STILL_COSTS} {engine.logins.sentence('')}" == rented.engines.still_costs(rented.runs.sweep(sweep_id))
    jobs.clear()
    assert "" == rented.engines.still_costs(rented.runs.sweep(sweep_id))
    monkeypatch.undo()
    (engine.place / f"{run_id}-a1").mkdir(parents=True)
    assert "The files of a job cannot be read" in rented.engines.still_costs(rented.runs.sweep(sweep_id))


def test_a_space_whose_disk_was_emptied_has_its_jobs_again_when_their_owner_returns(shared, hub, tmp_path):
    with acting_as(ALICE):
        sweep_id = shared.runs.start(REQUEST, shared.engines.destination("hf-jobs", "l4x1", 5.0))
        wait_for(lambda: "free machine" in shared.runs.sweep(sweep_id).runs[0].waits)
        run_ids = [run.run_id for run in shared.runs.sweep(sweep_id).runs]
    shared.workspace.supervisor.stop()
    for name in ("runs", "hf-jobs"):
        shutil.rmtree(shared.workspace.home / name)
    again = Api(home=shared.workspace.home, shared=True)
    use(again, hub)

    with acting_as(ALICE):
        assert run_ids == list(again.engines.bring_back())
        assert () == again.engines.bring_back()
        assert run_ids == [run.run_id for run in again.runs.sweep(sweep_id).runs]
    with acting_as(BEN):
        assert not again.engines.bring_back()
    again.workspace.supervisor.stop()
    assert 1 == len(hub.jobs)


ONE_RUN = SweepRequest(ranks=(4,), seeds=(0,))


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
            shared.runs.start(ONE_RUN, shared.engines.destination("hf-jobs", "l4x1", 5.0))


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
        sweep_id = shared.runs.start(ONE_RUN, shared.engines.destination("hf-jobs", "l4x1", 5.0))
        wait_for(lambda: hub.jobs)
        second = shared.runs.start(ONE_RUN, shared.engines.destination("hf-jobs", "l4x1", 5.0))
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
