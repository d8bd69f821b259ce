"""Who a visitor of a shared page is: what is believed and what is not, and the addresses and cookies that say so."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.api import Api
from rankviz.shared.identity import ADMIN_COOKIE, COOKIE, HEADER, Visitors, cookie, identify, visitor_of
from rankviz.ui.serve import identity_routes
from rankviz.visitor import NOBODY

KEY, TOKEN = "0" * 64, "the token of the admin"


@pytest.fixture
def visitors():
    return Visitors(KEY, admin_token=TOKEN)


def scope(method="GET", session=None, scheme="http", path="/", **headers):
    given = {"host": "page.example", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "method": method,
        "scheme": scheme,
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "session": session or {},
    }


def with_cookie(visitors, visitor_id="a", **headers):
    return scope(cookie=f"{COOKIE}={visitors.token(visitor_id)}", **headers)


@pytest.mark.parametrize(
    "value",
    ["", "a", "a.", ".", "a.b", "a" * 100_000, "\xff.\xff", "a.b.c", '"a', "admin", "hf:1"],
    ids=lambda value: repr(value[:10]),
)
def test_a_cookie_that_was_not_signed_here_is_nobodys(visitors, value):
    assert NOBODY == visitors.of(scope(cookie=f"{COOKIE}={value}"))


def test_what_proves_an_admin_proves_no_visitor_and_the_other_way_round(visitors):
    swapped = f"{COOKIE}={visitors.admin_proof()}; {ADMIN_COOKIE}={visitors.token('admin')}"

    assert NOBODY == visitors.of(scope(cookie=swapped))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site", "method": "POST"},
        {"sec_fetch_site": "same-site", "method": "POST"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "method": "POST"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"},
        {"origin": "https://elsewhere.example", "method": "POST"},
        {"origin": "null", "method": "POST"},
        {"origin": "null", "host": "", "method": "POST"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "path": "/logout"},
    ],
    ids=str,
)
def test_a_request_that_another_sites_page_sends_is_nobodys(visitors, headers):
    assert NOBODY == visitors.of(with_cookie(visitors, **headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "same-origin", "method": "POST"},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "path": "/login/callback"},
        {"origin": "https://page.example", "method": "POST"},
        {"origin": "https://outside.example", "x_forwarded_host": "outside.example", "method": "POST"},
        {"method": "POST"},
    ],
    ids=str,
)
def test_a_request_of_the_page_itself_or_a_link_to_it_is_its_visitors(visitors, headers):
    assert "a" == visitors.of(with_cookie(visitors, **headers)).id


def test_the_admin_is_who_has_the_proof_as_long_as_the_token_is_the_same(visitors):
    proof = f"{ADMIN_COOKIE}={visitors.admin_proof()}"

    assert visitors.of(scope(cookie=proof)).admin
    assert not visitors.of(scope(cookie=proof[:-1])).admin
    assert not Visitors(KEY, admin_token="another token").of(scope(cookie=proof)).admin
    assert not Visitors(KEY).of(scope(cookie=f"{ADMIN_COOKIE}={Visitors(KEY).admin_proof()}")).admin


SESSION = {"oauth_info": {"userinfo": {"sub": "123", "preferred_username": "ann"}}}


def test_a_login_is_believed_where_there_is_one_and_keeps_what_the_cookie_owned():
    visitors = Visitors(KEY, logins=True)

    ann = visitors.of(with_cookie(visitors, "a", session=SESSION))

    assert ("hf:123", "ann") == (ann.id, ann.name)
    assert [True, True, False, False] == [ann.owns(each) for each in ("hf:123", "a", "b", "")]


def test_a_login_is_not_believed_after_its_time_nor_where_nobody_can_log_in(visitors):
    over = {"oauth_info": {**SESSION["oauth_info"], "expires_at": 1}}

    assert "a" == visitors.of(with_cookie(visitors, "a", session=SESSION)).id
    assert "a" == Visitors(KEY, logins=True).of(with_cookie(visitors, "a", session=over)).id


def test_the_token_of_a_login_comes_with_the_request_and_is_shown_nowhere():
    visitors = Visitors(KEY, logins=True)
    session = {"oauth_info": {**SESSION["oauth_info"], "access_token": "hf_secret", "expires_at": 4e9}}

    ann = visitors.of(with_cookie(visitors, "a", session=session))

    assert ("hf_secret", 4e9) == (ann.login.token, ann.login.expires_at)
    assert "hf_secret" not in repr(ann)


def test_a_cookie_is_kept_in_the_frame_of_a_space_and_stays_with_the_site_elsewhere(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert cookie(scope(), "n", "v", 5).endswith("; Path=/; HttpOnly; Max-Age=5; SameSite=Lax")
    assert cookie(scope(scheme="https"), "n", "v", 5).endswith("SameSite=Lax; Secure")
    monkeypatch.setenv("SPACE_ID", "a/b")
    monkeypatch.setenv("SYSTEM", "spaces")
    assert cookie(scope(), "n", "v", 5).endswith("SameSite=Lax")
    assert cookie(scope(x_forwarded_proto="https"), "n", "v", 5).endswith("SameSite=None; Secure; Partitioned")


@pytest.mark.parametrize("address", ["/logout", "/stays", "/changes"])
def test_a_request_that_ends_a_login_says_whose(address):
    ended, session = [], dict(SESSION)

    async def app(scope, receive, send):
        if scope["path"] == "/logout":
            scope["session"].pop("oauth_info")
        elif scope["path"] == "/changes":
            scope["session"]["oauth_info"] = {"userinfo": {"sub": "456", "preferred_username": "ben"}}

    identified = identify(app, visitors=Visitors(KEY, logins=True), log_out=ended.append)
    asyncio.run(identified({**scope(session=session), "type": "http", "path": address}, None, None))

    assert ([] if address == "/stays" else ["hf:123"]) == ended


async def who(request):
    visitor = visitor_of(request)
    return JSONResponse([visitor.id, visitor.admin, *([visitor.also] if visitor.also else [])])


class Site:
    """A page that says who asks, in place of Gradio's; a client keeps cookies as a browser does."""

    def __init__(self, logins=False):
        self.visitors = Visitors(KEY, TOKEN, logins)
        self.app = Starlette(
            routes=[Route("/", who, methods=["GET", "POST"]), *identity_routes(self.visitors)],
            middleware=[Middleware(identify, visitors=self.visitors)],
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

    for headers in ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, {"origin": "https://else.example"}):
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
    assert [also, False] == page.client().get("/", headers={HEADER: token}).json()
    assert "hf:123" == id and "hf_secret" not in token


def test_the_token_makes_an_admin_until_one_signs_out(site):
    client = site.client()
    client.get("/")
    me = client.get("/").json()[0]

    assert 303 == client.post("/rankviz/admin", data={"token": TOKEN}).status_code
    assert [me, True] == client.get("/").json()
    client.post("/rankviz/admin", data={"leave": "yes"})

    assert [me, False] == client.get("/").json()


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + " ", TOKEN.upper()])
def test_a_wrong_token_makes_no_admin(site, token):
    client = site.client()
    client.post("/rankviz/admin", data={"token": token})
    assert client.get("/").json()[1] is False


def test_another_sites_form_signs_nobody_in(site):
    elsewhere = {"origin": "https://elsewhere.example"}

    assert 403 == site.client().post("/rankviz/admin", data={"token": TOKEN}, headers=elsewhere).status_code


def test_each_home_signs_cookies_with_a_secret_of_its_own(tmp_path):
    keys = [Api(home=tmp_path / name, shared=True).workspace.rights.keys[-1] for name in ("a", "b")]

    assert keys[0] != keys[1] and [64, 64] == [len(key) for key in keys]
