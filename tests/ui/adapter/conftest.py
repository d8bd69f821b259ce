"""The operations on a runs folder of their own."""

import pytest

from rankviz.api import Api
from tests.support.runs.toy import ASSETS


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", assets=ASSETS, shared=False)
