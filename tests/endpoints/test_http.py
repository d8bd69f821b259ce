"""The endpoints of a shared page that serves, as other programs call them: curl and Gradio's Python client."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client

from tests.support.web.serving import serving

PAGE = Path(__file__).parents[2] / "docs" / "http_and_mcp.md"
DOCUMENTED_AT = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("home"), {"SPACE_ID": "someone/rankviz"}) as url:
        yield url


def client(address, token=None):
    headers = {"X-RankViz-Visitor": token} if token else None
    return Client(address, headers=headers, verbose=False, httpx_kwargs={"timeout": 600})


@pytest.fixture
def visitor(address):
    """A new visitor's client, which ends what it has started."""
    visitor = client(address, token_of(address))
    yield visitor
    for run in visitor.predict(api_name="/runs"):
        if run["state"] in ("queued", "running"):
            visitor.predict(run["sweep_id"], api_name="/cancel")
            break


def token_of(address):
    return json.load(urllib.request.urlopen(f"{address}/rankviz/visitor"))["visitor"]


def documented(word, address):
    """The curl commands of the page with this word in them, for this address."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    (block,) = [block for block in blocks if "curl" in block and word in block]
    assert DOCUMENTED_AT in block
    return block.replace(DOCUMENTED_AT, address)


def answer_of(block):
    run = subprocess.run(["bash", "-eu", "-c", block], capture_output=True, text=True, timeout=120, check=True)
    event, data = re.search(r"event: (complete|error)\ndata: (.*)", run.stdout).groups()
    return event, json.loads(data)


def test_the_documented_estimate_by_curl(address):
    event, (answer,) = answer_of(documented("call/v2/estimate", address))

    assert "complete" == event
    assert [16_515_072, 33_030_144] == [row["adapter_parameters"] for row in answer["ranks"]]


def test_the_documented_sweep_by_curl_belongs_to_the_visitor_of_its_header(address):
    token = token_of(address)
    block = documented('"steps": 20', address).replace("$(curl -s $PAGE/rankviz/visitor | cut -d '\"' -f 8)", token)

    event, (answer,) = answer_of(block)

    mine = client(address, token)
    assert "complete" == event and token in block
    assert answer["run_ids"] == [run["run_id"] for run in mine.predict(api_name="/runs")]
    assert answer["run_ids"] == mine.predict(answer["sweep_id"], api_name="/cancel")["run_ids"]


ROWS = "".join(json.dumps({"prompt": f"{n}:", "completion": "yes"}) + "\n" for n in range(200))


def test_the_documented_upload_by_curl_is_what_the_visitor_trains_on(address, tmp_path):
    (tmp_path / "chats.jsonl").write_text(ROWS)
    token = token_of(address)
    block = documented("files=@chats.jsonl", address).replace("files=@", f"files=@{tmp_path}/")

    event, (answer,) = answer_of(block.replace("$(curl -s $PAGE/rankviz/visitor | cut -d '\"' -f 8)", token))

    mine = client(address, token)
    assert ("complete", 3) == (event, len(answer["run_ids"]))  # a quick look: two ranks, and a repeat
    mine.predict(answer["sweep_id"], api_name="/cancel")


def test_openapi_describes_every_endpoint(address):
    with pytest.raises(urllib.error.HTTPError, match="404"):  # the addresses of the page itself
        urllib.request.urlopen(f"{address}/openapi.json")
    names = json.load(urllib.request.urlopen(f"{address}/gradio_api/info"))["named_endpoints"]
    paths = json.load(urllib.request.urlopen(f"{address}/gradio_api/openapi.json"))["paths"]

    assert {f"/gradio_api/call/v2{name}" for name in names} <= paths.keys()
    body = paths["/gradio_api/call/v2/start_sweep"]["post"]["requestBody"]["content"]["application/json"]
    assert {"model", "data", "mode"} <= body["schema"]["properties"].keys()
    for path in (path for path in paths if "/v2/" in path):
        arguments = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert [] == [name for name, each in arguments.items() if not each["description"].endswith(".")], path
