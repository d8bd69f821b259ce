"""One real app in its own process, with its own runs folder, and one browser for all tests of the page."""

import pytest

from rankviz.api import Api
from tests.support.runs.finished_runs import counted
from tests.support.web.pages import LLAMA, choose_rank, chromium, figure, open_section, restored
from tests.support.web.serving import serving

WAIT_MILLISECONDS = 300_000
"""Far more than a page needs: another test may have the machine to itself meanwhile."""


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The app's folder of runs."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def counted_sweep(home):
    """A sweep with accuracies, gone again afterwards: other tests share the runs folder."""
    api = Api(home=home)
    sweep = counted(api, {4: 60, 16: 80})
    yield sweep.sweep_id
    api.runs.delete(sweep.sweep_id)


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


class Watched:
    """A wide page, and what its browser console calls an error."""

    def __init__(self, context):
        self.page = context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)


@pytest.fixture
def page(context):
    """A wide page that fails the test if the browser console says error."""
    watched = Watched(context)
    yield watched.page
    watched.page.close()
    assert [] == watched.errors


@pytest.fixture(scope="module")
def llama_loaded(context):
    watched = Watched(context)
    watched.page.goto(LLAMA)
    watched.page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    watched.page.locator("#ranks tr.rv-chosen").wait_for()
    restored(watched.page)
    open_section(watched.page, "Memory")
    watched.page.locator("#memory .rv-plot[data-drawn]").wait_for()
    yield watched
    watched.page.close()


@pytest.fixture
def llama(llama_loaded):
    """Llama 3.1 8B at r = 16, loaded once for the tests of a file that change no more of it than the rank."""
    page = llama_loaded.page
    if "16" != page.get_by_label("Rank r").input_value():
        choose_rank(page, 16)
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    yield page
    assert [] == llama_loaded.errors
