"""The page in a real browser."""

import json
import re
import shutil
import time
import urllib.request
from pathlib import Path

import pytest

from rankviz.api import Api
from rankviz.trained.read import read_adapter
from tests.support.finished_runs import counted
from tests.support.pages import LLAMA, choose_rank, figure
from tests.support.saved_adapters import two_blocks
from tests.support.tiny_llama import make_tiny_llama, write_tiny_data

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 150
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
    """By its button, or where the page is narrow in the menu of those that have no room."""
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


def test_it_opens_at_r_16_with_exact_numbers_of_the_model(llama):
    # 32 blocks of (4096+4096)·2 + (4096+1024)·2 + (4096+14336)·3 = 81,920 a unit of r: 2,621,440 · 16.
    figure(llama, "Trainable parameters").locator("[title='41,943,040 parameters']").wait_for()
    assert "16" == llama.get_by_label("Rank r").input_value()
    assert ["r = 8", "r = 32"] == figure(llama, "Trainable parameters").locator("dt").all_inner_texts()
    assert ["20.97 M", "83.89 M"] == figure(llama, "Trainable parameters").locator("dd").all_inner_texts()
    assert "α = 16, scale α / r = 1" == llama.locator(".rv-scale").inner_text()


def test_another_rank_changes_the_numbers_the_table_and_the_address_and_keeps_the_zoom(llama):
    figure(llama, "Trainable parameters").locator("[title='41,943,040 parameters']").wait_for()
    llama.locator("#memory .rv-plot[data-drawn]").wait_for()
    plot = llama.locator("#memory .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    llama.mouse.move(box["x"] + 60, box["y"] + 60)
    llama.mouse.down()
    llama.mouse.move(box["x"] + 64, box["y"] + 160, steps=4)
    llama.mouse.up()
    zoomed = llama.evaluate(Y_RANGE)

    choose_rank(llama, 24)

    figure(llama, "Trainable parameters").locator("[title='62,914,560 parameters']").wait_for()
    llama.locator("#ranks .rv-chosen", has_text="62,914,560").wait_for()
    llama.wait_for_url("**r=24**")
    llama.wait_for_function("document.querySelector('#memory .rv-plot').data[0].x.includes('<b>24</b>')")
    assert zoomed == llama.evaluate(Y_RANGE)
    assert zoomed[0] > 0


def test_figures_stay_whole_when_the_address_changes(llama):
    llama.locator("#memory .rv-plot[data-drawn]").wait_for()

    choose_rank(llama, 8)
    llama.wait_for_url("**r=8**")

    clips = llama.evaluate(
        "[...document.querySelectorAll('.rv-plot [clip-path]')].map(e => e.getAttribute('clip-path'))"
    )
    assert clips
    assert [] == [clip for clip in clips if "http" in clip]


def test_a_click_in_the_table_of_ranks_chooses_the_rank(llama):
    llama.locator("#ranks").get_by_role("button", name="64", exact=True).click()

    figure(llama, "Trainable parameters").locator("[title='167,772,160 parameters']").wait_for()
    assert "64" == llama.get_by_label("Rank r").input_value()


def test_a_click_on_a_change_makes_it_and_keeps_the_tokens_trained(page):
    page.goto(LLAMA)

    page.locator("#knobs").get_by_role("button", name="twice the length, 4,096 tokens per example").click()

    page.wait_for_url("**max_length=4096&steps=500")
    page.locator("#knobs", has_text="twice the length, 8,192 tokens per example").wait_for()


def test_a_price_written_over_orders_the_gpus_and_is_in_the_address(page):
    page.goto(LLAMA)
    price = page.get_by_label("$ per hour of the L4", exact=True)

    price.fill("0.01")
    price.press("Enter")

    page.wait_for_url("**prices=l4%3A0.01")
    page.wait_for_function("document.querySelector('#cards tbody tr').dataset.pick === 'gpu=l4'")
    figure(page, "Cost").get_by_text("about $0.0").wait_for()

    price.fill("-1")
    price.press("Enter")

    page.get_by_text("The price per hour of the l4 must be a number from 0 to 1,000,000 (got -1.0).").wait_for()


def test_a_batch_of_zero_is_said_with_what_to_change(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").wait_for()  # by then the address has been read, and sets no widget any more
    page.get_by_text("Training setup").click()

    page.get_by_label("Batch", exact=True).fill("0")
    page.get_by_label("Batch", exact=True).press("Enter")

    page.get_by_text("Batch size must be a whole number from 1 to 4,096 (got 0).").wait_for()


def test_a_rank_that_cannot_be_is_refused_where_it_is_typed(llama):
    figure(llama, "Trainable parameters").wait_for()

    choose_rank(llama, 5000)

    llama.get_by_text("Rank must be a whole number from 1 to 1,024.").wait_for()
    assert "16" == llama.get_by_label("Rank r").input_value()


def test_a_ticked_module_becomes_the_choice_of_targets(page):
    page.goto(LLAMA + "&targets=qv")
    # q and v: 32 · (8192 + 5120) a unit of r.
    figure(page, "Trainable parameters").locator("[title='6,815,744 parameters']").wait_for()

    page.get_by_label("k_proj × 32").check()

    figure(page, "Trainable parameters").locator("[title='9,437,184 parameters']").wait_for()
    page.wait_for_url(re.compile("targets=q_proj%2Ck_proj%2Cv_proj|targets=q_proj%2Cv_proj%2Ck_proj"))


def test_the_picker_finds_a_model_by_another_name_though_one_is_chosen(page):
    page.goto("/")
    figure(page, "Trainable parameters").wait_for()

    page.locator("#model input").click()
    page.keyboard.type("unsloth/Qwen3-4B-unsloth")
    page.get_by_role("option").first.click()

    page.wait_for_url("**model=unsloth**Qwen3-4B**")
    # 36 blocks of q 2560+4096, k and v 2560+1024, o 4096+2560, three of 2560+9728: 33,030,144 at r = 16.
    figure(page, "Trainable parameters").locator("[title='33,030,144 parameters']").wait_for()


def test_a_model_that_does_not_exist_gets_a_sentence_and_the_answer_stays(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").locator("[title='41,943,040 parameters']").wait_for()

    page.locator("#model input").click()
    page.keyboard.type("Qwen3-4-Bee")
    page.keyboard.press("Enter")

    page.locator("#notice [role=alert]").wait_for()
    assert "Qwen3-4-Bee" in page.locator("#notice").inner_text()
    assert figure(page, "Trainable parameters").locator("[title='41,943,040 parameters']").is_visible()


def test_a_copied_address_opens_the_same_view(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").locator("[title='41,943,040 parameters']").wait_for()
    choose_rank(page, 64)
    page.get_by_label("α = 2r").check()
    page.get_by_label("rsLoRA").check()
    page.wait_for_url("**rslora=1**")
    page.locator(".rv-scale", has_text="16").wait_for()
    copied = page.url

    page.goto("about:blank")
    page.goto(copied)

    figure(page, "Trainable parameters").locator("[title='167,772,160 parameters']").wait_for()
    assert "64" == page.get_by_label("Rank r").input_value()
    assert page.get_by_label("rsLoRA").is_checked()
    assert "α = 128, scale α / √r = 16" == page.locator(".rv-scale").inner_text()


def test_a_bad_parameter_in_the_address_is_said_and_the_default_shown(page):
    page.goto("/?r=5000&tab=nowhere")

    page.get_by_text("r must be a whole number from 1 to 1,024").wait_for()
    page.get_by_text("Explore is shown").wait_for()
    assert "16" == page.get_by_label("Rank r").input_value()


def test_nothing_is_requested_of_another_host(browser, address):
    page = browser.new_page(base_url=address)  # with a cache of its own, which is empty
    page.set_default_timeout(60_000)
    requested = []
    page.on("request", lambda request: requested.append(request.url))

    page.goto("/")
    page.locator("#memory .rv-plot[data-drawn]").wait_for()
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
    page.locator("#memory .rv-plot[data-drawn]").wait_for()

    deadline, before = time.monotonic() + 20, -1
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
    widths = {}
    for tab in ("guide", "adapter", "runs", "train", "explore"):
        open_tab(page, tab)
        widths[tab] = page.evaluate("document.documentElement.scrollWidth")
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.close()

    assert {} == {tab: width for tab, width in widths.items() if width > 390}
    assert (theme == "dark") is dark


def test_named_endpoints_answer(address):
    from gradio_client import Client

    client = Client(address, verbose=False)
    answer = client.predict(model="meta-llama/Llama-3.1-8B", ranks=[8, 16], api_name="/estimate")
    names = {row["id"] for row in client.predict(api_name="/models")}
    decided = client.predict(model="meta-llama/Llama-3.1-8B", r=8, prices={"L4": 0.25}, api_name="/fit")

    assert [20_971_520, 41_943_040] == [row["adapter_parameters"] for row in answer["ranks"]]
    assert "meta-llama/Llama-3.1-8B" in names
    assert [0.25] == [row["usd_per_hour"] for row in decided["gpus"] if row["gpu"] == "L4"]
    assert {"/advise", "/estimate", "/fit", "/forecast", "/models", "/runs", "/run"} == set(
        client.view_api(return_format="dict")["named_endpoints"]
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": "meta-llama/Llama-3.1-8B", "ranks": [0]}, "Rank must be a whole number from 1 to 1,024 (got 0)."),
        ({"model": "meta-llama/Llama-3.1-8B", "ranks": 16}, "ranks must be a list of whole numbers"),
        ({"model": "meta-llama/Llama-3.1-8B", "targets": ["q_proj"]}, "targets must be a text"),
        ({}, "Model must be a name"),
    ],
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
    page.locator("#sweep-status", has_text="12 completed").wait_for()
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


def test_a_menu_of_downloads_stands_only_where_there_is_something_to_download(page):
    page.goto("/?tab=runs")
    page.locator(LANDMARKS["runs"]).first.wait_for()
    page.locator("#runs-download summary").wait_for()

    page.get_by_label("Filter").press_sequentially("no such run")

    page.locator("#runs-table", has_text="No run matches the filter.").wait_for()
    page.locator("#runs-download summary").wait_for(state="detached")


@pytest.fixture
def counted_sweep(home):
    """A sweep with accuracies, gone again afterwards: other tests share the runs folder."""
    api = Api(home=home)
    sweep = counted(api, {4: 60, 16: 80})
    yield sweep.sweep_id
    for run in sweep.runs:
        shutil.rmtree(api.workspace.store.run_dir(run.run_id))


def test_a_sweep_is_judged_by_what_is_chosen_and_its_address_keeps_the_choice(page, counted_sweep):
    page.goto(f"/?tab=runs&sweep={counted_sweep}&tolerance=0.02")
    page.locator("#sweep-words", has_text="nats").wait_for()

    page.locator("#sweep-metric input").click()
    page.get_by_role("option", name="Token accuracy").click()

    page.locator("#sweep-words", has_text="Worse than r = 16: r = 4 by").wait_for()
    tolerance = page.locator("#sweep-tolerance textarea, #sweep-tolerance input")
    assert "1" == tolerance.input_value()
    page.wait_for_function("document.querySelector('#sweep-curve .rv-plot').data[0].y[0] === 81")
    page.wait_for_url("**metric=token_accuracy**")
    written(tolerance, "30")
    page.locator("#sweep-words", has_text="within 30 points").wait_for()
    page.wait_for_url("**tolerance=30**")
    page.reload()
    page.locator("#sweep-words", has_text="within 30 points").wait_for()
    assert "30" == tolerance.input_value()
    page.locator("#sweep-metric input").click()
    page.get_by_role("option", name="Exact match").click()
    page.locator("#sweep-words", has_text="exact match").first.wait_for()
    assert "1" == tolerance.input_value()


def test_the_examples_of_an_empty_train_page_are_drawn_and_open_on_runs(page):
    page.goto("/?tab=train")
    for example in ("#example-matters", "#example-does-not"):
        page.wait_for_function(f"document.querySelector('{example} .rv-plot')?.data?.flatMap(t => t.x).length === 3")
        page.locator(f"{example} .rv-plot").wait_for()

    page.locator("#example-matters-words").get_by_role("link", name="open on Runs").click()

    page.wait_for_url("**tab=runs**")
    page.locator("#sweep-summary", has_text="r = 2 is worse than r = 32").wait_for()


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
    page.locator("#expected", has_text="16,384").wait_for(timeout=60_000)

    page.get_by_role("button", name="Train", exact=True).click()
    page.locator("#status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for(timeout=60_000)
    page.wait_for_url("**sweep=**")
    page.get_by_role("button", name="Cancel this sweep").wait_for()
    page.reload()

    page.locator("#status", has_text="tiny-llama on letters.jsonl, r = 2, 8").wait_for()
    page.locator("#status", has_text="2 completed").wait_for(timeout=RUN_SECONDS * 1000)
    page.locator("#train-results", has_text="16,384").wait_for()
    page.wait_for_function("document.querySelector('#train-curve .rv-plot').data.some(t => t.x?.length === 2)")
    page.locator("#train-words", has_text="Each rank has one run, so a difference may be chance").wait_for()
    assert 2 == page.evaluate(
        "document.querySelector('#train-loss .rv-plot').data.filter(t => t.mode === 'lines' && t.x.length === 6).length"
    )

    page.locator("#train-results").get_by_role("button", name="r = 8").click()
    page.locator("#run-detail", has_text="16,384").wait_for()
    page.wait_for_url("**run=**")
    assert "1.000" in page.locator("#run-detail tr", has_text="Trainable parameters").inner_text()
    assert "1.000" in page.locator("#run-detail tr", has_text="Adapter file").inner_text()


def test_an_adapter_is_dropped_in_looked_at_and_taken_away_smaller(page, tmp_path):
    zipped = shutil.make_archive(str(tmp_path / "mine"), "zip", two_blocks(tmp_path / "files"))
    page.goto("/?tab=adapter")
    page.locator("#adapter-top .rv-empty").wait_for()

    page.locator("#adapter-files input[type=file]").set_input_files(zipped)
    page.get_by_text("Trained with r = 4").wait_for()
    page.get_by_role("button", name="model.layers.1.self_attn.q_proj").click()
    page.locator("#adapter-table tr.rv-chosen", has_text="model.layers.1.self_attn.q_proj").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Resize and download").click()
    download.value.save_as(tmp_path / "smaller.zip")

    assert "mine-r3.zip" == download.value.suggested_filename
    assert 3 == read_adapter([tmp_path / "smaller.zip"]).r


def test_the_address_of_an_adapter_opens_it_and_a_wrong_one_says_so(page, tmp_path):
    folder = two_blocks(tmp_path / "mine")

    page.goto(f"/?tab=adapter&adapter={folder}")
    page.get_by_text("Trained with r = 4").wait_for()
    page.goto("/?tab=adapter&adapter=nothing")

    page.get_by_text("There is no adapter 'nothing' here").wait_for()
