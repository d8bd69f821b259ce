"""How much the page asks of the server. How long that takes stands in `make bench page`."""

import pytest

from tests.support.pages import choose_rank

pytestmark = pytest.mark.browser

WARMING_UP = (32, 64)
RANKS = (8, 128, 4)


def test_a_rank_takes_at_most_two_requests(page):
    page.goto("/")
    page.locator("#figures", has_text="parameters").wait_for()
    for r in WARMING_UP:
        _choose_and_see(page, r)
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    for r in RANKS:
        _choose_and_see(page, r)

    assert len(asked) <= 2 * len(RANKS), asked


def _choose_and_see(page, r):
    before = page.locator("#figures").inner_text()
    choose_rank(page, r)
    page.wait_for_function("old => document.querySelector('#figures').innerText !== old", arg=before)
