"""Where what did not complete goes on: asked where there is a choice, with the cost before the button."""

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.store.ownership import WantedEngine, read_destination
from rankviz.ui.parts.live import resume_or_ask, resume_there
from rankviz.ui.runs.view import sweep_view
from tests.support.engines.hub_jobs import page_on, stand_in_hub
from tests.support.runs import questions
from tests.support.runs.finished_runs import text_of

THERE = WantedEngine("hf-jobs", {"flavor": "t4-small", "spend": "5"})
HERE = WantedEngine("local")


@pytest.fixture
def api(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub, page_on(hub, tmp_path / "home") as api:
        hub.holds.set()
        api.engines.beside.soon_seconds = 60.0
        yield api


def failed(api, destination=HERE):
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4,)), "", destination)
    store.append(*store.run_ids(sweep_id), RunFailed(time=1.0, error="no luck"))
    return sweep_id


def state_of(api, sweep_id):
    return [run.state.value for run in api.runs.sweep(sweep_id).runs]


def test_with_a_choice_it_is_asked_and_nothing_is_queued(api):
    sweep_id = failed(api)

    button = sweep_view(api, api.runs.sweep(sweep_id), tolerance="0.02").resume
    shown = resume_or_ask(api, sweep_id)

    assert "Train 1 failed or cancelled run again …" == button.value
    assert (True, "local", False) == (shown.box.visible, shown.engine.value, shown.terms.visible)
    assert ["This machine", "Hugging Face Jobs"] == [label for label, _ in shown.engine.choices]
    assert ["failed"] == state_of(api, sweep_id)


def test_where_the_sweep_was_is_chosen_first_with_its_machine_its_limit_and_the_cost(api):
    shown = resume_or_ask(api, failed(api, THERE))

    assert ("hf-jobs", "t4-small", 5.0, True) == (
        *(shown.engine.value, shown.flavor.value),
        *(shown.spend, shown.terms.visible),
    )
    words = text_of(shown.about)
    assert "Nvidia T4 - small (t4-small): $0.40 per hour today. Cost: $0.0" in words
    assert "The limit of $5.00 ends the job after" in words


def test_the_button_moves_them_there(api):
    sweep_id = failed(api)

    shown = resume_there(api, sweep_id, "hf-jobs", "l4x1", 3.0)

    (run,) = api.runs.sweep(sweep_id).runs
    assert (False, "queued", 2) == (shown.visible, run.state, run.attempt)
    there = read_destination(api.workspace.store.run_dir(run.run_id))
    assert WantedEngine("hf-jobs", {"flavor": "l4x1", "spend": "3"}) == there
