"""Explore in a real browser: numbers, chart and words follow the question."""

import re

import pytest

from tests.support.quick import first_quick
from tests.support.web.pages import LLAMA, choose_rank, figure, open_section, restored

pytestmark = pytest.mark.browser
Y_RANGE = "document.querySelector('#memory .rv-plot')._fullLayout.yaxis.range"


def test_it_has_exact_numbers_of_the_model(llama):
    # 32 blocks of (4096+4096)·2 + (4096+1024)·2 + (4096+14336)·3 = 81,920 a unit of r: 2,621,440 · 16.
    figure(llama, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    assert "16" == llama.get_by_label("Rank r").input_value()
    assert ["r = 8", "r = 32"] == figure(llama, "Trainable parameters").locator("dt").all_inner_texts()
    assert ["20.97 M", "83.89 M"] == figure(llama, "Trainable parameters").locator("dd").all_inner_texts()
    llama.get_by_text("Modules, alpha, DoRA").click()
    llama.get_by_role("button", name="Modules, alpha, DoRA").click()
    assert "α = 16, scale α / r = 1" == llama.locator(".rv-scale").inner_text().replace("\xa0", " ")


def test_another_rank_changes_the_numbers_the_table_and_the_address_and_keeps_the_zoom(llama):
    figure(llama, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
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

    figure(llama, "Trainable parameters").locator(".rv-value[title='62,914,560 parameters']").wait_for()
    assert "62.91 M" in llama.locator("#ranks .rv-chosen").text_content()
    llama.wait_for_url("**r=24**")
    llama.wait_for_function("document.querySelector('#memory .rv-plot').data[0].x.includes('<b>24</b>')")
    assert zoomed == llama.evaluate(Y_RANGE)
    assert zoomed[0] > 0


def test_a_click_in_the_table_of_ranks_chooses_the_rank(llama):
    open_section(llama, "All ranks")
    llama.locator("#ranks").get_by_role("button", name="64", exact=True).click()

    figure(llama, "Trainable parameters").locator(".rv-value[title='167,772,160 parameters']").wait_for()
    assert "64" == llama.get_by_label("Rank r").input_value()


@pytest.mark.slow
def test_a_click_on_a_change_makes_it_and_keeps_the_tokens_trained(page):
    page.goto(LLAMA)
    open_section(page, "Fit and changes")

    page.locator("#knobs").get_by_role("button", name="twice the length, 4,096 tokens per example").click()

    page.wait_for_url("**max_length=4096&steps=500")
    page.locator("#knobs", has_text="twice the length, 8,192 tokens per example").wait_for()


def test_a_price_written_over_orders_the_gpus_and_is_in_the_address(page):
    page.goto(LLAMA)
    open_section(page, "Fit and changes")
    price = page.get_by_label("$ per hour of the L4", exact=True)

    price.fill("0.01")
    price.press("Enter")

    page.wait_for_url("**prices=l4%3A0.01")
    page.wait_for_function("document.querySelector('#cards tbody tr').dataset.pick === 'gpu=l4'")
    figure(page, "Cost").get_by_text("about $0.0").wait_for()

    price.fill("-1")
    price.press("Enter")

    page.get_by_text("The price per hour of the l4 must be a number from 0 to 1,000,000 (got -1).").wait_for()


@pytest.mark.parametrize("written", first_quick(["3.7", "0", "-3", "1025", ""]))
def test_what_is_typed_and_is_no_rank_leaves_the_rank_that_was(llama, written):
    box = llama.get_by_label("Rank r")
    figure(llama, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    box.click()
    llama.keyboard.press("Control+A")
    llama.keyboard.press("Delete")
    llama.keyboard.type(written)
    llama.keyboard.press("Enter")

    llama.locator("#rv-rank-hint", has_text="r = 16 is kept.").wait_for()
    assert "16" == box.input_value()
    figure(llama, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    box.press("Tab")
    assert "r = 16 is kept." in llama.locator("#rv-rank-hint").inner_text()


@pytest.mark.slow
def test_a_ticked_module_becomes_the_choice_of_targets(page):
    page.goto(LLAMA + "&targets=qv")
    # q and v: 32 · (8192 + 5120) a unit of r.
    figure(page, "Trainable parameters").locator(".rv-value[title='6,815,744 parameters']").wait_for()

    page.get_by_text("Modules, alpha, DoRA").click()
    page.get_by_label("k_proj × 32").check()

    figure(page, "Trainable parameters").locator(".rv-value[title='9,437,184 parameters']").wait_for()
    page.wait_for_url(re.compile("targets=q_proj%2Ck_proj%2Cv_proj|targets=q_proj%2Cv_proj%2Ck_proj"))


@pytest.mark.slow
def test_the_picker_finds_a_model_by_another_name_though_one_is_chosen(page):
    page.goto("/?r=16")
    figure(page, "Trainable parameters").wait_for()

    page.locator("#model input").click()
    page.keyboard.type("unsloth/Qwen3-4B-unsloth-bnb-4bit")
    page.keyboard.press("Enter")

    page.wait_for_url("**model=unsloth**Qwen3-4B-unsloth-bnb-4bit**")
    # 36 blocks of q 2560+4096, k and v 2560+1024, o 4096+2560, three of 2560+9728: 33,030,144 at r = 16.
    figure(page, "Trainable parameters").locator(".rv-value[title='33,030,144 parameters']").wait_for()


def test_a_model_that_does_not_exist_gets_a_sentence_and_what_holds_without_its_costs(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()

    page.locator("#model input").click()
    page.keyboard.type("Qwen3-4-Bee")
    page.keyboard.press("Enter")

    page.locator("#slot-notice [role=alert]").wait_for()
    assert "Qwen3-4-Bee" in page.locator("#slot-notice").inner_text()
    assert "–" == figure(page, "Trainable parameters").locator(".rv-value").inner_text()
    page.locator("#tradeoff .xtitle", has_text="LoRA rank r").wait_for()
    assert "true" == page.get_by_role("button", name="Rank", exact=True).get_attribute("aria-pressed")

    page.locator("#model input").click()
    page.keyboard.press("Control+A")
    page.keyboard.type("mistralai/Mistral-7B-v0.3")
    page.keyboard.press("Enter")

    # 32 blocks of (4096+4096)·2 + (4096+1024)·2 + (4096+14336)·3 a unit of r, as Llama 3.1 8B has.
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    page.locator("#tradeoff .xtitle", has_text="adapter file").wait_for()


def test_a_copied_address_opens_the_same_view(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    choose_rank(page, 64)
    page.get_by_text("Modules, alpha, DoRA").click()
    page.get_by_label("α = 2r").check()
    page.get_by_label("rsLoRA").check()
    page.wait_for_url("**rslora=1**")
    page.locator(".rv-scale", has_text="16").wait_for()
    copied = page.url

    page.goto("about:blank")
    page.goto(copied)

    figure(page, "Trainable parameters").locator(".rv-value[title='167,772,160 parameters']").wait_for()
    restored(page)
    assert "64" == page.get_by_label("Rank r").input_value()
    page.get_by_text("Modules, alpha, DoRA").click()
    page.get_by_label("rsLoRA").and_(page.locator(":checked")).wait_for()  # set just after its fold has opened
    assert "α = 128, scale α / √r = 16" == page.locator(".rv-scale").inner_text().replace("\xa0", " ")


def test_typed_data_and_a_dropped_file_set_the_steps_and_the_address(page, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "abcd", "completion": "abcd"}\n' * 80)
    page.goto(LLAMA)
    page.locator("#slot-length-note", has_text="time and cost assume 1,000 steps of 8 examples").wait_for()
    restored(page)

    for label, value in (("Examples", "5000"), ("Tokens per example", "400"), ("Longest example", "1600")):
        page.get_by_label(label, exact=True).fill(value)
        page.get_by_label(label, exact=True).press("Tab")
    page.locator("#slot-length-note", has_text="5,000 examples × 1 epoch: 625 steps of 8 examples").wait_for()
    page.wait_for_url("**examples=5000&example_tokens=400&longest=1600**")

    page.set_input_files("input[type=file][accept*=jsonl]", str(file))
    page.locator("#file-note", has_text="rows.jsonl: 80 examples (prompt-completion), about 2 tokens").wait_for()
    page.locator("#slot-length-note", has_text="80 examples × 1 epoch: 10 steps of 8 examples").wait_for()
    page.wait_for_url("**examples=80&example_tokens=2&longest=3&epochs=1&file=prompt-completion%3A3%3Arows.jsonl**")


@pytest.mark.slow
def test_an_invalid_value_takes_the_sentence_of_the_old_figures_away_until_it_is_mended(page):
    page.goto("/?model=meta-llama/Llama-3.1-8B&r=16&examples=5000")
    note = page.locator("#slot-length-note")
    note.get_by_text("5,000 examples × 1 epoch: 625 steps").wait_for()
    restored(page)

    page.get_by_label("Epochs", exact=True).fill("-1")
    note.get_by_text("Figures, time and cost are for the last valid settings.").wait_for()
    assert 0 == note.get_by_text("625 steps").count()

    page.get_by_label("Epochs", exact=True).fill("2")
    note.get_by_text("5,000 examples × 2 epochs: 1,250 steps").wait_for()


def test_the_handle_of_the_chart_is_the_rank(llama):
    grip = llama.get_by_role("slider", name="Rank on the trade-off chart")
    grip.focus()

    llama.keyboard.press("ArrowRight")

    figure(llama, "Trainable parameters").locator(".rv-value[title='83,886,080 parameters']").wait_for()
    assert ("32", "r = 32") == (grip.get_attribute("aria-valuenow"), grip.inner_text())
    assert "32" == llama.get_by_label("Rank r").input_value()
    assert grip.get_attribute("aria-valuetext").startswith("r = 32: ")
    llama.keyboard.press("Shift+ArrowLeft")
    assert "31" == grip.get_attribute("aria-valuenow")


@pytest.mark.slow
def test_a_click_in_the_chart_chooses_the_nearest_rank(llama):
    place = """r => {
        const host = document.querySelector('#tradeoff .rv-plot'), box = host.getBoundingClientRect();
        const { xaxis, yaxis } = host._fullLayout;
        const every = host.data.find(trace => trace.name === 'every rank');
        return [box.x + xaxis._offset + xaxis.d2p(every.x[r - 1]), box.y + yaxis._offset + 20];
    }"""
    llama.locator("#tradeoff .rv-plot").scroll_into_view_if_needed()

    llama.mouse.click(*llama.evaluate(place, 4))

    figure(llama, "Trainable parameters").locator(".rv-value[title='10,485,760 parameters']").wait_for()
    llama.mouse.move(*llama.evaluate(place, 4))
    llama.mouse.down()
    llama.mouse.move(*llama.evaluate(place, 64), steps=5)
    llama.mouse.up()
    figure(llama, "Trainable parameters").locator(".rv-value[title='167,772,160 parameters']").wait_for()


def test_the_cost_axis_is_one_click_and_in_the_address(page):
    page.goto(LLAMA)
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()

    page.get_by_role("button", name="Memory", exact=True).click()

    page.wait_for_function("document.querySelector('#tradeoff .rv-plot')._fullLayout.xaxis.title.text.includes('GiB')")
    page.wait_for_url("**x=memory**")
    page.reload()
    page.wait_for_function(
        "document.querySelector('#tradeoff .rv-plot')?._fullLayout?.xaxis.title.text.includes('GiB')"
    )


def test_pinned_configurations_are_compared_and_in_the_address(page):
    page.goto(LLAMA)
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()

    page.get_by_role("button", name="Pin to compare").click()
    choose_rank(page, 64)
    page.wait_for_url("**r=64**")
    page.locator("[data-pin]").click()
    open_section(page, "Compare")

    page.locator("#compare th", has_text="B: Llama-3.1-8B").wait_for()
    assert 2 == page.url.count("pin=")
    page.reload()
    open_section(page, "Compare")
    page.locator("#compare th", has_text="B: Llama-3.1-8B").wait_for()
    page.get_by_role("button", name="Unpin A: Llama-3.1-8B").click()
    page.locator("#compare th", has_text="B: Llama-3.1-8B").wait_for(state="detached")
    assert 1 == page.url.count("pin=")


def test_presenting_needs_no_network_and_escape_ends_it(page):
    page.goto(LLAMA + "&present=1")
    page.locator(".rv-presenting #tradeoff .rv-plot[data-drawn]").wait_for()
    requested = []
    page.on("request", lambda request: requested.append(request.url) if "/rankviz/" in request.url else None)

    page.keyboard.press("ArrowRight")

    figure(page, "Trainable parameters").locator(".rv-value[title='83,886,080 parameters']").wait_for()
    assert page.locator("#sections").is_hidden()
    assert [] == requested
    page.keyboard.press("Escape")
    page.locator("#sections").wait_for()
    assert "present" not in page.url


def test_a_rank_that_is_chosen_while_an_answer_is_on_its_way_stands(page):
    page.goto(LLAMA)
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    restored(page)
    held = []
    page.route("**/rankviz/answer", lambda route: route.continue_() if held else held.append(route))
    page.get_by_role("button", name="Memory", exact=True).click()
    page.wait_for_function("document.body.hasAttribute('data-asking')")

    choose_rank(page, 64)
    page.wait_for_url("**r=64**")  # the address does not wait for an answer
    while not held:
        page.wait_for_timeout(50)
    held[0].continue_()

    page.wait_for_function("document.querySelector('#tradeoff .rv-plot')._fullLayout.xaxis.title.text.includes('GiB')")
    figure(page, "Trainable parameters").locator(".rv-value[title='167,772,160 parameters']").wait_for()
    assert "64" == page.get_by_label("Rank r").input_value()
    page.locator("#slot-advice", has_text="selected: r = 64").wait_for()
    assert "r=64" in page.url


def test_a_refused_model_leaves_no_number_of_the_other_one(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    restored(page)

    page.locator("#model input").click()
    page.keyboard.type("Qwen3-4-Bee")
    page.keyboard.press("Enter")

    page.locator("#slot-notice [role=alert]").wait_for()
    figure(page, "Trainable parameters").locator(".rv-value", has_text="–").wait_for()
    assert 1 == page.get_by_role("alert").count()


@pytest.mark.slow
def test_a_model_that_is_no_longer_asked_for_is_not_read_in_the_words_under_its_box(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    restored(page)
    held = []
    page.route("**/rankviz/answer", lambda route: route.continue_() if held else held.append(route))

    page.locator("#model input").click()
    page.keyboard.type("someone/slow")
    page.keyboard.press("Enter")
    page.locator("#model-busy", has_text="Reading the layers").wait_for()
    page.locator("#model input").click()
    page.keyboard.type("Qwen3-4-Bee")
    page.keyboard.press("Enter")
    page.locator("#slot-notice [role=alert]").wait_for()

    page.wait_for_timeout(1500)  # the first one still waits
    assert "" == page.locator("#model-busy").inner_text()
    held[0].continue_()
