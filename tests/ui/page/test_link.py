"""Copy link, in a browser."""

import pytest

pytestmark = pytest.mark.browser

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
