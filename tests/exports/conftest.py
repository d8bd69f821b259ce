"""The operations, once a module."""

import pytest

from rankviz.api import Api


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))
