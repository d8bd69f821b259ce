"""Train in a real browser, without a training: filled from Explore, corrected, and sent to a stand-in."""

import re

import pytest

from tests.support.engines.hub_jobs import StandInHub
from tests.support.processes.workers import wait_for
from tests.support.web.serving import serving
from tests.ui.conftest import WAIT_MILLISECONDS

pytestmark = pytest.mark.browser


def test_explores_button_fills_train_with_what_can_be_trained_here(page, tmp_path):
    data = tmp_path / "faq.csv"
    data.write_text("frage,antwort,quelle\n" + "Was ist das?,Ein Äpfel,x\n" * 96, encoding="cp1252")
    page.goto("/?model=Qwen/Qwen3-4B&targets=attention&section=export")
    page.locator("#figures [title]").first.wait_for()
    page.locator("input[type=file][accept*='.parquet']").first.set_input_files(data)
    page.locator("#file-note .rv-error", has_text="faq.csv has the columns frage, antwort, quelle").wait_for()
    page.get_by_label("Columns: question → answer").first.click()
    page.get_by_role("option", name="frage → antwort", exact=True).click()
    page.locator("#file-note", has_text="96 examples").wait_for()
    page.locator("#slot-length-note", has_text="96 examples are few").wait_for()
    page.locator("#script", has_text='columns = {"instruction": "frage", "output": "antwort"}').wait_for()
    page.get_by_role("button", name="Quick look: train r = 4 and 64").click()

    page.locator("#train-replaced", has_text="Qwen3-4B cannot be trained here now").wait_for()
    page.wait_for_function("document.querySelector('#train-base input')?.value?.startsWith('SmolLM2')")
    page.wait_for_url("**tab=train**")
    page.wait_for_function("document.activeElement.id === 'train-button'")
    page.locator("#expected", has_text="3 runs").wait_for()
    assert page.get_by_label("Quick look", exact=True).is_checked()
    assert page.get_by_label("faq.csv", exact=True).is_checked()
    page.locator("#train-preview", has_text="frage as instruction, antwort as output. Read as CP1252").wait_for()
    page.get_by_label("Own file").check()
    page.locator("#expected", has_text="Upload a file with your data").wait_for()
    assert not page.locator("#train-notice .rv-error").count()


def test_ranks_rate_and_steps_are_in_sight_and_the_time_is_one_number_before_the_first_run(page):
    page.goto("/?tab=train")
    page.locator("#expected", has_text="3 runs").wait_for()
    page.locator("#train-preview details").wait_for()

    bar = page.locator("#train-bar").bounding_box()["y"]
    boxes = [page.locator(f"#train-{part}").bounding_box() for part in ("ranks", "rates", "steps")]
    assert all(box["y"] + box["height"] <= bar for box in boxes) and 0 == page.evaluate("scrollY")
    assert re.search(r": estimated time up to [\w ]+; closer after the first run\.", page.inner_text("#expected"))
    assert "24" == page.get_by_label("Steps per run").input_value()
    page.get_by_label("Sweep", exact=True).check()
    page.wait_for_function("document.querySelector('#train-steps input').value === '40'")


def test_a_sweep_goes_to_a_rented_machine_within_its_limit_and_is_cancelled_there(browser, tmp_path):
    hub = StandInHub(tmp_path / "hub")
    hub.holds.set()
    (home := tmp_path / "home").mkdir()
    with serving(home, {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_alice", "HF_HUB_OFFLINE": "0"}) as url:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(WAIT_MILLISECONDS)
        page.goto(f"{url}/?tab=train")
        page.get_by_label("Hugging Face Jobs").check()
        page.get_by_label("Spending limit (US dollars)").fill("5")
        page.get_by_label("Spending limit (US dollars)").press("Tab")
        page.locator("#train-cost", has_text="The limit of $5.00 ends the job").wait_for()
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("Hugging Face looks for a free machine").wait_for()
        (job,) = hub.jobs.values()
        assert ("l4x1", int(60 * 5 / 0.013333 - 600)) == (job.spec["flavor"], job.spec["timeoutSeconds"])
        page.locator("#train-cancel").click()
        wait_for(lambda: job.stage == "CANCELED")
        page.close()
    hub.close()
