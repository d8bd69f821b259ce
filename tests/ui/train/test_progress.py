"""The right column of Train, its one button, and the line on every tab that says what trains."""

import pytest

from rankviz.ui.runs.view import cancel
from rankviz.ui.train.tab import progress, start
from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.runs.finished_runs import finished, text_of
from tests.support.web.train_form import FORM


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


def test_another_sweep_starts_while_one_waits_and_cancel_ends_the_shown_one_alone(tmp_path):
    api, _ = page_with_elsewhere(tmp_path)
    api.workspace.work_queue = lambda: None
    first, _ = start(api, **FORM, engine="elsewhere", flavor=None, spend=2.0)
    second, _ = start(api, **FORM, engine="local", flavor=None, spend=2.0)

    cancel(api, first)

    assert (True, False) == (api.runs.sweep(first).ended, api.runs.sweep(second).ended)
