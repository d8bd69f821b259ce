"""One real app in its own process, with its own runs folder, and one browser for all tests of the page."""

import pytest

from tests.support.web.pages import chromium
from tests.support.web.serving import serving

WAIT_MILLISECONDS = 300_000
"""Far more than a page needs: another test may have the machine to itself meanwhile."""


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The app's folder of runs."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def address(home):
    """Where `python app.py` answers."""
    with serving(home) as url:
        yield url


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser, address):
    """One cache for all pages, so that scripts and fonts are loaded and compiled once."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=address)
    context.set_default_timeout(WAIT_MILLISECONDS)
    yield context
    context.close()


@pytest.fixture
def page(context):
    """A wide page that fails the test if the browser console says error."""
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    yield page
    page.close()
    assert [] == errors
