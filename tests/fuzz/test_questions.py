"""Broken addresses, bodies of Explore's requests and messages to the MCP server: an answer, or a sentence."""

import json
from functools import partial
from urllib.parse import parse_qsl, urlencode

import pytest

from rankviz.api import Api
from rankviz.errors import UserError
from rankviz.ui import link
from rankviz.ui.explore.answer import answer, question_of, reply
from rankviz.ui.mcp import parsed
from rankviz.ui.parts.question import DEFAULTS
from tests.fuzz import mutate

ADDRESS = {
    "model": "Qwen/Qwen3-4B", "r": "32", "use_case": "complex", "examples": "1000", "example_tokens": "300",
    "longest": "900", "epochs": "2.5", "file": "messages:1600:chats.jsonl", "forgetting": "1", "save": "lm_head",
    "rslora": "1", "dora": "0", "parts": "attention", "framework": "trl", "precision": "bf16", "batch": "4",
    "accum": "2", "max_length": "1024", "gpu": "l4", "usd": "0.7",
    "targets": "q_proj,v_proj", "alpha": "2r", "steps": "100", "tokens": "100000", "class": "FastModel",
    "pin": "model=Qwen/Qwen3-4B",
}  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"), shared=True)


def broken_address(rng):
    params = {name: ADDRESS[name] for name in rng.sample(list(ADDRESS), 6)}
    broken = mutate.value(params, rng)
    if not isinstance(broken, dict):
        return {"model": repr(broken)[:3000]}
    return {str(name): each if isinstance(each, str) else repr(each)[:3000] for name, each in broken.items()}


def broken_body(rng, api=None):
    kind = rng.random()
    if kind < 0.2:
        text = urlencode(broken_address(rng), errors="surrogatepass")
        body = {"search": f"?{text}", "x": "file"}
    else:
        body = {"values": DEFAULTS, "x": "memory", "y": "loss"}
    return mutate.json_bytes(body, rng)


def answering(view):
    """As the page's address answers: whatever comes, a JSON text. 422 and a notice are answers too."""

    def read(body):
        response = reply(view, body)
        assert response.status_code in (200, 422)
        json.loads(response.body)

    return read


def test_an_address(fuzz, api):
    def read(params):
        values, notes = question_of(api, params)
        assert all(len(note) < 2000 for note in notes)
        json.dumps(link.write(values)).encode()

    fuzz(broken_address, read, refuses=False)


def test_an_answer(fuzz, api):
    fuzz(broken_body, answering(partial(answer, api)), refuses=False)


MESSAGES = (
    {"jsonrpc": "2.0", "id": 7, "method": "tools/call",
     "params": {"name": "estimate", "arguments": {"model": "Qwen/Qwen3-4B", "ranks": [8], "epochs": 2.5}}},
    {"jsonrpc": "2.0", "id": "a", "method": "tools/list", "params": {}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}},
    {"jsonrpc": "2.0", "id": 3, "result": {}},
)  # fmt: skip


def test_a_message_to_the_mcp_server(fuzz):
    """As it is read before the server's library reads it."""

    def read(body):
        try:
            message = parsed(body)
        except (ValueError, RecursionError) as error:
            raise UserError(str(error)) from None
        json.dumps(message, ensure_ascii=False, allow_nan=False).encode()  # as it is answered

    fuzz(lambda rng: mutate.json_bytes(rng.choice(MESSAGES), rng), read)


def test_the_samples_are_whole():
    """Else every case would be refused at its first check."""
    assert dict(parse_qsl(urlencode(ADDRESS))) == ADDRESS
    assert [] == link.read({**ADDRESS, "tokens": "1"})[1]
