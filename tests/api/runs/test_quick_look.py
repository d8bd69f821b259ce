"""A quick look and forecasts from runs as operations: what they refuse, when they answer, and what may be added."""

from dataclasses import replace

import pytest

from rankviz.core.forecast.quick_look import measured_cells
from rankviz.core.runs.request import quick_look
from rankviz.errors import InvalidSettingError, RunNotFoundError
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, finished_events, plain_sweep


def test_one_repeat_gives_the_band_and_leaves_the_verdict_to_sweeps_with_repeats_of_every_rank(api):
    sweep_id = api.workspace.store.create(quick_look(questions.sweep(max_steps=2)))
    for run, loss in zip(api.workspace.store.sweep(sweep_id).runs, (2.0, 1.5, 2.01), strict=True):
        for event in finished_events(run.request, loss - 0.1 * run.request.seed):
            api.workspace.store.append(run.run_id, event)

    decision = api.verdicts.decide(sweep_id)

    assert (None, None, 64) == (decision.settled, decision.forecast.repeat_at, decision.train.r)
    assert decision.forecast.noise_nats == pytest.approx(0.01 / 2**0.5)
    assert all(rank.low_80 < rank.median < rank.high_80 for rank in decision.forecast.ranks)


def test_a_recorded_sweep_and_one_that_is_not_there_take_no_more_runs(api):
    with pytest.raises(InvalidSettingError, match="Train one of your own"):
        api.runs.add(api.runs.recorded()[0].sweep_id, 24)
    with pytest.raises(RunNotFoundError):
        api.runs.add("nothing", 16)


def test_an_added_run_takes_the_rate_of_the_best_run_at_the_highest_rank(api):
    sweep_id = api.workspace.store.create(
        questions.sweep(ranks=(4, 64), learning_rates=(1e-2, 1e-3, 3e-4), max_steps=2)
    )
    losses = {1e-2: float("nan"), 1e-3: 1.8, 3e-4: 1.9}
    for run in api.workspace.store.sweep(sweep_id).runs:
        low = 0.5 if run.request.r == 4 and run.request.learning_rate == 3e-4 else 0
        for event in finished_events(run.request, losses[run.request.learning_rate] - low):
            api.workspace.store.append(run.run_id, event)

    assert 1e-3 == api.runs.added_request(sweep_id, 16).learning_rate


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
