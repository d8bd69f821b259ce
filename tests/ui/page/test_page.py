"""The page in a real browser."""

import shutil
import time

import pytest

from rankviz.trained.read import read_adapter
from tests.support.models.saved_adapters import two_blocks
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.ui.conftest import WAIT_MILLISECONDS

RUN_SECONDS = 900
LANDMARKS = {
    "explore": "#figures .rv-figure",
    "train": "#train-button",
    "runs": "#sweep-summary .rv-figure",
    "adapter": "#adapter-top .rv-empty",
    "guide": "#rules table",
}

pytestmark = pytest.mark.browser


def open_tab(page, tab):
    """By its button, or where the page is narrow in the menu of those that have no room, once they have moved there."""
    page.wait_for_function(
        "[...document.querySelectorAll('#tabs > .tab-wrapper [role=tab]')].every("
        "tab => tab.getBoundingClientRect().right <= innerWidth)"
    )
    button = page.get_by_role("tab", name=tab.title(), exact=True)
    if not button.is_visible():
        page.locator(".overflow-menu > button").first.click()
        button = page.locator(".overflow-dropdown button", has_text=tab.title())
    button.click()
    page.locator(LANDMARKS[tab]).first.wait_for()


def test_nothing_is_requested_of_another_host(browser, address):
    page = browser.new_page(base_url=address)  # with a cache of its own, which is empty
    page.set_default_timeout(WAIT_MILLISECONDS)
    requested = []
    page.on("request", lambda request: requested.append(request.url))

    page.goto("/")
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    for tab in ("train", "runs", "adapter", "guide"):
        open_tab(page, tab)
    page.close()

    assert len(requested) > 20
    assert [] == [url for url in requested if not url.startswith((address, "data:", "blob:"))]


def test_a_page_that_nobody_touches_asks_nothing(page):
    """However slow the machine, two seconds without a request come."""
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto("/")
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()

    deadline, before = time.monotonic() + 120, -1
    while before < len(requested) and time.monotonic() < deadline:
        before = len(requested)
        page.wait_for_timeout(2000)

    assert before == len(requested)


def test_a_phone_scrolls_down_only_on_every_tab(context):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?tab=guide&__theme=dark")
    page.locator(LANDMARKS["guide"]).first.wait_for()
    for tab in ("guide", "adapter", "runs", "train", "explore"):
        open_tab(page, tab)
        page.wait_for_function("document.documentElement.scrollWidth <= 390")  # a chart may be just being drawn
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.close()

    assert dark


def test_sweeps_open_onto_their_runs_and_selected_runs_share_a_chart(page):
    page.goto("/?tab=runs")
    page.locator(LANDMARKS["runs"]).first.wait_for()
    assert page.locator("#selected-runs").is_hidden()
    row = page.locator("#runs-table tr[data-pick]", has_text="r = 1, 4, 16, 64").first
    sweep_id = row.get_attribute("data-pick")

    row.get_by_role("button").click()
    page.locator(f"#sweep-results tr[data-pick='{sweep_id}-001-r1'] button").click()

    page.locator("#run-detail", has_text="Requested: ").wait_for()
    page.wait_for_url(f"**run={sweep_id}-001-r1")
    page.locator(f"#runs-table tr[data-pick='{sweep_id}'] input").check()
    page.locator("#selected-runs", has_text="12 selected runs of 1 sweep").wait_for()
    points = "document.querySelector('#runs-curve .rv-plot')?.data?.flatMap(trace => trace.text ?? [])"
    page.wait_for_function(f"{points}?.length === 4")
    page.locator(f"#sweep-results tr[data-pick='{sweep_id}-001-r1'] input").uncheck()
    page.locator("#selected-runs", has_text="11 selected runs of 1 sweep").wait_for()
    page.get_by_role("button", name="Clear the selection").click()
    page.locator("#selected-runs").wait_for(state="hidden")


def test_a_sweep_is_launched_watched_reloaded_and_finished(page, tmp_path):
    base = make_tiny_llama(tmp_path / "tiny-llama")
    data = write_tiny_data(tmp_path / "letters.jsonl")
    page.goto("/?tab=train")
    page.locator("#train-base input").click()
    page.keyboard.type(str(base))
    page.keyboard.press("Enter")
    page.get_by_label("Own file").check()
    page.locator("#train-file input[type=file]").set_input_files(data)
    page.locator("#train-preview", has_text="96 examples").wait_for()
    page.get_by_label("Sweep: runs at each rank").check()
    page.wait_for_function("document.querySelectorAll('#train-ranks input:checked').length === 3")
    for r in (4, 16, 64):
        page.locator("#train-ranks").get_by_label(str(r), exact=True).uncheck()
    for r in (2, 8):
        page.locator("#train-ranks").get_by_label(str(r), exact=True).check()
    page.get_by_label("Seeds").fill("1")
    page.get_by_label("Steps per run").fill("6")
    page.locator("#expected", has_text="2 runs").wait_for()

    page.get_by_role("button", name="Train", exact=True).click()
    page.locator("#train-status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for()
    page.wait_for_url("**sweep=**")
    page.get_by_role("button", name="Cancel this sweep (r = 2, 8)").wait_for()
    page.locator("#badge button").wait_for()
    page.reload()

    page.locator("#train-status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for()
    page.wait_for_function("document.querySelector('#train-base input')?.value?.endsWith('tiny-llama')")
    assert page.get_by_label("letters.jsonl").is_checked()
    assert ["2", "8"] == page.locator("#train-ranks input:checked").evaluate_all("boxes => boxes.map(box => box.name)")
    assert "6" == page.get_by_label("Steps per run").input_value()
    page.locator("#train-status", has_text="2 runs completed").wait_for(timeout=RUN_SECONDS * 1000)
    page.get_by_role("button", name="Train", exact=True).wait_for()
    page.locator("#badge button").wait_for(state="hidden")
    page.locator("#train-answers", has_text="Held-out prompt").wait_for()
    page.wait_for_function("document.querySelector('#train-curve .rv-plot').data.some(t => t.x?.length === 2)")
    page.locator("#train-summary", has_text="no rank was trained twice").wait_for()
    page.wait_for_function(
        "document.querySelector('#train-loss .rv-plot').data"
        ".filter(t => t.mode === 'lines' && t.x.length === 6).length === 2"
    )

    page.get_by_role("link", name="Open this sweep on Runs").click()
    page.locator("#sweep-details > button").click()
    page.locator("#sweep-results").get_by_role("button", name="r = 8").click()
    page.wait_for_url("**run=**")
    page.locator("#sweep-results", has_text="est. 16,384").wait_for()


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


ONLY_HERE = "This address works on this computer only."
NOTES_WORDS = """() => {
  window.words = "";
  const header = document.querySelector("#header");
  const note = () => (window.words += header.textContent);
  new MutationObserver(note).observe(header, { childList: true, subtree: true });
}"""
"""The button says what became of it for a moment only."""


@pytest.fixture
def opened(page, address):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    page.goto("/?r=32")
    page.get_by_role("button", name="Copy link").wait_for()
    yield page
    page.context.clear_permissions()


def copied(page):
    page.evaluate(NOTES_WORDS)
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("window.words.includes('Copied')")
    return page.evaluate("navigator.clipboard.readText()")


def test_a_link_to_a_page_of_this_computer_says_that_it_opens_nowhere_else(opened, address):
    link = copied(opened)

    assert link.startswith(address + "/")
    opened.locator("#header [role=status]", has_text=ONLY_HERE).wait_for()
