"""How a job comes to Hugging Face: asked for once, looked for where the answer was lost, in nobody's way."""

import math
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from rankviz.jobs.hf_jobs.offers import ASKED

from rankviz.core.runs.events import Attempt
from rankviz.errors import EngineUnavailableError
from rankviz.jobs.engine import Job
from rankviz.jobs.hf_jobs import NO_PLACE, NOT_DESCRIBED_YET, SCHEDULED, SENT, TOO_MANY_MISSING, HfJobs
from rankviz.jobs.hf_jobs import hub as hub_calls
from rankviz.jobs.hub import NO_CREDIT, Logins
from rankviz.jobs.prices import longest_seconds
from rankviz.store import RunStore
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for

COMMIT, START = "POST /api/datasets/alice/rankviz-jobs/commit", "POST /api/jobs/alice"
LIST = "GET /api/jobs/alice"


def test_a_job_whose_answer_was_lost_and_that_is_listed_late_is_not_started_twice(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.loses_answers, hub.lists_nothing = 1, True
    supervisor = supervise()

    wait_for(lambda: "RankViz looks for it" in store.get(run_id).waits and hub.calls.count(LIST) > 5)
    assert 1 == len(hub.jobs)
    hub.lists_nothing = False
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])
    assert (1, 1) == (store.get(run_id).attempt, len(hub.jobs))


def test_jobs_of_the_account_that_are_not_rankviz_s_are_left_alone_also_where_hugging_face_lists_them(
    supervise, store, hub
):
    hub.lists_all = True
    other = {"dockerImage": "i", "command": ["sleep", "600"], "flavor": "a100-large", "volumes": []}
    others = [
        hub.start("alice", {**other, "labels": labels}) for labels in (None, {}, {"app": "rankviz"}, {"job": "1"})
    ]
    wait_for(lambda: all(job.stage == "RUNNING" for job in others))
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)

    supervisor.cancel(run_id)

    assert ["RUNNING"] * 4 + ["CANCELED"] == [job.stage for job in hub.jobs.values()]


def test_a_job_whose_fate_is_not_known_counts_with_its_whole_time_limit(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="2")
    hub.loses_answers, hub.lists_nothing = 1, True
    engine = supervise().engines[0]

    wait_for(lambda: "RankViz looks for it" in store.get(run_id).waits)
    bill = engine.bill(store.get(run_id).request.sweep_id)

    assert (1, 0.0, False) == bill[:3]
    longest = longest_seconds(only_job(hub).spec["timeoutSeconds"])
    assert pytest.approx(longest / 60 * 0.013333, abs=0.013333) == bill.most_usd


