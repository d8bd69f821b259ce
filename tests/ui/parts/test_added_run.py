"""What the buttons that queue more runs of a sweep say before they are pressed."""

from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.errors import InvalidSettingError
from rankviz.jobs.hub import Cost
from rankviz.store.ownership import WantedEngine
from rankviz.ui.parts.live import add_button, resume_button, waits_for_price
from tests.support.engines.hub_jobs import page_on, stand_in_hub
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events

HERE = WantedEngine("local")
THERE = WantedEngine("hf-jobs", {"flavor": "l4x1", "spend": "3"})
OFFERS_8 = SimpleNamespace(forecast=SimpleNamespace(repeat_at=8))


@pytest.fixture
def api(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub, page_on(hub, tmp_path / "home") as api:
        hub.holds.set()
        api.engines.beside.soon_seconds = 60.0
        yield api


def finished_on(api, destination):
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4,), max_steps=2), "", destination)
    (run,) = store.sweep(sweep_id).runs
    for event in finished_events(run.request, 2.0):
        store.append(run.run_id, event)
    return api.runs.sweep(sweep_id)


def test_on_a_rented_machine_it_says_what_its_job_costs(api):
    sweep = finished_on(api, THERE)

    assert "a job of $0.0" in add_button(api, sweep, OFFERS_8)["value"]


def test_on_this_machine_it_has_no_price(api):
    button = add_button(api, finished_on(api, HERE), OFFERS_8)

    assert button["value"].startswith("Add a repeat at r = 8")
    assert "$" not in button["value"]


def test_what_failed_goes_on_where_it_was_at_a_price_that_stands_on_the_button(api, monkeypatch):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,), max_steps=2), "", THERE)
    (run,) = api.runs.sweep(sweep_id).runs
    api.workspace.store.append(run.run_id, RunFailed(time=9.0, error="no luck"))
    sweep = api.runs.sweep(sweep_id)

    known = resume_button(api, sweep)
    monkeypatch.setattr(api.engines, "ask", lambda *question: None)
    asking = resume_button(api, sweep)

    assert known["value"].startswith("Train 1 failed or cancelled run again (a job of $0.0") and known["interactive"]
    assert not asking["interactive"] and waits_for_price(asking) and not waits_for_price(known)


def test_where_too_little_is_left_it_is_there_and_says_so_when_it_is_pressed(api):
    sweep = finished_on(api, THERE)
    engine = next(each for each in api.workspace.supervisor.engines if each.name == "hf-jobs")
    engine.ledger.add(sweep.sweep_id, "a-job", Cost(2.9, 2.9))

    assert "$" not in add_button(api, sweep, OFFERS_8)["value"]
    with pytest.raises(InvalidSettingError, match="is used up"):
        api.moves.add(sweep.sweep_id, 8)
