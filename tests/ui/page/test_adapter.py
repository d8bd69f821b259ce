"""The Adapter and Guide tabs in a browser."""

import shutil

import pytest

from rankviz.trained.read import read_adapter
from tests.support.models.saved_adapters import two_blocks

pytestmark = pytest.mark.browser


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
