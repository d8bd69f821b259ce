"""Hugging Face's login on a shared page, from the button to whose a run is, against a stand-in for the provider."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from rankviz.publish import DATASET
from rankviz.shared.identity import HEADER
from rankviz.store import RunStore
from rankviz.ui.page import ANONYMOUS
from tests.support.quick import first_quick
from tests.support.runs import questions
from tests.support.runs.finished_runs import come, finished_events
from tests.support.web.loopback import Answering, Loopback
from tests.support.web.stranger import Stranger
from tests.ui.conftest import WAIT_MILLISECONDS, serving

CLIENT = "the-page"


@contextmanager
def login_provider(accounts: dict[str, str]) -> Iterator[str]:
    """Yields its address.

    accounts: the next person to log in is the last of them, as stable id and user name; whoever comes is let in.
    """
    from joserfc import jwk, jwt

    key = jwk.RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
    nonces: dict[str, str] = {}

    class Provider(Answering):
        def answer(self):
            address, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
            if self.command == "POST":
                return self._token(parse_qs(self.body().decode())["code"][0])
            if address.path == "/oauth/authorize":
                code = str(len(nonces))
                nonces[code] = query["nonce"][0]
                back, given = query["redirect_uri"][0], urlencode({"code": code, "state": query["state"][0]})
                return self.reply(b"", 302, {"Location": f"{back}{'&' if '?' in back else '?'}{given}"})
            if address.path == "/oauth/jwks":
                return self.reply({"keys": [key.as_dict(private=False)]})
            ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            known = {name: f"{server.url}/oauth/{end}" for name, end in ends.items()}
            return self.reply({"issuer": server.url, **known, "id_token_signing_alg_values_supported": ["RS256"]})

        def _token(self, code):
            sub, name = list(accounts.items())[-1]
            now, url = int(time.time()), server.url
            claims = {
                **{"iss": url, "aud": CLIENT, "iat": now, "exp": now + 3600, "nonce": nonces[code], "sub": sub},
                **{"name": name, "preferred_username": name, "profile": f"{url}/{name}", "picture": ""},
            }
            identity = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
            token = {"access_token": f"hf_oauth_{name}", "token_type": "bearer", "expires_in": 3600}
            self.reply({**token, "id_token": identity})

    server = Loopback(Provider)
    try:
        yield server.url
    finally:
        server.stop()


def as_space(provider: str) -> dict[str, str]:
    """The variables of a Space whose README asks for a login."""
    return {
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/rankviz",
        "OAUTH_CLIENT_ID": CLIENT,
        "OAUTH_CLIENT_SECRET": "a secret",
        "OAUTH_SCOPES": "openid profile",
        "OPENID_PROVIDER_URL": provider,
    }


pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("login")


@pytest.fixture(scope="module")
def space(home):
    """Where the page answers, as a Space with a login."""
    with login_provider({"sub-of-ann": "ann"}) as provider, serving(home, as_space(provider)) as url:
        # The session's cookie is Secure, which a browser takes over http from localhost alone.
        yield url.replace("127.0.0.1", "localhost")


def trained(home, owner):
    """A sweep that has ended, so that the page does not start to train it."""
    request = questions.sweep(ranks=(4,), max_steps=2)
    return come(RunStore(home), request, owner, lambda run: finished_events(run, 2.0)).sweep_id


def test_who_logs_in_finds_their_runs_in_any_browser_until_they_log_out(browser, space, home):
    hers = trained(home, "hf:sub-of-ann")
    context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=space)
    context.set_default_timeout(WAIT_MILLISECONDS)
    page, thrown = context.new_page(), []
    page.on("pageerror", lambda error: thrown.append(str(error)))  # the console also misses the Space's own scripts
    line, row = page.locator("#who"), page.locator(f"#runs-table [data-pick='{hers}']")

    page.goto("/?tab=runs")
    line.get_by_text(ANONYMOUS).wait_for()
    page.locator("#runs-table tbody tr").first.wait_for()
    before, pictures = row.count(), page.locator("#login img").count()
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    line.get_by_text("You are ann.").wait_for()
    page.goto("/?tab=runs")
    row.wait_for()
    page.get_by_role("button", name="Logout (ann)").click()
    line.get_by_text(ANONYMOUS).wait_for()

    assert (0, 0) == (before, pictures)
    assert [] == thrown
    context.close()


@pytest.fixture(scope="module")
def session(browser, space):
    """The cookies of Ann's browser once she has logged in."""
    context = browser.new_context(base_url=space)
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = context.new_page()
    page.goto("/?tab=runs")
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    page.locator("#who").get_by_text("You are ann.").wait_for()
    yield {cookie["name"]: cookie["value"] for cookie in context.cookies()}
    context.close()


def sent(space, session, headers):
    """What answers a request with Ann's cookies and these headers; {} is her own page's."""
    page = Stranger(space, cookies=session)
    page.http.headers.update(headers)
    return page


def published(page, sweep_id):
    values = {"Publish as": DATASET, "Repository (owner/name)": "ann/ranks", "publish-token": ""}
    event = page.events.of("publish-it", "click")[0]
    data = page.events.data(event, values)
    return page.call(event, data=[sweep_id if at == OPEN_SWEEP else each for at, each in enumerate(data)])


OPEN_SWEEP = 7
"""Its place among what the button sends."""
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "https://elsewhere.example"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Origin": "https://beside.example"},
    {"Origin": "https://elsewhere.example"},
]


@pytest.mark.parametrize("with_header", first_quick([False, True]))
@pytest.mark.parametrize("foreign", first_quick([*FOREIGN, {}]))
def test_a_login_is_for_its_own_pages_requests_alone(space, session, home, foreign, with_header):
    """Not for those of another site's page, which the browser sends its cookies with, and not for a program's."""
    program = httpx.get(f"{space}/rankviz/visitor").json()["visitor"]
    header = {HEADER: program} if with_header else {}
    page = sent(space, session, foreign | header)

    shown = [page.call(each).text for each in page.events.chain(page.events.loads)]
    answer = published(page, trained(home, program.rpartition(".")[0] if with_header else "hf:sub-of-ann"))

    is_own = not foreign and not with_header
    assert is_own == any("Logout (ann)" in text for text in shown) == any("You are ann." in text for text in shown)
    refusal = (
        "Log in at Hugging Face, or give a token of yours"
        if with_header
        else "This page cannot tell you from other visitors"
    )
    assert ("so nothing can be published" if is_own else refusal) in answer.error
