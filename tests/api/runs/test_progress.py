"""How far a sweep is, told from what has finished on this machine."""

import time

import pytest

from rankviz import machine
from rankviz.api import Api
from rankviz.core.cost.pace import LIBRARIES
from rankviz.core.runs.events import RunCompleted, RunStarted, StageReached, StepLogged
from tests.support.runs import questions


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=False)


def test_how_far_a_sweep_is_follows_from_earlier_runs_of_the_same_work_here(api):
    def begun(since):
        store = api.workspace.store
        sweep_id = store.create(questions.sweep(ranks=(8,), shown_answers=0))
        run_id = store.run_ids(sweep_id)[0]
        for at, stage in enumerate(("reading the data", "getting the base", "importing Unsloth")):
            store.append(run_id, StageReached(time=since + at, stage=stage))
        return sweep_id, run_id

    sweep_id, run_id = begun(1000.0)
    assert api.runs.progress(api.runs.sweep(sweep_id)).seconds_left is None
    here = {**machine.here(), "versions": machine.versions(LIBRARIES)}
    began = 1012.0
    for event in (
        StageReached(time=began, stage="loading the base"),
        RunStarted(time=began + 5, environment=here),
        StageReached(time=began + 5, stage="evaluating the base"),
        StageReached(time=began + 15, stage="training"),
        *(
            StepLogged(time=began, step=n, loss=1.0, learning_rate=1e-3, tokens=9, seconds=3.0 * n, memory_bytes=1)
            for n in (1, 2)
        ),
        StageReached(time=began + 40, stage="evaluating the adapter"),
        RunCompleted(time=began + 50, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x"),
    ):
        api.workspace.store.append(run_id, event)

    later, _ = begun(time.time() - 30.0)
    progress = api.runs.progress(api.runs.sweep(later))

    # The import has 28 s behind it and took 10 before; loading 5, evaluating twice 10, 40 steps of 3 s.
    assert 5 + 10 + 120 + 10 == pytest.approx(progress.seconds_left)
    assert "importing Unsloth" == progress.stage
