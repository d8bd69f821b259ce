"""The page as Gradio Blocks: functions run as the current visitor, and server memory for open pages and answers is
limited. MCP: unreadable messages are refused before the MCP library, arguments are checked, and answers are JSON.

Most uses of Gradio's internals are here (versions: tests/test_architecture.py, tests/ui/test_blocks.py): BlocksConfig,
the queue's unread messages, functions that fetch URLs, upload progress, and the MCP server."""

import asyncio
import copy
import json
import logging
import os
from collections import ChainMap, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from typing import Any
from weakref import ref

import gradio as gr
import orjson
import safehttpx
from gradio import processing_utils, routes
from gradio.blocks import BlocksConfig
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import get_route_path

from rankviz.core.bounds import shown
from rankviz.endpoints import TOOLS
from rankviz.endpoints.gate import describe, require_call, uploaded
from rankviz.errors import InvalidSettingError, UserError
from rankviz.shared import gate
from rankviz.shared.gate import API, once
from rankviz.shared.identity import visitor_of
from rankviz.store.runs import viewing
from rankviz.ui.wiring import click_of, in_words, require_sendable, toast, with_defaults
from rankviz.visitor import acting_as

MAX_ANSWERS, MAX_BYTES = 10_000, 20_000_000
"""Maximum unread answers of all sessions, and their total bytes. The newest answer is kept whatever its size."""
LARGE_BYTES = 50_000
"""Size in bytes above which unread answers are the first to become errors, so that other visitors' answers are kept."""
MAX_SESSIONS, MAX_MESSAGES = 2000, 500
"""Maximum sessions, and messages per session. An event has a few messages: queue position, start, answer."""
QUEUE_SECONDS = 0.01
"""Seconds between two looks into the queue of events; Gradio's thousand looks a second take 4 % of a processor."""
TOO_LATE = "This answer was not fetched in time. Ask again."
READ = "The answer was read already, or whoever waited for it has gone. Ask again."


class Newest(OrderedDict[str, Any]):
    """Mapping that keeps the `most` recently used entries. make: creates the value of a missing key."""

    def __init__(self, most: int, make: Callable[[], Any] | None = None):
        super().__init__()
        self.most, self.make = most, make

    def __missing__(self, key: str) -> Any:
        if self.make is None:
            raise KeyError(key)
        self[key] = value = self.make()
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self.most:
            del self[next(iter(self))]


class Unread(Newest):
    """Unread messages by session, for Gradio's queue. Above their limits, the oldest answer becomes an error, a
    session's oldest message is dropped with its event, and the least recently used session is dropped.

    Args:
        events: Gradio's ids of unread events by session.
        answers, size, sessions, messages: Limits.
    """

    def __init__(
        self,
        events: dict[str, set[str]],
        answers: int = MAX_ANSWERS,
        size: int = MAX_BYTES,
        sessions: int = MAX_SESSIONS,
        messages: int = MAX_MESSAGES,
    ):
        super().__init__(sessions)
        self.events, self.messages = events, messages
        self._most, self._most_bytes = answers, size
        self._answers: list[tuple[ref[Any], int]] = []
        """Unread answers with their bytes. What was read or dropped is no longer referenced by any queue."""

    def __setitem__(self, session: str, messages: asyncio.Queue) -> None:
        super().__setitem__(session, Messages(self, session))
        for forgotten in self.events.keys() - self.keys():
            del self.events[forgotten]

    def __getitem__(self, session: str) -> asyncio.Queue:
        if session not in self:
            return asyncio.Queue()  # for an event whose session is forgotten: nobody reads it
        self.move_to_end(session)
        return super().__getitem__(session)

    def keep(self, answer: Any) -> None:
        """Count a new unread answer; replace older answers by errors while the limits are exceeded."""
        size = 0
        with suppress(TypeError):  # Gradio cannot send it
            size = len(orjson.dumps(answer.output, default=str))
        counted = [*(each for each in self._answers if each[0]() is not None), (ref(answer), size)]
        while len(counted) > self._most or (sum(size for _, size in counted) > self._most_bytes and len(counted) > 1):
            large = (place for place, (_, size) in enumerate(counted[:-1]) if size > LARGE_BYTES)
            oldest = counted.pop(next(large, 0))[0]()
            oldest.output, oldest.success = {"error": TOO_LATE}, False
        self._answers = counted


