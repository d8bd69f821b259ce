"""What the buttons that queue more runs of a sweep say before they are pressed."""

from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.engines.hf_jobs.spending import Cost
from rankviz.errors import InvalidSettingError
from rankviz.store.destination import Destination
from rankviz.ui.parts.added_run import add_button
from rankviz.ui.train.progress import resume_button
from tests.support import questions
from tests.support.finished_runs import finished_events
from tests.support.hub_jobs import page_on, stand_in_hub

HERE = Destination("local")
OFFERS_8 = SimpleNamespace(forecast=SimpleNamespace(third_run=8))


@pytest.fixture
def api(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub, page_on(hub, tmp_path / "home") as api:
        hub.holds.set()
        yield api


def finished_on(api, destination):
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4,), max_steps=2), "", destination)
    (run,) = store.sweep(sweep_id).runs
    for event in finished_events(run.request, 2.0):
        store.append(run.run_id, event)
    return api.runs.sweep(sweep_id)


def test_on_a_rented_machine_it_says_what_its_job_costs(api):
    sweep = finished_on(api, Destination("hf-jobs", {"flavor": "l4x1", "spend": "3"}))

    assert "a job of $0.0" in add_button(api, sweep, OFFERS_8).value


def test_the_button_of_train_that_runs_again_what_failed_says_it_too(api):
    store = api.workspace.store
    for destination, has_price in ((Destination("hf-jobs", {"flavor": "l4x1", "spend": "3"}), True), (HERE, False)):
        sweep_id = store.create(questions.sweep(ranks=(4,)), "", destination)
        store.append(*store.run_ids(sweep_id), RunFailed(time=1.0, error="no luck"))

        label = resume_button(api, api.runs.sweep(sweep_id)).value

        assert label.startswith("Train 1 failed or cancelled run again")
        assert has_price == ("(a job of $0.0" in label)


def test_on_this_machine_it_has_no_price(api):
    button = add_button(api, finished_on(api, HERE), OFFERS_8)

    assert button.value.startswith("Add a run at r = 8")
    assert "$" not in button.value


def test_where_too_little_is_left_it_is_there_and_says_so_when_it_is_pressed(api):
    sweep = finished_on(api, Destination("hf-jobs", {"flavor": "l4x1", "spend": "3"}))
    engine = next(each for each in api.workspace.supervisor.engines if each.name == "hf-jobs")
    engine.spending.add(sweep.sweep_id, "a-job", Cost(2.9, 2.9))

    assert "$" not in add_button(api, sweep, OFFERS_8).value
    with pytest.raises(InvalidSettingError, match="is used up"):
        api.moves.add(sweep.sweep_id, 8)
