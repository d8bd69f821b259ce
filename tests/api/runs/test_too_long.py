"""Runs are estimated from those that have finished here, and refused where a server's minutes do not suffice."""

import re
import time

import pytest

from rankviz import machine
from rankviz.api import Api
from rankviz.core.cost.pace import LIBRARIES
from rankviz.core.runs.events import Answered, Evaluated, RunCompleted, RunFailed, RunStarted, StageReached, StepLogged
from rankviz.core.runs.request import MODE_SEEDS, fast_ranks, quick_look
from rankviz.core.runs.sweep_time import SHOWN_TIME
from rankviz.errors import LimitError
from rankviz.settings import SHARED_LIMITS
from rankviz.store.journal import WantedEngine
from rankviz.visitor import acting_as
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.runs import questions
from tests.support.web.visitors import ADMIN, ANN

HERE = {**machine.here(), "versions": machine.versions(LIBRARIES)}


def finish(api, ended_at, *, load=8.0, compiling=0.0, step=1.0, evaluation=5.0, environment=HERE, **settings):
    """One run that took these seconds, on the journal of a sweep of its own; returns its record."""
    chosen = {"ranks": (16,), "max_steps": 40, "shown_answers": 0, **settings}
    sweep_id = api.workspace.store.create(questions.sweep(**chosen))
    (run,) = api.workspace.store.sweep(sweep_id).runs
    training = compiling + step * run.request.max_steps
    sets = [Answered(time=0.0, when=when, answers=(), seconds=3.0) for when in ("before", "after")]
    answered = sets if run.request.shown_answers else []
    began = ended_at - (load + training + 2 * evaluation + 3 * len(answered) + 1)
    for event in (
        StageReached(time=began, stage="reading the data"),
        RunStarted(time=began + load, environment=environment),
        Evaluated(time=0.0, when="before", loss=3.0, tokens=100, examples=64, seconds=evaluation),
        *(
            StepLogged(time=0, step=n, loss=1, learning_rate=0, tokens=n, seconds=compiling + step * n, memory_bytes=1)
            for n in range(1, run.request.max_steps + 1)
        ),
        Evaluated(time=0.0, when="after", loss=2.0, tokens=100, examples=64, seconds=evaluation),
        *answered,
        RunCompleted(
            time=ended_at, train_seconds=training, peak_memory_bytes=2**30, peak_memory_kind="process resident"
        ),
    ):
        api.workspace.store.append(run.run_id, event)
    return api.runs.get(run.run_id)


def expected(api, **settings):
    return api.runs.expected(questions.sweep(**{"ranks": (16,), "max_steps": 40, "shown_answers": 0, **settings}))


@pytest.mark.parametrize("runs", [1, 3])
def test_a_like_run_is_announced_as_one_number_before_and_then_as_what_runs_took_at_most_twice_as_wide(api, runs):
    before = expected(api, shown_answers=4).sentences[0]
    for second in range(1, 1 + runs):
        finish(api, 1000.0 * second, shown_answers=4)

    announced = expected(api, shown_answers=4)

    assert re.search(r"estimated time up to \d+ min; closer after the first run\.$", before)
    # 40 steps of 1 s; evaluations of 10 s, two sets of answers of 3 s and 1 s more
    time = announced.time
    assert (40.0, 17.0) == pytest.approx((time.training.expected, time.other.expected))
    assert time.training.high <= 2 * time.training.low
    of_other_data = expected(api, shown_answers=4, data="syllables").time
    assert time.other.high < 2 * SHOWN_TIME.high < of_other_data.other.high
    assert re.search(rf"from {runs} finished runs? here\.$", announced.sentences[0])
    assert announced.sentences[1].startswith("Loading ")


def test_the_estimate_beside_a_run_rests_on_what_had_ended_before_it_began(api):
    first, second = finish(api, 1000.0), finish(api, 2000.0)

    assert () == api.runs.expected_run(first).timed_by
    assert (first.run_id,) == api.runs.expected_run(second).timed_by


def test_a_run_whose_data_or_base_has_gone_breaks_nothing(api):
    finish(api, 1000.0, data="/no/such/file.jsonl")
    finish(api, 2000.0, base="/no/such/folder")
    finish(api, 3000.0, base="nobody/knows-this")

    assert "from 1 finished run here" in expected(api).sentences[0]


def test_on_a_shared_page_imported_runs_say_nothing_of_this_machine_and_everybodys_own_do(tmp_path):
    api = Api(home=tmp_path, shared=True)
    with acting_as(ADMIN):
        imported = [finish(api, 1000.0 * number) for number in range(1, 4)]

    with acting_as(ANN):
        assert api.runs.expected(questions.sweep(ranks=(16,))).pace is None
        for record in imported:
            api.workspace.store.begin(record.run_id)
        expected = Api(home=tmp_path, shared=True).runs.expected(questions.sweep(ranks=(16,)))

    assert 3 == len(expected.pace.source_ids)


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
