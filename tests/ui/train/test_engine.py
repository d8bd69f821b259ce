"""Where a sweep of Train runs: the choice, and what a rented machine costs before the button."""

from threading import Event

import pytest

from rankviz.core.runs.events import HF_JOBS
from rankviz.ui.train.form import before_start, engine_of
from rankviz.ui.train.tab import start
from tests.support.engines.hub_jobs import page_on
from tests.support.runs.finished_runs import text_of
from tests.support.web.tabs import FORM


@pytest.fixture
def api(tmp_path, hub):
    with page_on(hub, tmp_path / "home") as api:
        api.engines.background.soon_seconds = 60.0
        yield api


def test_the_cost_stands_before_the_button_as_a_range(api):
    shown = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=5.0, **FORM)

    words = text_of(shown.expected)
    assert "$0.80 per hour today. Cost: $0.0" in words
    assert "The limit of $5.00 ends the job after 6 h 5 min" in words
    assert "2 runs on NVIDIA L4: estimated time" in words
    assert "" == shown.notice


def test_while_a_place_is_being_asked_nothing_is_said_of_it_and_no_paid_job_starts(api, monkeypatch):
    answers, check = Event(), api.runs.plan
    monkeypatch.setattr(api.runs, "plan", lambda *given: answers.wait(600) and check(*given))
    api.engines.background.soon_seconds = 0.05

    asking = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=5.0, **FORM)
    answers.set()
    api.engines.background.soon_seconds = 60.0
    known = before_start(api, engine=HF_JOBS, flavor="l4x1", spend=5.0, **FORM)

    assert "Asking Hugging Face Jobs for time, memory and cost …" == text_of(asking.expected)
    assert (True, False) == (asking.again.active, asking.start.interactive)
    assert (False, True) == (known.again.active, known.start.interactive)


def test_train_starts_where_it_is_to_run(api):
    sweep_id, _ = start(api, **FORM, engine=HF_JOBS, flavor="l4x1", spend=5.0)

    run = api.runs.sweep(sweep_id).runs[0]
    assert 5.0 == api.engines.limit(api.runs.sweep(sweep_id))
    there = engine_of(api, sweep_id)
    assert (HF_JOBS, "l4x1", 5.0) == (there["engine"], there["flavor"].value, there["spend"])
    assert run.state == "queued"
