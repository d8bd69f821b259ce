import pytest

from rankviz.store import RunStore
from tests.support.workers import processes_of

SHARED = ("address", "swept", "probed", "signatures", "validated", "parsed", "laid_out")
"""Fixtures that take long to make: tests that use one stay together on one of several pytest-xdist workers."""


@pytest.fixture
def store(tmp_path):
    """A runs folder of its own; whatever a failed test leaves running there is killed."""
    store = RunStore(tmp_path / "home")
    yield store
    for process in processes_of(store.home):
        process.kill()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The page first, then what needs torch; light tests, in any number, fill what time the other worker has left."""
    items.sort(key=lambda item: (not item.get_closest_marker("browser"), not item.get_closest_marker("torch")))
    for item in items:
        for name in SHARED:
            if name in item.fixturenames:
                item.add_marker(pytest.mark.xdist_group(name))
