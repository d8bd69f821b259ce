"""The right column of Train, its one button, and the line on every tab that says what trains."""

import json

import pytest

from rankviz.core.runs.events import RunStarted, StageReached, StepLogged
from rankviz.ui.train.tab import examples, now, progress, start
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, text_of
from tests.support.web.tabs import FORM


def running(api):
    """Return the id of a queued sweep whose first run is at step 2 of 4."""
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4, 16), max_steps=4))
    run_id = api.workspace.store.sweep(sweep_id).runs[0].run_id
    api.workspace.store.append(run_id, RunStarted(time=1.0, environment={"device": "cpu"}))
    api.workspace.store.append(run_id, StageReached(time=2.0, stage="training"))
    for step in (1, 2):
        spent = {"tokens": 60 * step, "seconds": 3.0 * step, "memory_bytes": 2**30}
        api.workspace.store.append(run_id, StepLogged(time=1.0, step=step, loss=3.0, learning_rate=0.0, **spent))
    return sweep_id


def test_a_chosen_sweep_is_drawn_once_and_without_one_the_newest_is_named(api):
    newest = finished(api, {4: 2.0, 16: 1.5})

    shown = progress(api, sweep_id=newest.sweep_id, seen="")
    again = progress(api, sweep_id=newest.sweep_id, seen=shown.seen)
    further = progress(api, sweep_id=newest.sweep_id, seen=f"{newest.sweep_id} before")
    counted = progress(api, sweep_id=newest.sweep_id, seen=f"{newest.sweep_id} 2 before")
    nothing = progress(api, sweep_id="", seen="")

    assert "r = 4, 16 2 runs completed, " in text_of(shown.status)
    assert all((shown.by_rank, shown.summary, shown.loss))
    assert "Train" == shown.start.value
    assert ("Add a repeat at r = 4", False) == (shown.add.value, shown.resume.visible)
    assert not nothing.add.visible and not hasattr(again, "by_rank")
    assert ("", "") == (shown.code, shown.replies)
    assert hasattr(further, "by_rank") and not hasattr(further, "replies")
    assert (True, False) == (further.again.active, hasattr(counted, "again"))
    assert all(f"?tab={tab}&amp;sweep={newest.sweep_id}" in nothing.status for tab in ("runs", "train"))
    assert ("", "") == (nothing.by_rank, nothing.loss)


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


def test_without_a_chosen_sweep_the_one_that_trains_is_chosen_and_drawn(api):
    sweep_id = running(api)

    shown = progress(api, sweep_id="", seen="")

    assert (sweep_id, True, True) == (shown.sweep_id, shown.cancel.visible, shown.timer.active)
    assert "Time left" in shown.status
    assert not hasattr(progress(api, sweep_id=sweep_id, seen=""), "sweep_id")


def test_the_badge_says_which_run_trains_and_how_far_and_leads_to_it(api):
    assert "" == now(api).line
    sweep_id = running(api)
    api.workspace.store.create(questions.sweep())

    line = now(api).line

    assert text_of(line).startswith("Training r = 4, 16: run 1 of 2, ") and text_of(line).endswith(", 1 more sweep")
    assert f'data-pick="{sweep_id}"' in line


def test_another_sweep_starts_while_one_waits_and_cancel_ends_the_shown_one_alone(tmp_path):
    api, _ = page_with_elsewhere(tmp_path)
    api.workspace.work_queue = lambda: None
    first, _ = start(api, **FORM, engine="elsewhere", flavor=None, spend=2.0)
    second, _ = start(api, **FORM, engine="local", flavor=None, spend=2.0)

    api.runs.cancel(first)

    assert (True, False) == (api.runs.sweep(first).ended, api.runs.sweep(second).ended)


def test_two_recorded_sweeps_stand_side_by_side_until_one_has_a_sweep(api):
    shown = examples(api, sweep_id="")

    assert shown.box.visible
    assert 2 == sum(
        json.loads(each)["layout"]["yaxis"]["range"] == [0, 2.58] for each in (shown.matters, shown.does_not)
    )
    assert "differ by 8.4 times the noise" in shown.matters_words and '"data"' in shown.matters
    assert "even the smallest rank has enough" in shown.does_not_words and '"data"' in shown.does_not
    finished(api, {4: 2.0, 16: 1.5})
    assert not examples(api, sweep_id="").box.visible
