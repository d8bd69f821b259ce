"""Where a sweep of Train runs: the choice, and what a rented machine costs before the button."""

import pytest

from rankviz.api import Api
from rankviz.core.runs.attempts import HF_JOBS, LOCAL
from rankviz.engines import Nodes
from rankviz.errors import EngineUnavailableError
from rankviz.ui.train.engine import before_start, choice, start
from rankviz.ui.train.progress import train_button
from rankviz.visitor import Visitor, acting_as
from tests.support.elsewhere import page_with_elsewhere
from tests.support.finished_runs import text_of
from tests.support.hub_jobs import page_on, stand_in_hub, use
from tests.support.train_form import FORM


@pytest.fixture
def hub(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub:
        hub.holds.set()
        yield hub


@pytest.fixture
def api(tmp_path, hub):
    with page_on(hub, tmp_path / "home") as api:
        yield api


def test_who_has_no_login_sees_no_choice(tmp_path, hub):
    api = Api(home=tmp_path / "home", shared=True)
    use(api, hub)

    with acting_as(Visitor("hf:1", "alice")):
        assert not choice(api, engine=LOCAL, flavor=None).box.visible
    with acting_as(Visitor("hf:1", "alice", token="hf_alice")):
        assert choice(api, engine=LOCAL, flavor=None).box.visible


def test_machines_are_offered_with_their_prices_once_they_are_chosen(api):
    here, there = choice(api, engine=LOCAL, flavor=None), choice(api, engine=HF_JOBS, flavor=None)

    assert (False, True) == (here.terms.visible, there.terms.visible)
    assert [("t4-small, $0.40/h", "t4-small"), ("l4x1, $0.80/h", "l4x1")] == there.flavor.choices[:2]
    assert "l4x1" == there.flavor.value


def test_a_chosen_machine_stays_chosen_and_is_not_sent_back_since_it_may_be_another_one_by_then(api):
    view = choice(api, engine=HF_JOBS, flavor="t4-small")

    assert not {"value"} & (view.engine._constructor_args[0].keys() | view.flavor._constructor_args[0].keys())


@pytest.fixture
def with_elsewhere(tmp_path):
    api, there = page_with_elsewhere(tmp_path / "page")
    yield api, there
    api.workspace.supervisor.stop()


def value_of(update):
    """What an update puts into a widget; None where it keeps what it holds."""
    return update._constructor_args[0].get("value")


def test_where_only_this_machine_trains_there_is_no_choice(tmp_path):
    shown = choice(Api(home=tmp_path / "home", shared=False), engine=LOCAL, flavor=None)

    assert not shown.box.visible


def test_what_the_owner_has_set_up_is_offered_by_name_with_what_it_needs(with_elsewhere):
    api, _ = with_elsewhere

    shown = choice(api, engine="elsewhere", flavor=None)

    assert [("This machine", LOCAL), ("Other machines", "elsewhere")] == shown.engine.choices
    assert "They are in the other room." == text_of(shown.about)
    assert (True, False, None) == (shown.box.visible, shown.terms.visible, value_of(shown.engine))


def test_where_this_machine_has_no_trainer_the_other_place_is_chosen_and_nothing_is_said_of_it(
    with_elsewhere, monkeypatch
):
    api, _ = with_elsewhere
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")

    shown = choice(api, engine=LOCAL, flavor=None)

    assert ([("Other machines", "elsewhere")], "elsewhere") == (shown.engine.choices, value_of(shown.engine))
    assert "" == before_start(api, engine="elsewhere", flavor=None, spend=2.0, **FORM).trainer
    assert train_button(api)["interactive"]


def test_nothing_is_estimated_from_this_machine_for_another(with_elsewhere):
    api, _ = with_elsewhere

    shown = before_start(api, engine="elsewhere", flavor=None, spend=2.0, **FORM)

    assert "On Other machines: time and memory are not known until a run has completed there." == text_of(
        shown.expected
    )


def test_the_gpu_there_gives_time_and_memory_and_what_stands_in_the_way_is_said(with_elsewhere):
    api, there = with_elsewhere
    there.seen = Nodes(gpus=["L4"], has_gpu=True, trouble="The other room is closed.")

    words = text_of(before_start(api, engine="elsewhere", flavor=None, spend=2.0, **FORM).expected)

    assert words.startswith("The other room is closed. The runs wait until that has changed.")
    assert "2 runs on NVIDIA L4: estimated time" in words
    assert "Memory: " in words


def test_train_starts_on_what_is_chosen(with_elsewhere):
    api, _ = with_elsewhere

    sweep_id = start(api, FORM, engine="elsewhere", flavor=None, spend=2.0)
    api.workspace.supervisor.settle()

    assert ["elsewhere"] * 2 == [run.engine for run in api.runs.sweep(sweep_id).runs]


def test_the_cost_stands_before_the_button_as_a_range(api):
    shown = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=5.0, **FORM)

    words = text_of(shown.expected)
    assert "$0.80 per hour today. Cost: $0.0" in words
    assert "The limit of $5.00 ends the job after 6 h 5 min" in words
    assert "2 runs on NVIDIA L4: estimated time" in words
    assert "" == shown.notice


def test_a_limit_that_pays_for_nothing_is_said_before_the_button(api):
    shown = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=0.01, **FORM)

    assert "do not pay for a job" in text_of(shown.notice)


def test_an_empty_spending_limit_is_that_of_the_settings(api):
    shown = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=None, **FORM)

    assert "The limit of $2.00" in text_of(shown.expected)


def test_a_wrong_setting_is_said_at_its_field_there_too(api):
    shown = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=5.0, **{**FORM, "other_ranks": "x"})

    assert shown.ranks_problem


def test_where_hugging_face_cannot_be_reached_that_is_said_and_this_machine_can_be_chosen(api, hub):
    hub.close()

    shown = before_start(api, engine=HF_JOBS, flavor=None, spend=5.0, **FORM)

    assert "Hugging Face cannot be reached" in text_of(shown.notice)
    assert choice(api, engine=HF_JOBS, flavor=None).box.visible


def test_train_starts_where_it_is_to_run(api):
    sweep_id = start(api, FORM, engine=HF_JOBS, flavor="l4x1", spend=5.0)

    run = api.runs.sweep(sweep_id).runs[0]
    assert 5.0 == api.spending.limit(api.runs.sweep(sweep_id))
    assert run.state == "queued"


def test_a_login_that_ended_meanwhile_starts_nothing(tmp_path, hub):
    api = Api(home=tmp_path / "home", shared=True)
    use(api, hub)

    with acting_as(Visitor("hf:1", "alice")), pytest.raises(EngineUnavailableError, match="Log in"):
        start(api, FORM, engine=HF_JOBS, flavor="l4x1", spend=5.0)

    assert [] == api.workspace.store.records()
