"""Where a host embeds the page with a login, nothing is answered before it."""

import gradio as gr
import pytest
from fastapi import FastAPI, HTTPException
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from rankviz.api import Api
from rankviz.ui.explore.answer import routes
from rankviz.ui.page_cache import MadeOnce
from rankviz.ui.requests.addresses import ANSWERS
from rankviz.ui.requests.bodies import Bodies


async def by_header(request):
    return request.headers.get("who")


@pytest.fixture
def embedded(tmp_path):
    """Makes a client of a host's own app, with the page below it."""

    def make(**login):
        with gr.Blocks(analytics_enabled=False) as page:
            gr.Textbox()
        middleware = [Middleware(Bodies), Middleware(MadeOnce)]
        own = {"openapi_url": None, "middleware": middleware, "routes": routes(Api(home=tmp_path))}
        host = gr.mount_gradio_app(FastAPI(), page, "/ranks", app_kwargs=own, **login)
        return TestClient(host, base_url="https://testserver")  # whose cookies are secure

    return make


def answers(client, **headers):
    return {client.post(f"/ranks{address}", json={}, headers=headers).status_code for address in ANSWERS}


def test_every_answer_beside_gradios_is_known(tmp_path):
    assert set(ANSWERS) == {route.path for route in routes(Api(home=tmp_path))}


def test_without_a_login_all_are_answered(embedded):
    assert 401 not in answers(embedded())


def test_with_a_password_only_who_has_logged_in_is_answered(embedded):
    client = embedded(auth=("ann", "secret"))

    assert {401} == answers(client)
    client.cookies.set("access-token-", "x")
    assert {401} == answers(client)
    client.post("/ranks/login", data={"username": "ann", "password": "secret"})
    assert 401 not in answers(client)


LOGINS = {
    "a password": ({"auth": [("ann", "secret"), ("ben", "secret")]}, 200),
    "a login of the host's": ({"auth_dependency": by_header}, 401),
}


@pytest.mark.parametrize("login", LOGINS)
def test_the_page_of_who_has_logged_in_is_theirs_alone(embedded, login):
    options, status = LOGINS[login]
    client = embedded(**options)

    def pages(name=""):
        client.cookies.clear()
        if name and "auth" in options:
            client.post("/ranks/login", data={"username": name, "password": "secret"})
        answers = [
            client.get(f"/ranks{address}", headers={"who": name} if name else {}) for address in ("/", "/config")
        ]
        return [answer.status_code for answer in answers], "".join(answer.text for answer in answers)

    for _ in range(2):
        for name, other in (("ann", "ben"), ("ben", "ann")):
            codes, text = pages(name)
            assert [200, 200] == codes
            assert f'"username":"{name}"' in text
            assert f'"{other}"' not in text and "auth_required" not in text
        codes, text = pages()
        assert [status, 401] == codes
        assert '"ann"' not in text and '"ben"' not in text


def test_with_a_login_of_the_hosts_only_whom_it_knows_is_answered(embedded):
    for user_of in (by_header, lambda request: request.headers.get("who")):
        client = embedded(auth_dependency=user_of)

        assert {401} == answers(client)
        assert 401 not in answers(client, who="ann")


def test_where_the_hosts_own_login_refuses_its_answer_is_given(embedded):
    def refuse(request):
        raise HTTPException(403, "Not for you.", {"where": "/login"})

    client = embedded(auth_dependency=refuse)
    answer = client.post(f"/ranks{ANSWERS[0]}", json={})

    assert {403} == answers(client)
    assert ("Not for you.", "/login") == (answer.json()["detail"], answer.headers["where"])
