"""How much the page asks of the server, and in which order it builds. How long that takes: `make bench page`."""

import pytest

from tests.support.web.pages import choose_rank, restored

pytestmark = pytest.mark.browser

WARMING_UP = (16, 64)
RANKS = (8, 128, 4)


def test_a_rank_takes_at_most_two_requests(page):
    page.goto("/")
    page.locator("#figures", has_text="parameters").wait_for()
    restored(page)
    for r in WARMING_UP:
        with page.expect_response("**/rankviz/words"):  # by then the page has asked what it asks as it opens
            _choose_and_see(page, r)
    requests = []
    page.on("request", lambda request: requests.append(request.url))

    for r in RANKS:
        _choose_and_see(page, r)

    assert len(requests) <= 2 * len(RANKS), requests


def _choose_and_see(page, r):
    before = page.locator("#figures").inner_text()
    choose_rank(page, r)
    page.wait_for_function("old => document.querySelector('#figures').innerText !== old", arg=before)


def test_the_figures_stand_before_gradio_has_built_the_page_and_go_to_their_place_in_it(page):
    held = []
    page.route("**/assets/Blocks-*.js", lambda route: held.append(route))

    page.goto("/?model=Qwen/Qwen3-8B&r=32", wait_until="commit")
    first = page.locator(".rv-first-figures")
    first.wait_for()
    values, place = first.locator(".rv-first-value").all_inner_texts(), first.bounding_box()
    while not held:
        page.wait_for_timeout(50)
    assert 0 == page.locator("#figures").count()
    for route in held:
        route.continue_()
    first.wait_for(state="detached")

    assert 5 == len(values)
    assert values == page.locator("#figures .rv-value").all_inner_texts()
    figures = page.locator(".rv-figures").first.bounding_box()
    assert [place["x"], place["y"], place["width"]] == pytest.approx(
        [figures[name] for name in ("x", "y", "width")], abs=2
    )