class Messages(asyncio.Queue):
    """Message queue of one session."""

    def __init__(self, unread: Unread, session: str):
        super().__init__()
        self._unread, self._session = unread, session

    async def get(self) -> Any:
        if self.empty() and not self._unread.events.get(self._session):  # Gradio would wait for ever
            raise HTTPException(404, READ)
        return await super().get()

    def _put(self, item: Any) -> None:
        if self.qsize() >= self._unread.messages:
            self._unread.events.get(self._session, set()).discard(self._get().event_id)
        super()._put(item)
        if hasattr(item, "output"):
            self._unread.keep(item)


UNUSED_OF_COMPONENTS = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs")
UNUSED_OF_COMPONENTS += ("component_class_id", "skip_api")
UNUSED_PROPERTIES = ("preserved_by_key", "_retryable", "_undoable", "likeable")
"""Properties that only Gradio's endpoint schema needs, or components that this page does not have."""
UNUSED_OF_EVENTS = ("batch", "max_batch_size", "stream_every", "scroll_to_output", "api_description")
UNUSED_OF_EVENTS += ("collects_event_data", "types")
EMPTY_OF_EVENTS = ("trigger_only_on_success", "trigger_only_on_failure", "cancels", "component_prop_inputs")
EMPTY_OF_EVENTS += ("event_specific_args",)
"""Properties of events that count as false where they are absent."""
UNUSED_IN_THE_BROWSER = ("queue", "show_progress", "show_progress_on")
"""Event properties that the front end does not use for events without a server function."""
DEFAULTS = {"visible": True, "_selectable": False, "equal_height": False, "show_progress": False, "variant": "default"}
DEFAULTS_OF_HTML = {
    **{"html_template": "${value}", "css_template": "", "component_class_name": "HTML", "elem_classes": []},
    **{"props": {}, "buttons": [], "show_label": False, "autoscroll": False, "streamable": False},
}
"""Values that the front end assumes for absent properties of all components, and of HTML."""


class PageConfig(BlocksConfig):
    """Gradio's page configuration, made smaller and cached, since Gradio asks for it four times before it serves."""

    def __init__(self, root_block: gr.Blocks) -> None:
        super().__init__(root_block)
        self._configs: dict[tuple[Any, ...], dict[str, Any]] = {}

    def __copy__(self) -> "PageConfig":
        """Return the copy of the configuration for an open page. It holds the page's changes only; Gradio would store
        more, for deep links, which this page does not have."""
        opened = PageConfig(self.root_block)
        opened.blocks, opened.fns, opened.fn_id = Changed({}, self.blocks), self.fns, self.fn_id
        opened.config_for_block = lambda *_, **__: {}
        return opened

    def attach_load_events(self, rendered_in: Any = None) -> None:
        """Attach the load events of Gradio's components, such as the login button, without making them endpoints."""
        before = set(self.fns)
        super().attach_load_events(rendered_in)
        for number in self.fns.keys() - before:
            self.fns[number].api_visibility = "private"

    def get_config(self, renderable: Any = None) -> dict[str, Any]:
        """Return Gradio's configuration without unused properties. Endpoints keep their descriptions but are listed on
        no page; clients read /config or /gradio_api/info, which cover all pages."""
        of = (renderable, len(self.blocks), len(self.fns))  # components and events are only ever added
        if of in self._configs:
            return self._configs[of]
        config = super().get_config(renderable)
        public = [fn for fn in self.fns.values() if fn.api_visibility != "private"]
        endpoints = {fn._id for fn in public}
        described = {block._id for fn in public for block in (*fn.inputs, *fn.outputs)}
        for component in config["components"]:
            props = component["props"]
            if component["id"] not in described:
                _remove(component, UNUSED_OF_COMPONENTS, {"key": None})
                defaults = DEFAULTS | DEFAULTS_OF_HTML if component["type"] == "html" else DEFAULTS
                _remove(props, UNUSED_PROPERTIES, defaults)
            if component["type"] == "number":
                props.setdefault("value", None)  # Gradio leaves it out, and then shows 0
        for event in config["dependencies"]:
            empty = [name for name, value in event.items() if value is None or (not value and name in EMPTY_OF_EVENTS)]
            unused = () if event["backend_fn"] else UNUSED_IN_THE_BROWSER
            named = () if event["id"] in endpoints else ("api_name",)
            _remove(event, (*UNUSED_OF_EVENTS, *empty, *unused, *named), {"connection": "sse"})
            event["targets"] = [target for target in event["targets"] if target[0] is not None]
        for page in config["page"].values():
            page["dependencies"] = [each for each in page["dependencies"] if each not in endpoints]
            page["components"] = [each for each in page["components"] if each not in described]
            page["layout"]["children"] = [each for each in page["layout"]["children"] if each["id"] not in described]
        self._configs[of] = config
        return config


