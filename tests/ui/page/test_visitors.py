"""A shared page in three browsers with cookies of their own: Ann, Ben and the admin."""

import pytest

from rankviz.shared.identity import COOKIE
from rankviz.store import RunStore
from rankviz.ui.page import ADMIN, ANONYMOUS
from rankviz.ui.parts.live import COPY_IT, OF_ANOTHER
from tests.support.runs import questions
from tests.support.runs.finished_runs import come, finished_events
from tests.ui.conftest import WAIT_MILLISECONDS, Watched, serving

pytestmark = pytest.mark.browser
TOKEN = "the token of the admin"
CHANGES = ("resume", "cancel", "add", "ship", "export", "share", "delete")


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def shared_address(shared_home):
    with serving(shared_home, {"SPACE_ID": "someone/rankviz", "RANKVIZ_ADMIN_TOKEN": TOKEN}) as url:
        yield url


@pytest.fixture
def visitor(browser, shared_address):
    """Makes visitors, each in a browser of their own."""
    contexts = []

    def arrived():
        context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=shared_address)
        context.set_default_timeout(WAIT_MILLISECONDS)
        contexts.append(context)
        return Arrived(context)

    yield arrived
    for context in contexts:
        context.close()


class Arrived(Watched):
    def __init__(self, context):
        super().__init__(context)
        self.context = context
        self.open("/?tab=runs")

    @property
    def id(self):
        return next(each["value"] for each in self.context.cookies() if each["name"] == COOKIE).partition(".")[0]

    def open(self, path):
        self.page.goto(path)
        self.page.locator("#runs-table tbody tr").first.wait_for()
        return self.page

    def listed(self, sweep_id):
        return self.page.locator(f"#runs-table [data-pick='{sweep_id}']")

    def offered(self):
        return {name for name in CHANGES if self.page.locator(f"#sweep-{name}").is_visible()}


def trained(home, owner):
    request = questions.sweep(ranks=(4, 16), max_steps=2)
    return come(RunStore(home), request, owner, lambda run: finished_events(run, 2.0)).sweep_id


def test_a_sweep_is_its_owners_until_it_is_shared_and_then_others_read_it(visitor, shared_home):
    ann, ben = visitor(), visitor()
    assert ann.id != ben.id
    ann.page.get_by_text(ANONYMOUS).wait_for()
    sweep_id = trained(shared_home, ann.id)
    link = f"/?tab=runs&sweep={sweep_id}"

    ann.open(link).locator("#sweep-status h2").wait_for()
    ann.listed(sweep_id).wait_for()
    ann.page.locator("#sweep-delete").wait_for()
    assert {"export", "share", "delete"} <= ann.offered()
    ben.open(link)
    ben.page.get_by_text(f"No run or sweep '{sweep_id}' here, or its owner").first.wait_for()
    assert not ben.page.locator("#sweep-status h2").is_visible()
    assert 0 == ben.listed(sweep_id).count()

    ann.page.get_by_label("Share: anyone").check()
    ann.page.get_by_text(COPY_IT).wait_for()
    ben.open(link).get_by_text(OF_ANOTHER).wait_for()

    ben.page.locator("#sweep-curve .rv-plot").wait_for()
    assert 0 == ben.listed(sweep_id).count()
    assert set() == ben.offered()
    assert [] == ann.errors + ben.errors


def test_the_admin_signs_in_sees_what_all_have_and_signs_out(visitor, shared_home):
    ann, admin = visitor(), visitor()
    sweep_id = trained(shared_home, ann.id)

    admin.page.locator("#who").get_by_role("link", name="Admin").click()
    admin.page.get_by_label("Token").fill(TOKEN)
    admin.page.get_by_role("button", name="Sign in").click()
    admin.open("/?tab=runs").get_by_text(ADMIN).wait_for()
    admin.listed(sweep_id).wait_for()
    admin.page.locator("#who").get_by_role("link", name="Admin").click()
    admin.page.get_by_role("button", name="Sign out").click()

    admin.open("/?tab=runs").get_by_text(ANONYMOUS).wait_for()
    assert 0 == admin.listed(sweep_id).count()
    assert [] == admin.errors
