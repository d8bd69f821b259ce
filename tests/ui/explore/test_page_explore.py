"""Explore in a real browser: numbers, chart and words follow the question."""

import re

import pytest

from tests.support.web.pages import LLAMA, choose_rank, figure, open_section, restored

pytestmark = pytest.mark.browser
Y_RANGE = "document.querySelector('#memory .rv-plot')._fullLayout.yaxis.range"


def test_another_rank_changes_the_numbers_the_table_and_the_address_and_keeps_the_zoom(page):
    page.goto(LLAMA)
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    restored(page)
    open_section(page, "Fit and memory")
    page.locator("#memory .rv-plot[data-drawn]").wait_for()
    plot = page.locator("#memory .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 64, box["y"] + 160, steps=4)
    page.mouse.up()
    zoomed = page.evaluate(Y_RANGE)

    choose_rank(page, 24)

    figure(page, "Trainable parameters").locator(".rv-value[title='62,914,560 parameters']").wait_for()
    assert "62.91 M" in page.locator("#ranks .rv-chosen").text_content()
    page.wait_for_url("**r=24**")
    page.wait_for_function("document.querySelector('#memory .rv-plot').data[0].x.includes('<b>24</b>')")
    assert zoomed == page.evaluate(Y_RANGE)
    assert zoomed[0] > 0


def test_a_click_in_the_chart_takes_a_usual_rank_and_what_is_read_there_lies_over_the_handle(page):
    page.goto(LLAMA)
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    restored(page)
    at_45, at_64 = page.evaluate(
        """() => {
          const host = document.querySelector("#tradeoff .rv-plot"), { xaxis, yaxis } = host._fullLayout;
          const { x, y } = host.data.find((each) => each.name === "every rank");
          const { left, top } = host.getBoundingClientRect();
          const place = (r, value) => [left + xaxis._offset + xaxis.d2p(x[r - 1]), top + yaxis._offset + value];
          return [place(45, yaxis._length - 3), place(64, yaxis.d2p(y[63]))];
        }"""
    )

    page.mouse.click(*at_45)
    page.locator("#ranks .rv-chosen button", has_text="32").wait_for()
    page.keyboard.down("Shift")
    page.mouse.click(*at_45)
    page.locator("#ranks .rv-chosen button", has_text="45").wait_for()
    page.keyboard.up("Shift")
    page.mouse.move(*at_64, steps=3)
    page.locator("#tradeoff .hovertext").wait_for()
    assert "-1" == page.evaluate("getComputedStyle(document.querySelector('.rv-grip')).zIndex")
    page.mouse.click(*at_64)
    page.locator("#tradeoff .hovertext").wait_for(state="hidden")


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
    page.locator("#slot-length-note", has_text="Without data: 1,000 steps of 8 examples").wait_for()
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
    page.locator("#slot-advice", has_text="Use r = 32").wait_for()
    assert "r=64" in page.url


def test_a_model_is_found_by_words_address_copy_and_typing_error(page):
    def write(text):
        page.locator("#model input").click()
        page.keyboard.press("Control+a")
        page.keyboard.type(text)

    page.goto(LLAMA)
    restored(page)
    write("8b instruct llama")
    page.locator("#model [data-model]", has_text="meta-llama/Llama-3.1-8B-Instruct").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**model=meta-llama%2FLlama-3.1-8B-Instruct**")

    write("https://hf.co/microsoft/phi-4-gguf/blob/main/phi-4-q4.gguf?download=true")
    page.keyboard.press("Enter")
    page.locator("#slot-model-note", has_text="its base microsoft/phi-4 is used, assumed from the name").wait_for()
    figure(page, "Trainable parameters").locator(".rv-value[title='21,299,200 parameters']").wait_for()

    write("quen3 4b")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Qwen/Qwen3-4B", exact=True).click()
    page.wait_for_url("**model=Qwen%2FQwen3-4B&**")
    assert "Qwen/Qwen3-4B" == page.locator("#model input").input_value().partition(" · ")[0]

    page.get_by_label("Examples", exact=True).fill("0")
    page.locator("#slot-notice", has_text="Shown: Qwen3-4B, with the last valid settings.").wait_for()


SEEN = """selector => [...document.querySelectorAll(selector)].filter(each => {
  const shown = each.checkVisibility({ visibilityProperty: true });
  const { top, width } = each.getBoundingClientRect();
  return shown && width > 1 && top < innerHeight && !each.closest(".visually-hidden, .rv-skip, .rv-unseen");
})"""
"""The elements that the window shows."""
CONTROLS = f"({SEEN})('button, input, select, summary, a[href], [role=slider]').length"
WORDS = f"""({SEEN})('body *').flatMap(each => [...each.childNodes].filter(node => node.nodeType === 3))
  .map(text => text.data).join(' ').match(/\\S+/g).length"""
RANGE = "document.querySelector('#tradeoff .rv-plot')._fullLayout.xaxis.range[0]"


def test_the_first_screen_is_short_and_says_what_rank_changes_and_what_is_known(page):
    page.goto("/?model=meta-llama/Llama-3.1-8B&gpu=a100-80gb-sxm")
    drawing = page.locator("#tradeoff .rv-plot[data-drawn]")
    drawing.wait_for()
    restored(page)
    changes, known = (text.replace("\xa0", " ") for text in page.locator("#slot-message p").all_inner_texts())

    assert re.match(r"From r = 8 to r = 64 the file grows 8 times and memory by 1\.\d+ GiB; hardly more time", changes)
    assert re.match(r"Quality in \d+ published lines \(80 % band\): r = 8 is .* and r = 64 is .* of r = 128", known)
    assert page.evaluate(WORDS) <= 400 and page.evaluate(CONTROLS) <= 55
    legend = drawing.locator(".legend .traces")
    assert "forecast: median, 50 and 80 % bands" == legend.first.text_content()
    assert 4 == legend.count() and len({round(legend.nth(i).bounding_box()["y"]) for i in range(4)}) <= 2
    values = {name: figure(page, name).inner_text() for name in ("Time", "Cost")}
    assert 1 == len(set(re.findall(r"(?<=\d )(?:min|h|days)\b", values["Time"])[-3:])), values
    assert not re.search(r"[1-9]\.\d\d", values["Cost"]), values
    for name in ("Time", "Cost"):
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_function(f"{RANGE} === 0 && document.body.innerText.includes('{name.lower()}')")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.querySelector('#slot-message').getBoundingClientRect().bottom <= innerHeight")


def test_one_rank_is_recommended_with_what_fits_and_old_names_open_their_section(page):
    page.goto("/?model=Qwen/Qwen3-8B&gpu=t4&batch=16&max_length=8192&r=64&section=memory")
    advice, cost = page.locator("#slot-advice"), figure(page, "Cost")
    advice.locator("h2", has_text="Recommended: r = 32 low confidence").wait_for()
    reason, fit = (text.replace("\xa0", " ") for text in advice.locator("p").all_inner_texts()[:2])

    assert len(reason.split()) <= 30
    assert re.match(r"✕ does not fit on T4\. What fits for certain: a batch of 2, .* or the \S+ \(about \$\d+\)\.", fit)
    assert "$" not in cost.locator(".rv-value").inner_text()
    assert "cheapest GPU that fits, about $" in cost.locator(".rv-sub").inner_text()
    page.locator("#memory .rv-plot[data-drawn]").wait_for()
    assert 6 == page.locator("#sections > .tab-wrapper [role=tab]").filter(visible=True).count()
    page.get_by_role("button", name="Use r = 32").click()
    page.wait_for_function("document.getElementById('rv-rank-box').value === '32'")
    page.get_by_role("button", name="Use r = 32").wait_for(state="detached")
    page.get_by_text("Details: why r = 32").click()
    why = page.locator("#slot-why")
    assert len(why.inner_text().split()) <= 250
    assert why.bounding_box()["width"] > 900
