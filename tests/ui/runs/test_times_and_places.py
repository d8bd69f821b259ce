"""What Runs says of times, of places and of what is not here."""

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AttemptPlaced, RunCancelled, RunStarted, StageReached
from rankviz.ui.parts import live
from rankviz.ui.runs.view import ANY_STATE, list_html, runs_view
from tests.support.runs import questions
from tests.support.runs.finished_runs import text_of


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def listed(sweeps):
    return list_html(sweeps, text="", state=ANY_STATE, selected=())


def message_on(api, sweep_id):
    """What stands in the place of a sweep on Runs."""
    choices = {"text": "", "state": ANY_STATE, "x": "adapter", "y": "loss", "selected": (), "run_id": "", "open_id": ""}
    judged = {"metric": "loss", "tolerance": "0.02", "seen": "", "showing": "showing"}
    return runs_view(api, **choices, **judged, sweep_id=sweep_id).message


def test_a_sweep_that_has_not_ended_shows_its_time_so_far(api):
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4, 16), max_steps=4))
    first, second = (run.run_id for run in store.sweep(sweep_id).runs)
    store.append(first, RunStarted(time=100.0, environment={"device": "cpu"}))
    store.append(first, RunCancelled(time=160.0))
    store.append(second, RunStarted(time=200.0, environment={"device": "cpu"}))
    store.append(second, StageReached(time=230.0, stage="training"))

    assert "2 min so far" in text_of(listed(api.runs.sweeps()))
    store.append(second, RunCancelled(time=260.0))
    assert "so far" not in text_of(listed(api.runs.sweeps()))


def test_what_an_engine_said_before_the_run_began_is_old_and_said_once(api):
    store = api.workspace.store
    first, _ = store.run_ids(sweep_id := store.create(questions.sweep(ranks=(4, 16), max_steps=4)))
    for job in ("", "17"):
        sent = AttemptPlaced(time=1.0, attempt=1, engine="slurm", job=job, waits="It is sent to Slurm.")
        store.append(first, sent)
    assert "It is sent to Slurm." == api.runs.get(first).waits

    store.append(first, StageReached(time=2.0, attempt=1, stage="importing Unsloth"))

    sweep = api.runs.sweep(sweep_id)
    assert "It is sent to Slurm." not in live.status_html(sweep, waiting=api.runs.why_sweep_waits(sweep))
    assert 1 == live.events_html(api, sweep).count("given to Slurm cluster. It is sent to Slurm.")
    login = AttemptPlaced(time=3.0, attempt=1, engine="slurm", job="17", waits="Run `squeue`.")
    store.append(first, login)
    sweep = api.runs.sweep(sweep_id)
    assert "Run <code>squeue</code>." in live.status_html(sweep, waiting=api.runs.why_sweep_waits(sweep))
