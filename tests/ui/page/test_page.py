"""The page in a real browser."""

import json
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.quick import first_quick
from tests.support.web.endpoints import ENDPOINTS
from tests.ui.conftest import WAIT_MILLISECONDS

ROOT = Path(__file__).parents[3]
RUN_SECONDS = 900
LANDMARKS = {
    "explore": "#figures .rv-figure",
    "train": "#train-button",
    "runs": "#sweep-summary .rv-figure",
    "adapter": "#adapter-top .rv-empty",
    "guide": "#rules table",
}
Y_RANGE = "document.querySelector('#memory .rv-plot')._fullLayout.yaxis.range"

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


def written(box, text):
    """Key by key: of a Textbox that is filled at once Gradio reports nothing."""
    box.fill("")
    box.press_sequentially(text)


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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_scrolls_down_only_on_every_tab(context, theme):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/?tab=guide&__theme={theme}")
    page.locator(LANDMARKS["guide"]).first.wait_for()
    for tab in ("guide", "adapter", "runs", "train", "explore"):
        open_tab(page, tab)
        page.wait_for_function("document.documentElement.scrollWidth <= 390")  # a chart may be just being drawn
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.close()

    assert (theme == "dark") is dark


@pytest.mark.slow
def test_on_a_phone_words_wrap_in_tables_and_a_wider_table_has_a_shade_at_its_edge(context):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?tab=guide")
    page.locator(LANDMARKS["guide"]).first.wait_for()
    page.locator("[aria-label='How far off each number has been']").wait_for()
    boxes = page.locator("#rules .rv-table-box, [aria-label='How far off each number has been']").evaluate_all(
        """boxes => boxes.map(box => [box.scrollWidth > box.clientWidth, getComputedStyle(box).backgroundAttachment])"""
    )
    page.close()

    assert [[True, "local, scroll"], [False, "local, scroll"]] == boxes


def test_named_endpoints_answer(address):
    from gradio_client import Client

    client = Client(address, verbose=False, httpx_kwargs={"timeout": 600})
    answer = client.predict(model="meta-llama/Llama-3.1-8B", ranks=[8, 16], api_name="/estimate")
    names = {row["id"] for row in client.predict(api_name="/models")}
    decided = client.predict(model="meta-llama/Llama-3.1-8B", r=8, prices={"L4": 0.25}, api_name="/fit")

    assert [20_971_520, 41_943_040] == [row["adapter_parameters"] for row in answer["ranks"]]
    assert "meta-llama/Llama-3.1-8B" in names
    assert [0.25] == [row["usd_per_hour"] for row in decided["gpus"] if row["gpu"] == "L4"]
    assert {f"/{name}" for name in ENDPOINTS} == set(client.view_api(return_format="dict")["named_endpoints"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    first_quick(
        [
            (
                {"model": "meta-llama/Llama-3.1-8B", "ranks": [0]},
                "Rank must be a whole number from 1 to 1,024 (got 0).",
            ),
            ({"model": "meta-llama/Llama-3.1-8B", "ranks": 16}, "ranks must be a list of whole numbers"),
            ({"model": "meta-llama/Llama-3.1-8B", "targets": ["q_proj"]}, "targets must be a text"),
            (
                {"model": "meta-llama/Llama-3.1-8B", "ranks": [16] * 1000},
                "ranks must be a list of at most 256 (got 1,000).",
            ),
            ({}, "Model must be a name"),
        ]
    ),
)
def test_an_endpoint_says_what_was_wrong(address, arguments, sentence):
    request = urllib.request.Request(
        f"{address}/gradio_api/call/v2/estimate",
        data=json.dumps(arguments).encode(),
        headers={"Content-Type": "application/json"},
    )
    event = json.load(urllib.request.urlopen(request))["event_id"]
    response = urllib.request.urlopen(f"{address}/gradio_api/call/estimate/{event}").read().decode()

    assert "event: error" in response
    assert sentence in response


def test_an_older_address_of_a_sweep_opens_it_on_runs_and_keeps_its_tolerance(page):
    sweep_id = sorted((ROOT / "assets/recorded/runs").iterdir())[0].name[:20]

    page.goto(f"/?tab=sweep&sweep={sweep_id}")

    page.locator("#sweep-summary", has_text="cannot be distinguished").wait_for()
    page.wait_for_url(f"**tab=runs&sweep={sweep_id}")
    page.locator("#sweep-status", has_text="12 runs completed").wait_for()
    page.wait_for_function("document.querySelector('#sweep-curve .rv-plot').data?.at(-1).x.length === 3")
    page.get_by_role("button", name="Details").click()
    page.locator("#sweep-facts", has_text="unsloth").wait_for()
    tolerance = page.locator("#sweep-tolerance textarea, #sweep-tolerance input")
    written(tolerance, "a little")
    page.locator("#sweep-summary", has_text="such as 0.02, or a share of the gain").wait_for()
    written(tolerance, "5%")
    page.locator("#sweep-words", has_text="(5% of the gain)").wait_for()
    page.wait_for_url("**tolerance=5**")
    page.reload()
    page.locator("#sweep-words", has_text="(5% of the gain)").wait_for()
    assert "5%" == tolerance.input_value()
    written(tolerance, "0.02")
    page.locator("#sweep-words", has_text="cannot be distinguished").wait_for()
    assert page.get_by_role("button", name="Download this sweep (zip)").is_visible()
    assert page.get_by_role("button", name="Cancel this sweep").is_hidden()  # it is shipped, not one's own


@pytest.mark.slow
def test_the_first_tab_removes_nothing_from_an_address_that_is_not_read_yet(page, address):
    config = json.load(urllib.request.urlopen(f"{address}/config"))
    tabs = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "tabs")
    (load,) = (
        each["id"]
        for each in config["dependencies"]
        if tabs in each["outputs"] and [event for _, event in each["targets"]] == ["load"]
    )
    held = []

    def hold(route):
        if route.request.post_data_json["fn_index"] == load:
            held.append(route)
        else:
            route.continue_()

    page.route("**/run/predict*", hold)
    page.goto("/?tab=runs")
    while not held:
        page.wait_for_timeout(100)
    page.wait_for_timeout(2000)  # what the first tab writes has been written by then, if anything has

    assert page.url.endswith("/?tab=runs")
    held[0].continue_()
    page.locator(LANDMARKS["runs"]).first.wait_for()
    assert page.url.endswith("/?tab=runs")


