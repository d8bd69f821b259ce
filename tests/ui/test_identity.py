"""The addresses of a shared page that say who one is, and the cookie that the page gives."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.shared.identity import COOKIE, HEADER, Identified, Visitors, visitor_of
from rankviz.ui.addresses import identity_routes

TOKEN = "the token of the admin"


async def who(request):
    visitor = visitor_of(request)
    return JSONResponse([visitor.id, visitor.admin, *([visitor.also] if visitor.also else [])])


class Site:
    """A page that says who asks, in place of Gradio's; a client keeps cookies as a browser does."""

    def __init__(self, admin_token=TOKEN, logins=False, key="0" * 64):
        self.visitors = Visitors(key, admin_token, logins)
        self.app = Starlette(
            routes=[Route("/", who, methods=["GET", "POST"]), *identity_routes(self.visitors)],
            middleware=[Middleware(Identified, visitors=self.visitors)],
        )

    def client(self, **login):
        """login: what Gradio's session has of one, beside whose it is."""

        async def app(scope, receive, send):
            session = {"oauth_info": {"userinfo": {"sub": "123"}, **login}} if login else {}
            await self.app({**scope, "session": session}, receive, send)

        return TestClient(app, base_url="http://page.example", follow_redirects=False)


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


def test_a_program_of_who_is_logged_in_makes_what_the_browser_owns_and_has_no_login():
    page = Site(logins=True)
    browser = page.client(access_token="hf_secret", expires_at=4e9)
    browser.get("/")
    token = browser.get("/rankviz/visitor").json()["visitor"]

    id, _, also = browser.get("/").json()
    for headers in ({HEADER: token}, {"authorization": f"Bearer {token}"}):
        assert [also, False] == page.client().get("/", headers=headers).json()
    assert "hf:123" == id and "hf_secret" not in token


def test_the_token_makes_an_admin_until_one_signs_out(site):
    client = site.client()
    client.get("/")
    me = client.get("/").json()[0]

    assert 303 == client.post("/rankviz/admin", data={"token": TOKEN}).status_code
    assert [me, True] == client.get("/").json()
    client.post("/rankviz/admin", data={"leave": "yes"})

    assert [me, False] == client.get("/").json()


def test_another_sites_form_signs_nobody_in(site):
    answer = site.client().post(
        "/rankviz/admin", data={"token": TOKEN}, headers={"origin": "https://elsewhere.example"}
    )

    assert 403 == answer.status_code
