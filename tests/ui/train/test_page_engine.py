"""A sweep is sent to a stand-in for Hugging Face Jobs from the page, in a browser."""

import pytest

from tests.support.engines.hub_jobs import StandInHub
from tests.support.processes.workers import wait_for
from tests.support.web.serving import serving
from tests.ui.conftest import WAIT_MILLISECONDS

pytestmark = pytest.mark.browser


def test_a_sweep_goes_to_a_rented_machine_within_its_limit_and_is_cancelled_there(browser, tmp_path):
    hub = StandInHub(tmp_path / "hub")
    hub.holds.set()
    (home := tmp_path / "home").mkdir()
    with serving(home, {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_alice", "HF_HUB_OFFLINE": "0"}) as url:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(WAIT_MILLISECONDS)
        page.goto(f"{url}/?tab=train")
        page.get_by_label("Hugging Face Jobs").check()
        page.get_by_label("Spending limit (US dollars)").fill("5")
        page.get_by_label("Spending limit (US dollars)").press("Tab")
        page.locator("#train-cost", has_text="The limit of $5.00 ends the job").wait_for()
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("Hugging Face looks for a free machine").wait_for()
        (job,) = hub.jobs.values()
        assert ("l4x1", int(60 * 5 / 0.013333 - 600)) == (job.spec["flavor"], job.spec["timeoutSeconds"])
        page.locator("#train-cancel").click()
        wait_for(lambda: job.stage == "CANCELED")
        page.close()
    hub.close()
