"""Train in a real browser, without a training: filled from Explore, corrected, and told what runs elsewhere."""

import pytest

from rankviz.store import RunStore
from tests.support.models.tiny_llama import write_tiny_data
from tests.support.runs import questions

pytestmark = pytest.mark.browser


def test_explores_button_fills_train_with_what_can_be_trained_here(page, tmp_path):
    page.goto("/?model=Qwen/Qwen3-4B&targets=attention")
    page.locator("#figures [title]").first.wait_for()
    data = write_tiny_data(tmp_path / "letters.jsonl")
    page.locator("input[type=file][accept*='.parquet']").first.set_input_files(data)
    page.locator("#file-note", has_text="96 examples").wait_for()
    page.get_by_role("button", name="Quick look: r = 4 and r = 64, one repeat").click()

    page.locator("#train-replaced", has_text="Qwen3-4B cannot be trained here now").wait_for()
    page.wait_for_function("document.querySelector('#train-base input')?.value?.startsWith('SmolLM2')")
    page.wait_for_url("**tab=train**")
    page.wait_for_function("document.activeElement.id === 'train-button'")
    page.locator("#expected", has_text="3 runs").wait_for()
    assert page.get_by_label("Quick look: two ranks and a repeat").is_checked()
    assert page.get_by_label("letters.jsonl", exact=True).is_checked()


@pytest.mark.slow
def test_what_a_training_takes_or_why_it_cannot_start_is_in_sight_with_the_button(page):
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto("/?tab=train")

    def is_in_sight(of):
        page.wait_for_function(
            """of => {
              const { top, bottom, height } = document.querySelector(of).getBoundingClientRect();
              return height > 0 && top >= 0 && bottom <= innerHeight;
            }""",
            arg=of,
        )

    page.locator("#expected", has_text="3 runs").wait_for()
    is_in_sight("#expected")
    is_in_sight("#train-button")
    assert page.locator("#train-bar").bounding_box()["height"] < 200, "the bar covers what scrolls"
    page.get_by_label("Steps per run").fill("0")
    page.locator("#train-notice", has_text="Steps must be").wait_for()
    page.mouse.wheel(0, -5000)
    is_in_sight("#train-notice")
    assert page.get_by_role("button", name="Train", exact=True).is_disabled()


@pytest.mark.slow
def test_an_address_with_a_sweep_never_shows_the_empty_state_and_brings_the_form(page, home):
    sweep_id = RunStore(home).create(questions.sweep(ranks=(2, 8), max_steps=9, data="pairs"))
    page.add_init_script(
        """window.seenTexts = "";
        new MutationObserver(() => {
          const status = document.querySelector("#status"), examples = document.querySelector("#examples");
          window.seenTexts += (status?.innerText ?? "") + (examples?.innerText ?? "") + "|";
        }).observe(document, { childList: true, subtree: true, characterData: true });"""
    )

    page.goto(f"/?tab=train&sweep={sweep_id}")

    page.locator("#status h2", has_text="r = 2, 8").wait_for()
    page.wait_for_function("document.querySelector('#train-steps input')?.value === '9'")
    page.locator("#train-cancel").click()
    page.locator("#status", has_text="2 runs cancelled").wait_for()
    seen = page.evaluate("window.seenTexts")
    assert "Reading the runs of this machine" in seen
    assert "Nothing trained yet" not in seen
    assert "Rank matters here" not in seen
