"""What a refusal looks like."""

import re

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_a_refusal_is_headed_for_what_it_is(page, tmp_path):
    (tmp_path / "runs.zip").write_text("no zip")
    page.goto("/?tab=runs")
    page.locator("#runs-table tbody tr").first.wait_for()

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import a zip of runs").click()
    chooser.value.set_files(tmp_path / "runs.zip")

    title = page.locator(".toast-title", has_text=re.compile(r"^\s*Not done\s*$"))
    toast = page.get_by_test_id("toast-body").filter(has=title)
    toast.get_by_text("runs.zip cannot be read as a RankViz export").wait_for()  # at once: it goes by itself
