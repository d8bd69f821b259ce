"""A page of one's own."""

import pytest

from rankviz.api import Api


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=False)
