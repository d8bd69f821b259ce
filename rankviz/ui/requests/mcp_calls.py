"""Calls of MCP tools: one with arguments that its endpoint does not take is refused as over HTTP, in a sentence that
names the argument. Gradio and the MCP library would say it in the words of a schema."""

from collections.abc import Mapping
from typing import Any

from rankviz.core.bounds import shown
from rankviz.errors import InvalidSettingError
from rankviz.ui.endpoints.gate import require_call
from rankviz.ui.requests.event_errors import toast


def checked(server: Any) -> Any:
    """Gradio's MCP server, which looks at the arguments of a call before anything else does."""
    from mcp.types import CallToolRequest, CallToolResult, ServerResult, TextContent

    handlers = server.mcp_server.request_handlers
    call = handlers[CallToolRequest]

    async def answer(request: Any) -> Any:
        try:
            _require(server, request.params.name, request.params.arguments or {})
        except InvalidSettingError as error:
            text = TextContent(type="text", text=toast(error))
            return ServerResult(CallToolResult(content=[text], isError=True))
        return await call(request)

    handlers[CallToolRequest] = answer
    return server


def _require(server: Any, name: str, arguments: Mapping[str, Any]) -> None:
    endpoint = server.tool_to_endpoint.get(name)
    if endpoint is None:
        raise InvalidSettingError(f"There is no tool {shown(name)} here: tools/list names the tools.")
    require_call(server.get_block_fn_from_endpoint_name(endpoint).fn, arguments)
