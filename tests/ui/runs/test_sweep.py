"""One sweep on the Runs tab, and what a fast curve says there."""

import json
import zipfile

from rankviz.core.runs.events import AdapterCut, AdapterSaved, Evaluated, RunCompleted, RunStarted
from rankviz.ui.parts.sweep import sweep_view
from rankviz.ui.runs.view import shipped_adapter
from tests.support.runs import questions
from tests.support.runs.finished_runs import counted, text_of


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


def fast(api, *, cuts, independent):
    """A finished fast curve from r = 64."""
    sweep_id = api.workspace.store.create(
        questions.sweep(ranks=(64, *independent), cut_ranks=tuple(cuts), max_steps=40)
    )
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
                AdapterCut(
                    time=9.0,
                    r=k,
                    loss=loss,
                    tokens=100,
                    examples=2,
                    seconds=1.0,
                    example_losses=(loss, loss),
                    recovery_steps=2 if k < 8 else 0,
                )
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
    assert [[81.0], [61.0]] == [trace["y"] for trace in tradeoff["data"] if "text" in trace]
    assert "Worse than r = 16 by more than the noise" in text_of(view.words)
    assert "(points, or 2% of the gain over the base)" in view.tolerance.label
    assert by_rank["csv"].splitlines()[0].startswith("kind,r,token_accuracy_percent,")
