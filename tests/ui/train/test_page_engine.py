"""A sweep is sent to a stand-in for Hugging Face Jobs from the page, in a browser."""

import pytest

from tests.support.hub_jobs import StandInHub
from tests.support.serving import serving
from tests.support.workers import wait_for

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


def test_a_sweep_goes_to_a_rented_machine_with_the_limit_that_was_given_and_is_cancelled_there(browser, url, hub):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
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
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_text("cancelled").first.wait_for()
    wait_for(lambda: job.stage == "CANCELED")
    page.close()
