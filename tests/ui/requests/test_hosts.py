"""Under which names the page answers, and to which sites' pages, at every address of it."""

import re

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rankviz.errors import InvalidSettingError
from rankviz.settings import read
from rankviz.shared.gate import Hosts, trusted


def test_what_cannot_be_names_is_a_sentence_at_the_start(monkeypatch):
    monkeypatch.setenv("RANKVIZ_HOSTS", "ranks*.example")

    with pytest.raises(InvalidSettingError, match="RANKVIZ_HOSTS cannot be"):
        read()

    monkeypatch.setenv("RANKVIZ_HOSTS", "ranks.example, *.lab.example,*")
    assert client(hosts=read().hosts)


@pytest.mark.parametrize("name", ["[::1", "a b.example", "a..b", "x" * 64, "ranks.example;"])
@pytest.mark.parametrize("variable", ["RANKVIZ_HOSTS", "GRADIO_ROOT_PATH", "--host"])
def test_what_can_be_no_host_is_a_sentence_at_the_start(monkeypatch, name, variable):
    given = {"RANKVIZ_HOSTS": "", "--host": "127.0.0.1", variable: f"http://{name}" if "PATH" in variable else name}
    monkeypatch.setenv("GRADIO_ROOT_PATH", given.get("GRADIO_ROOT_PATH", ""))

    with pytest.raises(InvalidSettingError, match=re.escape(f"{name!r}"[1:-1])):
        trusted(given["--host"], given["RANKVIZ_HOSTS"])


def test_names_are_trusted_as_browsers_write_them():
    page = client(hosts="ranks.example., Prüfstand.example, *.lab.example., 10.0.0.1:8080, [fd00::1]:80")

    for host in ("ranks.example", "ranks.example.", "xn--prfstand-75a.example", "a.lab.example", "app.localhost:7860"):
        assert 200 == page.get("/", headers={"host": host}).status_code


def test_a_machine_whose_own_name_is_too_long_for_a_host_starts(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "x" * 64)

    assert "localhost" in trusted("0.0.0.0", "")


def test_the_health_of_the_server_is_told_under_any_name():
    assert 200 == client().get("/rankviz/health", headers={"host": "rankviz-1:7860"}).status_code


def client(hosts="", shared=False):
    async def answer(request):
        return PlainTextResponse("a private file")

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    return TestClient(Hosts(app, "127.0.0.1", hosts, shared), base_url="http://127.0.0.1:7860")


OURS = ["localhost", "localhost:7860", "LOCALHOST.", "127.0.0.1:1", "[::1]:7860", "[fd00::2]", "192.168.1.5:7860"]
OTHERS = [
    "evil.example",
    "evil.example:7860",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
]
OTHERS += [
    "evil.example@127.0.0.1",
    "",
    "127.0.0.1,evil.example",
    "[::1].evil.example",
    "evil.localhost.example",
    "127.1",
]


@pytest.mark.parametrize("host", OURS)
def test_addresses_of_numbers_and_the_loopback_name_are_ours(host):
    assert 200 == client().get("/", headers={"host": host}).status_code


@pytest.mark.parametrize("host", OTHERS)
def test_any_other_name_is_refused_and_nothing_is_read(host):
    for method in ("GET", "POST", "OPTIONS"):
        answer = client().request(method, "/rankviz/answer", headers={"host": host})

        assert 421 == answer.status_code
        assert "private" not in answer.text
        assert "RANKVIZ_HOSTS" in answer.text


def test_what_the_server_is_told_and_what_a_space_is_told_are_names(monkeypatch):
    monkeypatch.setenv("SPACE_HOST", "somebody-rankviz.hf.space, ranks.example.com")
    monkeypatch.setenv("GRADIO_ROOT_PATH", "https://tools.example.org/lora")
    names = ["somebody-rankviz.hf.space", "ranks.example.com", "tools.example.org", "a.lab.example", "ranks.example"]

    page = client(hosts="https://Ranks.example:8443/, *.lab.example")

    assert [200] * 5 == [page.get("/", headers={"host": name}).status_code for name in names]
    assert 421 == page.get("/", headers={"host": "lab.example.evil.example"}).status_code


