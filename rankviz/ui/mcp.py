"""MCP: refuses unreadable messages before the MCP library, checks the arguments of calls, and answers as JSON."""

import json
import logging
from importlib.util import find_spec
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import get_route_path

from rankviz.core.bounds import shown
from rankviz.endpoints import TOOLS
from rankviz.endpoints.gate import require_call, uploaded
from rankviz.errors import InvalidSettingError
from rankviz.shared.gate import API, once
from rankviz.ui.wiring import toast

ADDRESS = f"{API}mcp"
TOOLS_ONLY = ("prompts/get", "resources/read")
NO_STREAM = "This MCP server sends nothing of its own. Send messages with POST (streamable HTTP)."
INVALID_REQUEST, METHOD_NOT_FOUND = -32600, -32601
UNREADABLE = (
    "The message cannot be read: send one JSON-RPC object in UTF-8 with a method, finite numbers, whole characters and "
    "an id that is a text or a whole number."
)
NO_METHOD = "No such method here, or not with these params: tools/list names the tools and their arguments."


def mcp_messages(app: Any, is_installed: bool | None = None) -> Any:
    """ASGI middleware: a JSON-RPC error for messages that the MCP library cannot read or serve, and 405 for clients
    that wait for messages. The library logs errors only, since its warnings are about clients' mistakes. is_installed:
    True where the library is there; None to look."""
    if not (find_spec("mcp") if is_installed is None else is_installed):
        return app
    logging.getLogger("mcp").setLevel(logging.ERROR)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        address = get_route_path(scope) if scope["type"] == "http" else ""
        if not address.startswith(ADDRESS) or scope["method"] not in ("GET", "HEAD", "POST"):
            return await app(scope, receive, send)
        if scope["method"] == "POST":
            body = await Request(scope, receive).body()
            return await (refusal(body) or app)(scope, once(body, receive), send)
        # Others are shown Gradio's page on MCP.
        is_stream = address == f"{ADDRESS}/sse" or "text/event-stream" in Headers(scope=scope).get("accept", "")
        await (PlainTextResponse(NO_STREAM, 405, {"allow": "POST"}) if is_stream else app)(scope, receive, send)

    return served


def parsed(body: bytes) -> Any:
    """Parse a message's JSON; ValueError or RecursionError if invalid, not finite, or not serializable."""
    message = json.loads(body)
    json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
    return message


def refusal(body: bytes) -> Response | None:
    """Return the response to a message that must not reach the MCP library; None for a message that may."""
    from mcp.types import ClientNotification, ClientRequest, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest

    try:
        message = parsed(body)
        read = JSONRPCMessage.model_validate(message).root
    except (ValueError, RecursionError):
        return _error(INVALID_REQUEST, UNREADABLE, None, 400)
    kind = {JSONRPCRequest: ClientRequest, JSONRPCNotification: ClientNotification}.get(type(read))
    if kind is None:  # an answer, which the library would look for the question of
        return Response(status_code=202)
    if kind is ClientNotification and "id" in message:
        return _error(INVALID_REQUEST, UNREADABLE, None, 400)
    try:
        kind.model_validate(read.model_dump(by_alias=True, mode="json", exclude_none=True))
        fits = read.method not in TOOLS_ONLY
    except (ValueError, RecursionError):
        fits = False
    if fits:
        return None
    is_notification = kind is ClientNotification
    return Response(status_code=202) if is_notification else _error(METHOD_NOT_FOUND, NO_METHOD, read.id, 200)


def _error(code: int, text: str, message_id: str | int | None, status: int) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": message_id, "error": {"code": code, "message": text}}, status)


def checked(server: Any) -> Any:
    """Make Gradio's MCP server check the arguments of a call before anything else, and say of each tool what it needs,
    returns and changes. Its answers become JSON, as text and structured, in which files are addresses."""
    from mcp.types import CallToolRequest, CallToolResult, ListToolsRequest, ServerResult, TextContent, ToolAnnotations

    handlers, as_gradio = server.mcp_server.request_handlers, server.postprocess_output_data
    call, listed = handlers[CallToolRequest], handlers[ListToolsRequest]

    async def tools(request: Any) -> Any:
        result = await listed(request)
        for tool in result.root.tools:  # the library checks calls against these very objects
            endpoint = server.tool_to_endpoint[tool.name]
            needed, hints = TOOLS[endpoint.strip("/")]
            tool.inputSchema |= {"required": [needed]} if needed else {}
            schema = server.api_info["named_endpoints"][endpoint]["returns"][0]["type"]
            # An object: of a list, its `result`; of a file, its `url`.
            if schema["type"] == "array":
                schema = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
            elif {"path", "orig_name", "meta"} == schema["properties"].keys():
                schema = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}
            tool.outputSchema = schema
            tool.annotations = ToolAnnotations(**hints)
        return result

    async def answer(request: Any) -> Any:
        name, arguments = request.params.name, request.params.arguments or {}
        endpoint = server.tool_to_endpoint.get(name)
        try:
            if endpoint is None:
                raise InvalidSettingError(f"There is no tool {shown(name)} here: tools/list names the tools.")
            require_call(server.get_block_fn_from_endpoint_name(endpoint).fn, arguments)
        except InvalidSettingError as error:
            text = TextContent(type="text", text=toast(error))
            return ServerResult(CallToolResult(content=[text], isError=True))
        result = await call(request)
        if not result.root.isError:
            text = result.root.content[0].text
            value = {"url": text} if text.startswith("http") else json.loads(text)
            result.root.structuredContent = {"result": value} if isinstance(value, list) else value
        return result

    def in_json(data: list[Any], root_url: str) -> list[Any]:
        found = []
        for output in data:
            is_file = uploaded(output) is not output
            text = "" if is_file else json.dumps(output, ensure_ascii=False)
            found += as_gradio([output], root_url) if is_file else [TextContent(type="text", text=text)]
        return found

    handlers.update({CallToolRequest: answer, ListToolsRequest: tools})
    server.postprocess_output_data = in_json
    return server
