"""The page below a path of a team's server, behind a reverse proxy."""

import pytest

from tests.support.quick import first_quick
from tests.support.web.pages import LLAMA, figure
from tests.support.web.proxy import proxy
from tests.support.web.serving import serving
from tests.ui.conftest import WAIT_MILLISECONDS

PATH = "/team/rankviz"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    """Addresses of one page that strangers use, as a proxy serves it that takes the path off, and one that leaves it
    on."""
    environment = {"GRADIO_ROOT_PATH": PATH, "RANKVIZ_SHARED": "true"}
    with (
        serving(tmp_path_factory.mktemp("home"), environment) as target,
        proxy(target, PATH) as off,
        proxy(target, PATH, strips_path=False) as on,
    ):
        yield {"taken off": off, "left on": on}


@pytest.mark.parametrize("path", first_quick(["taken off", "left on"]))
def test_the_page_works_below_a_path(browser, below, path):
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = context.new_page()
    outside, failed, errors = [], [], []
    page.on("request", lambda request: outside.append(request.url) if _is_outside(request.url, below[path]) else None)
    page.on("response", lambda answer: failed.append((answer.status, answer.url)) if answer.status >= 400 else None)
    page.on("pageerror", lambda error: errors.append(str(error)))

    page.goto(below[path] + LLAMA.removeprefix("/"))
    figure(page, "Trainable parameters").locator(".rv-value[title='41,943,040 parameters']").wait_for()
    page.locator("#tradeoff .rv-plot[data-drawn]").wait_for()
    page.get_by_role("tab", name="Guide").click()
    page.locator("#rules table").first.wait_for()

    assert f"{PATH}/?" in page.url
    assert PATH == next(cookie["path"] for cookie in context.cookies() if cookie["name"] == "rankviz_visitor")
    assert ([], [], []) == (outside, failed, errors)
    context.close()


def _is_outside(url: str, address: str) -> bool:
    return url.startswith("http") and not url.startswith(address)
