"""The endpoints as MCP tools, called with the official client, in an environment with requirements-mcp.txt."""

import json
import os
import subprocess
import sysconfig
import urllib.request
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio_client.utils import python_type_to_json_schema

from rankviz.api.estimates import EstimateAnswerJSON
from rankviz.core.cost.setup import PRECISIONS
from rankviz.endpoints import TOOLS
from rankviz.errors import UserError
from rankviz.exports import FORMATS
from rankviz.ui.blocks import PageBlocks
from tests.support.processes.environments import over
from tests.support.web.endpoints import ENDPOINTS, check_answer
from tests.support.web.serving import ROOT, serving

CALLS = """
import asyncio, json, sys
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

address, headers, calls = json.load(sys.stdin)

async def main():
    async with streamablehttp_client(f"{address}/gradio_api/mcp/", headers=headers) as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            tools = [tool.model_dump(mode="json") for tool in (await session.list_tools()).tools]
            answers = []
            for name, arguments in calls:
                answer = await session.call_tool(name, arguments)
                answers.append([bool(answer.isError), answer.content[0].text])
                assert answer.isError or answer.structuredContent is not None  # the client checked it by its schema
    print(json.dumps([tools, answers]))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment over this one: what requirements-mcp.txt changes goes before what is installed here."""
    beneath = Path(sysconfig.get_path("purelib"))
    return over(beneath, tmp_path_factory.mktemp("mcp"), "-r", ROOT / "requirements-mcp.txt")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(python, home):
    shared = {"SPACE_ID": "someone/rankviz", "GRADIO_MCP_SERVER": "True"}
    with serving(home, shared, python) as url:
        yield url


