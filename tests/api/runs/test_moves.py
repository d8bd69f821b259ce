"""A sweep that goes on elsewhere: completed runs stay, the others go on as new attempts, and money has a limit."""

import time
from contextlib import contextmanager

import pytest

from rankviz.api import Api
from rankviz.api.starts import NOT_THE_PAYER
from rankviz.core.runs.events import RunCancelled, RunFailed
from rankviz.core.runs.request import SweepRequest
from rankviz.errors import InvalidSettingError, NotYoursError
from rankviz.jobs.hf_jobs import HfJobs
from rankviz.jobs.hub import Logins
from rankviz.jobs.local import Local
from rankviz.store import RunStore
from rankviz.store.journal import WantedEngine
from rankviz.visitor import Login, Visitor, acting_as
from tests.support.engines.elsewhere import Elsewhere, page_with_elsewhere
from tests.support.engines.hub_jobs import page_on, stand_in_hub
from tests.support.processes.workers import Patient, wait_for, worker
from tests.support.runs import questions

ON = {"local": {}, "elsewhere": {}, "hf-jobs": {"flavor": "l4x1", "spend": 5.0}}
ADMIN = Visitor("", "admin", admin=True)


@pytest.fixture
def hub(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def three(tmp_path, hub):
    """A page with three places; a run at r = 2 completes everywhere, any other once the file `go` is there."""
    command = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        f"        while not run_id.endswith('-r2') and not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.02)\n"
        "        complete(run_id)"
    )
    api = Api(home=tmp_path / "home", shared=False)
    store, logins = api.workspace.store, Logins(hub.url, of_machine=False)
    logins.give("", "hf_alice")
    engines = [
        Local(store.home, commands={"finetune": command}),
        Elsewhere(store, tmp_path / "elsewhere", command),
        HfJobs(store, logins, worker=command, poll_seconds=0.1),
    ]
    api.workspace.supervisor = Patient(store, engines=engines, poll_seconds=0.05)
    yield api
    api.workspace.supervisor.stop()


def failed(api, *ranks, owner="", destination=None, base="embedded"):
    """The id of a sweep whose runs have failed."""
    store = api.workspace.store
    request = questions.sweep(ranks=ranks or (4,), base=base)
    sweep_id = store.create(request, owner, destination or WantedEngine("local"))
    for run_id in store.run_ids(sweep_id):
        store.append(run_id, RunFailed(time=1.0, error="no luck"))
    return sweep_id


def engine_of(api):
    return next(each for each in api.workspace.supervisor.engines if isinstance(each, HfJobs))


def test_a_sweep_moves_on_between_places_and_what_has_completed_stays(three, tmp_path):
    store, (first, second, third) = three.workspace.store, ON
    sweep_id = three.runs.start(SweepRequest(ranks=(2, 4), seeds=(0,)), three.engines.destination(first, **ON[first]))
    done, moves = store.run_ids(sweep_id)

    def runs_on(engine, attempt):
        wait_for(lambda: (store.get(moves).state, store.get(moves).engine) == ("running", engine))
        assert (attempt, "completed") == (store.get(moves).attempt, store.get(done).state)

    runs_on(first, 1)
    three.runs.cancel(sweep_id)
    assert [moves] == list(three.runs.resume(sweep_id, second, **ON[second]))
    runs_on(second, 2)
    three.runs.cancel(sweep_id)
    three.runs.resume(sweep_id, third, **ON[third])
    runs_on(third, 3)
    assert third == three.runs.destination(sweep_id).engine
    (tmp_path / "go").touch()
    three.workspace.supervisor.settle()

    stays, moved = store.get(done), store.get(moves)
    assert (1, first, "completed", 3, third, "completed") == (
        *(stays.attempt, stays.engine, stays.state),
        *(moved.attempt, moved.engine, moved.state),
    )
    assert [[1], [1]] == [[step.step for step in run.steps] for run in (stays, moved)]
    assert 0 == stays.unreadable_lines + moved.unreadable_lines
    spent = three.engines.spent(three.runs.sweep(sweep_id))
    assert (4, True) == (spent.attempts, spent.device_seconds_is_whole)
    assert 0.013333 <= spent.usd
    assert "on Hugging Face Jobs, " in spent.in_words


def test_the_limit_is_that_of_the_whole_sweep_and_what_its_jobs_have_cost_is_said(rented):
    sweep_id = failed(rented, 4, 16)
    engine_of(rented).ledger.note(sweep_id, costs={"an-earlier-job": (1.2, 1.2)})

    offer = rented.runs.plan_resume(sweep_id, "hf-jobs", "l4x1", 5.0).offer

    assert (5.0, 1.2) == (offer.limit_usd, offer.bill.most_usd)
    assert int(60 * 3.8 / 0.013333 - 600) == offer.timeout_seconds
    words = " ".join(offer.sentences)
    assert "for all jobs of this sweep, which have cost up to $1.20, ends the job after 4 h 35 min" in words


def test_another_s_sweep_moves_nowhere_and_the_admin_starts_no_job_that_its_owner_pays(tmp_path, hub):
    with page_on(hub, tmp_path / "home", shared=True) as api:
        sweep_id = failed(api, owner="hf:1", destination=WantedEngine("hf-jobs"))
        api.workspace.store.open_to_all(sweep_id, True)

        with acting_as(Visitor("hf:2", "ben", login=Login("hf_ben"))), pytest.raises(NotYoursError):
            api.runs.resume(sweep_id)
        with acting_as(ADMIN), pytest.raises(InvalidSettingError, match=NOT_THE_PAYER):
            api.runs.resume(sweep_id)


def test_whoever_reads_the_queue_finds_all_runs_that_are_resumed_or_none(tmp_path, monkeypatch):
    """A job of some of its runs would load the base, or rent a machine, again for the rest."""
    api, _ = page_with_elsewhere(tmp_path)
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(base="embedded", ranks=(2, 4, 8)), destination=WantedEngine("elsewhere"))
    run_ids = store.run_ids(sweep_id)
    for run_id in run_ids:
        assert store.begin(run_id)
        store.append(run_id, RunCancelled(time=time.time()))
    reader, publishing, found = RunStore(store.home), store.publishing, []

    @contextmanager
    def and_then_somebody_reads():
        with publishing():
            yield
        found.append([record.run_id for record in reader.unended()])

    monkeypatch.setattr(store, "publishing", and_then_somebody_reads)
    monkeypatch.setattr(api.workspace, "work_queue", lambda: None)

    assert run_ids == list(api.runs.resume(sweep_id))

    assert [run_ids] == found
