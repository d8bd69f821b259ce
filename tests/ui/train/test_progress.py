"""The right column of Train, its one button, and the line on every tab that says what trains."""

from dataclasses import replace

import pytest

from rankviz.core.runs.events import (
    Answered,
    GreedyAnswer,
    RunStarted,
    StageReached,
    StepLogged,
)
from rankviz.ui.runs.view import cancel
from rankviz.ui.train.tab import answers_html, progress, start
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, text_of
from tests.support.web.train_form import FORM


def queued(api, **settings):
    return api.workspace.store.create(questions.sweep(**{"ranks": (4, 16), "max_steps": 4, **settings}))


def running(api):
    """A sweep whose first run is at step 2 of 4; returns its id and that run's."""
    sweep_id = queued(api)
    run_id = api.workspace.store.sweep(sweep_id).runs[0].run_id
    api.workspace.store.append(run_id, RunStarted(time=1.0, environment={"device": "cpu"}))
    api.workspace.store.append(run_id, StageReached(time=2.0, stage="training"))
    for step in (1, 2):
        spent = {"tokens": 60 * step, "seconds": 3.0 * step, "memory_bytes": 2**30}
        api.workspace.store.append(run_id, StepLogged(time=1.0, step=step, loss=3.0, learning_rate=0.0, **spent))
    return sweep_id, run_id


def test_a_chosen_sweep_is_drawn_once_and_without_one_the_newest_is_named(api):
    newest = finished(api, {4: 2.0, 16: 1.5})

    shown = progress(api, sweep_id=newest.sweep_id, seen="")
    again = progress(api, sweep_id=newest.sweep_id, seen=shown.seen)
    nothing = progress(api, sweep_id="", seen="")

    assert "r = 4, 16 2 runs completed, " in text_of(shown.status)
    assert all((shown.curve, shown.words, shown.loss))
    assert "Train" == shown.start.value
    assert not hasattr(again, "curve")
    assert f"?tab=runs&amp;sweep={newest.sweep_id}" in nothing.status
    assert ("", "") == (nothing.curve, nothing.loss)


@pytest.mark.parametrize("others", [0, 1])
def test_a_sweep_that_was_deleted_is_one_sentence(api, others):
    left = [finished(api, {4: 2.0, 16: 1.5}) for _ in range(others)]
    deleted = finished(api, {4: 2.0}).sweep_id
    api.runs.delete(deleted)

    shown = progress(api, sweep_id=deleted, seen="")

    sentence = f"Sweep '{deleted}' is not here: it may have been deleted. The form stays as it is."
    assert 1 == text_of(shown.status).replace("&#x27;", "'").count(sentence)
    assert ("Train", False) == (shown.start.value, shown.cancel.visible)
    assert all(sweep.sweep_id in shown.status for sweep in left)


def test_while_a_sweep_runs_one_button_cancels_it_one_trains_more_and_the_loss_is_drawn(api):
    sweep_id, _ = running(api)

    shown = progress(api, sweep_id=sweep_id, seen="")

    assert ("Train another sweep", True) == (shown.start.value, shown.cancel.visible)
    assert "Cancel this sweep (r = 4, 16)" == shown.cancel.value
    assert shown.loss
    assert ("", "", "") == (shown.curve, shown.words, shown.answers)
    assert shown.timer.active


def test_another_sweep_starts_while_one_waits_and_cancel_ends_the_shown_one_alone(tmp_path):
    api, _ = page_with_elsewhere(tmp_path)
    api.workspace.work_queue = lambda: None
    first, _ = start(api, **FORM, engine="elsewhere", flavor=None, spend=2.0)
    second, _ = start(api, **FORM, engine="local", flavor=None, spend=2.0)

    cancel(api, first)

    assert (True, False) == (api.runs.sweep(first).ended, api.runs.sweep(second).ended)


def test_answers_of_the_base_stand_beside_those_of_the_lowest_and_the_highest_rank(api):
    sweep = finished(api, {4: 2.0, 8: 1.9, 16: 1.5})
    assert "" == answers_html(sweep)
    runs = tuple(_answered(run) for run in sweep.runs)

    shown = answers_html(replace(sweep, runs=runs))

    assert "Held-out prompt Reference Base r = 4 r = 16" in text_of(shown)
    assert "Say &lt;hi&gt;. hi no … (empty) yes 16" in text_of(shown)
    assert '<td class="rv-left rv-wrap" data-column="r = 16">yes 16</td>' in shown


def _answered(run):
    """With an answer to one prompt, before and after training."""

    def answered(when, text, *, ended):
        answer = GreedyAnswer(place=0, prompt="Say <hi>.", reference="hi", text=text, ended=ended)
        return Answered(time=1.0, when=when, answers=(answer,), seconds=1.0)

    before, after = (
        answered("before", "no", ended=False),
        answered("after", f"yes {run.request.r}" if run.request.r > 4 else " ", ended=True),
    )
    return replace(run, answered_before=before, answered_after=after)
