"""What is folded away is there when it is opened, however little a sweep has of it, and what is hidden stays so."""

import pytest

from rankviz.api import Api
from rankviz.ui.page import build_app
from tests.support.processes.workers import supervise, worker
from tests.support.runs import questions
from tests.support.web.serving import launched
from tests.ui.conftest import WAIT_MILLISECONDS

pytestmark = pytest.mark.browser

STEPS_WITHOUT_END = worker(
    "for run_id in run_ids:\n"
    "    begin(run_id)\n"
    "    for number in range(1, 10_000):\n"
    "        step(run_id, number)\n"
    "        time.sleep(0.2)"
)


@pytest.fixture
def training(tmp_path):
    """A page's own Api, with a sweep of which the first run trains; and the sweep's id."""
    api = Api(home=tmp_path, shared=False)
    store = api.workspace.store
    api.workspace.supervisor = supervise(store, STEPS_WITHOUT_END)
    sweep_id = store.create(questions.sweep(ranks=(4, 16), max_steps=10_000), "")
    yield api, sweep_id
    api.workspace.supervisor.cancel(sweep_id)
    api.workspace.supervisor.stop()


@pytest.mark.slow
def test_the_button_behind_a_download_stays_hidden_while_a_run_trains(browser, training):
    api, sweep_id = training
    with launched(build_app(api), api) as (_, url):
        page = browser.new_page(base_url=url)
        page.set_default_timeout(WAIT_MILLISECONDS)
        page.goto(f"/?tab=train&sweep={sweep_id}")
        fold = page.get_by_role("button", name="Runs: measured and estimated")
        page.locator("#status", has_text="step").wait_for()

        fold.click()
        page.locator("#train-results", has_text="r = 16").wait_for()

        page.wait_for_timeout(3000)  # it is drawn a few times
        assert page.locator("#results-download-file").is_hidden()
        page.close()
