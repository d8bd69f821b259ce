"""Hugging Face's login on a shared page, from the button to whose a run is, against a stand-in for the provider."""

import json
import urllib.request

import pytest

from rankviz.store import RunStore
from rankviz.ui.who import ANONYMOUS
from tests.support.runs import questions
from tests.support.runs.finished_runs import come, finished_events
from tests.support.web.login import as_space, login_provider
from tests.ui.conftest import WAIT_MILLISECONDS, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("login")


@pytest.fixture(scope="module")
def space(home):
    """Where the page answers, as a Space with a login."""
    with login_provider({"sub-of-ann": "ann"}) as provider, serving(home, as_space(provider)) as url:
        # The session's cookie is Secure, which a browser takes over http from localhost alone.
        yield url.replace("127.0.0.1", "localhost")


def trained(home, owner):
    """A sweep that has ended, so that the page does not start to train it."""
    request = questions.sweep(ranks=(4,), max_steps=2)
    return come(RunStore(home), request, owner, lambda run: finished_events(run, 2.0)).sweep_id


def test_who_logs_in_finds_their_runs_in_any_browser_until_they_log_out(browser, space, home):
    hers = trained(home, "hf:sub-of-ann")
    context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=space)
    context.set_default_timeout(WAIT_MILLISECONDS)
    page, thrown = context.new_page(), []
    page.on("pageerror", lambda error: thrown.append(str(error)))  # the console also misses the Space's own scripts
    line, row = page.locator("#who"), page.locator(f"#runs-table [data-pick='{hers}']")

    page.goto("/?tab=runs")
    line.get_by_text(ANONYMOUS).wait_for()
    page.locator("#runs-table tbody tr").first.wait_for()
    before, pictures = row.count(), page.locator("#login img").count()
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    line.get_by_text("You are ann.").wait_for()
    page.goto("/?tab=runs")
    row.wait_for()
    page.get_by_role("button", name="Logout (ann)").click()
    line.get_by_text(ANONYMOUS).wait_for()

    assert (0, 0) == (before, pictures)
    assert [] == thrown
    context.close()


def test_the_button_is_no_endpoint(space):
    named = json.load(urllib.request.urlopen(f"{space}/gradio_api/info"))["named_endpoints"]

    assert "/estimate" in named
    assert not [name for name in named if "login" in name]
