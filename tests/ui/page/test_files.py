"""What the page hands out: figures as PNG, SVG, HTML and CSV, tables as CSV and Parquet, and the file to take away."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from tests.support.web.pages import LLAMA, open_section
from tests.ui.conftest import WAIT_MILLISECONDS

pytestmark = pytest.mark.browser


def downloaded(page, menu, choice, tmp_path):
    """The file that a choice in a menu gives."""
    page.keyboard.press("Escape")  # closes what an earlier test has left open
    page.locator(f"{menu} summary").click()
    with page.expect_download() as download:
        page.locator(f"{menu} {choice}").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_an_html_file_draws_itself_without_any_network(llama, tmp_path):
    path = downloaded(llama, "#memory .rv-menu", "[data-do=html]", tmp_path)

    opened = llama.context.browser.new_page()
    opened.set_default_timeout(WAIT_MILLISECONDS)
    requested = []
    opened.on("request", lambda request: requested.append(request.url))
    opened.goto(path.as_uri())
    opened.locator("#plot .bars").first.wait_for()
    opened.locator("summary", has_text="Data as CSV").click()
    assert "base_weights" in opened.locator("pre").inner_text()
    assert LLAMA[2:].replace("/", "%2F") in opened.locator("p a").get_attribute("href")
    assert [path.as_uri()] == [url for url in requested if not url.startswith(("data:", "blob:"))]
    opened.close()


def test_the_table_of_ranks_comes_as_csv_and_parquet(llama, tmp_path):
    open_section(llama, "All ranks")
    as_csv = downloaded(llama, "#ranks-download", "[data-pick=csv]", tmp_path)
    as_parquet = downloaded(llama, "#ranks-download", "[data-pick=parquet]", tmp_path)

    rows = list(csv.DictReader(as_csv.read_text().splitlines()))
    # 32 blocks of 81,920 a unit of r.
    assert {"16": "41943040"} == {row["r"]: row["adapter_parameters"] for row in rows if row["r"] == "16"}
    assert "ranks" == json.loads(pq.read_table(as_parquet).schema.metadata[b"rankviz"])["table"]
