"""Jobs that come back to a runs folder which knows nothing of them: each once, to its owner, and started again only
when somebody asks for that."""

import shutil
from dataclasses import replace

import pytest

from rankviz.engines.hf_jobs import returning
from rankviz.engines.hf_jobs.engine import HfJobs
from rankviz.errors import EngineError
from rankviz.store import RunStore
from rankviz.store.ownership import Ownership
from rankviz.supervisor import Supervisor
from tests.support.hub_jobs import only_job, sweep
from tests.support.workers import states, wait_for, waiting_for, worker

COMPLETE_THE_FIRST = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        if run_id.endswith('-r2'):\n"
    "            complete(run_id)\n"
    "        else:\n"
    "            step(run_id)\n"
    "            time.sleep(60)"
)


@pytest.fixture
def emptied(store, hub, logins, supervise, tmp_path):
    """A home that knows nothing of a job which it started before its disk was emptied: (store, engine, run ids)."""
    run_ids = sweep(store, 2, 4, flavor="l4x1")
    first = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_ids[0]).steps)
    first.stop()
    for name in ("runs", "hf-jobs"):
        shutil.rmtree(store.home / name)
    here = RunStore(store.home)
    return here, HfJobs(here, logins, poll_seconds=0.1), run_ids


def goes_on(store, engine, run_ids, go):
    """The job trains its runs to their end, and is read."""
    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.05)
    supervisor.start()
    wait_for(lambda: store.get(run_ids[0]).steps)
    go.touch()
    supervisor.settle()
    supervisor.stop()


def test_a_job_whose_page_lost_its_disk_comes_back_with_its_owner_and_is_not_started_again(emptied, hub, tmp_path):
    store, engine, run_ids = emptied

    (found,) = engine.returning("ann")
    engine.take(found, "ann")
    goes_on(store, engine, run_ids, tmp_path / "go")

    assert ["completed"] * 2 == states(store, run_ids)
    assert {"ann"} == {store.ownership(run_id).owner for run_id in run_ids}
    assert 1 == len(hub.jobs)


def test_a_run_that_was_tried_twice_comes_back_with_its_newest_job_and_both_are_on_the_bill(
    supervise, store, hub, logins, tmp_path
):
    done, hangs = sweep(store, 2, 4, flavor="l4x1")
    first = supervise(COMPLETE_THE_FIRST)
    wait_for(lambda: store.get(hangs).steps)
    first.cancel(hangs)
    store.requeue(hangs)
    wait_for(lambda: store.get(hangs).attempt == 2 and store.get(hangs).steps)
    first.stop()
    sweep_id = store.get(done).request.sweep_id
    for name in ("runs", "hf-jobs"):
        shutil.rmtree(store.home / name)
    here = RunStore(store.home)
    engine = HfJobs(here, logins, poll_seconds=0.1)

    for found in engine.returning("ann"):
        engine.take(found, "ann")
    supervisor = Supervisor(here, engines=[engine], poll_seconds=0.05)
    supervisor.start()
    wait_for(lambda: here.get(hangs).steps and here.get(done).state == "completed")

    assert (1, 2) == (here.get(done).attempt, here.get(hangs).attempt)
    wait_for(lambda: engine.bill(sweep_id).usd >= 2 * 0.013333 and engine.bill(sweep_id).is_whole)
    supervisor.cancel(hangs)
    supervisor.stop()


def test_a_job_that_has_come_back_is_not_found_again_nor_once_it_was_read(emptied, hub, tmp_path):
    store, engine, _ = emptied
    (found,) = engine.returning("ann")
    engine.take(found, "ann")

    assert [] == engine.returning("ann")
    (live,) = engine.live()
    hub.end(only_job(hub), "CANCELED")
    engine.forget(live)
    shutil.rmtree(store.runs_dir)
    assert [] == HfJobs(RunStore(store.home), engine.logins).returning("ann")


