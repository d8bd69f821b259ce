"""The model that is typed, in a real browser: the box takes what was typed, and no suggestion in its place."""

import pytest

from tests.support.web.pages import LLAMA, figure, restored

pytestmark = pytest.mark.browser
PHI_4 = "21,299,200 parameters"


def enter(page, text, *keys):
    page.locator("#model input").click()
    page.keyboard.type(text)
    page.wait_for_timeout(200)
    for key in (*keys, "Enter"):
        page.keyboard.press(key)


@pytest.mark.parametrize("typed", ["https://huggingface.co/microsoft/phi-4/tree/main"])
def test_an_exact_id_is_that_model(page, typed):
    page.goto(LLAMA)
    restored(page)

    enter(page, typed)

    figure(page, "Trainable parameters").locator(f".rv-value[title='{PHI_4}']").wait_for()
    assert typed == page.locator("#model input").input_value().partition(" · ")[0]
