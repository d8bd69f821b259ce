"""A run that cannot be done within the minutes that a server lets a run take is refused before it is queued."""

import time

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.core.runs.request import MODE_SEEDS, fast_ranks, quick_look
from rankviz.errors import LimitError
from rankviz.settings import SHARED_LIMITS
from rankviz.store.ownership import WantedEngine
from rankviz.visitor import acting_as
from tests.api.runs.test_measured import finish
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.runs import questions
from tests.support.web.visitors import ADMIN, ANN

FOR_MONTHS = {"max_steps": 200, "gradient_accumulation_steps": 65_536, "per_device_train_batch_size": 32}
SMALL = {"device": "cpu", "device_name": "a small CPU", "cpu_count": 2, "cpu_bf16": False}
REFUSED = r"at most 20 minutes per run, and one of these takes at least [\d,.]+ days by the estimate\. Use fewer steps"


@pytest.fixture
def page(tmp_path):
    api, there = page_with_elsewhere(tmp_path, shared=True)
    with acting_as(ANN):
        yield api, there
    api.workspace.supervisor.stop()


def failed(api, engine, **settings):
    """A sweep whose only run has failed."""
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,), **settings), ANN.id, WantedEngine(engine))
    (run_id,) = api.workspace.store.run_ids(sweep_id)
    api.workspace.store.append(run_id, RunFailed(time=time.time(), error="no luck"))
    return sweep_id


@pytest.mark.parametrize("engine", ["local", "elsewhere"])
def test_what_takes_months_is_refused_with_both_numbers_wherever_it_starts(page, engine):
    api, there = page
    there.gpu_models, there.has_gpu = ["L4"], True
    sweep_id, usual = failed(api, engine, **FOR_MONTHS), failed(api, engine)
    asked = questions.sweep(ranks=(4, 8), **FOR_MONTHS)

    for refused in (
        lambda: api.runs.plan(asked, api.engines.destination(engine)),
        lambda: api.runs.start(asked, api.engines.destination(engine)),
        lambda: api.runs.start(quick_look(asked), api.engines.destination(engine)),
        lambda: api.runs.plan_resume(sweep_id),
        lambda: api.runs.resume(sweep_id),
        lambda: api.runs.add(sweep_id, 8),
    ):
        with pytest.raises(LimitError, match=REFUSED) as error:
            refused()
        assert "run_minutes" == error.value.limit
    assert 2 == len(api.workspace.store.records())  # the two that were here

    assert 1 == len(api.runs.resume(usual))


def test_what_runs_of_other_visitors_took_is_announced_and_refuses_nothing(page):
    api, _ = page
    for second in (3, 2, 1):
        with acting_as(ADMIN):
            record = finish(api, time.time() - second, step=600.0, max_steps=6)
        api.workspace.store.begin(record.run_id)

    plan = api.runs.plan(questions.sweep(ranks=(4,)))

    assert plan.expected.time.longest_run.low > 60 * SHARED_LIMITS.run_minutes
    assert "from 3 finished runs here" in plan.expected.sentences[0]


def fast(ranks):
    trained, truncated = fast_ranks(ranks, ())
    return questions.sweep(ranks=trained, cut_ranks=truncated)


USUAL = {
    "sweep": lambda: questions.sweep(seeds=tuple(range(MODE_SEEDS["sweep"])), ranks=(4, 16, 64)),
    "quick": lambda: quick_look(questions.sweep(exact_match_examples=64)),
    "fast": lambda: fast((1, 2, 4, 8, 16, 32, 64)),
    "most steps": lambda: questions.sweep(ranks=(256,), max_steps=200, held_out_examples=256),
    "most tokens": lambda: questions.sweep(ranks=(256,), max_steps=200, per_device_train_batch_size=32),
}


@pytest.mark.parametrize("name", USUAL)
def test_what_a_page_offers_is_far_from_refused_on_a_small_cpu(page, monkeypatch, name):
    api, _ = page
    monkeypatch.setattr("rankviz.machine.here", lambda: SMALL)

    expected = api.runs.expected(USUAL[name]())

    assert expected.time.longest_run.low < 60 * SHARED_LIMITS.run_minutes / 4