def test_a_job_comes_back_to_its_own_page_and_owner_only(emptied, hub, logins, tmp_path):
    _, engine, _ = emptied
    logins.give("ben", "hf_ben")
    elsewhere = RunStore(tmp_path / "elsewhere")
    elsewhere.home.mkdir()

    assert [] == engine.returning("ben")
    assert [] == HfJobs(elsewhere, logins).returning("ann")
    engine.release()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"attempts": ["../../x@1"]}', b'{"attempts": []}'])
def test_what_cannot_be_read_of_a_job_does_not_come_back(emptied, hub, content):
    _, engine, _ = emptied
    hub.shows["job.json"] = content

    assert [] == engine.returning("ann")


def test_what_comes_back_and_is_lost_is_started_again_only_when_somebody_asks(emptied, hub):
    store, engine, run_ids = emptied
    (found,) = engine.returning("ann")
    engine.take(found, "ann")
    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.05, max_attempts=5)
    supervisor.start()
    wait_for(lambda: store.get(run_ids[0]).steps)

    hub.end(only_job(hub), "ERROR", "The node was lost")
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 2 == states(store, run_ids)
    assert returning_sentence(store.get(run_ids[0]).error)
    assert 1 == len(hub.jobs)


def returning_sentence(error):
    return "The node was lost" in error and error.endswith("Resume the sweep to start what is left.")


def test_an_account_brings_nothing_into_the_sweep_of_another_visitor_nor_onto_its_bill(emptied, hub):
    store, engine, _ = emptied
    (found,) = engine.returning("ann")
    sweep_id = found.rented.sweep_id
    first, *_ = found.requests
    text = returning.request_text(replace(first, run_id=f"{sweep_id}-099-r2"))
    store.publish({f"{sweep_id}-099-r2": {"request.json": text}}, Ownership("ben"))

    assert [] == engine.returning("ann")
    assert {} == engine.spending.jobs(sweep_id)
    assert ["queued"] == states(store, [f"{sweep_id}-099-r2"])


def test_a_job_that_names_another_sweep_than_its_runs_is_not_taken(emptied, hub):
    _, engine, _ = emptied
    bucket = hub.folder("bucket", "alice/rankviz-runs")
    for place in (bucket, hub.folder("dataset", "alice/rankviz-jobs")):
        for file in place.rglob("rented.json"):
            file.write_text(file.read_text().replace('"sweep_id": "', '"sweep_id": "2'))

    assert [] == engine.returning("ann")


def test_two_who_take_a_job_at_the_same_time_have_it_once(emptied, hub, tmp_path):
    store, engine, run_ids = emptied
    (found,), (same,) = engine.returning("ann"), engine.returning("ann")
    engine.take(found, "ann")

    with pytest.raises(EngineError, match="here already"):
        engine.take(same, "ann")

    goes_on(store, engine, run_ids, tmp_path / "go")
    assert (["completed"] * 2, 1) == (states(store, run_ids), len(hub.jobs))


@pytest.mark.parametrize("runs_are_here", [True, False])
def test_an_app_that_is_killed_while_it_takes_a_job_starts_no_second_one(emptied, hub, monkeypatch, runs_are_here):
    store, engine, run_ids = emptied
    (found,) = engine.returning("ann")
    here = RunStore(store.home)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(engine.papers, "remove", lambda folder: None)
        if runs_are_here:
            write = engine.papers.write
            dying.setattr(engine.papers, "write", lambda at, rented: write(at, rented) if rented.is_coming else die())
        else:
            dying.setattr(store, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            engine.take(found, "ann")
    engine.release()
    later = HfJobs(here, engine.logins, poll_seconds=0.1)
    supervisor = Supervisor(here, engines=[later], poll_seconds=0.05)
    supervisor.start()
    monkeypatch.setattr(returning, "COMING_SECONDS", 0.0)

    if runs_are_here:
        wait_for(lambda: here.get(run_ids[0]).steps)
        supervisor.cancel(found.rented.sweep_id)
    else:
        wait_for(lambda: not [*later.papers.folders(coming=True)])
        (again,) = later.returning("ann")
        assert again.attempts == found.attempts
    supervisor.stop()
    assert 1 == len(hub.jobs)
