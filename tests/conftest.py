import asyncio
import contextlib
import gc
import os

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from rankviz.api import Api
from rankviz.store import RunStore
from tests.support.processes.workers import processes_of

# Unsloth sets it where it is imported, and huggingface_hub then warns in every process that a later test starts.
os.environ.setdefault("HF_HUB_ENABLE_HF_TRANSFER", "0")

SPREAD = ("tests/core/lora/test_counts_against_peft.py",)
"""Files that share nothing and are long."""
TOGETHER = ("tests/ui/page/", "tests/ui/explore/test_page", "tests/ui/train/test_page", "tests/ui/test_access")
"""Beginnings of files that share a browser and an app."""


@pytest.fixture
def api(tmp_path):
    """A page of one's own."""
    return Api(home=tmp_path / "home", shared=False)


@pytest.fixture
def store(tmp_path):
    """A runs folder of its own; whatever a failed test leaves running there is killed."""
    store = RunStore(tmp_path / "home")
    yield store
    for process in processes_of(store.home):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def hub(tmp_path):
    """A stand-in for the Hub whose jobs wait for a machine."""
    from tests.support.engines.hub_jobs import stand_in_hub

    with stand_in_hub(tmp_path / "hub") as hub:
        hub.holds.set()
        yield hub


@pytest.fixture
def rented(tmp_path, hub):
    """A page of one's own that rents from it."""
    from tests.support.engines.hub_jobs import page_on

    with page_on(hub, tmp_path / "home") as api:
        yield api


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """A small one of words, with a chat template."""
    from transformers import AutoTokenizer

    from tests.support.models.tiny_llama import save_tokenizer

    save_tokenizer(folder := tmp_path_factory.mktemp("tokenizer"))
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(autouse=True)
def no_loop_of_the_browser(request):
    """Playwright's event loop counts as running in its thread until the session ends, and asyncio.run() refuses to run
    beside it. Tests without a browser don't see it."""
    loop = None if request.node.get_closest_marker("browser") else asyncio._get_running_loop()
    if loop is None:
        yield
        return
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)


def pytest_collection_modifyitems(items):
    """The page first, since it stays on one worker, then what waits for packages and what needs torch; light tests fill
    what time is left."""
    kinds = ("browser", "install", "torch")
    items.sort(key=lambda item: [not item.get_closest_marker(kind) for kind in kinds])


def pytest_collection_finish():
    """What is imported stays: to look for cycles in it again and again takes as long as many tests."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Scheduler(LoadScopeScheduling):
    """The tests of a file go to one worker, so that each fixture is made once. (pytest-xdist 3.8 would read this from
    marks, but not together with pytest 9.2.)"""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        if file.startswith(TOGETHER):
            return "pages"
        return nodeid if file in SPREAD else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduler(config, log)
