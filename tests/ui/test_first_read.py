"""The page answers while the runs folder is read for the first time."""

import gc
import os

import pytest

from rankviz.api import Api
from rankviz.store import RunStore
from rankviz.ui.page import build_app
from rankviz.ui.serve import read_ahead
from tests.support.processes.opened_files import opened_files
from tests.support.processes.slow_store import SlowStore
from tests.support.runs import questions
from tests.support.web.serving import launched
from tests.support.web.stranger import Stranger


@pytest.fixture
def api(tmp_path):
    """Of a folder of 100 runs, of which READ have been read and no more are."""
    RunStore(tmp_path).create(questions.sweep(ranks=range(1, 101)))
    api = Api(home=tmp_path, shared=False)
    api.workspace.store = store = SlowStore(tmp_path)
    with store.being_read():
        yield api


@pytest.fixture
def visitor(api):
    with launched(build_app(api), api) as (_, address):
        visitor = Stranger(address)
        yield visitor
        visitor.close()


def test_a_page_opened_meanwhile_is_answered_with_all_that_it_loads(api, visitor):
    assert [] == visitor.load()
    assert 200 == visitor.ask().status_code

    assert api.workspace.store.reading


def test_an_app_has_read_the_runs_before_anybody_asks(tmp_path):
    store = RunStore(tmp_path)
    for run_id in store.run_ids(store.create(questions.sweep(ranks=(4, 8)))):
        os.utime(store.run_dir(run_id), (0, 0))  # long ago
    api, frozen = Api(home=tmp_path), gc.get_freeze_count()

    read_ahead(api).join()

    assert frozen < gc.get_freeze_count()  # what was read stays, and is not looked through again
    with opened_files(store.runs_dir) as opened:
        assert 2 == len(api.runs.sweeps()[0].runs)
    assert [] == opened
