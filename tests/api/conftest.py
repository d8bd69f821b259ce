"""A page of one's own, one with an engine elsewhere, and a shared one."""

import pytest

from tests.support.engines.elsewhere import page_with_elsewhere
from tests.support.engines.hub_jobs import page_on


@pytest.fixture
def own(tmp_path):
    api, there = page_with_elsewhere(tmp_path)
    yield api, there
    api.workspace.supervisor.stop()


@pytest.fixture
def shared(tmp_path, hub):
    """A page that rents from the stand-in for the Hub."""
    with page_on(hub, tmp_path / "home", shared=True) as api:
        yield api
