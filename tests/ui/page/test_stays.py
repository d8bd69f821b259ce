"""What a drawing by a timer leaves as someone has it."""

import pytest

from rankviz.api import Api
from rankviz.core.runs.events import Evaluated, RunStarted, StageReached
from rankviz.ui.page import build_app
from tests.support.runs import questions
from tests.support.web.serving import launched
from tests.ui.conftest import WAIT_MILLISECONDS

pytestmark = pytest.mark.browser

FOLDS = "#run-detail details"


@pytest.fixture
def changing(browser, tmp_path):
    """A page that shows a run which trains, and what gives that run a loss of the base."""
    api = Api(home=tmp_path, shared=False)
    api.workspace.work_queue = lambda: None
    store = api.workspace.store
    sweep_id = store.create(questions.sweep(ranks=(4, 16), max_steps=4))
    first, _ = store.sweep(sweep_id).runs
    store.append(first.run_id, RunStarted(time=1.0, environment={"device": "cpu"}))

    def change(loss):
        measured = Evaluated(time=60 * loss, when="before", loss=loss, tokens=100, examples=64, seconds=1.0)
        for event in (measured, StageReached(time=60 * loss, stage=f"at {loss}")):
            store.append(first.run_id, event)

    with launched(build_app(api), api) as (_, url):
        page = browser.new_page(base_url=url)
        page.set_default_timeout(WAIT_MILLISECONDS)
        page.goto(f"/?tab=runs&sweep={sweep_id}&run={first.run_id}")
        page.locator(FOLDS).nth(1).wait_for()
        yield page, change
        page.close()


def folds(page):
    return page.locator(FOLDS).evaluate_all("folds => folds.map(fold => fold.open)")


def test_a_fold_stays_as_someone_left_it(changing):
    page, change = changing
    page.locator(f"{FOLDS} summary").first.click()

    change(1.2345)
    page.locator("#run-detail", has_text="1.2345").wait_for()

    assert [True, False] == folds(page)
    page.locator(f"{FOLDS} summary").first.click()
    change(1.3456)
    page.locator("#run-detail", has_text="1.3456").wait_for()
    assert [False, False] == folds(page)
