"""The page as every visitor gets it: its configuration made small, its scripts and stylesheets, made once."""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gradio as gr
from gradio.blocks import BlocksConfig
from gradio.route_utils import get_root_url
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request

from rankviz.ui.head import is_page
from rankviz.ui.requests.addresses import address_of
from rankviz.ui.requests.bodies import is_asked
from rankviz.ui.requests.readable import Functions

CONFIG = ("/config", "/config/")
NOBODYS = b"rankviz.invalid"
"""The name under which the page is made, before that of the server as a visitor named it stands there: a name that is
made up costs no page."""
NAMES = frozenset({b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server", b"accept-encoding"})
GZIP_LEVEL = 6
FILES = ("/assets/", "/rankviz/", "/static/")
KINDS = (".css", ".js")
MAX_BYTES = 16 * 10**6
"""Of all that is kept. The page with its scripts has 2 MB."""
PIECE_BYTES = 2**16
"""Sent at once, so that no more waits in memory for a slow visitor."""
PARTS = frozenset({b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"})
"""Headers that ask for less than the whole."""


class Made(NamedTuple):
    """An answer whole. What is sent of it is a copy, since who sends it on adds a visitor's cookie."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def __call__(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        for at in range(0, len(self.body), PIECE_BYTES):
            await send({"type": "http.response.body", "body": self.body[at : at + PIECE_BYTES], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    @property
    def is_everybodys(self) -> bool:
        return self.status == 200 and all(name.lower() != b"set-cookie" for name, _ in self.headers)


Key = tuple[str, bool]
"""Path, and whether it is a file: the page and its configuration have the name of the server in them."""


class MadeOnce:
    """ASGI middleware: the page, scripts and stylesheets are made once, one at a time."""

    def __init__(self, app: Any, most_bytes: int = MAX_BYTES) -> None:
        self.app = app
        self._compressed = GZipMiddleware(app)
        self._kept: OrderedDict[Key, Made] = OrderedDict()
        self._most_bytes = most_bytes
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or (key := key_of(scope)) is None:
            return await self.app(scope, receive, send)
        async with self._turn:
            made = self._kept.get(key) or await self._made(scope, receive, is_file=key[1])
            self._keep(key, made)
        await (made if key[1] else written(made, origin_of(scope), _takes_gzip(scope)))(send)

    async def _made(self, scope: Any, receive: Any, *, is_file: bool) -> Made:
        """Without the query, of which none of these depends; what is no file, under nobody's name."""
        left_out = PARTS if is_file else PARTS | NAMES
        headers = [(name, value) for name, value in scope["headers"] if name not in left_out]
        named = {} if is_file else {"scheme": "http", "headers": [*headers, (b"host", NOBODYS)]}
        messages: list[Any] = []

        async def note(message: Any) -> None:
            messages.append(message)

        asked = {**scope, "method": "GET", "query_string": b"", "headers": headers, **named}
        await self._compressed(asked, receive, note)
        start, *parts = messages
        return Made(start["status"], tuple(start["headers"]), b"".join(part.get("body", b"") for part in parts))

    def _keep(self, key: Key, made: Made) -> None:
        if not made.is_everybodys:
            return
        self._kept[key] = made
        self._kept.move_to_end(key)
        while sum(len(each.body) for each in self._kept.values()) > self._most_bytes:
            self._kept.popitem(last=False)


@lru_cache(maxsize=4)
def written(made: Made, origin: str, compressed: bool) -> Made:
    """What was made under nobody's name, under this one."""
    body = made.body.replace(b"http://" + NOBODYS, origin.encode())
    headers = [(name, value) for name, value in made.headers if name.lower() != b"content-length"]
    if compressed and made.status == 200:
        body = gzip.compress(body, GZIP_LEVEL)
        headers.append((b"content-encoding", b"gzip"))
    return Made(made.status, (*headers, (b"content-length", str(len(body)).encode())), body)


def key_of(scope: Mapping[str, Any]) -> Key | None:
    """What a request asks for that all get alike; None where it asks for something else, or Gradio asks for a login
    first. A script that is not to be compressed comes from the disk."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    address = address_of(scope)
    if is_page({**scope, "method": "GET"}) or address in CONFIG:
        return None if is_asked(scope) else (scope["path"], False)
    if _takes_gzip(scope) and address.startswith(FILES) and address.endswith(KINDS):
        return scope["path"], True
    return None


def origin_of(scope: Mapping[str, Any]) -> str:
    """The server as a visitor names it, by scheme, name and port."""
    root = urlsplit(get_root_url(Request(scope), "", None))
    return f"{root.scheme}://{root.netloc}"


def _takes_gzip(scope: Mapping[str, Any]) -> bool:
    return "gzip" in Headers(scope=scope).get("accept-encoding", "")


DESCRIPTIONS = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs")
"""What Gradio's schema of the endpoints is made from: for each component three times what its value may be."""
UNREAD_OF_COMPONENTS = ("component_class_id", "skip_api")
"""The class is asked for where it is not one of Gradio's own. The names of these do."""
UNREAD_PROPS = ("preserved_by_key", "_retryable", "_undoable", "likeable")
"""Of components made anew while the page runs, and of chats."""
UNREAD_OF_EVENTS = (
    "batch",
    "max_batch_size",
    "stream_every",
    "scroll_to_output",
    "api_description",
    "collects_event_data",
)
"""RankViz streams and batches nothing, and its endpoints have their own description. The rest is for the server."""
UNREAD_OF_PRIVATE_EVENTS = ("api_name",)
UNREAD_IN_THE_BROWSER = ("types", "queue", "show_progress", "show_progress_on")
"""Of events without a server function."""
FALSE_WITHOUT = (
    "trigger_only_on_success",
    "trigger_only_on_failure",
    "cancels",
    "component_prop_inputs",
    "event_specific_args",
)
EVENT_DEFAULTS = {"connection": "sse"}
COMPONENT_DEFAULTS = {"key": None}
PROP_DEFAULTS = {
    "visible": True,
    "_selectable": False,
    "equal_height": False,
    "show_progress": False,
    "variant": "default",  # of rows and columns
}
"""What the front end takes a component's key and these properties for, where they are absent."""
HTML_DEFAULTS = {
    "html_template": "${value}",
    "css_template": "",
    "component_class_name": "HTML",
    "elem_classes": [],
    "props": {},
    "buttons": [],
    "show_label": False,
    "autoscroll": False,
    "streamable": False,
}
"""The same for its HTML component."""


class SmallConfig(BlocksConfig):
    """What the page is made of, made smaller. Gradio asks for it four times before it serves; it is made once."""

    def __init__(self, root_block: gr.Blocks) -> None:
        super().__init__(root_block)
        self.fns = Functions(self.fns)
        self._configs: dict[tuple[Any, ...], dict[str, Any]] = {}

    def attach_load_events(self, rendered_in: Any = None) -> None:
        """Gradio's. What its components do when a page loads, as its login button does, is no endpoint."""
        before = set(self.fns)
        super().attach_load_events(rendered_in)
        for number in self.fns.keys() - before:
            self.fns[number].api_visibility = "private"

    def get_config(self, renderable: Any = None) -> dict[str, Any]:
        """Gradio's, smaller. Public endpoints keep their descriptions, and belong to no page: who calls them reads
        /config or /gradio_api/info, which tell of every page."""
        of = (renderable, len(self.blocks), len(self.fns))  # components and events are only ever added
        if of not in self._configs:
            self._configs[of] = self._small(super().get_config(renderable))
        return self._configs[of]

    def _small(self, config: dict[str, Any]) -> dict[str, Any]:
        public = [fn for fn in self.fns.values() if fn.api_visibility != "private"]
        described = {block._id for fn in public for block in (*fn.inputs, *fn.outputs)}
        for component in config["components"]:
            if component["id"] not in described:
                _remove(component, (*DESCRIPTIONS, *UNREAD_OF_COMPONENTS))
                _remove_defaults(component, COMPONENT_DEFAULTS)
                _remove(component["props"], UNREAD_PROPS)
                _remove_defaults(component["props"], PROP_DEFAULTS)
                if component["type"] == "html":
                    _remove_defaults(component["props"], HTML_DEFAULTS)
            if component["type"] == "number":
                component["props"].setdefault("value", None)  # Gradio leaves it out, and then shows 0
        endpoints = {fn._id for fn in public}
        for event in config["dependencies"]:
            _remove(event, UNREAD_OF_EVENTS)
            _remove(event, [name for name in event if event[name] is None])
            _remove(event, [name for name in FALSE_WITHOUT if not event.get(name)])
            _remove_defaults(event, EVENT_DEFAULTS)
            if event["id"] not in endpoints:
                _remove(event, UNREAD_OF_PRIVATE_EVENTS)
            event["targets"] = [target for target in event["targets"] if target[0] is not None]
            if not event["backend_fn"]:
                _remove(event, UNREAD_IN_THE_BROWSER)
        for page in config["page"].values():
            page["dependencies"] = [each for each in page["dependencies"] if each not in endpoints]
            page["components"] = [each for each in page["components"] if each not in described]
            page["layout"]["children"] = [each for each in page["layout"]["children"] if each["id"] not in described]
        return config


class SmallBlocks(gr.Blocks):
    """Blocks with a small configuration."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.default_config = SmallConfig(self)

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Gradio's. Endpoints belong to no page, whose HTML would hold their description."""
        if page is not None:
            return {"named_endpoints": {}, "unnamed_endpoints": {}}
        return super().get_api_info(all_endpoints=all_endpoints)


def _remove(row: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        row.pop(name, None)


def _remove_defaults(row: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    _remove(row, [name for name in defaults if name in row and row[name] == defaults[name]])