def test_sweeps_open_onto_their_runs_and_selected_runs_share_a_chart(page):
    page.goto("/?tab=runs")
    page.locator(LANDMARKS["runs"]).first.wait_for()
    assert page.locator("#selected-runs").is_hidden()
    row = page.locator("#runs-table tr[data-pick]", has_text="r = 1, 4, 16, 64").first
    sweep_id = row.get_attribute("data-pick")

    row.get_by_role("button").click()
    page.locator(f"#runs-table tr[data-pick='{sweep_id}-001-r1'] button").click()

    page.locator("#run-detail tr", has_text="Held-out loss after training").wait_for()
    page.wait_for_url(f"**run={sweep_id}-001-r1")
    page.locator(f"#runs-table tr[data-pick='{sweep_id}'] input").check()
    page.locator("#selected-runs", has_text="12 selected runs of 1 sweep").wait_for()
    page.wait_for_function("document.querySelector('#runs-curve .rv-plot')?.data?.some(t => t.x.length === 4)")
    page.locator(f"#runs-table tr[data-pick='{sweep_id}-001-r1'] input").uncheck()
    page.locator("#selected-runs", has_text="11 selected runs of 1 sweep").wait_for()
    page.get_by_role("button", name="Clear the selection").click()
    page.locator("#selected-runs").wait_for(state="hidden")


@pytest.mark.slow
def test_a_sweep_is_judged_by_what_is_chosen_and_its_address_keeps_the_choice(page, counted_sweep):
    page.goto(f"/?tab=runs&sweep={counted_sweep}&tolerance=0.02")
    page.locator("#sweep-words", has_text="nats").wait_for()

    page.locator("#sweep-metric input").click()
    page.get_by_role("option", name="Token accuracy").click()

    page.locator("#sweep-words", has_text="Worse than r = 16 by more than").wait_for()
    tolerance = page.locator("#sweep-tolerance textarea, #sweep-tolerance input")
    assert "1" == tolerance.input_value()
    page.wait_for_function("document.querySelector('#sweep-curve .rv-plot').data[0].y[0] === 81")
    page.wait_for_url("**metric=token_accuracy**")
    written(tolerance, "30")
    page.locator("#sweep-words", has_text="within 30 points").wait_for()
    page.wait_for_url("**tolerance=30**")
    page.locator("#sweep-metric input").click()
    page.locator("#sweep-metric input").press("Escape")
    with page.expect_response(lambda response: "token_accuracy" in (response.request.post_data or "")):
        tolerance.click()  # the drop-down loses the focus, and reports its choice again
    assert "30" == tolerance.input_value()
    page.reload()
    page.locator("#sweep-words", has_text="within 30 points").wait_for()
    assert "30" == tolerance.input_value()
    page.locator("#sweep-metric input").click()
    page.get_by_role("option", name="Exact match").click()
    page.locator("#sweep-words", has_text="exact match").first.wait_for()
    assert "1" == tolerance.input_value()


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
    # q and o 128, k and v 96, three of 192, in 2 blocks: 2,048 a unit of r.
    page.locator("#train-breakdown", has_text="16,384").wait_for()

    page.get_by_role("button", name="Train", exact=True).click()
    page.locator("#status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for()
    page.wait_for_url("**sweep=**")
    page.get_by_role("button", name="Cancel this sweep (r = 2, 8)").wait_for()
    page.locator("#badge button").wait_for()
    page.reload()

    page.locator("#status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for()
    page.wait_for_function("document.querySelector('#train-base input')?.value?.endsWith('tiny-llama')")
    assert page.get_by_label("letters.jsonl").is_checked()
    assert ["2", "8"] == page.locator("#train-ranks input:checked").evaluate_all("boxes => boxes.map(box => box.name)")
    assert "6" == page.get_by_label("Steps per run").input_value()
    page.locator("#status", has_text="2 runs completed").wait_for(timeout=RUN_SECONDS * 1000)
    page.get_by_role("button", name="Train", exact=True).wait_for()
    page.locator("#badge button").wait_for(state="hidden")
    page.locator("#train-adapters", has_text="Adapter at r = 8").wait_for()
    page.locator("#train-answers", has_text="Held-out prompt").wait_for()
    page.get_by_role("button", name="Runs: measured and estimated").click()
    page.locator("#train-results", has_text="16,384").wait_for()
    page.wait_for_function("document.querySelector('#train-curve .rv-plot').data.some(t => t.x?.length === 2)")
    page.locator("#train-words", has_text="difference may be chance").wait_for()
    page.wait_for_function(
        "document.querySelector('#train-loss .rv-plot').data"
        ".filter(t => t.mode === 'lines' && t.x.length === 6).length === 2"
    )

    page.locator("#train-results").get_by_role("button", name="r = 8").click()
    page.locator("#run-detail", has_text="16,384").wait_for()
    page.wait_for_url("**run=**")
    assert "1.000" in page.locator("#run-detail tr", has_text="Trainable parameters").inner_text()
    assert "1.000" in page.locator("#run-detail tr", has_text="Adapter file").inner_text()
