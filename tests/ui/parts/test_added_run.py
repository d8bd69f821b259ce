"""What the buttons that queue more runs of a sweep say before they are pressed."""

from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.errors import InvalidSettingError
from rankviz.jobs.hub import Cost
from rankviz.store.ownership import WantedEngine
from rankviz.ui.parts.sweep import next_runs
from tests.support.engines.hub_jobs import page_on, stand_in_hub
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events

THERE = WantedEngine("hf-jobs", {"flavor": "l4x1", "spend": "3"})
OFFERS_8 = SimpleNamespace(forecast=SimpleNamespace(repeat_at=8))


@pytest.fixture
def api(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub, page_on(hub, tmp_path / "home") as api:
        hub.holds.set()
        api.engines.background.soon_seconds = 60.0
        yield api


@pytest.fixture
def finished(api):
    """A sweep with a finished run there."""
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,), max_steps=2), "", THERE)
    (run,) = api.workspace.store.sweep(sweep_id).runs
    for event in finished_events(run.request, 2.0):
        api.workspace.store.append(run.run_id, event)
    return api.runs.sweep(sweep_id)


def test_on_a_rented_machine_it_says_what_its_job_costs(api, finished):
    assert "a job of $0.0" in next_runs(api, finished, OFFERS_8)["add"].value


def test_what_failed_goes_on_where_it_was_at_a_price_that_stands_on_the_button(api, monkeypatch):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,), max_steps=2), "", THERE)
    (run,) = api.runs.sweep(sweep_id).runs
    api.workspace.store.append(run.run_id, RunFailed(time=9.0, error="no luck"))
    sweep = api.runs.sweep(sweep_id)

    known = next_runs(api, sweep, None)
    monkeypatch.setattr(api.engines, "ask", lambda *question: None)
    asking = next_runs(api, sweep, None)

    assert known["resume"].value.startswith("Train 1 failed or cancelled run again (a job of $0.0")
    assert (True, False) == (known["resume"].interactive, asking["resume"].interactive)
    assert (False, True) == (known["is_busy"], asking["is_busy"])


def test_where_too_little_is_left_it_is_there_and_says_so_when_it_is_pressed(api, finished):
    engine = next(each for each in api.workspace.supervisor.engines if each.name == "hf-jobs")
    engine.ledger.add(finished.sweep_id, "a-job", Cost(2.9, 2.9))

    assert "$" not in next_runs(api, finished, OFFERS_8)["add"].value
    with pytest.raises(InvalidSettingError, match="is used up"):
        api.runs.add(finished.sweep_id, 8)
