"""Forecasts by model and use case, and bent by a sweep's own runs."""

from dataclasses import replace

import pytest

from rankviz.core.forecast.quick_look import measured_cells
from rankviz.errors import InvalidSettingError
from tests.support.runs.finished_runs import finished, plain_sweep


def test_a_sweep_of_another_base_is_refused_with_the_model_that_fits(api):
    sweep = finished(api, {4: 1.4, 64: 1.0})

    with pytest.raises(InvalidSettingError) as refused:
        api.studies.forecasts("Qwen/Qwen3-4B", runs=sweep.sweep_id)

    assert "trained embedded, not Qwen/Qwen3-4B" in str(refused.value)
    assert "give the model embedded, or leave the sweep out" in str(refused.value)


def changed(runs, **more):
    return tuple(replace(run, request=replace(run.request, **more)) for run in runs)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"learning_rate": 0.02}, "no learning rate in common"), ({"data": "pairs"}, "different base models or data")],
)
def test_runs_that_cannot_be_compared_are_refused(more, message):
    low, high = plain_sweep({4: 1.4, 64: 1.0}).runs

    with pytest.raises(InvalidSettingError, match=message):
        measured_cells((low, *changed([high], **more)))
