"""What the server says of itself at /rankviz/health."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.testclient import TestClient

from rankviz.api import Api
from rankviz.ui import addresses


def health_of(api):
    answer = TestClient(Starlette(routes=addresses.health_routes(api))).get("/rankviz/health")
    assert 200 == answer.status_code
    return answer.json()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")

    assert health_of(Api(home=not_a_folder / "home"))["home_writable"] is False
    assert health_of(Api(home=Path("/proc/home")))["home_writable"] is False
