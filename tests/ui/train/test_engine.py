"""Where a sweep of Train runs: the choice, and what a rented machine costs before the button."""

from html import unescape
from threading import Event

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import HF_JOBS, LOCAL
from rankviz.errors import EngineUnavailableError
from rankviz.ui.train.before import before_start, choice
from rankviz.ui.train.progress import progress
from rankviz.ui.train.tab import place_of, start
from rankviz.visitor import Visitor, acting_as
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.engines.hub_jobs import page_on, use
from tests.support.runs.finished_runs import text_of
from tests.support.web.train_form import FORM


@pytest.fixture
def api(tmp_path, hub):
    with page_on(hub, tmp_path / "home") as api:
        api.engines.beside.soon_seconds = 60.0
        yield api


def test_machines_are_offered_with_their_prices_once_they_are_chosen(api):
    here, there = choice(api, engine=LOCAL), choice(api, engine=HF_JOBS)
    machines = before_start(api, engine=HF_JOBS, flavor=None, spend=5.0, **FORM).flavor

    assert (False, True) == (here.terms.visible, there.terms.visible)
    assert [("t4-small, $0.40/h", "t4-small"), ("l4x1, $0.80/h", "l4x1")] == machines.choices[:2]
    assert "l4x1" == machines.value


def test_a_machine_of_the_settings_that_there_is_not_is_said_where_another_is_chosen(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("RANKVIZ_JOBS_FLAVOR", "zzz")
    with page_on(hub, tmp_path / "other") as api:
        api.engines.beside.soon_seconds = 60.0
        shown = before_start(api, engine=HF_JOBS, flavor="t4-small", spend=5.0, **FORM)

    said = "Hugging Face has no machine 'zzz', which RANKVIZ_JOBS_FLAVOR names. Choose one of the list."
    assert said in unescape(text_of(shown.expected))


def test_a_chosen_machine_stays_chosen_and_is_not_sent_back_since_it_may_be_another_one_by_then(api):
    places = choice(api, engine=HF_JOBS).engine
    machines = before_start(api, engine=HF_JOBS, flavor="t4-small", spend=5.0, **FORM).flavor

    assert not {"value"} & (places._constructor_args[0].keys() | machines._constructor_args[0].keys())


@pytest.fixture
def with_elsewhere(tmp_path):
    api, there = page_with_elsewhere(tmp_path / "page")
    api.engines.beside.soon_seconds = 60.0
    yield api, there
    api.workspace.supervisor.stop()


def value_of(update):
    """What an update puts into a widget; None where it keeps what it holds."""
    return update._constructor_args[0].get("value")


def test_what_the_owner_has_set_up_is_offered_by_name_with_what_it_needs(with_elsewhere):
    api, _ = with_elsewhere

    shown = choice(api, engine="elsewhere")

    assert [("This machine", LOCAL), ("Other machines", "elsewhere")] == shown.engine.choices
    assert "They are in the other room." == text_of(shown.about)
    assert (True, False, None) == (shown.box.visible, shown.terms.visible, value_of(shown.engine))


def test_where_this_machine_has_no_trainer_the_other_place_is_chosen_and_nothing_is_said_of_it(
    with_elsewhere, monkeypatch
):
    api, _ = with_elsewhere
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")

    shown = choice(api, engine=LOCAL)
    around = before_start(api, engine="elsewhere", flavor=None, spend=2.0, **FORM)

    assert ([("Other machines", "elsewhere")], "elsewhere") == (shown.engine.choices, value_of(shown.engine))
    assert ("", True) == (around.trainer, around.start.interactive)
    assert "93 MB" not in progress(api, sweep_id="", seen="").status


def test_nothing_is_estimated_from_this_machine_for_another(with_elsewhere):
    api, _ = with_elsewhere

    shown = before_start(api, engine="elsewhere", flavor=None, spend=2.0, **FORM)

    assert "On Other machines: time and memory are not known until a run has completed there." == text_of(
        shown.expected
    )


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

    assert "does not pay for a job" in text_of(shown.notice)
    assert not shown.start.interactive


def test_while_a_place_is_being_asked_nothing_is_said_of_it_and_no_paid_job_starts(api, monkeypatch):
    answers, check = Event(), api.engines.check
    monkeypatch.setattr(api.engines, "check", lambda *given, **terms: answers.wait(600) and check(*given, **terms))
    api.engines.beside.soon_seconds = 0.05

    asking = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=5.0, **FORM)
    answers.set()
    api.engines.beside.soon_seconds = 60.0
    known = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=5.0, **FORM)

    assert "Asking Hugging Face Jobs for time, memory and cost …" == text_of(asking.expected)
    assert (True, False) == (asking.again.active, asking.start.interactive)
    assert (False, True) == (known.again.active, known.start.interactive)


def test_an_opened_sweep_is_where_it_is_with_its_machine_and_limit(api):
    there = start(api, FORM, engine=HF_JOBS, flavor="t4-small", spend=5.0)
    here = start(api, FORM, engine=LOCAL, flavor=None, spend=None)

    place = place_of(api, there)

    assert (HF_JOBS, "t4-small", 5.0) == (place["engine"], place["flavor"].value, place["spend"])
    assert {"engine": LOCAL} == place_of(api, here)
    assert {} == place_of(api, api.runs.recorded()[0].sweep_id)


def test_an_empty_spending_limit_is_that_of_the_settings(api):
    shown = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=None, **FORM)

    assert "The limit of $2.00" in text_of(shown.expected)


def test_where_hugging_face_cannot_be_reached_that_is_said_and_this_machine_can_be_chosen(api, hub):
    hub.close()

    shown = before_start(api, engine=HF_JOBS, flavor=None, spend=5.0, **FORM)

    assert "Hugging Face cannot be reached" in text_of(shown.notice)
    assert shown.start.interactive, "it may answer in a moment"
    assert choice(api, engine=HF_JOBS).box.visible


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
