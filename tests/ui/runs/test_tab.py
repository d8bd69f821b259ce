"""The views of Train and Runs as Gradio calls them, one sweep, and what a fast curve says there."""

import json
import zipfile
from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AdapterCut, AdapterSaved, Evaluated, RunCompleted, RunFailed, RunStarted
from rankviz.errors import UserError
from rankviz.ui.parts.sweep import sweep_view
from rankviz.ui.runs.view import MOST_ROWS, choice_of, delete, detail_html, imported, list_html, shipped_adapter, zip_of
from tests.support.runs import questions
from tests.support.runs.finished_runs import counted, finished, plain_sweep, text_of
from tests.support.web.tabs import drawn


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
    shown = drawn(api, sweep_id=sweep_id, selected=[first])
    assert f'data-tick="{first}" aria-label="Show r = 4" checked' in shown.results


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


def test_of_thousands_of_sweeps_the_newest_are_listed_and_the_others_found_by_the_filter(api):
    many = [replace(plain_sweep({4: 2.0}), sweep_id=f"s{number}") for number in range(MOST_ROWS + 2)]
    recorded = replace(plain_sweep({4: 2.0}), sweep_id="shipped", recorded=True)

    table = list_html(api, [*many, recorded], {})

    assert MOST_ROWS + 1 == table.count("<tr") - 2  # heads, one of them in the fold
    assert 12 == table.partition("<details")[0].count("<tr") - 1
    assert "shipped" in table
    assert "Not listed: 2 older sweeps. Use the filter to find them." in table
    assert "Not listed" not in list_html(api, many[2:], {})


COUNTS = {"tokens": 100, "examples": 2, "seconds": 1.0}


def evaluated(when, loss, **counts):
    losses = loss - 0.1, loss + 0.1
    return Evaluated(time=4.0, when=when, loss=loss, example_losses=losses, **COUNTS, **counts)


def fast(api, *, cuts, independent):
    """A finished fast curve from r = 64."""
    asked = questions.sweep(ranks=(64, *independent), cut_ranks=tuple(cuts), max_steps=40)
    sweep_id = api.workspace.store.create(asked)
    for run in api.workspace.store.sweep(sweep_id).runs:
        r = run.request.r
        events = [
            RunStarted(time=1.0, environment={"device": "cpu", "device_name": "a CPU", "cpu_count": 2}),
            evaluated("before", 7.0),
            evaluated("after", independent.get(r, 1.600)),
            AdapterSaved(time=8.0, path="adapter", file_bytes=1_000_000 * r),
        ]
        if r == 64:
            events += [
                AdapterCut(time=9.0, r=k, loss=loss, example_losses=(loss, loss), recovery_steps=2 * (k < 8), **COUNTS)
                for k, loss in cuts.items()
            ]
        events.append(RunCompleted(time=9.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x"))
        for event in events:
            api.workspace.store.append(run.run_id, event)
    return api.workspace.store.sweep(sweep_id)


CUTS = {32: 1.601, 8: 1.612, 2: 1.700}


def write_adapter(folder):
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_text(f"{name} in {folder.name}")


def test_the_button_offers_the_smallest_good_adapter(api):
    """The run at r = 4 is within the tolerance, and the truncated adapters, which are higher ones, do not count."""
    sweep = fast(api, cuts=CUTS, independent={4: 1.75})
    for run in sweep.runs:
        write_adapter(api.workspace.store.run_dir(run.run_id) / "adapter")

    near, far = (shown(api, sweep, tolerance=tolerance) for tolerance in ("0.02", "0.2"))

    assert "Smallest good adapter r = 8, about 8.0 MB" in text_of(near.summary)
    assert ("Download the adapter truncated to r = 8 (zip)", True) == (near.ship.value, near.ship.visible)
    assert "Smallest good adapter r = 4, 4.0 MB" in text_of(far.summary)
    assert ("Download the adapter of r = 4 (zip)", True) == (far.ship.value, far.ship.visible)
    with zipfile.ZipFile(shipped_adapter(api, sweep.sweep_id, "0.2")) as archive:
        assert b"adapter_config.json in adapter" == archive.read("adapter-r4/adapter_config.json")


def shown(api, sweep, **chosen):
    return sweep_view(api, sweep, **{"tolerance": "1", **chosen})


def test_the_choice_of_quality_decides_figures_verdict_and_tolerance(api):
    sweep = counted(api, {4: 60, 16: 80})

    view = shown(api, sweep, metric="token_accuracy")

    by_rank, tradeoff = (json.loads(drawn) for drawn in (view.by_rank, view.tradeoff))
    assert [[81.0], [61.0]] == [trace["y"] for trace in by_rank["data"]]  # the best, then what is worse
    assert "token accuracy on held-out tokens, % (higher is better)" == by_rank["layout"]["yaxis"]["title"]["text"]
    assert "Below r = 16, points" in text_of(view.above_best) and "+20.0" in text_of(view.above_best)
    assert [[81.0], [61.0]] == [trace["y"] for trace in tradeoff["data"] if trace["name"].startswith("measured")]
    assert "Worse than r = 16 by more than the noise" in text_of(view.words)
    assert "(points, or 2% of the gain over the base)" in view.tolerance.label
    assert by_rank["csv"].splitlines()[0].startswith("kind,r,token_accuracy_percent,")
