"""What the page hands out: figures as PNG, SVG, HTML and CSV, tables as CSV and Parquet, and the file to take away."""

import csv
import json
import xml.etree.ElementTree as ET

import pyarrow.parquet as pq
import pytest
import yaml

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


@pytest.mark.slow
def test_an_svg_has_title_and_sources_and_names_nothing_of_the_page_in_its_clip_paths(llama, tmp_path):
    path = downloaded(llama, "#memory .rv-menu", "[data-do=svg]", tmp_path)

    text = path.read_text()
    ET.fromstring(text)
    assert "rankviz-memory.svg" == path.name
    assert "Memory by component and rank, estimated</title>" in text
    assert "RankViz 0." in text
    assert "model=meta-llama%2FLlama-3.1-8B" in text
    assert "url(#" in text.replace("&quot;", "").replace("'", "")
    assert "url(http" not in text.replace("&quot;", "").replace("'", "")


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


def test_the_data_of_a_figure_is_csv(llama, tmp_path):
    path = downloaded(llama, "#memory .rv-menu", "[data-do=csv]", tmp_path)

    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert ["1", "2", "4"] == [row["r"] for row in rows[:3]]


@pytest.fixture(autouse=True)
def memory_open(request):
    """The figure whose files are tested."""
    if "llama" in request.fixturenames:
        open_section(request.getfixturevalue("llama"), "Memory")


@pytest.mark.slow
def test_a_menu_closes_when_something_else_is_clicked_and_on_escape(llama):
    menu = llama.locator("#memory .rv-menu")
    menu.locator("summary").click()
    llama.locator("h1").click()
    assert menu.get_attribute("open") is None
    menu.locator("summary").click()
    llama.keyboard.press("Escape")

    assert menu.get_attribute("open") is None


def test_the_table_of_ranks_comes_as_csv_and_parquet(llama, tmp_path):
    open_section(llama, "All ranks")
    as_csv = downloaded(llama, "#ranks-download", "[data-pick=csv]", tmp_path)
    as_parquet = downloaded(llama, "#ranks-download", "[data-pick=parquet]", tmp_path)

    rows = list(csv.DictReader(as_csv.read_text().splitlines()))
    # 32 blocks of 81,920 a unit of r.
    assert {"16": "41943040"} == {row["r"]: row["adapter_parameters"] for row in rows if row["r"] == "16"}
    assert "ranks" == json.loads(pq.read_table(as_parquet).schema.metadata[b"rankviz"])["table"]


def test_a_format_is_chosen_copied_saved_and_in_the_address(page, tmp_path):
    page.goto(LLAMA)
    page.locator("#ranks tr.rv-chosen").wait_for()
    open_section(page, "Export")
    page.locator("#take input").click()
    page.get_by_role("option", name="LLaMA-Factory YAML").click()
    page.locator("#script h2", has_text="llamafactory.yaml").wait_for()

    page.wait_for_url("**take=llamafactory**")
    with page.expect_download() as download:
        page.locator("#script [data-do=save]").first.click()  # the second is dataset_info.json
    download.value.save_as(tmp_path / "recipe.yaml")
    config = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert ("meta-llama/Llama-3.1-8B", 16) == (config["model_name_or_path"], config["lora_rank"])


@pytest.mark.slow
def test_nothing_of_it_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{LLAMA}&take=axolotl")
    page.locator("#script pre").wait_for()
    for section, menu in (("Memory", "#memory .rv-menu"), ("All ranks", "#ranks-download")):
        open_section(page, section)
        page.locator(f"{menu} summary").click()
        box = page.locator(f"{menu} .rv-tools").bounding_box()
        assert 0 <= box["x"]
        assert box["x"] + box["width"] <= 390

    assert 390 == page.evaluate("document.documentElement.scrollWidth")
