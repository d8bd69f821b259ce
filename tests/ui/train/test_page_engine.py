"""A sweep is sent to a stand-in for Hugging Face Jobs from the page, in a browser."""

import pytest

from tests.support.engines.hub_jobs import StandInHub
from tests.support.web.serving import serving
from tests.ui.conftest import WAIT_MILLISECONDS
from tests.ui.page.test_newest import Late

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    hub = StandInHub(tmp_path_factory.mktemp("hub"))
    hub.holds.set()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def url(hub, tmp_path_factory):
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_alice", "HF_HUB_OFFLINE": "0"}
    with serving(tmp_path_factory.mktemp("home"), environment) as url:
        yield url


@pytest.mark.slow
def test_no_price_stands_under_another_place_though_its_answer_comes_late(browser, url):
    page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=url)
    page.set_default_timeout(WAIT_MILLISECONDS)
    page.goto("/?tab=train")
    page.locator("#expected", has_text="on ").wait_for()
    page.evaluate(
        """() => {
          window.seen = "";
          const note = () => (window.seen += document.querySelector("#expected").innerText + "|");
          new MutationObserver(note).observe(document.querySelector("#expected"), { childList: true, subtree: true });
        }"""
    )
    late = Late(page, of="expected", with_value="hf-jobs")
    places = page.locator("#train-engine-choice")
    places.get_by_label("Hugging Face Jobs").check()
    late.wait()

    places.get_by_label("This machine").check()
    page.locator("#expected", has_text="Asking for time, memory and cost there …").wait_for()
    late.arrive()

    page.locator("#expected", has_text="estimated time").wait_for()
    assert "$" not in page.evaluate("window.seen")
    page.close()
