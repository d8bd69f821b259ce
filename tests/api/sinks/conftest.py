"""A Hub on loopback, and a sweep of Ann that can be published."""

import pytest

from rankviz.api import Api
from rankviz.visitor import acting_as
from tests.support.engines.hub_stand_in import hub_stand_in
from tests.support.runs.published import trained
from tests.support.web.visitors import ANN


@pytest.fixture
def hub(monkeypatch):
    with hub_stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=True)


@pytest.fixture
def sweep(api):
    with acting_as(ANN):
        return trained(api)
