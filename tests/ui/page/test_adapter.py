"""The Adapter and Guide tabs in a browser."""

import shutil

import pytest

from rankviz.trained.read import read_adapter
from tests.support.models.saved_adapters import two_blocks

pytestmark = pytest.mark.browser


def test_the_sample_opens_in_one_click_and_a_choice_is_taken_away(page, tmp_path):
    page.goto("/?tab=adapter")

    page.get_by_role("button", name="Open the sample adapter").click()
    page.get_by_text("Trained with r = 16").wait_for()
    page.wait_for_url("**adapter=sample**")
    page.locator("#adapter-energy-kept .rv-plot[data-drawn]").wait_for()
    page.locator("#adapter-choices").get_by_role("button", name="r = 8").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Resize to r = 8 and download (937.2 kB)").click()
    page.get_by_text("sample-r8.zip has r = 8 and 937,176 bytes of weights").wait_for()
    download.value.save_as(tmp_path / "smaller.zip")

    assert 8 == read_adapter([tmp_path / "smaller.zip"]).r
    assert not page.get_by_role("button", name="Open the sample adapter").is_visible()
    assert not page.locator("#adapter-zip").is_visible()


def test_an_adapter_is_dropped_in_looked_at_and_taken_away_smaller(page, tmp_path):
    zipped = shutil.make_archive(str(tmp_path / "mine"), "zip", two_blocks(tmp_path / "files"))
    page.goto("/?tab=adapter")
    page.locator("#adapter-top .rv-empty").wait_for()

    page.locator("#adapter-files input[type=file]").set_input_files(zipped)
    page.get_by_text("Trained with r = 4").wait_for()
    page.get_by_role("button", name="Details: singular values").click()
    page.locator("#adapter-values .rv-plot[data-drawn]").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Resize to r = 3 and download").click()
    download.value.save_as(tmp_path / "smaller.zip")

    assert "mine-r3.zip" == download.value.suggested_filename
    assert 3 == read_adapter([tmp_path / "smaller.zip"]).r


def test_the_guide_is_made_when_it_is_opened_and_its_charts_when_they_are(page):
    page.goto("/?tab=guide&model=Qwen/Qwen3-8B")
    page.locator("#rules", has_text="43.65 M").wait_for()
    assert 0 == page.locator("#validation-memory .rv-plot[data-drawn]").count()

    page.get_by_role("button", name="Details: every measurement").click()

    page.locator("#validation-memory .rv-plot[data-drawn]").wait_for()
    page.locator("#accuracy-tables table").first.wait_for()