class Changed(ChainMap[int, Any]):
    """Components by id: as changed on one open page, or else as on all pages. Iteration gives the changed ones only."""

    def __iter__(self) -> Iterator[int]:
        return iter(self.maps[0])


def _remove(row: dict[str, Any], names: Iterable[str], defaults: Mapping[str, Any]) -> None:
    for name in (*names, *(name for name, value in defaults.items() if name in row and row[name] == value)):
        row.pop(name, None)


NO_STATISTICS = {"GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12), "GRADIO_ANALYTICS_MAX_EVENTS": "1"}
"""Environment variables that turn off Gradio's table of the last 10,000 events, rebuilt after each event."""
FETCHERS = (
    (processing_utils, "async_ssrf_protected_download"),
    (processing_utils, "async_ssrf_protected_get"),
    (safehttpx, "get"),
    (safehttpx, "async_validate_url"),
)
"""Gradio's functions that fetch URLs. Replacing the first also prevents the folder that it makes for a download."""
MOST_UPLOADS = 1000
"""Number of uploads whose progress is kept; a browser sees less progress of an older upload."""


async def _refused(*_: Any, **__: Any) -> Any:
    raise gr.Error("This server fetches no addresses. Upload the file, and send its path on the server instead.")


class PageBlocks(gr.Blocks):
    """The page. Each page function and endpoint, queued or not, is called through `process_api`. Gradio no longer
    fetches URLs in this process, and keeps the progress of at most MOST_UPLOADS uploads."""

    def __init__(self, **options: Any) -> None:
        for module, name in FETCHERS:
            setattr(module, name, _refused)
        routes.file_upload_statuses._statuses = Newest(MOST_UPLOADS)
        routes.file_upload_statuses._signals = Newest(MOST_UPLOADS, asyncio.Event)
        super().__init__(**options)
        self.default_config = PageConfig(self)

    @property
    def mcp_server_obj(self) -> Any:
        """Gradio's MCP server, which Gradio creates and sets when the page starts."""
        return self._mcp_server

    @mcp_server_obj.setter
    def mcp_server_obj(self, server: Any) -> None:
        self._mcp_server = server and checked(server)

    def queue(self, *args: Any, **options: Any) -> Any:
        """Set up Gradio's queue without statistics, with limited unread answers, and with one visitor per session."""
        os.environ.update(NO_STATISTICS)
        super().queue(*args, **options)
        queue = self._queue
        queue.push = partial(gate.push, queue.push)
        queue.sleep_when_free = QUEUE_SECONDS
        queue.pending_messages_per_session = Unread(queue.pending_event_ids_session)
        return self

    def launch(self, *args: Any, **options: Any) -> Any:
        """Start the page; raise UserError for a login together with MCP, whose clients would get past the login."""
        mcp = options.get("mcp_server")
        serves_mcp = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true" if mcp is None else mcp
        if serves_mcp and (options.get("auth") or options.get("auth_dependency")):
            raise UserError("MCP clients would get past the login. Leave out auth, or unset GRADIO_MCP_SERVER.")
        return super().launch(*args, **options)

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Return Gradio's description of the endpoints; empty for a single page, whose HTML would contain it."""
        if page is not None:
            return {"named_endpoints": {}, "unnamed_endpoints": {}}
        info = super().get_api_info(all_endpoints=all_endpoints)
        for fn in self.fns.values():
            if endpoint := info["named_endpoints"].get(f"/{fn.api_name}"):
                describe(endpoint, fn.fn)
        return info

    def get_config_file(self) -> Any:
        """Return the configuration without the heartbeat stream. Each open page would hold one of a browser's six
        connections per host, so a seventh page would wait forever. Gradio learns by this stream that a page was closed;
        here the oldest pages are forgotten instead (`state_session_capacity`)."""
        return {**super().get_config_file(), "connect_heartbeat": False}

    async def process_api(
        self,
        block_fn: Any,
        inputs: Any,
        state: Any = None,
        request: Any = None,
        *args: Any,
        event_data: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        visitor = visitor_of(request[0] if isinstance(request, list) else request)
        # What goes past the queue draws, and is not to wait for runs that nobody has read yet.
        draws = function.api_visibility == "private" and not function.queue
        with acting_as(visitor), in_words(request, function.name), viewing() if draws else nullcontext():
            inputs = with_defaults(function, inputs)
            require_sendable(function, inputs, state)
            click = click_of(event_data) if function.collects_event_data else event_data
            return await super().process_api(function, inputs, state, request, *args, event_data=click, **kwargs)

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> Any:
        """Convert sent values; raise gr.Error, without a log entry, for values that no widget sends. Gradio would start
        a thread for each of the question's 40 widgets; here only files are converted in threads."""
        in_threads = any(getattr(widget, "data_model", None) for widget in block_fn.inputs)
        as_sent = copy.copy(block_fn)
        as_sent.preprocess = block_fn.preprocess and in_threads
        try:
            values = await super().preprocess_data(as_sent, inputs, state, explicit_call)
            if in_threads or not block_fn.preprocess:
                return values
            shown = block_fn.inputs if state is None else [state.get(each._id, each) for each in block_fn.inputs]
            return [
                value if widget.stateful else now.preprocess(value)
                for widget, now, value in zip(block_fn.inputs, shown, values, strict=True)
            ]
        except gr.Error as error:
            raise gr.Error(error.message[:300], print_exception=False) from error
        except Exception as error:
            raise gr.Error("The request could not be read. Reload the page.", print_exception=False) from error

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> Any:
        """Convert only changed outputs, since Gradio would create and keep a component for each unchanged output."""
        outputs = block_fn.outputs
        values = _in_order(outputs, predictions)
        changed = [at for at, value in enumerate(values) if not _is_skip(value)]
        if len(values) != len(outputs) or len(changed) == len(values):
            return await super().postprocess_data(block_fn, predictions, state)
        shown = [None if output.stateful else gr.skip() for output in outputs]
        if changed:
            some, new = copy.copy(block_fn), [values[at] for at in changed]
            some.outputs = [outputs[at] for at in changed]
            made = await super().postprocess_data(some, new if len(new) > 1 else new[0], state)
            for at, value in zip(changed, made, strict=True):
                shown[at] = value
        return shown


def _in_order(outputs: Sequence[Any], predictions: Any) -> Sequence[Any]:
    """Return one value per output; outputs missing from a returned dict stay unchanged."""
    if isinstance(predictions, dict) and predictions and all(isinstance(key, gr.blocks.Block) for key in predictions):
        given = {key._id: value for key, value in predictions.items()}
        return [given.get(output._id, gr.skip()) for output in outputs]
    if len(outputs) == 1:
        return [predictions]
    if _is_skip(predictions):
        return [predictions] * len(outputs)
    return predictions if isinstance(predictions, list | tuple) else []


def _is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()


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
