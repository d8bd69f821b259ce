import pytest

from rankviz.store import RunStore
from tests.support.workers import processes_of


@pytest.fixture
def store(tmp_path):
    """A runs folder of its own; whatever a failed test leaves running there is killed."""
    store = RunStore(tmp_path / "home")
    yield store
    for process in processes_of(store.home):
        process.kill()
