"""A page of one's own, with an engine elsewhere."""

import pytest

from tests.support.engines.elsewhere import page_with_elsewhere


@pytest.fixture
def own(tmp_path):
    api, there = page_with_elsewhere(tmp_path)
    yield api, there
    api.workspace.supervisor.stop()
