"""How an address is read: as Gradio's router does, and in no second way."""

import gradio as gr
import pytest
from fastapi import FastAPI
from gradio.routes import App
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from rankviz.shared.gate import API, Bodies, address_of, file_in, is_closed, is_upload

OPEN = {
    "api/{api_name}", "app_id", "call/v2/{api_name}", "call/v2/{api_name}/{event_id}", "call/{api_name}",
    "call/{api_name}/{event_id}", "cancel", "file/{path:path}", "file={path_or_url:path}",
    "info", "login_check", "openapi.json", "queue/data", "queue/join", "queue/status", "reset", "run/{api_name}",
    "runs", "startup-events", "theme.css", "token", "upload", "upload_progress", "user",
}  # fmt: skip
"""Of Gradio's addresses. A new one has to be looked at: what it opens, keeps and reads."""
OPEN_AT_ROOT = {
    "", "assets/{path:path}", "config", "favicon.ico", "logout", "manifest.json", "pwa_icon", "pwa_icon/{size}",
    "robots.txt", "static/{path:path}", "svelte/{path:path}", "theme.css",
}  # fmt: skip
"""The same beside them; the file that describes them is turned off at the launch."""


def scope(path, root="", method="POST"):
    return {"type": "http", "method": method, "path": path, "root_path": root}


def routes_in(routes):
    for route in routes:
        yield from routes_in(route.original_router.routes) if hasattr(route, "original_router") else [route]


def test_every_address_of_gradios_is_known_here_as_open_or_closed():
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Textbox()
    routes = routes_in(App.create_app(page, app_kwargs={"openapi_url": None}).routes)
    paths = [getattr(route, "path", "") for route in routes]
    names = {path.removeprefix(API).rstrip("/") for path in paths if path.startswith(API)}

    assert OPEN == {name for name in names if not is_closed(API + name)}
    assert OPEN_AT_ROOT == {path.strip("/") for path in paths if not path.startswith(API) and not is_closed(path)}
    assert {"component_server", "deep_link", "process_recording", "proxy={url_path:path}"} <= names - OPEN


@pytest.mark.parametrize("path", ["/team/gradio_api/upload", "/gradio_api/upload"])
def test_a_proxy_may_leave_its_path_on_or_take_it_off(path):
    assert "/gradio_api/upload" == address_of(scope(path, "/team"))
    assert is_upload(scope(path, "/team"))


@pytest.mark.parametrize(
    "path", ["/gradio_api/upload/", "/x/gradio_api/upload", "/gradio_api/stream/gradio_api/upload"]
)
def test_nothing_else_is_an_upload(path):
    assert not is_upload(scope(path))


def test_a_file_is_what_follows_the_first_mark_at_the_start():
    assert "/k/a.txt" == file_in("/gradio_api/file=/k/a.txt")
    assert "/d/gradio_api/file=/k/a.txt" == file_in("/gradio_api/file//d/gradio_api/file=/k/a.txt")
    assert "" == file_in("/gradio_api/file=")
    assert file_in("/x/gradio_api/file=/k/a.txt") is file_in("/file=/k/a.txt") is None


@pytest.mark.parametrize("path", ["/login", "/login/", "/monitoring", "/monitoring/summary"])
def test_a_login_and_figures_that_the_page_does_not_have_are_closed(path):
    assert is_closed(path)
    assert is_closed(path, asks_login=True) == path.startswith("/monitoring")
    assert not is_closed("/login/huggingface") and not is_closed("/logout")


@pytest.mark.parametrize(
    "auth", [None, ("ann", "secret"), lambda name, password: (name, password) == ("ann", "secret")]
)
def test_whoever_embeds_the_page_with_a_login_of_gradios_can_log_in(auth):
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Textbox()
    bounded = {"openapi_url": None, "middleware": [Middleware(Bodies)]}
    client = TestClient(gr.mount_gradio_app(FastAPI(), page, "/ranks", auth=auth, app_kwargs=bounded))

    answers = [client.post("/ranks/login", data={"username": "ann", "password": word}) for word in ("secret", "wrong")]

    assert ([404, 404] if auth is None else [200, 400]) == [answer.status_code for answer in answers]