@pytest.fixture
def ask(python, address):
    def asked(*calls, token=None):
        headers = {"X-RankViz-Visitor": token} if token else {}
        run = subprocess.run(
            [python, "-c", CALLS],
            input=json.dumps([address, headers, calls]),
            env=os.environ | {"PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )
        assert 0 == run.returncode, run.stderr
        return json.loads(run.stdout)

    return asked


@pytest.fixture
def token(address):
    return json.load(urllib.request.urlopen(f"{address}/rankviz/visitor"))["visitor"]


@pytest.mark.install
def test_every_endpoint_is_a_tool_whose_arguments_are_described(ask):
    tools, _ = ask()

    assert set(ENDPOINTS) == {tool["name"] for tool in tools}
    for tool in tools:
        assert tool["description"].endswith(".")
        for name, schema in tool["inputSchema"]["properties"].items():
            assert schema["description"].endswith("."), (tool["name"], name)
            assert {"type", "oneOf", "anyOf", "enum"} & set(schema), (tool["name"], name)
        needed, hints = TOOLS[tool["name"]]
        assert (tool["inputSchema"].get("required"), hints.items() <= tool["annotations"].items()) == (
            [needed] if needed else None,
            True,
        )
        assert tool["outputSchema"]["properties"] and tool["outputSchema"]["required"]
    given = {tool["name"]: tool["inputSchema"]["properties"] for tool in tools}
    assert list(PRECISIONS) == given["estimate"]["precision"]["enum"] == given["advise"]["precision"]["enum"]
    assert list(FORMATS) == given["export"]["format"]["enum"]
    assert [False, "l4"] == [given["fit"][name]["default"] for name in ("dora", "gpu")]


@pytest.mark.install
def test_a_tool_answers_and_refuses_with_a_sentence(ask):
    _, answers = ask(
        ["estimate", {"model": "Qwen/Qwen3-4B", "ranks": [16]}],
        ["estimate", {"model": "Qwen/Qwen3-4B", "ranks": [0]}],
        ["estimate", {"model": "Qwen/Qwen3-4B", "ranks": [16] * 1000}],
        ["estimate", {"model": "x" * 20_000}],
        ["estimate", {"model": "Qwen/Qwen3-4B", "precision": "fp4"}],
        ["run", {"run_id": "nothing"}],
    )

    assert [False, True, True, True, True, True] == [is_error for is_error, _ in answers]
    estimate, *refusals = [text for _, text in answers]
    estimate = json.loads(estimate)
    assert 33030144 == estimate["ranks"][0]["adapter_parameters"]
    check_answer(estimate, python_type_to_json_schema(EstimateAnswerJSON))
    assert [
        "Rank must be a whole number from 1 to 1,024 (got 0).",
        "ranks must be a list of at most 256 (got 1,000).",
        "model must have at most 10,000 characters (got 20,000).",
        "precision must be one of bf16, fp16, fp32, nf4, nf4-dq, int8 (got 'fp4').",
        "No run or sweep 'nothing' here.",
    ] == refusals
    _, answers = ask(
        ["models", {"words": "qwen3"}],
        ["studies", {"model": "x", "limit": 2}],
        ["resize", {"adapter": "sample", "r": 2}],
    )
    assert [False] * 3 == [is_error for is_error, _ in answers]
    assert 10_000 > len(answers[0][1])


@pytest.mark.install
def test_a_sweep_is_started_by_a_visitor_and_not_by_nobody(ask, token):
    call = ["start_sweep", {"mode": "quick", "steps": 2}]

    _, [[refused, sentence]] = ask(call)
    _, [[failed, started], [_, listed]] = ask(call, ["runs", {}], token=token)

    assert refused and "/rankviz/visitor" in sentence
    started = json.loads(started)
    sweep_id = started["sweep_id"]
    assert not failed and started["run_ids"]
    assert sweep_id in {run["sweep_id"] for run in json.loads(listed)}
    _, [[_, others]] = ask(["runs", {}])
    assert sweep_id not in others
    _, [[failed, _], [_, deleted]] = ask(["cancel", {"id": sweep_id}], ["delete", {"id": sweep_id}], token=token)
    assert not failed and started["run_ids"] == json.loads(deleted)["run_ids"]


def request(method, params):
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()


HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
NO_MESSAGES = (
    b"",
    b"\xff",
    b"[" * 5000 + b"]" * 5000,
    b"[]",
    b'{"jsonrpc": "2.0"}',
    request("tools/call", {"name": "run", "arguments": {"run_id": "\ud800"}}),
    request("tools/call", {"name": "run", "arguments": {"run_id": float("inf")}}),
    *(
        b'{"jsonrpc": "2.0", "id": %s, "method": "%s"}' % (message_id, method)
        for method in (b"nothing", b"tools/list", b"prompts/get")
        for message_id in (b"NaN", b"1e999", b"-Infinity", b"1.5", b"[1]")
    ),
)
REFUSED = (
    request("tools/call", {"name": "estimate", "arguments": [1]}),
    request("x" * 90_000, {}),
    request("completion/complete", {}),
    request("prompts/get", {"name": "x"}),
    request("resources/read", {"uri": "file:///etc/passwd"}),
)
UNANSWERED = (
    b'{"jsonrpc": "2.0", "method": "notifications/nothing"}',
    b'{"jsonrpc": "2.0", "id": 3, "result": {}}',
    b'{"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "x"}}',
)


@pytest.mark.install
def test_a_message_that_cannot_be_read_is_a_sentence_and_no_line_in_the_log(address, home):
    before = (home / "app.log").stat().st_size

    replies = {
        body: httpx.post(f"{address}/gradio_api/mcp/", content=body, headers=HEADERS, timeout=60)
        for body in (*NO_MESSAGES, *REFUSED, *UNANSWERED, request("tools/call", {"name": "nothing", "arguments": {}}))
    }

    for bodies, status, code, words in (
        (NO_MESSAGES, 400, -32600, "cannot be read"),
        (REFUSED, 200, -32601, "No such method"),
    ):
        for body in bodies:
            error = replies[body].json()["error"]
            assert (status, code) == (replies[body].status_code, error["code"]), body[:100]
            assert words in error["message"]
            assert len(replies[body].content) < 400
    assert {7} == {replies[body].json()["id"] for body in REFUSED}
    assert {(202, b"")} == {(replies[body].status_code, replies[body].content) for body in UNANSWERED}
    assert before == (home / "app.log").stat().st_size


@pytest.mark.parametrize("login", [{"auth": ("ann", "secret")}, {"auth_dependency": lambda request: "ann"}])
def test_a_login_and_mcp_are_not_started_together(login):
    with PageBlocks() as page:
        gr.Markdown("A page")

    with pytest.raises(UserError, match="MCP clients would get past the login"):
        page.launch(mcp_server=True, prevent_thread_lock=True, **login)
