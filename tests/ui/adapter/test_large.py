"""What is drawn of an adapter of many modules stands in the line for what is read, and is laid out once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from rankviz.api import adapters
from rankviz.children import FairLine
from rankviz.visitor import acting_as
from tests.support.models.saved_adapters import two_blocks
from tests.support.processes.workers import wait_for
from tests.support.runs.finished_runs import text_of
from tests.support.web.visitors import ANN, BEN
from tests.ui.adapter.views import shown


@pytest.fixture
def large(api, tmp_path, monkeypatch):
    """One of four modules, which are many here; its spectrum is in memory."""
    monkeypatch.setattr(adapters, "MANY_MODULES", 3, raising=False)
    folder = str(two_blocks(tmp_path / "mine"))
    api.adapters.spectrum(folder)
    return folder


def test_a_redraw_of_many_modules_waits_for_others_in_the_line(api, large):
    line = api.workspace.children.line = FairLine(1, busy="Busy with others.", seconds=600)

    def redraw():
        with acting_as(ANN):
            return shown(api, large, r=1)

    with ThreadPoolExecutor(1) as pool, acting_as(BEN), line.turn():
        redrawn = pool.submit(redraw)
        wait_for(lambda: line.length == 2 or redrawn.done())
        waited = not redrawn.done()

    assert waited
    assert "Parameters" in text_of(redrawn.result().sizes)
    assert 0 == line.length


def test_where_there_is_no_place_the_page_says_so_and_stays_as_it_is(api, large):
    api.workspace.children.line = FairLine(1, busy="Busy with others.", seconds=0)
    with ThreadPoolExecutor(1) as pool, acting_as(BEN), api.workspace.children.line.turn():
        view = pool.submit(shown, api, large, r=1).result()

    assert "Busy with others." in text_of(view.notice)
    assert ["notice"] == list(vars(view))
