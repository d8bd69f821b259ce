"""A sweep is sent to a stand-in for Hugging Face Jobs from the page, in a browser."""

import pytest

from tests.support.engines.hub_jobs import StandInHub
from tests.support.processes.workers import wait_for
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


def test_a_sweep_goes_to_a_rented_machine_is_cancelled_there_and_goes_on_within_its_limit(browser, url, hub):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(WAIT_MILLISECONDS)
    page.goto(f"{url}/?tab=train")

    page.get_by_label("Hugging Face Jobs").check()
    page.get_by_label("Spending limit (US dollars)").fill("5")
    page.get_by_label("Spending limit (US dollars)").press("Tab")
    cost = page.locator("#train-cost", has_text="The limit of $5.00 ends the job")
    cost.wait_for()
    assert "$0.80 per hour today" in cost.inner_text()
    page.get_by_role("button", name="Train", exact=True).click()

    page.get_by_text("Hugging Face looks for a free machine").wait_for()
    (job,) = hub.jobs.values()
    assert ("l4x1", int(60 * 5 / 0.013333 - 600)) == (job.spec["flavor"], job.spec["timeoutSeconds"])
    page.locator("#train-cancel").click()
    page.get_by_text("cancelled").first.wait_for()
    wait_for(lambda: job.stage == "CANCELED")

    page.get_by_role("link", name="Open this sweep on Runs").click()
    page.locator("#sweep-status", has_text="on Hugging Face Jobs, l4x1. Cost so far: $0.0").wait_for()
    page.locator("#sweep-resume", has_text="again (a job of $").click()
    wait_for(lambda: len(hub.jobs) == 2)
    _, second = hub.jobs.values()
    assert second.spec["timeoutSeconds"] < job.spec["timeoutSeconds"]
    page.locator("#sweep-cancel").click()
    wait_for(lambda: second.stage == "CANCELED")
    page.close()


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
