"""The addresses of a shared page that say who one is, and the cookie that the page gives."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.ui.identity import GUESSES, routes
from rankviz.ui.visitors import ADMIN_COOKIE, COOKIE, HEADER, Identified, Visitors, visitor_of

TOKEN = "the token of the admin"


async def who(request):
    visitor = visitor_of(request)
    return JSONResponse([visitor.id, visitor.admin])


class Site:
    """A page that says who asks, in place of Gradio's; a client keeps cookies as a browser does."""

    def __init__(self, admin_token=TOKEN):
        self.visitors = Visitors("0" * 64, admin_token)
        self.app = Starlette(
            routes=[Route("/", who, methods=["GET", "POST"]), *routes(self.visitors)],
            middleware=[Middleware(Identified, visitors=self.visitors)],
        )

    def client(self):
        return TestClient(self.app, base_url="http://page.example", follow_redirects=False)


@pytest.fixture
def site():
    return Site()


def test_the_page_gives_each_browser_a_cookie_of_its_own_and_keeps_it(site):
    a, b = site.client(), site.client()

    a.get("/"), b.get("/")

    (first, _), (again, _) = a.get("/").json(), a.get("/").json()
    assert first == again == site.visitors.id_in(a.cookies[COOKIE])
    assert first
    assert first != b.get("/").json()[0]


def test_a_tampered_cookie_is_replaced(site):
    client = site.client()
    client.cookies.set(COOKIE, "someone.else", domain="page.example")

    client.get("/")

    assert client.get("/").json()[0]


def test_only_the_page_gives_cookies_and_only_to_its_own_visitors(site):
    assert "set-cookie" not in site.client().post("/").headers
    assert "set-cookie" not in site.client().get("/", headers={"sec-fetch-site": "cross-site"}).headers


def test_a_program_gets_a_visitor_of_its_own_and_a_browser_its_own(site):
    program, browser = site.client(), site.client()
    browser.get("/")

    made, known = program.get("/rankviz/visitor").json(), browser.get("/rankviz/visitor").json()

    assert known["visitor"] == browser.cookies[COOKIE]
    assert made["visitor"] != known["visitor"]
    assert [site.visitors.id_in(made["visitor"]), False] == program.get("/", headers={HEADER: made["visitor"]}).json()
    again = program.get("/rankviz/visitor", headers={HEADER: made["visitor"]}).json()
    assert made == again


def test_no_other_site_reads_a_visitors_token(site):
    browser = site.client()
    browser.get("/")

    for headers in (
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
        {"origin": "https://elsewhere.example"},
    ):
        answer = browser.get("/rankviz/visitor", headers=headers)
        assert 403 == answer.status_code
        assert "visitor" not in answer.json()
    assert "no-store" == browser.get("/rankviz/visitor").headers["cache-control"]


def test_the_token_makes_an_admin_until_one_signs_out(site):
    client = site.client()
    client.get("/")
    me = client.get("/").json()[0]

    assert 303 == client.post("/rankviz/admin", data={"token": TOKEN}).status_code
    assert [me, True] == client.get("/").json()
    client.post("/rankviz/admin", data={"leave": "yes"})

    assert [me, False] == client.get("/").json()


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + " ", "\u20ac", "x" * 100_000])
def test_another_token_makes_no_admin(site, token):
    client = site.client()

    answer = client.post("/rankviz/admin", data={"token": token})

    assert 403 == answer.status_code
    assert ADMIN_COOKIE not in client.cookies


def test_after_some_wrong_tokens_more_of_them_are_told_to_wait(site):
    client = site.client()
    answers = [client.post("/rankviz/admin", data={"token": f"guess {i}"}).status_code for i in range(GUESSES)]

    assert {403} == set(answers)
    assert 429 == client.post("/rankviz/admin", data={"token": "one more"}).status_code


def test_wrong_tokens_of_anyone_do_not_keep_the_admin_out(site):
    stranger = site.client()
    for i in range(3 * GUESSES):
        stranger.post("/rankviz/admin", data={"token": f"guess {i}"})

    assert 303 == site.client().post("/rankviz/admin", data={"token": TOKEN}).status_code


def test_another_sites_form_signs_nobody_in(site):
    answer = site.client().post(
        "/rankviz/admin", data={"token": TOKEN}, headers={"origin": "https://elsewhere.example"}
    )

    assert 403 == answer.status_code


def test_without_a_token_there_is_no_admin_and_no_door():
    site = Site(admin_token="")

    assert 404 == site.client().post("/rankviz/admin", data={"token": ""}).status_code
