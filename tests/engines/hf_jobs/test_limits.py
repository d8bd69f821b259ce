"""The spending limit that a sweep was given last is that of each later job, whatever its runs were queued with."""

import shutil
import time

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.jobs.hf_jobs import USED_UP, HfJobs
from rankviz.jobs.prices import NO_LIMIT, purse
from rankviz.store import RunStore
from tests.support.engines.hub_jobs import only_job, page_on, sweep
from tests.support.processes.workers import HANG_IN_EACH, wait_for, waiting_for
from tests.support.runs import questions

START = "POST /api/jobs/alice"


def seconds_for(usd):
    """The time limit of a job on an l4x1."""
    return int(60 * usd / 0.013333 - 600)


def test_a_limit_that_was_lowered_holds_for_a_run_that_was_queued_before(hub, tmp_path):
    hub.holds.set()
    with page_on(hub, tmp_path / "home") as api:
        engine = api.workspace.supervisor.engine("hf-jobs")
        engine._at_once = 1
        first = api.engines.start(questions.sweep(ranks=(2,)), "hf-jobs", "l4x1", 2.0)
        wait_for(lambda: "free machine" in api.runs.sweep(first).runs[0].waits)
        sweep_id = api.engines.start(questions.sweep(ranks=(4, 8)), "hf-jobs", "l4x1", 50.0)
        api.runs.cancel(api.workspace.store.run_ids(sweep_id)[0])

        api.moves.resume(sweep_id, "hf-jobs", "l4x1", 3.0)
        api.runs.cancel(first)

        def waiting_there():
            return [run.run_id for run in api.runs.sweep(sweep_id).runs if "free machine" in run.waits]

        for jobs in (2, 3):  # one of each run
            wait_for(lambda jobs=jobs: len(hub.jobs) == jobs)
            assert [*hub.jobs.values()][-1].spec["timeoutSeconds"] <= seconds_for(3.0)
            wait_for(waiting_there)
            api.runs.cancel(waiting_there()[0])

        assert 3.0 == engine.papers.limit(sweep_id)


def test_a_limit_is_given_before_a_job_can_start_with_it(hub, tmp_path, monkeypatch):
    with page_on(hub, tmp_path / "home") as api:
        store = api.workspace.store
        sweep_id = store.create(questions.sweep(ranks=(4,)))
        (run_id,) = store.run_ids(sweep_id)
        store.begin(run_id)
        store.append(run_id, RunFailed(time=time.time(), error="out of memory"))
        papers, known = api.workspace.supervisor.engine("hf-jobs").papers, []
        requeue = store.requeue_all
        monkeypatch.setattr(store, "requeue_all", lambda *a: known.append(papers.limit(sweep_id)) or requeue(*a))

        api.moves.resume(sweep_id, "hf-jobs", "l4x1", 3.0)

        assert [3.0] == known


@pytest.mark.parametrize("content", ["", "nonsense", "-1", "nan"])
def test_a_sweep_whose_limit_cannot_be_read_waits_and_says_what_to_do(supervise, store, hub, logins, content):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="50")
    papers = HfJobs(store, logins).papers
    sweep_id = store.get(run_id).request.sweep_id
    papers.place.mkdir()
    (papers.place / f"limit-{purse(sweep_id, 'ann')}").write_text(content)

    supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).waits == NO_LIMIT)
    assert {} == hub.jobs
    papers.note_limit(sweep_id, 3.0, "ann")

    wait_for(lambda: hub.jobs)
    assert seconds_for(3.0) == only_job(hub).spec["timeoutSeconds"]


def test_a_sweep_that_comes_back_has_the_limit_that_its_newest_job_had(supervise, store, hub, logins, tmp_path):
    one, _ = sweep(store, 4, 8, flavor="l4x1", spend="50")
    sweep_id = store.get(one).request.sweep_id
    first = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(one).steps)
    first.cancel(sweep_id)
    first.engines[0].papers.note_limit(sweep_id, 3.0, "ann")
    store.requeue(one)
    wait_for(lambda: store.get(one).attempt == 2 and store.get(one).steps)
    first.stop()
    for name in ("runs", "hf-jobs"):
        shutil.rmtree(store.home / name)
    engine = HfJobs(RunStore(store.home), logins, poll_seconds=0.1)

    for found in engine.returning("ann"):
        engine.take(found, "ann")

    assert 3.0 == engine.papers.limit(sweep_id, "ann")


@pytest.mark.parametrize(("usd", "says"), [(3.0, ""), (0.1, USED_UP)])
def test_a_limit_that_was_lowered_holds_for_a_job_that_hugging_face_declines(supervise, store, hub, usd, says):
    (run_id,) = sweep(store, 4, flavor="l4x1", spend="50")
    hub.refuses[START] = (429, "busy")
    engine = supervise(HANG_IN_EACH).engines[0]
    wait_for(lambda: "busy" in store.get(run_id).waits)

    engine.papers.note_limit(store.get(run_id).request.sweep_id, usd, "ann")
    before = hub.calls.count(START)  # the next one may have read the limit before
    wait_for(lambda: hub.calls.count(START) >= before + 2 or store.get(run_id).state.ended)
    hub.refuses.clear()
    wait_for(lambda: hub.jobs or store.get(run_id).state.ended)

    assert [job.spec["timeoutSeconds"] <= seconds_for(usd) for job in hub.jobs.values()] == ([] if says else [True])
    assert says == (store.get(run_id).error or "")


def test_a_limit_that_is_lowered_while_a_job_runs_says_what_that_job_may_take(hub, tmp_path):
    with page_on(hub, tmp_path / "home") as api:
        hub.holds.set()
        sweep_id = api.engines.start(questions.sweep(ranks=(4, 8)), "hf-jobs", "l4x1", 50.0)
        runs = api.workspace.store.run_ids(sweep_id)
        wait_for(lambda: hub.jobs and "free machine" in api.workspace.store.get(runs[0]).waits)
        api.runs.cancel(runs[1])
        keeps = "A job of this sweep was started with the limit of $50.00 and keeps it: at most $50.00 in all."

        def says(usd):
            return keeps in api.moves.check(sweep_id, "hf-jobs", "l4x1", usd).offer.sentences

        assert (True, False, False) == (says(30.0), says(50.0), says(60.0))
        api.moves.resume(sweep_id, "hf-jobs", "l4x1", 30.0)

        def most():
            return api.spending.of_sweep(api.runs.sweep(sweep_id)).rent.limit_usd

        assert (50.0, 30.0) == (most(), api.spending.limit(api.runs.sweep(sweep_id)))
        api.runs.cancel(sweep_id)
        api.workspace.supervisor.settle()
        assert 30.0 == most()
