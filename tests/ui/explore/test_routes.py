"""Explore's own addresses: JSON in, JSON out, and a notice for what cannot be answered."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from rankviz import visitor
from rankviz.api import Api
from rankviz.shared.identity import HEADER, Identified, Visitors
from rankviz.ui.explore.answer import routes
from rankviz.ui.parts.question import DEFAULTS


@pytest.fixture
def client(tmp_path):
    return TestClient(Starlette(routes=routes(Api(home=tmp_path))), raise_server_exceptions=True)


def test_a_mistake_is_a_notice_with_its_text_escaped(client):
    answer = client.post("/rankviz/answer", json={"values": {**DEFAULTS, "model": "<img src=x>"}})

    assert 200 == answer.status_code
    assert "&lt;img src=x&gt;" in answer.json()["without_costs"] and "<img" not in answer.json()["without_costs"]


def asks(*given):
    return {"asks": visitor.current().id}


def test_each_answer_is_made_for_the_visitor_who_asks(tmp_path, monkeypatch):
    for view in ("answer", "words", "given"):
        monkeypatch.setattr(f"rankviz.ui.explore.answer.{view}", asks)
    visitors, addresses = Visitors("0" * 64), routes(Api(home=tmp_path, shared=True), compare=asks)
    app = Starlette(routes=addresses, middleware=[Middleware(Identified, visitors=visitors)])

    visitor_ids = [
        TestClient(app).post(route.path, json={}, headers={HEADER: visitors.token(f"v{number}")}).json()["asks"]
        for number, route in enumerate(addresses)
    ]

    assert [f"v{number}" for number in range(len(addresses))] == visitor_ids
