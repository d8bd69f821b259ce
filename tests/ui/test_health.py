"""What the server says of itself at /rankviz/health."""

import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.testclient import TestClient

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.runs.events import StageReached
from rankviz.ui import addresses
from tests.support.runs import questions


def health_of(api):
    answer = TestClient(Starlette(routes=addresses.health_routes(api))).get("/rankviz/health")
    assert 200 == answer.status_code
    return answer.json()


def test_runs_of_all_visitors_are_counted_and_none_is_named(tmp_path):
    api = Api(home=tmp_path, shared=True)
    store = api.workspace.store
    store.create(questions.sweep(ranks=(4, 8)), "someone")
    run = store.sweep(store.create(questions.sweep(ranks=(16,)), "another")).runs[0].run_id
    store.append(run, StageReached(time=time.time(), stage="training"))

    answer = health_of(api)

    assert {"version": __version__, "home_writable": True, "queued": 2, "running": 1} == answer


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")

    assert health_of(Api(home=not_a_folder / "home"))["home_writable"] is False
    assert health_of(Api(home=Path("/proc/home")))["home_writable"] is False
