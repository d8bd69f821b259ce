"""The address of Explore says what is shown: opened again, it shows the same."""

import pytest

from tests.support.web.pages import restored

pytestmark = pytest.mark.browser

SHOWN = """() => {
    const { data, layout } = document.querySelector("#tradeoff .rv-plot");
    return {
        model: document.querySelector("#tradeoff [data-model]").textContent,
        axes: [layout.xaxis.title.text, layout.yaxis.title.text],
        chosen: document.querySelector("#tradeoff select").value,
        drawn: data.map((trace) => [trace.name, trace.x, trace.y]),
        ranks: document.querySelector("#ranks tbody").innerText,
        figures: document.querySelector("#figures").innerText,
        advice: document.querySelector("#slot-advice").innerText,
    };
}"""
ANSWERED = "!document.body.hasAttribute('data-asking')"


def choose_model(page, name):
    page.locator("#model input").click()
    page.keyboard.press("Control+A")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.locator("#tradeoff [data-model]", has_text=name).wait_for(state="attached")
    page.wait_for_function("document.activeElement.closest('#model')")


def choose_quality(page, key):
    with page.expect_response("**/rankviz/answer"):
        page.get_by_label("Quality axis").select_option(key)


def choose_cost(page, label):
    with page.expect_response("**/rankviz/answer"):
        page.get_by_role("button", name=label, exact=True).click()


def settled(page):
    """The view, once nothing of it is on its way."""
    page.wait_for_function(ANSWERED)
    page.wait_for_function(
        "document.querySelector('#slot-advice').innerText && document.querySelector('#ranks tbody').innerText"
    )
    before = None
    while before != (now := page.evaluate(SHOWN)):
        before = now
        page.wait_for_timeout(300)
    return now


MISTRAL, GEMMA, QWEN = "mistralai/Mistral-7B-v0.3", "google/gemma-3-4b-it", "Qwen/Qwen3-8B"
CHANGES = {
    "a model whose usual quality is another": ("/?model=embedded", [(choose_model, MISTRAL)]),
    "two models and back": ("/", [(choose_model, GEMMA), (choose_model, QWEN)]),
    "a model on another GPU": ("/?gpu=t4", [(choose_model, GEMMA)]),
    "a quality, then a model": ("/", [(choose_quality, "percent"), (choose_model, MISTRAL)]),
    "a quality that the next model does not have": (
        "/?model=embedded",
        [(choose_quality, "loss"), (choose_model, MISTRAL)],
    ),
    "a quality and a cost": (f"/?model={QWEN}", [(choose_quality, "score"), (choose_cost, "Time")]),
    "a cost, then a model": ("/?r=64&use_case=complex", [(choose_cost, "Memory"), (choose_model, GEMMA)]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_chosen_on_the_page_is_what_its_address_opens(page, name):
    address, changes = CHANGES[name]
    page.goto(address)
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    restored(page)
    for change, choice in changes:
        change(page, choice)
    live = settled(page)
    copied = page.url

    page.goto("about:blank")
    page.goto(copied)
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    restored(page)

    assert live == settled(page)
    assert copied == page.url
