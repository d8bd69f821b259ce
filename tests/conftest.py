import pytest
from workers import processes_of

from rankviz.store import RunStore


@pytest.fixture
def store(tmp_path):
    """A runs folder of its own; whatever a failed test leaves running there is killed."""
    store = RunStore(tmp_path / "home")
    yield store
    for process in processes_of(store.home):
        process.kill()
