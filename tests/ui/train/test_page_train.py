"""Train in a real browser, without a training: filled from Explore, corrected, and told what runs elsewhere."""

import pytest

from tests.support.models.tiny_llama import write_tiny_data

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
