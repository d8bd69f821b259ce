"""What the page hands out: figures as PNG, SVG, HTML and CSV, tables as CSV and Parquet, and the file to take away."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from tests.support.web.pages import open_section

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


def test_the_table_of_ranks_comes_as_csv_and_parquet(llama, tmp_path):
    open_section(llama, "All ranks")
    as_csv = downloaded(llama, "#ranks-download", "[data-pick=csv]", tmp_path)
    as_parquet = downloaded(llama, "#ranks-download", "[data-pick=parquet]", tmp_path)

    rows = list(csv.DictReader(as_csv.read_text().splitlines()))
    # 32 blocks of 81,920 a unit of r.
    assert {"16": "41943040"} == {row["r"]: row["adapter_parameters"] for row in rows if row["r"] == "16"}
    assert "ranks" == json.loads(pq.read_table(as_parquet).schema.metadata[b"rankviz"])["table"]
