"""Shared pages with limits, and what visitors upload there."""

import json

import pytest

from rankviz.api import Api
from rankviz.shared.quota import Held
from tests.support.limits import limit


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Makes a shared page with these limits, whose queue nobody works."""

    def make(**limits):
        limit(monkeypatch, **limits)
        api = Api(home=tmp_path / "home", shared=True)
        api.workspace.work_queue = lambda: None
        return api

    return make


@pytest.fixture
def uploaded(tmp_path, monkeypatch):
    """uploaded(api, visitor, kilobytes): the path of data that this visitor has uploaded."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))

    def upload(api, visitor, kilobytes, letter="x"):
        path = tmp_path / "page" / f"{letter}{kilobytes}" / "mine.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"prompt": "a", "completion": letter * 1000}) + "\n")
        path.write_text(path.read_text() * kilobytes)
        api.workspace.temp.own(path, visitor.id)
        return str(path)

    return upload


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """sent(api, visitor, name, content): an upload as the page keeps it."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))

    def send(api, visitor, name, content):
        held = Held(visitor, is_upload=True)
        api.workspace.room.hold(held, len(content), files=1)
        path = tmp_path / "page" / f"{hash(content):x}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        api.workspace.temp.own(path, visitor.id)
        api.workspace.room.release(held)
        return path

    return send


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", shared=True)
