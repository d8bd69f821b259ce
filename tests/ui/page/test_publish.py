"""A visitor of a shared page publishes a sweep in the browser, to a Hub on loopback."""

import pytest

from rankviz.api import Api
from rankviz.shared.identity import COOKIE
from rankviz.visitor import Visitor, acting_as
from tests.api.sinks.publishing import everything_below
from tests.support.engines.hub_stand_in import TOKEN, hub_stand_in
from tests.support.runs.published import trained
from tests.support.web.serving import serving
from tests.ui.conftest import WAIT_MILLISECONDS, Watched

pytestmark = pytest.mark.browser
SERVERS = "hf_theServersOwnToken0123456789"


@pytest.fixture
def hub():
    with hub_stand_in() as hub:
        yield hub


@pytest.fixture
def visitor(browser, hub, tmp_path):
    variables = {"SPACE_ID": "someone/rankviz", "HF_ENDPOINT": hub.url, "HF_TOKEN": SERVERS}
    variables |= {"HF_HUB_OFFLINE": "0", "PYTHONUNBUFFERED": "1"}
    with serving(tmp_path, variables) as url:
        context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=url)
        context.set_default_timeout(WAIT_MILLISECONDS)
        yield Watched(context)
        context.close()


def test_a_visitor_publishes_a_sweep_with_a_token_of_their_own_and_gets_a_link(visitor, hub, tmp_path):
    page = visitor.page
    page.goto("/?tab=runs")
    page.locator("#runs-table tbody tr").first.wait_for()
    cookie = next(each["value"] for each in page.context.cookies() if each["name"] == COOKIE)
    with acting_as(Visitor(cookie.partition(".")[0])):
        sweep = trained(Api(home=tmp_path, shared=True))
    page.goto(f"/?tab=runs&sweep={sweep.sweep_id}")
    page.locator("#sweep-status h2").wait_for()

    page.locator("#sweep-publish button").first.click()
    page.get_by_label("Repository (owner/name)").fill("alice/ranks")
    page.locator("#publish-it").click()
    page.get_by_text("Log in at Hugging Face, or give a token of yours with the right to write.").wait_for()
    page.locator("#publish-token input").fill(TOKEN)
    page.locator("#publish-it").click()
    link = page.locator("#publish-status a")
    link.wait_for()

    assert f"{hub.url}/datasets/alice/ranks" == link.get_attribute("href")
    assert "Published (private): alice/ranks" == page.locator("#publish-status").inner_text().strip()
    assert "" == page.locator("#publish-token input").input_value()
    assert {TOKEN} == hub.tokens
    kept = everything_below(tmp_path)
    assert b"Running on" in kept  # the log of the app is among it
    assert TOKEN.encode() not in kept
    assert TOKEN not in page.evaluate("JSON.stringify([localStorage, sessionStorage, location.href])")
    assert [] == visitor.errors
