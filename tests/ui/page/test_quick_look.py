"""The quick look in a real browser: launched as Train offers it, and one more run added to one that has ended."""

import re
from dataclasses import replace

import pytest

from rankviz.core.runs.events import RunStarted
from rankviz.store import RunStore, export_runs, import_runs
from rankviz.store.durable import digest_of
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.runs import questions
from tests.support.runs.finished_runs import finished_events

RUN_MILLISECONDS = 900_000
NAMES = "document.querySelector('#train-curve .rv-plot').data?.map(trace => trace.name)"

pytestmark = pytest.mark.browser


def test_the_first_mode_of_train_is_a_quick_look_whose_band_lies_between_its_runs(page, tmp_path):
    base, data = make_tiny_llama(tmp_path / "tiny-llama"), write_tiny_data(tmp_path / "letters.jsonl")
    page.goto("/?tab=train")
    page.locator("#train-base input").click()
    page.keyboard.type(str(base))
    page.keyboard.press("Enter")
    page.get_by_label("Own file").check()
    page.locator("#train-file input[type=file]").set_input_files(data)
    page.locator("#train-preview", has_text="96 examples").wait_for()
    assert page.get_by_label("Quick look: two ranks and a repeat").is_checked()
    assert page.get_by_label("Seeds").is_hidden()
    for r, other in ((4, 2), (64, 8)):
        page.locator("#train-ranks").get_by_label(str(r), exact=True).uncheck()
        page.locator("#train-ranks").get_by_label(str(other), exact=True).check()
    page.get_by_label("Steps per run").fill("6")
    page.locator("#expected", has_text="3 runs, the highest rank truncated to 3 lower ranks").wait_for()

    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_url("**sweep=**")
    page.locator("#status", has_text="3 runs completed").wait_for(timeout=RUN_MILLISECONDS)

    names = ["estimated, 80 % band", "50 % band", "fast curve", "measured runs"]
    page.wait_for_function(f"names => JSON.stringify([...new Set({NAMES})]) === JSON.stringify(names)", arg=names)
    ranks = page.evaluate("document.querySelector('#train-curve .rv-plot').data[2].x")
    assert [2, 4, 8] == list(ranks)
    words = page.locator("#train-words")
    words.get_by_role("heading", name=re.compile("Train next|rank so far")).wait_for()
    words.get_by_role("heading", name="Smallest good adapter").wait_for()
    page.locator("#status").get_by_role("link", name="Open this sweep on Runs").click()
    page.locator("#sweep-summary", has_text="Smallest good adapter").wait_for()
    page.wait_for_function(f"{NAMES.replace('train', 'sweep')}?.includes('estimated, 80 % band')")


@pytest.mark.slow
@pytest.mark.parametrize(("tab", "status", "part"), [("train", "#status", "train"), ("runs", "#sweep-status", "sweep")])
def test_a_repeat_that_measures_the_noise_is_added_to_its_sweep_by_a_click(page, home, tmp_path, tab, status, part):
    base, data = make_tiny_llama(tmp_path / "tiny-llama"), write_tiny_data(tmp_path / "letters.jsonl")
    elsewhere = RunStore(tmp_path / "elsewhere")
    sweep_id = elsewhere.create(
        questions.sweep(base=str(base), data=str(data), ranks=(4, 64), max_steps=2, held_out_examples=16)
    )
    for run, loss in zip(elsewhere.sweep(sweep_id).runs, (3.0, 1.6), strict=True):
        for event in finished_events(run.request, loss):
            if isinstance(event, RunStarted):
                event = replace(event, environment={**event.environment, "data_fingerprint": digest_of(data)})
            elsewhere.append(run.run_id, event)
    import_runs(RunStore(home), export_runs([elsewhere], [sweep_id], tmp_path / "runs.zip"))
    page.goto(f"/?tab={tab}&sweep={sweep_id}")
    add = page.get_by_role("button", name=re.compile(r"^Add a repeat at r = 4 \(training "))
    add.wait_for()

    add.click()

    page.locator(status, has_text="3 runs completed").wait_for(timeout=RUN_MILLISECONDS)
    page.wait_for_function(f"document.querySelector('#{part}-curve .rv-plot').data.at(-1).x.length === 2")
    page.wait_for_function(f"{NAMES.replace('train', part)}?.includes('estimated, 80 % band')")
    page.get_by_role("button", name="Details" if tab == "runs" else "Runs: measured and estimated").click()
    page.locator(f"#{part}-results tbody tr").nth(2).wait_for()
    assert 3 == page.locator(f"#{part}-results tbody tr").count()
