"""The model that is typed, in a real browser: the box takes what was typed, and no suggestion in its place."""

import re

import pytest

from tests.support.quick import first_quick
from tests.support.web.pages import LLAMA, figure, restored

pytestmark = pytest.mark.browser
PHI_4 = "21,299,200 parameters"


def enter(page, text, *keys):
    page.locator("#model input").click()
    page.keyboard.type(text)
    page.wait_for_timeout(200)
    for key in (*keys, "Enter"):
        page.keyboard.press(key)


@pytest.mark.parametrize(
    "typed",
    first_quick(["https://huggingface.co/microsoft/phi-4/tree/main", "microsoft/phi-4", "MICROSOFT/Phi-4"]),
)
def test_an_exact_id_is_that_model(page, typed):
    page.goto(LLAMA)
    restored(page)

    enter(page, typed)

    figure(page, "Trainable parameters").locator(f".rv-value[title='{PHI_4}']").wait_for()
    assert typed == page.locator("#model input").input_value().partition(" · ")[0]


@pytest.mark.parametrize("typed", first_quick(["phi-4", "deepseek-ai/DeepSeek-R1", "mini"]))
def test_a_name_that_is_not_known_is_replaced_by_no_other_and_the_page_says_what_to_do(page, typed):
    page.goto(LLAMA)
    restored(page)

    enter(page, typed)

    notice = page.locator("#slot-notice [role=alert]", has_text=typed)
    notice.wait_for()
    assert typed == page.locator("#model input").input_value()
    assert re.search("Did you mean|choose a model of the catalogue|Give its id", notice.inner_text())


def test_a_suggestion_is_taken_with_the_arrow_keys(page):
    page.goto(LLAMA)
    restored(page)

    enter(page, "phi-4", "ArrowDown")

    page.wait_for_function("document.querySelector('#model input').value.includes(' · ')")
    page.wait_for_url(re.compile("model=[^&]*[Pp]hi-4"))


@pytest.mark.slow
def test_a_key_that_is_faster_than_the_selection_of_a_click_is_kept(page):
    page.goto(LLAMA)
    restored(page)

    selected = page.locator("#model input").evaluate(
        """async (box) => {
            box.dispatchEvent(new MouseEvent("click", { detail: 1, bubbles: true }));
            box.value = "p";
            box.setSelectionRange(1, 1);
            box.dispatchEvent(new InputEvent("input", { bubbles: true }));
            await new Promise((resolve) => setTimeout(resolve, 50));
            return box.selectionEnd - box.selectionStart;
        }"""
    )

    assert 0 == selected
