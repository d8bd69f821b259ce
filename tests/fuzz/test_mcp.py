"""Messages to the MCP server, as they are read before its library reads them. tests/endpoints/test_mcp.py sends some
to a server that has the library."""

import json

from rankviz.errors import UserError
from rankviz.ui.mcp import parsed
from tests.fuzz import mutate

MESSAGES = (
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "estimate", "arguments": {"model": "Qwen/Qwen3-4B", "ranks": [8], "epochs": 2.5}},
    },
    {"jsonrpc": "2.0", "id": "a", "method": "tools/list", "params": {}},
    {"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "x"}},
    {"jsonrpc": "2.0", "id": 2, "method": "nothing"},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}},
    {"jsonrpc": "2.0", "id": 3, "result": {}},
)


def test_a_message_to_the_mcp_server(fuzz):
    def read(body):
        try:
            message = parsed(body)
        except (ValueError, RecursionError) as error:
            raise UserError(str(error)) from None
        json.dumps(message, ensure_ascii=False, allow_nan=False).encode()  # as it is answered

    fuzz(lambda rng: mutate.json_bytes(rng.choice(MESSAGES), rng), read)
