"""The views of Train and Runs as Gradio calls them, on runs folders of their own."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import RunFailed
from rankviz.errors import UserError
from rankviz.ui.runs.view import MOST_ROWS, choice_of, delete, detail_html, imported, list_html, zip_of
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished, plain_sweep, text_of
from tests.support.web.runs_tab import drawn


def test_a_failed_run_shows_its_error_and_the_end_of_its_log(api):
    sweep_id = api.workspace.store.create(questions.sweep(ranks=(4,)))
    run_id = api.workspace.store.sweep(sweep_id).runs[0].run_id
    api.workspace.store.append(
        run_id, RunFailed(time=2.0, error="Out of <memory>.", exit_code=1, log_tail="Traceback <b>")
    )

    shown = detail_html(api, api.runs.get(run_id))

    assert "Out of &lt;memory&gt;." in shown
    assert "Traceback &lt;b&gt;" in shown


def test_a_click_opens_a_sweep_or_a_run_and_a_second_click_closes_the_run(api):
    sweep = finished(api, {4: 2.0, 16: 1.5})
    first, sweep_id = sweep.runs[0].run_id, sweep.sweep_id

    assert (sweep_id, "") == choice_of(api, sweep_id) == choice_of(api, first, first)
    assert (sweep_id, first) == choice_of(api, first)
    assert (
        f'data-tick="{first}" aria-label="Show r = 4" checked'
        in drawn(api, sweep_id=sweep_id, selected=[first]).results
    )


def test_one_run_is_cancelled_while_it_has_not_ended(api):
    done = finished(api, {4: 2.0})
    queued = api.workspace.store.sweep(api.workspace.store.create(questions.sweep(ranks=(4, 16))))
    first, second = (run.run_id for run in queued.runs)

    assert drawn(api, sweep_id=queued.sweep_id, run_id=first).cancel_run.visible
    api.runs.cancel(first)

    assert ["cancelled", "queued"] == [api.runs.get(each).state for each in (first, second)]
    assert not drawn(api, sweep_id=queued.sweep_id, run_id=first).cancel_run.visible
    assert not drawn(api, sweep_id=done.sweep_id, run_id=done.runs[0].run_id).cancel_run.visible


def test_selected_runs_leave_as_a_zip_and_come_back(api, tmp_path):
    sweep = finished(api, {4: 2.0, 16: 1.5})
    path = zip_of(api, [run.run_id for run in sweep.runs])

    other = Api(home=tmp_path / "other")
    assert (sweep.sweep_id, "") == imported(other, path)
    assert [2.0, 1.5] == [run.loss_after.loss for run in other.runs.sweep(sweep.sweep_id).runs]
    with pytest.raises(UserError, match="Select at least one run"):
        zip_of(api, [])


def test_a_run_that_cannot_be_read_is_one_row_with_its_reason(api):
    good = finished(api, {4: 2.0}).runs[0].run_id
    spoiled = finished(api, {16: 2.0}).runs[0].run_id
    request = api.workspace.store.run_dir(spoiled) / "request.json"
    request.write_text(request.read_text().replace('"r": 16', '"r": -3'))
    fresh = Api(home=api.workspace.home)

    view = drawn(fresh, sweep_id=spoiled)

    assert f"{spoiled} unreadable: Rank must be a whole number from 1 to 1,024 (got -3)." in text_of(view.table)
    assert f'data-pick="{fresh.runs.get(good).request.sweep_id}"' in view.table
    assert "cannot be read: Rank must be" in text_of(view.message)
    assert "unreadable" not in drawn(fresh, text="completed").table
    assert f'data-pick="{spoiled}"' in view.table and (spoiled, "") == choice_of(fresh, spoiled)
    assert view.delete_broken.visible and not drawn(fresh).delete_broken.visible
    assert ("", "") == delete(fresh, spoiled)
    assert {} == Api(home=fresh.workspace.home).runs.unreadable()


def test_of_thousands_of_sweeps_the_newest_are_listed_and_the_others_found_by_the_filter():
    many = [replace(plain_sweep({4: 2.0}), sweep_id=f"s{number}") for number in range(MOST_ROWS + 2)]
    recorded = replace(plain_sweep({4: 2.0}), sweep_id="shipped", recorded=True)

    table = list_html([*many, recorded])

    assert MOST_ROWS + 1 == table.count("<tr") - 1
    assert "shipped" in table
    assert "Not listed: 2 older sweeps. Use the filter to find them." in table
    assert "Not listed" not in list_html(many[2:])
