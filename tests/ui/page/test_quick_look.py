"""The quick look in a real browser: launched as Train offers it, and one more run added to one that has ended."""

import re

import pytest

from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data

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
