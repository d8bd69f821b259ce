"""Where a sweep is and what it has cost so far, as the page says it."""

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AttemptPlaced, RunCompleted, RunStarted
from rankviz.jobs.hub import Cost
from rankviz.store.ownership import WantedEngine
from rankviz.ui.parts.live import place_html
from tests.support.engines.hub_jobs import page_on
from tests.support.runs import questions
from tests.support.runs.finished_runs import text_of

DONE = {"train_seconds": 1.0, "peak_memory_bytes": 1, "peak_memory_kind": "GPU allocated"}
THERE = WantedEngine("hf-jobs", {"flavor": "l4x1", "spend": "5"})


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "own", shared=False)


def placed(engine, where, attempt=1, **fields):
    return AttemptPlaced(time=1.0, attempt=attempt, engine=engine, where=where, **fields)


def sweep_of(api, *journals, destination=None, owner=""):
    """A sweep with a run for each journal."""
    store = api.workspace.store
    request = questions.sweep(ranks=tuple(2**n for n in range(1, len(journals) + 1)))
    sweep_id = store.create(request, owner, destination or WantedEngine())
    for run_id, events in zip(store.run_ids(sweep_id), journals, strict=True):
        for event in events:
            store.append(run_id, event)
    return api.runs.sweep(sweep_id)


def begun(at=0.0, attempt=1):
    return RunStarted(time=at, environment={}, attempt=attempt)


def completed(at, attempt=1):
    return RunCompleted(time=at, attempt=attempt, **DONE)


def test_a_rented_machine_has_a_price_of_the_whole_sweep(tmp_path, hub):
    with page_on(hub, tmp_path / "home") as api:
        sweep = sweep_of(api, [placed("hf-jobs", "l4x1"), begun(1.0), completed(91.0)], destination=THERE)
        engine = next(each for each in api.workspace.supervisor.engines if each.name == "hf-jobs")
        engine.ledger.add(sweep.sweep_id, "a-job", Cost(0.4, 0.4))

        words = "$0.40 of at most $5.00 on Hugging Face Jobs, 2 min in runs"
        assert f"Ran on Hugging Face Jobs, l4x1. Cost so far: {words}." == text_of(place_html(api, sweep))
