"""Uploads of a shared page, sent as browsers send them to Gradio's own routes."""

import json

import gradio as gr
import pytest
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from rankviz.api import Api
from rankviz.ui.uploads import Uploads
from rankviz.ui.visitors import MARK
from rankviz.visitor import NOBODY, Visitor


class As:
    """Says who sends a request by a header, which a signed cookie says otherwise."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        name = dict(scope.get("headers", ())).get(b"who", b"").decode()
        await self.app({**scope, MARK: Visitor(name) if name else NOBODY}, receive, send)


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Makes a client of a shared page, and the page's workspace, with these limits."""

    def make(**limits):
        for name, value in limits.items():
            monkeypatch.setenv(f"RANKVIZ_MAX_{name.upper()}", str(value))
        workspace = Api(home=tmp_path / "home", shared=True).workspace
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(workspace.temp.folder / "page"))
        with gr.Blocks() as blocks:
            gr.File()
        blocks.max_file_size = None  # launch sets it
        middleware = [Middleware(As), Middleware(Uploads, workspace=workspace)]
        app = gr.routes.App.create_app(blocks, app_kwargs={"middleware": middleware})
        return TestClient(app), workspace

    return make


def send(client, who, content=b"rows", name="mine.jsonl", count=1):
    files = [("files", (name, content)) for _ in range(count)]
    return client.post("/gradio_api/upload", files=files, headers={"who": who} if who else {})


def test_an_upload_is_written_down_as_its_visitors(shared):
    client, workspace = shared()

    (path,) = send(client, "anna").json()

    assert workspace.temp.owns(path, Visitor("anna"))
    assert not workspace.temp.owns(path, Visitor("ben"))


def test_an_upload_of_nobody_is_refused_with_a_sentence(shared):
    client, _ = shared()

    refused = send(client, "")

    assert (403, True) == (refused.status_code, "Uploads need this page's cookie." in refused.text)


def test_another_visitor_reads_nothing_of_it(shared):
    client, _ = shared()
    (path,) = send(client, "anna", b"secret").json()

    assert b"secret" == client.get(f"/gradio_api/file={path}", headers={"who": "anna"}).content
    for who in ({"who": "ben"}, {}):
        for address in (f"/gradio_api/file={path}", f"/gradio_api/file/{path}", f"/gradio_api/file=/x/..{path}"):
            answer = client.get(address, headers=who)
            assert answer.status_code in (403, 404)
            assert b"secret" not in answer.content


def test_a_download_is_read_by_who_knows_its_address(shared):
    client, workspace = shared()
    workspace.new_download("runs.zip").write_bytes(b"zip")
    (path,) = workspace.temp.page.rglob("runs.zip")

    assert b"zip" == client.get(f"/gradio_api/file={path}", headers={"who": "anna"}).content


def test_files_over_the_size_are_refused_before_they_are_read(shared):
    client, workspace = shared(upload_mb=1)

    refused = send(client, "anna", b"x" * 1_200_000)

    assert 413 == refused.status_code
    assert "this server takes at most 1 MB" in refused.text
    assert not list(workspace.temp.page.rglob("*"))


def test_so_many_uploads_are_kept_of_a_visitor(shared):
    client, _ = shared(uploads_per_visitor=2)
    for content in (b"1", b"2"):
        assert 200 == send(client, "anna", content).status_code

    refused = send(client, "anna", b"3")

    assert (429, True) == (refused.status_code, "keeps at most 2 uploads of a visitor" in refused.text)
    assert "removed after 24 hours" in refused.text
    assert 200 == send(client, "ben", b"3").status_code


def test_so_many_megabytes_are_kept_of_a_visitor(shared):
    client, _ = shared(uploads_mb_per_visitor=1)
    assert 200 == send(client, "anna", b"x" * 900_000).status_code

    refused = send(client, "anna", b"y" * 200_000)

    assert (413, True) == (refused.status_code, "keeps at most 1 MB of a visitor's uploads" in refused.text)


def test_nothing_is_taken_where_all_visitors_together_have_filled_the_room(shared):
    client, _ = shared(temp_mb=1)
    assert 200 == send(client, "anna", b"x" * 1_100_000).status_code

    refused = send(client, "ben")

    assert (413, True) == (refused.status_code, "all of the 1 MB" in refused.text)


@pytest.mark.parametrize("address", ("/gradio_api/file=%00", "/gradio_api/file=" + "a" * 5000, "/gradio_api/file="))
def test_an_address_that_is_no_path_is_refused(shared, address):
    client, _ = shared()

    assert client.get(address, headers={"who": "anna"}).status_code in (403, 404)


def test_what_is_not_an_upload_passes_unchanged(shared):
    client, _ = shared()

    assert "components" in json.loads(client.get("/config").text)
