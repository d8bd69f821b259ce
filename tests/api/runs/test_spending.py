"""What sweeps have cost so far, where they are, and cancellations that wait."""

import pytest

from rankviz.api import Api
from rankviz.cli.runs import print_sweep, standing
from rankviz.core.runs.events import AttemptPlaced, RunCompleted, RunFailed, RunRequeued, RunStarted
from rankviz.core.runs.record import Place
from rankviz.core.runs.run_time import Spent
from rankviz.endpoints.runs import status_json
from rankviz.errors import EngineUnavailableError
from rankviz.jobs.supervisor import KEPT
from rankviz.store.journal import WantedEngine
from rankviz.store.runs import IMPORTED
from rankviz.ui.parts.sweep import standing_html, sweep_view
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import Patient, wait_for, worker
from tests.support.runs import questions


def sweep_of(api, *journals, destination=None):
    store = api.workspace.store
    request = questions.sweep(ranks=tuple(2**n for n in range(1, len(journals) + 1)))
    sweep_id = store.create(request, "", destination or WantedEngine())
    for run_id, events in zip(store.run_ids(sweep_id), journals, strict=True):
        for event in events:
            store.append(run_id, event)
    return api.runs.sweep(sweep_id)


def attempt(engine, where, number, began, ended, failed=""):
    yield AttemptPlaced(time=began, attempt=number, engine=engine, where=where)
    yield RunStarted(time=began, environment={}, attempt=number)
    if failed:
        yield RunFailed(time=ended, attempt=number, error=failed)
        yield RunRequeued(time=ended, attempt=number)
        return
    done = {"train_seconds": 1.0, "peak_memory_bytes": 1, "peak_memory_kind": "GPU allocated"}
    yield RunCompleted(time=ended, attempt=number, **done)


def test_the_time_of_a_sweep_that_moved_is_that_of_all_attempts(api):
    moved = [*attempt("ray", "node-0", 1, 1.0, 25.0, "no luck"), *attempt("local", "this machine", 2, 30.0, 92.0)]
    sweep = sweep_of(api, moved, attempt("ray", "node-1", 1, 1.0, 11.0))

    assert "2 min" == api.engines.spent(sweep).in_words
    assert "this machine; Ray cluster, node-1" == api.engines.places_in_words(sweep)
    assert "this machine, attempt 2" == api.engines.place_in_words(sweep.runs[0])


def test_this_machine_in_an_imported_journal_is_not_this_one(api):
    sweep = sweep_of(api, attempt("local", "GPU 1", 1, 1.0, 61.0))
    (api.workspace.store.run_dir(sweep.runs[0].run_id) / IMPORTED).touch()

    assert ("", Place()) == (api.engines.places_in_words(sweep), api.engines.place_of(sweep.runs[0]))
    assert "60 s" == api.engines.spent(sweep).in_words


@pytest.mark.parametrize(
    ("rent", "words"),
    [
        (
            {"is_rented": True, "usd": 0.4, "limit_usd": 5.0},
            "$0.40 of at most $5.00 on Hugging Face Jobs, 39 s in runs",
        ),
        ({"is_rented": True, "usd": 0.03, "usd_is_whole": False}, "at least $0.03 on Hugging Face Jobs, 39 s in runs"),
        ({"is_rented": True, "usd_is_whole": False}, "US dollars not known on Hugging Face Jobs, 39 s in runs"),
        ({}, "39 s"),
    ],
)
def test_what_a_rented_machine_cost_is_said_as_far_as_it_is_known(rent, words):
    assert words == Spent(device_seconds=39.0, attempts=1, **rent).in_words


@pytest.fixture
def wished(tmp_path):
    """A sweep of two runs whose first one runs elsewhere, and of which a cancel was asked that is not possible now:
    its id, and its page."""
    api = Api(home=tmp_path / "home")
    elsewhere = Elsewhere(api.workspace.store, tmp_path / "elsewhere", worker("begin(run_ids[0]) and time.sleep(600)"))
    elsewhere.name = "there"
    api.workspace.supervisor = Patient(api.workspace.store, engines=[elsewhere], poll_seconds=0.05)
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4, 16)), "", WantedEngine("there"))
    api.workspace.work_queue()
    wait_for(lambda: api.runs.sweep(sweep_id).running)

    def no_login(live):
        raise EngineUnavailableError("It waits for a login.")

    elsewhere.cancel = no_login
    yield sweep_id, api
    api.workspace.supervisor.stop()
    for live in elsewhere.live():
        Elsewhere.cancel(elsewhere, live)


def test_a_wish_to_cancel_that_is_kept_is_said_wherever_the_sweep_is_shown(wished, capsys):
    sweep_id, api = wished
    running = api.runs.sweep(sweep_id).runs[0].run_id
    assert not api.runs.cancel_is_pending(api.runs.sweep(sweep_id).runs)

    with pytest.raises(EngineUnavailableError, match="It waits for a login") as refusal:
        api.runs.cancel(sweep_id)

    assert str(refusal.value).endswith(KEPT)
    asked = "A cancel was requested. The job goes on until that is done."
    sweep = api.runs.sweep(sweep_id)
    assert asked == api.runs.why_sweep_waits(sweep) == api.runs.why_waits(sweep.runs[0])
    progress = api.runs.progress(sweep)
    assert (asked, None, None) == (progress.trouble, progress.seconds_left, progress.share)
    assert "Time left" not in standing_html(api, sweep)
    status = status_json(api, sweep_id)
    assert [asked, asked] == [status["waits"], next(run for run in status["runs"] if run["run_id"] == running)["waits"]]
    assert asked in standing_html(api, sweep)
    assert asked in standing(api, sweep)
    print_sweep(api, sweep_id)
    assert asked in capsys.readouterr().out
    assert not sweep_view(api, sweep).cancel.visible
