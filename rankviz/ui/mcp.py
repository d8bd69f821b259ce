"""MCP: what is sent to the server before its library reads it, calls with wrong arguments, and answers as JSON."""

import json
import logging
import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, get_args

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from rankviz.core.bounds import shown
from rankviz.endpoints.gate import require_call, uploaded
from rankviz.errors import InvalidSettingError
from rankviz.shared.gate import API, address_of, once
from rankviz.ui.events import toast

ADDRESS = f"{API}mcp"
TOOLS_ONLY = ("prompts/get", "resources/read")
NO_STREAM = "This MCP server sends nothing of its own. Send messages with POST (streamable HTTP)."
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
"""Of JSON-RPC. Only the first two are errors of HTTP too."""


class Fault(Exception):
    """What is wrong with a message, in a sentence."""

    def __init__(self, code: int, sentence: str, message_id: str | int | None = None):
        super().__init__(sentence)
        self.code, self.message_id = code, message_id


class Mcp:
    """ASGI middleware: answers a message that the library could not read, or that asks for what there is not, with an
    error of JSON-RPC, and such a notification, or an answer, with nothing; 405 where a client
    waits for messages. The library's log has errors only: its
    warnings are of what others sent."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._is_installed = find_spec("mcp") is not None
        logging.getLogger("mcp").setLevel(logging.ERROR)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        address = address_of(scope) if scope["type"] == "http" and self._is_installed else ""
        if address.startswith(ADDRESS) and scope["method"] in ("GET", "HEAD") and _is_stream(address, scope):
            return await PlainTextResponse(NO_STREAM, 405, {"allow": "POST"})(scope, receive, send)
        if not (address.startswith(ADDRESS) and scope["method"] == "POST"):
            return await self.app(scope, receive, send)
        body = await Request(scope, receive).body()
        try:
            _require(body)
        except Fault as fault:
            is_read = fault.code not in (PARSE_ERROR, INVALID_REQUEST)
            if is_read and fault.message_id is None:
                return await Response(status_code=202)(scope, receive, send)
            error = {"code": fault.code, "message": str(fault)}
            answer = {"jsonrpc": "2.0", "id": fault.message_id, "error": error}
            return await JSONResponse(answer, 200 if is_read else 400)(scope, receive, send)
        await self.app(scope, once(body, receive), send)


def _is_stream(address: str, scope: Any) -> bool:
    """Whether it asks for messages of the server's own, without an end. Others are shown Gradio's page on MCP."""
    return address == f"{ADDRESS}/sse" or "text/event-stream" in Headers(scope=scope).get("accept", "")


def parsed(body: bytes) -> Any:
    """The JSON of a message. Fault where it is none, or where it could not be written again."""
    try:
        message = json.loads(body, parse_float=_finite, parse_constant=_finite)
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Fault(
            PARSE_ERROR, "A text of the message has half of a character, as \\ud800 is: leave it out."
        ) from None
    except (ValueError, RecursionError):
        raise Fault(PARSE_ERROR, "The message is no JSON that can be read: send one JSON object, in UTF-8.") from None
    return message


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise Fault(PARSE_ERROR, "A number of the message is not finite, as NaN and 1e999 are: leave it out.")


def _require(body: bytes) -> None:
    """Fault unless the library takes it, read in the same steps."""
    from mcp.types import ClientNotification, ClientRequest, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest

    message = parsed(body)
    try:
        read = JSONRPCMessage.model_validate(message).root
    except (ValueError, RecursionError):
        text = 'The message is none of JSON-RPC: it needs "jsonrpc", "method", and an "id" where it asks for something.'
        raise Fault(INVALID_REQUEST, text) from None
    kind = {JSONRPCRequest: ClientRequest, JSONRPCNotification: ClientNotification}.get(type(read))
    if kind is None:  # an answer, which the library would look for the question of
        raise Fault(INVALID_PARAMS, "This server asks its clients nothing.")
    message_id = getattr(read, "id", None)
    if message_id is not None and kind is ClientNotification:
        raise Fault(INVALID_REQUEST, "The id of the message is neither a text nor a whole number: give one of these.")
    try:
        kind.model_validate(read.model_dump(by_alias=True, mode="json", exclude_none=True))
    except (ValueError, RecursionError):
        kinds = get_args(kind.model_fields["root"].annotation)
        if any(read.method in get_args(each.model_fields["method"].annotation) for each in kinds):
            text = f"The method {read.method!r} takes other params: tools/list names the tools and theirs."
            raise Fault(INVALID_PARAMS, text, message_id) from None
        text = f"MCP has no method {read.method[:100]!r}: tools/list names the tools."
        raise Fault(METHOD_NOT_FOUND, text, message_id) from None
    if read.method in TOOLS_ONLY:
        raise Fault(INVALID_PARAMS, "There are no prompts or resources here: tools/list names the tools.", message_id)


def in_json(server: Any) -> Any:
    """Gradio's MCP server, whose tools answer in JSON; files stay addresses."""
    as_gradio = server.postprocess_output_data

    def answers(data: list[Any], root_url: str) -> list[Any]:
        from mcp.types import TextContent

        found = []
        for output in data:
            if uploaded(output) is not output:  # a file
                found += as_gradio([output], root_url)
            else:
                found.append(TextContent(type="text", text=json.dumps(output, ensure_ascii=False)))
        return found

    server.postprocess_output_data = answers
    return server


def checked(server: Any) -> Any:
    """Gradio's MCP server, which looks at the arguments of a call before anything else does."""
    from mcp.types import CallToolRequest, CallToolResult, ServerResult, TextContent

    handlers = server.mcp_server.request_handlers
    call = handlers[CallToolRequest]

    async def answer(request: Any) -> Any:
        try:
            _require_known(server, request.params.name, request.params.arguments or {})
        except InvalidSettingError as error:
            text = TextContent(type="text", text=toast(error))
            return ServerResult(CallToolResult(content=[text], isError=True))
        return await call(request)

    handlers[CallToolRequest] = answer
    return server


def _require_known(server: Any, name: str, arguments: Mapping[str, Any]) -> None:
    endpoint = server.tool_to_endpoint.get(name)
    if endpoint is None:
        raise InvalidSettingError(f"There is no tool {shown(name)} here: tools/list names the tools.")
    require_call(server.get_block_fn_from_endpoint_name(endpoint).fn, arguments)