def test_the_machines_own_name_and_the_name_to_listen_on_are_names(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Gpu7.cluster.example")

    assert {"gpu7.cluster.example", "gpu7", "gpu7.local", "ranks.lan"} <= set(trusted("ranks.lan", ""))


FOREIGN = [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
FOREIGN += [{"origin": "http://127.0.0.1:3000"}, {"sec-fetch-site": "same-site"}]


@pytest.mark.parametrize("headers", [*FOREIGN, {"referer": "http://evil.example/a"}])
def test_another_sites_page_starts_nothing_and_reads_nothing(headers):
    answer = client().post("/gradio_api/queue/join", content="{}", headers=headers)

    assert 403 == answer.status_code
    assert "private" not in answer.text


@pytest.mark.parametrize("headers", FOREIGN)
def test_another_sites_page_reads_nothing(headers):
    assert 403 == client().get("/config", headers=headers).status_code


def test_before_another_sites_page_sends_a_header_of_its_own_it_is_refused():
    asks = {"origin": "http://evil.example", "access-control-request-method": "POST"}

    answer = client().options("/gradio_api/queue/join", headers=asks)

    assert 403 == answer.status_code
    assert "access-control-allow-origin" not in answer.headers


OWN = [{}, {"origin": "http://127.0.0.1:7860"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}]


@pytest.mark.parametrize("headers", [*OWN, {"referer": "http://127.0.0.1:7860/?tab=runs"}])
def test_its_own_page_and_programs_are_answered(headers):
    assert "a private file" == client().post("/", headers=headers).text


BEHIND = [
    ("ranks.lan:80", "http://ranks.lan"),
    ("ranks.lan:443", "https://ranks.lan"),
    ("ranks.lan", "http://ranks.lan"),
]


@pytest.mark.parametrize(("host", "origin"), BEHIND)
def test_a_proxy_may_write_the_default_port_into_the_name(host, origin):
    page, inner = client(hosts="ranks.lan"), {"host": "127.0.0.1:7860", "x-forwarded-host": f"{host}, inner.lan"}

    assert 200 == page.post("/", headers={"host": host, "origin": origin}).status_code
    assert 200 == page.post("/", headers=inner | {"origin": origin}).status_code


@pytest.mark.parametrize("host", ["ranks.lan", "ranks.lan:80", "ranks.lan:8081"])
def test_a_port_that_a_proxy_has_lost_is_anothers_and_the_sentence_says_how_to_pass_it_on(host):
    answer = client(hosts="ranks.lan").post("/", headers={"host": host, "origin": "http://ranks.lan:8080"})

    assert 403 == answer.status_code
    assert "$http_host" in answer.text


LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "referer": "http://elsewhere.example/"}


@pytest.mark.parametrize("address", ["/logout", "/gradio_api/file=a", "/gradio_api/call/runs/1", "/login/huggingface"])
def test_a_link_on_another_site_opens_the_page_alone(address):
    assert 403 == client().get(address, headers=LINK).status_code


def test_a_link_on_another_site_opens_the_page():
    assert 200 == client().get("/?tab=runs", headers=LINK).status_code
    assert 200 == client().get("/", headers={"referer": "http://elsewhere.example/"}).status_code


@pytest.fixture
def space(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/rankviz")
    monkeypatch.setenv("SYSTEM", "spaces")


def test_a_shared_space_answers_other_sites_as_nobody(space):
    assert 200 == client(shared=True).post("/", headers=FOREIGN[0]).status_code


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_space_of_ones_own_obeys_no_other_site(space, headers):
    assert 403 == client().post("/", headers=headers).status_code
    assert 200 == client().get("/", headers=LINK).status_code  # the frame that shows a Space


def framed_by(page, address="/"):
    return page.get(address).headers.get("content-security-policy")


@pytest.mark.parametrize("shared", [True, False])
def test_only_sites_that_the_owner_names_show_the_page_in_a_frame(shared):
    named = client(hosts="https://Lab.example:8443/, *.wiki.example", shared=shared)

    assert "frame-ancestors 'self'" == framed_by(client(shared=shared))
    assert "frame-ancestors 'self' lab.example:* *.wiki.example:*" == framed_by(named)
    assert framed_by(client(hosts="*", shared=shared)) is None


def test_the_hub_shows_a_space_in_a_frame_and_any_site_a_shared_one(space):
    assert "frame-ancestors 'self' https://huggingface.co" == framed_by(client())
    assert framed_by(client(shared=True)) is None