def test_a_job_that_shows_up_after_its_runs_went_to_another_is_ended_and_is_on_the_bill(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1")
    sweep_id = store.get(run_id).request.sweep_id
    hub.loses_answers, hub.lists_nothing = 1, True
    supervisor = supervise(HANG_IN_EACH, look_seconds=0.5)
    wait_for(lambda: len(hub.jobs) == 2 and store.get(run_id).steps)
    first, second = hub.jobs.values()
    wait_for(lambda: ("RUNNING", "RUNNING") == (first.stage, second.stage))

    hub.lists_nothing = False

    wait_for(lambda: first.stage == "CANCELED")
    wait_for(lambda: supervisor.engines[0].bill(sweep_id).jobs == 2)
    assert ("RUNNING", 2) == (second.stage, store.get(run_id).attempt)
    supervisor.cancel(run_id)


def test_answers_that_are_lost_again_and_again_start_two_jobs_at_most(supervise, store, hub):
    (run_id,) = sweep(store, 4, spend="2")
    hub.loses_answers, hub.lists_nothing = math.inf, True

    supervise(HANG_IN_EACH, look_seconds=0.3).settle()

    assert ["failed"] == states(store, [run_id])
    assert TOO_MANY_MISSING.rstrip(".") in store.get(run_id).error
    assert 2 == len(hub.jobs)


def test_a_page_that_stopped_between_asking_and_the_answer_does_not_ask_again(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.hangs.add(START)
    first = supervise()
    wait_for(lambda: START in hub.calls)
    first.stop()
    hub.hangs.clear()

    supervise().settle()

    assert ["completed"] == states(store, [run_id])
    assert (1, 1) == (hub.calls.count(START), len(hub.jobs))


@pytest.mark.parametrize("call", [COMMIT, START, "GET /api/jobs/hardware", "GET /api/whoami"])
def test_while_hugging_face_does_not_answer_a_start_runs_elsewhere_start_and_are_cancelled(supervise, store, hub, call):
    (here,) = sweep(store, 2, owner="ben", engine="local")
    (there,) = sweep(store, 4)
    hub.hangs.add(call)
    supervisor = supervise()
    wait_for(lambda: any(each.startswith(call) for each in hub.calls) and store.get(here).steps)

    supervisor.cancel(here)

    assert ["cancelled", "queued"] == states(store, [here, there])
    assert hub.hangs
    hub.hangs.clear()
    supervisor.settle()
    assert ["completed"] == states(store, [there])


def test_a_run_that_is_cancelled_while_it_is_sent_starts_no_job(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.hangs.add(COMMIT)
    supervisor = supervise()
    wait_for(lambda: store.get(run_id).waits == SENT and any(each.startswith(COMMIT) for each in hub.calls))

    supervisor.cancel(run_id)

    assert ["cancelled"] == states(store, [run_id])
    hub.hangs.clear()
    wait_for(lambda: sum(each.startswith(COMMIT) for each in hub.calls) == 2)  # it was sent, and removed again
    assert {} == hub.jobs
    assert START not in hub.calls


def test_what_a_job_waits_for_is_said_once_hugging_face_has_said_it(supervise, store, hub):
    (run_id,) = sweep(store, 4)
    hub.holds.set()
    hub.hangs.add(f"GET /api/jobs/alice/{1:024x}")
    supervisor = supervise()
    wait_for(lambda: (place := store.get(run_id).place) and place.job)

    assert NOT_DESCRIBED_YET == store.get(run_id).waits
    hub.hangs.clear()
    wait_for(lambda: store.get(run_id).waits == SCHEDULED)
    supervisor.cancel(run_id)


def test_jobs_of_somebody_who_has_left_keep_no_other_from_starting(supervise, store, hub, logins):
    logins.give("ben", "hf_ben")
    first, second = (*sweep(store, 2), *sweep(store, 4))
    supervise(HANG_IN_EACH, at_once=2)
    wait_for(lambda: store.get(first).steps and store.get(second).steps)

    logins.forget("ann")
    (theirs,) = sweep(store, 8, owner="ben")

    wait_for(lambda: store.get(theirs).steps)
    assert ["alice", "alice", "ben"] == [job.namespace for job in hub.jobs.values()]


def test_a_run_without_a_place_says_so_and_starts_when_a_job_has_ended(supervise, store, hub, logins):
    logins.give("ben", "hf_ben")
    (first,) = sweep(store, 2)
    supervisor = supervise(HANG_IN_EACH, at_once=1)
    wait_for(lambda: store.get(first).steps)

    (theirs,) = sweep(store, 8, owner="ben")
    wait_for(lambda: store.get(theirs).waits == NO_PLACE.format(1))
    assert 1 == len(hub.jobs)
    supervisor.cancel(first)

    wait_for(lambda: store.get(theirs).steps)
    assert 1 == store.get(theirs).attempt


def test_a_job_that_was_deleted_while_nobody_looked_costs_what_was_known_or_more(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="2")
    sweep_id = store.get(run_id).request.sweep_id
    first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)
    first.stop()
    hub.end(only_job(hub), "CANCELED")
    hub.jobs = {}

    papers = first.engines[0].papers
    folder = papers.folder(f"{run_id}@1")
    papers.write(folder, replace(papers.read(folder), billed_at=time.time() - 600))
    second = supervise(look_seconds=0.5)
    second.settle()

    cost = second.engines[0].spending.jobs(sweep_id)[folder.name]
    assert (pytest.approx(0.013333), pytest.approx(11 * 0.013333)) == cost
    assert ["completed"] == states(store, [run_id])


def test_what_a_job_costs_is_known_to_a_process_that_does_not_follow_it(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="2")
    supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)

    other = HfJobs(RunStore(store.home), Logins(hub.url, of_machine=False))

    bill = other.bill(store.get(run_id).request.sweep_id)
    assert (1, pytest.approx(0.013333)) == bill[:2]
    assert pytest.approx(0.013333, abs=0.013333) == bill.most_usd


def test_an_answer_that_never_comes_counts_as_lost(supervise, store, hub, monkeypatch):
    monkeypatch.setattr(hub_calls, "CALL_SECONDS", 0.5)
    (run_id,) = sweep(store, 4)
    hub.hangs.add(START)
    hub.lists_nothing = True
    supervisor = supervise()

    wait_for(lambda: "the answer was lost" in store.get(run_id).waits)

    hub.hangs.clear()
    hub.lists_nothing = False
    supervisor.settle()
    assert ["completed"] == states(store, [run_id])
    assert 1 == len(hub.jobs)


def started(engine, job):
    with suppress(EngineUnavailableError):
        return engine.start(job)


def test_a_refusal_is_known_after_a_restart_and_is_final(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4)
    hub.refuses["POST /api/jobs/"] = (402, "Payment required")
    engine = HfJobs(store, logins, poll_seconds=0.1)
    job = Job(attempts=(Attempt(run_id, 1),), owner="ann", options={"flavor": "l4x1"})
    with pytest.raises(EngineUnavailableError, match=ASKED):
        engine.start(job)
    wait_for(lambda: started(engine, job))
    wait_for(lambda: engine.live()[0].end)
    engine.release()
    hub.refuses.clear()
    logins.forget("ann")

    supervise().settle()

    assert (NO_CREDIT, 1) == (store.get(run_id).error, store.get(run_id).attempt)
    assert {} == hub.jobs


def test_a_job_of_which_no_time_is_known_is_on_the_bill_as_not_known(supervise, store, hub):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="2")
    hub.gives_no_times = True
    supervisor = supervise()

    supervisor.settle()

    bill = supervisor.engines[0].bill(store.get(run_id).request.sweep_id)
    assert ["completed"] == states(store, [run_id])
    assert (1, 0.0, False) == bill[:3]
    assert pytest.approx(2.0, abs=0.013333) == bill.most_usd
