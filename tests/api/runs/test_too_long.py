"""A run that cannot be done within the minutes that a server lets a run take is refused before it is queued."""

import time

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.core.runs.request import fast_ranks, quick_look, usual_seeds
from rankviz.errors import LimitError
from rankviz.jobs import Nodes
from rankviz.settings import SHARED_LIMITS
from rankviz.store.ownership import Ownership, WantedEngine, write_ownership
from rankviz.visitor import acting_as
from tests.api.runs.test_measured import finish
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.runs import questions
from tests.support.web.visitors import ADMIN, ANN, BEN

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
    there.seen = Nodes(gpus=["L4"], has_gpu=True)
    sweep_id, usual = failed(api, engine, **FOR_MONTHS), failed(api, engine)
    asked = questions.sweep(ranks=(4, 8), **FOR_MONTHS)

    for refused in (
        lambda: api.engines.check(asked, engine),
        lambda: api.engines.start(asked, engine),
        lambda: api.engines.start(quick_look(asked), engine),
        lambda: api.moves.check(sweep_id),
        lambda: api.moves.resume(sweep_id),
        lambda: api.moves.resume(sweep_id, "elsewhere" if engine == "local" else "local"),
        lambda: api.moves.add(sweep_id, 8),
        lambda: api.moves.resume(sweep_id),
        lambda: api.moves.add(sweep_id, 8),
    ):
        with pytest.raises(LimitError, match=REFUSED) as error:
            refused()
        assert "run_minutes" == error.value.limit
    assert 2 == len(api.workspace.store.records())  # the two that were here

    assert 1 == len(api.moves.resume(usual))


def three_runs(api, visitor, *, step=600.0, **settings):
    """Finished runs of this visitor, made here, whose steps took so many seconds."""
    store = api.workspace.store
    for second in (3, 2, 1):
        with acting_as(ADMIN):
            record = finish(api, time.time() - second, step=step, **settings)
        write_ownership(store.run_dir(record.run_id), Ownership(visitor.id))
        store.begin(record.run_id)


def rows_of(api, tmp_path, visitor):
    """A file of this visitor, as their runs have it."""
    file = tmp_path / f"{visitor.id}.jsonl"
    file.write_text(f'{{"prompt": "of {visitor.id}", "completion": "{"a word " * 20}"}}\n' * 40)
    return str(api.workspace.store.keep(file, visitor.id))


@pytest.mark.parametrize("like", ["its data", "a sample"])
def test_what_runs_of_other_visitors_took_is_announced_and_refuses_nothing(page, tmp_path, like):
    """Whose rows have many more tokens than their characters promise, or who chose the longest."""
    api, _ = page
    data = rows_of(api, tmp_path, BEN) if like == "its data" else questions.sweep().data
    three_runs(api, BEN, data=data, max_steps=6)

    for asked in (questions.sweep(ranks=(4,)), questions.sweep(ranks=(4,), data=rows_of(api, tmp_path, ANN))):
        plan = api.engines.check(asked)

        assert plan.expected.time.longest_run.expected > 20 * 60
        assert "from 3 finished runs here" in plan.expected.sentences[0]
        assert plan.expected.too_long


def fast(ranks):
    trained, truncated = fast_ranks(ranks, ())
    return questions.sweep(ranks=trained, cut_ranks=truncated)


USUAL = {
    "sweep": lambda: questions.sweep(seeds=tuple(range(usual_seeds("sweep"))), ranks=(4, 16, 64)),
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
