"""One sweep on the Runs tab, and what a fast curve says there."""

import json
import zipfile

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import AdapterCut, AdapterSaved, Evaluated, RunCompleted, RunStarted
from rankviz.ui.parts.charts import curve
from rankviz.ui.runs import view as page
from tests.support.runs import questions
from tests.support.runs.finished_runs import counted, text_of


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path)


def evaluated(when, loss, **counts):
    return Evaluated(
        time=4.0,
        when=when,
        loss=loss,
        tokens=100,
        examples=2,
        seconds=1.0,
        example_losses=(loss - 0.1, loss + 0.1),
        **counts,
    )


def fast(api, *, cuts, trained=1.600, independent=None, saved=""):
    """A finished fast curve from r = 64."""
    independent = independent or {}
    sweep_id = api.workspace.store.create(
        questions.sweep(ranks=(64, *independent), cut_ranks=tuple(cuts), max_steps=40)
    )
    for run in api.workspace.store.sweep(sweep_id).runs:
        r = run.request.r
        events = [
            RunStarted(time=1.0, environment={"device": "cpu", "device_name": "a CPU", "cpu_count": 2}),
            evaluated("before", 7.0),
            evaluated("after", independent.get(r, trained)),
            AdapterSaved(time=8.0, path="adapter", file_bytes=1_000_000 * r),
        ]
        if r == 64:
            events += [
                AdapterCut(
                    time=9.0,
                    r=k,
                    loss=loss,
                    tokens=100,
                    examples=2,
                    seconds=1.0,
                    example_losses=(loss, loss),
                    recovery_steps=2 if k < 8 else 0,
                    path=saved if k < 8 else "",
                )
                for k, loss in cuts.items()
            ]
        events.append(RunCompleted(time=9.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x"))
        for event in events:
            api.workspace.store.append(run.run_id, event)
    return api.workspace.store.sweep(sweep_id)


def shipped_rank(api, sweep):
    reading = api.verdicts.fast_curve(sweep.sweep_id)
    return reading.shippable.r if reading and reading.shippable else None


CUTS = {32: 1.601, 8: 1.612, 2: 1.700}


@pytest.mark.parametrize(
    ("cuts", "rank"),
    [
        (CUTS, 8),
        ({8: 1.601, 2: 1.602}, 8),  # 2 would do after training on, which the trained adapter has not
        ({32: 1.9}, None),
    ],
)
def test_train_high_and_ship_low_is_offered_where_the_numbers_say_so(api, cuts, rank):
    assert rank == shipped_rank(api, fast(api, cuts=cuts))


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
    with zipfile.ZipFile(page.shipped_adapter(api, sweep.sweep_id, "0.2")) as archive:
        assert b"adapter_config.json in adapter" == archive.read("adapter-r4/adapter_config.json")


def test_an_invalid_tolerance_gives_a_notice_and_the_default(api):
    sweep = fast(api, cuts=CUTS)

    drawn, notice = page.curve_within(api, sweep, "a little")

    assert curve(api, sweep, height=page.HEIGHT) == drawn
    assert "a little" in notice
    assert text_of(notice).endswith("Shown with 0.02 nats.")
    assert (curve(api, sweep, "2%", height=page.HEIGHT), "") == page.curve_within(api, sweep, "2%")


def shown(api, sweep, **chosen):
    return page.sweep_view(api, sweep, **{"tolerance": "1", **chosen})


def test_the_choice_of_quality_decides_figures_verdict_and_tolerance(api):
    sweep = counted(api, {4: 60, 16: 80})

    view = shown(api, sweep, metric="token_accuracy")

    by_rank, tradeoff = (json.loads(drawn) for drawn in (view.by_rank, view.tradeoff))
    assert [[81.0], [61.0]] == [trace["y"] for trace in by_rank["data"]]  # the best, then what is worse
    assert "token accuracy on held-out tokens, % (higher is better)" == by_rank["layout"]["yaxis"]["title"]["text"]
    assert "Below r = 16, points" in text_of(view.above_best) and "+20.0" in text_of(view.above_best)
    assert [[81.0], [61.0]] == [trace["y"] for trace in tradeoff["data"] if "text" in trace]
    assert "Worse than r = 16 by more than the noise" in text_of(view.words)
    assert "(points, or 2% of the gain over the base)" in view.tolerance.label
    assert by_rank["csv"].splitlines()[0].startswith("kind,r,token_accuracy_percent,")
