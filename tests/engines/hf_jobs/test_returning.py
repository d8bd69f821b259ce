"""Jobs that come back to a runs folder which knows nothing of them: each once, to its owner, and started again only
when somebody asks for that."""

import json
import shutil
from dataclasses import replace

import pytest

from rankviz.errors import EngineError, EngineUnavailableError
from rankviz.jobs.hf_jobs import HfJobs, returning
from rankviz.store import RunStore
from rankviz.store.ownership import Ownership
from tests.support.engines.hub_jobs import StandInJob, only_job, sweep
from tests.support.processes.workers import Patient, states, wait_for, waiting_for, worker

COMPLETE_THE_FIRST = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        if run_id.endswith('-r2'):\n"
    "            complete(run_id)\n"
    "        else:\n"
    "            step(run_id)\n"
    "            time.sleep(600)"
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
    supervisor = Patient(store, engines=[engine], poll_seconds=0.05)
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
    supervisor = Patient(here, engines=[engine], poll_seconds=0.05)
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
    supervisor = Patient(store, engines=[engine], poll_seconds=0.05, max_attempts=5)
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

    def die(*_, **__):
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
    supervisor = Patient(here, engines=[later], poll_seconds=0.05)
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


def labelled(hub, label):
    """The only job has another label, and its folders another name."""
    spec = only_job(hub).spec
    for place in (hub.folder("bucket", "alice/rankviz-runs"), hub.folder("dataset", "alice/rankviz-jobs")):
        shutil.copytree(place / spec["labels"]["job"], place / label)
    spec["labels"]["job"] = label


@pytest.mark.parametrize(
    "label", ["forgotten", "missing", "x", "x-a1", "limit-{sweep}", "{sweep}-009-r8-a1", "{run}-a2"]
)
def test_a_job_comes_back_under_its_own_name_only(emptied, hub, label):
    _, engine, run_ids = emptied
    labelled(hub, label.format(sweep=run_ids[0].removesuffix("-001-r2"), run=run_ids[0]))

    assert [] == engine.returning("ann")


def test_a_job_with_a_run_of_another_visitor_does_not_come_back(emptied, hub):
    store, engine, _ = emptied
    (found,) = engine.returning("ann")
    _, second = found.requests
    theirs = replace(second, sweep_id="another")
    store.publish({second.run_id: {"request.json": returning.request_text(theirs)}}, Ownership("ben"))

    assert [] == engine.returning("ann")


def test_a_run_that_comes_back_to_a_sweep_is_as_open_as_it_is(emptied, hub):
    store, engine, (first, second) = emptied
    (found,) = engine.returning("ann")
    text = returning.request_text(found.requests[0])
    store.publish({first: {"request.json": text}}, Ownership("ann", is_open=True))
    store.begin(first)
    store.append(first, returning.AttemptPlaced(time=1.0, attempt=2, engine="local"))

    (found,) = engine.returning("ann")
    engine.take(found, "ann")

    assert Ownership("ann", is_open=True) == store.ownership(second)


def test_a_job_whose_first_run_has_a_newer_one_comes_back_under_its_name(emptied, hub, tmp_path):
    store, engine, (first, second) = emptied
    (found,) = engine.returning("ann")
    text = returning.request_text(found.requests[0])
    store.publish({first: {"request.json": text}}, Ownership("ann"))
    store.begin(first)
    store.append(first, returning.AttemptPlaced(time=1.0, attempt=2, engine="local"))

    (found,) = engine.returning("ann")
    engine.take(found, "ann")
    (tmp_path / "go").touch()
    wait_for(lambda: only_job(hub).ended)
    supervisor = Patient(store, engines=[engine], poll_seconds=0.05)
    supervisor.start()
    wait_for(lambda: store.get(second).state == "completed")
    supervisor.stop()

    assert (f"{first}-a1", 1) == (found.name, len(found.requests))
    assert (2, []) == (store.get(first).attempt, list(store.get(first).steps))


@pytest.mark.parametrize("code", [403, 503])
def test_a_job_that_cannot_be_looked_at_now_is_not_passed_over(emptied, hub, code):
    _, engine, _ = emptied
    hub.refuses["GET /buckets/alice"] = code, "busy"

    with pytest.raises((EngineError, EngineUnavailableError)):
        engine.returning("ann")
    hub.refuses.clear()

    assert 1 == len(engine.returning("ann"))


def test_of_a_sweep_that_comes_back_older_jobs_are_on_the_bill_however_many_there_are_of_others(
    supervise, store, hub, logins
):
    done, hangs = sweep(store, 2, 4, flavor="l4x1", spend="2")
    first = supervise(COMPLETE_THE_FIRST)
    wait_for(lambda: store.get(hangs).steps)
    older = only_job(hub)
    first.cancel(hangs)
    older.created, older.started = older.created - 6000, older.started - 6000  # of $2, it has cost $1.33
    for number in range(returning.MOST):
        spec = {**older.spec, "labels": {**older.spec["labels"], "job": f"other-{number}", "name": "rankviz-other"}}
        created = older.created + 1 + number
        hub.jobs[f"j{number}"] = StandInJob(f"j{number}", "alice", spec, created, stage="COMPLETED", ended=created)
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
    engine.live()

    assert engine.bill(sweep_id).jobs == 2
    wait_for(lambda: engine.bill(sweep_id).usd >= 1.33)
    engine.release()


def test_a_job_that_was_given_up_does_not_bring_back_a_run_that_was_deleted(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4)
    hub.loses_answers, hub.lists_nothing = 1, True
    first = supervise(waiting_for(store.home / "never"), look_seconds=0.3)
    wait_for(lambda: len(hub.jobs) == 2 and store.get(run_id).steps)
    first.cancel(run_id)
    first.stop()
    shutil.rmtree(store.run_dir(run_id))
    hub.lists_nothing = False

    assert [] == HfJobs(RunStore(store.home), logins).returning("ann")


def test_a_job_that_names_a_run_twice_does_not_come_back(emptied, hub):
    _, engine, _ = emptied
    label = only_job(hub).spec["labels"]["job"]
    for place in (hub.folder("bucket", "alice/rankviz-runs"), hub.folder("dataset", "alice/rankviz-jobs")):
        for file in place.glob(f"{label}/job.json"):
            content = json.loads(file.read_text())
            file.write_text(json.dumps({**content, "attempts": [*content["attempts"], content["attempts"][-1]]}))

    assert [] == engine.returning("ann")


def test_of_a_job_that_cannot_be_taken_nothing_is_left(emptied):
    _, engine, _ = emptied
    (found,) = engine.returning("ann")
    twice = replace(found, attempts=(*found.attempts, found.attempts[-1]))

    with pytest.raises(OSError, match="File exists"):
        engine.take(twice, "ann")

    assert not [path for path in engine.papers.place.iterdir() if path.is_dir()]
