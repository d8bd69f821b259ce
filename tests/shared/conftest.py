"""A shared page of Gradio's own addresses, with the uploads of its visitors told apart."""

import gradio as gr
import pytest
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from rankviz.api import Api
from rankviz.shared.identity import MARK
from rankviz.shared.uploads import check_uploaded_files
from rankviz.visitor import NOBODY, Visitor
from tests.support.limits import limit


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

    def make(home=tmp_path / "home", is_shared=True, **limits):
        limit(monkeypatch, **limits)
        workspace = Api(home=home, shared=is_shared).workspace
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(workspace.temp.folder / "page"))
        with gr.Blocks() as blocks:
            gr.File()
        blocks.max_file_size = None  # launch sets it
        middleware = [Middleware(As), Middleware(check_uploaded_files, workspace=workspace)]
        app = gr.routes.App.create_app(blocks, app_kwargs={"middleware": middleware})
        return TestClient(app), workspace

    return make
