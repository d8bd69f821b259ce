"""Serves the page, for app.py and `rankviz serve`: its look, its scripts, stylesheets and plotly.js from its own host,
and addresses besides Gradio's: health, visitor token, admin sign-in."""

import ctypes
import gc
import hmac
import json
import os
import re
import secrets
import socket
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from hashlib import sha256
from html import escape
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol

from rankviz import __version__, logs, settings
from rankviz.api import Api
from rankviz.core.runs.record import RunState
from rankviz.errors import UserError
from rankviz.hub import reach
from rankviz.machine import disk
from rankviz.paths import ASSETS
from rankviz.settings import unread_variables
from rankviz.shared import gate
from rankviz.shared.gate import HEALTH, answer_errors, check_request_body, keep_log_ours, unfit, with_checked_heads
from rankviz.shared.identity import (
    ADMIN_COOKIE,
    ADMIN_SECONDS,
    HEADER,
    Visitors,
    cookie,
    identify,
    is_foreign,
    visitor_of,
    visitors_of,
)
from rankviz.shared.page_cache import MadeOnce
from rankviz.shared.retention import keep_clean
from rankviz.shared.uploads import check_uploaded_files
from rankviz.ui.blocks import mcp_messages
from rankviz.ui.explore.answer import FIGURES, routes
from rankviz.ui.link import DEFAULTS
from rankviz.ui.page import build_app
from rankviz.ui.parts import html

PR_SET_DUMPABLE = 4
SWITCH_SECONDS = 0.001
"""Seconds that a thread computes before another gets its turn; Python's 5 ms would delay the server's threads."""
COLLECTED_AFTER = 20_000, 20, 20
"""New objects before Python looks for cycles, and how often it does before it looks through older ones. An answer makes
15,000 objects and hardly a cycle; with Python's 700, looking takes 6 % of the time."""
ZERO_GPU_QUEUED = 1000


def serve() -> None:
    """Build the page on the default runs folder, continue its queue and serve until the process ends."""
    logs.keep_tokens_out()
    api = Api()
    api.workspace.temp.use_for_gradio(always=api.workspace.shared)
    if api.workspace.shared:
        if sys.platform == "linux":  # workers, which are other processes of this user, read no secrets in /proc
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
        reach.use_own(api.workspace.home)
    if unread := unread_variables():
        print(f"No setting reads {', '.join(unread)}; docs/spaces_and_engines.md lists what is read.", flush=True)
    options = launch_options(api)
    host, port = options["server_name"], options["server_port"]
    check_address(host, port)
    if not api.workspace.shared:
        for line in announcement(host, port):
            print(line, flush=True)
    keep_clean(api.workspace, api.runs.quota.make_room_on_disk)
    read_ahead(api)
    api.workspace.work_queue()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what is imported stays: to look through it again takes 0.1 s, here and during answers
    gc.set_threshold(*COLLECTED_AFTER)
    app = build_app(api)
    if os.environ.get("SPACES_ZERO_GPU") == "true":
        # The Hub ends such a Space if no function asks for the GPU (spaces 0.51 reports its start only then), and
        # Gradio's queue there has room for one event, where opening a page sends several. Training is another process.
        import spaces

        spaces.GPU(lambda: None)
        app.queue(max_size=ZERO_GPU_QUEUED)
    app.api_open = False  # queue(api_open=False) would also make the server anew, which launch does again
    keep_log_ours()
    auto.AutoHTTPProtocol = H11Protocol  # reads 64 kB of a head; httptools, where it is installed, reads without end
    FileResponse.chunk_size = 2**20  # each piece of a file is read in another thread
    app.launch(**options)


def check_address(host: str, port: int) -> None:
    """Raise UserError where no server can listen; Gradio would fail with a traceback after the page is built."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, UnicodeError) as error:
        reason = "this machine has no such address, the port is in use, or it needs an administrator's rights"
        where = "Choose another with --host and --port, or GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."
        raise UserError(f"The page cannot be served at {host}, port {port}: {reason}. {where}") from error


def read_ahead(api: Api) -> Thread:
    """Start a thread that reads all runs, so that the first page need not wait for them; return the thread."""

    def read() -> None:
        with suppress(OSError):
            api.workspace.store.begun_and_cancelled()
        gc.freeze()  # records stay: to look through 12,050 again and again takes 30 ms each time, during answers

    thread = Thread(target=read, name="rankviz-first-read", daemon=True)
    thread.start()
    return thread


STYLESHEETS = tuple(ASSETS / "css" / f"{name}.css" for name in ("tokens", "rankviz", "explore", "tabs"))
SCRIPTS = tuple(
    ASSETS / "js" / f"{name}.js"
    for name in ("newest", "files", "rankviz", "explore", "first", "hero", "present", "focus", "stays")
)
FIRST_STYLES = tuple(ASSETS / "css" / f"{name}.css" for name in ("tokens", "tables", "first"))
"""Linked stylesheets: for what scripts draw before Gradio adds the others, and one with rules that Gradio drops."""
PLOTLY_URL = f"/rankviz/plotly-{version('plotly')}.min.js"
FOR_GOOD = "public, max-age=31536000, immutable"
OPEN_PAGES = 1000
"""Maximum open pages with state on the server; lists of an older page return to their initial choices."""


def theme() -> gr.themes.Base:
    """Return Gradio's default theme with smaller spacing, a blue accent for the chosen rank, and Gradio's fonts."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        text_size="sm",
        spacing_size="sm",
        radius_size="sm",
        # Gradio 6.31 ships the semibold of both as a stub of a few letters, so bold is the second weight.
        font=(gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "Consolas", "monospace"),
    ).set(
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_label_background_fill="transparent",
        block_title_text_weight="600",
        block_title_text_size="13px",
        block_title_text_color="*body_text_color",
        block_info_text_size="12px",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        checkbox_label_padding="4px 8px",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        input_padding="6px 8px",
        form_gap_width="10px",
    )


def head(room: str = "") -> str:
    """Return tags that load our scripts, in order. plotly.js is preloaded but runs only for a figure. room: the page's
    URL for other machines in the network."""
    plotly = PLOTLY_URL.lstrip("/")
    data = {
        "files": {"plotly": plotly, "space": os.environ.get("SPACE_ID", ""), "room": room},
        "rankviz": {"plotly": plotly},
        "explore": {"fields": ",".join(DEFAULTS)},
        "first": {"figures": json.dumps(FIGURES)},
    }
    tags = [f'<link rel="stylesheet" href="{_url(path).lstrip("/")}">' for path in FIRST_STYLES]
    for weight in ("Regular", "Bold"):  # with its fonts from the start the page need not move when they come
        font = f"static/fonts/SourceSansPro/SourceSansPro-{weight}.woff2"
        tags.append(f'<link rel="preload" href="{font}" as="font" type="font/woff2" crossorigin>')
    for path in SCRIPTS:
        values = "".join(f' data-{name}="{escape(value)}"' for name, value in data.get(path.stem, {}).items())
        tags.append(f'<script defer src="{_url(path).lstrip("/")}"{values}></script>')
    tags.append(f'<link rel="preload" as="script" fetchpriority="low" href="{plotly}">')
    return "".join(tags)


def file_routes() -> list[Route]:
    """Return routes of scripts and styles. Browsers cache them forever: each address has a version or hash."""

    async def file(path: Path, request: Any) -> Response:
        kind = "text/css" if path.suffix == ".css" else "text/javascript"
        return FileResponse(path, media_type=kind, headers={"Cache-Control": FOR_GOOD})

    # Found without importing the package.
    plotly_js = Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js"
    files = {PLOTLY_URL: plotly_js} | {_url(path): path for path in (*FIRST_STYLES, *SCRIPTS)}
    return [Route(url, partial(file, path)) for url, path in files.items()]


def _url(path: Path) -> str:
    return f"/rankviz/{path.stem}-{sha256(path.read_bytes()).hexdigest()[:12]}{path.suffix}"


def launch_options(api: Api) -> dict[str, Any]:
    """Return launch options that send no data, store nothing in the browser and hide the text of unexpected errors."""
    host, port = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), settings.port()
    shared = api.workspace.shared
    visitors = visitors_of(api) if shared else None
    styles = "\n".join(path.read_text(encoding="utf-8") for path in STYLESHEETS)
    return {
        "server_name": host,
        "server_port": port,
        "theme": theme(),
        "css": re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", styles, flags=re.DOTALL)),
        "app_kwargs": {
            "lifespan": partial(with_checked_heads, server=host, given=api.workspace.settings.hosts, shared=shared),
            "openapi_url": None,  # Gradio describes the endpoints at an address of its own
            "exception_handlers": {RequestValidationError: unfit},
            "dependencies": [Depends(gate.readable)],
            "routes": [
                *file_routes(),
                *routes(api),
                Route(HEALTH, lambda request: JSONResponse(health(api), headers=NO_STORE), methods=["GET"]),
                *(identity_routes(visitors) if visitors else []),
            ],
            "middleware": [
                Middleware(answer_errors),
                *([Middleware(identify, visitors=visitors, log_out=api.engines.log_out)] if visitors else []),
                Middleware(check_request_body),
                Middleware(mcp_messages),
                Middleware(check_uploaded_files, workspace=api.workspace),
                Middleware(MadeOnce, tags=head(room_url(host, port) or "")),
            ],
        },
        "state_session_capacity": OPEN_PAGES,
        "footer_links": [],
        "run_history": False,
        "show_error": False,
        "enable_monitoring": False,
        "strict_cors": True,
        "ssr_mode": False,
        "pwa": False,
        "max_file_size": api.workspace.limits.upload_mb * 10**6,
        # Gradio would ask itself for the page, and give up where that takes 3 s, as on a machine that is busy at start.
        "_frontend": False,
    }


def health(api: Api) -> dict[str, Any]:
    """Return version, True where the runs folder is writable, and counts of all visitors' queued and running runs and
    probes; the counts are None while the folder is unread or unreadable."""
    queued = running = None
    if not api.workspace.store.reading:
        with suppress(OSError):
            states = Counter(record.state for record in api.workspace.store.records())
            queued, running = states[RunState.QUEUED], states[RunState.RUNNING]
    writable = not disk.trouble(api.workspace.home)
    return {"version": __version__, "home_writable": writable, "queued": queued, "running": running}


NO_STORE = {"Cache-Control": "no-store"}
FORM = html.markup("admin")
SIGN_IN = """<label>Token <input type="password" name="token" autocomplete="current-password" required></label>
<button>Sign in</button>"""
SIGN_OUT = '<input type="hidden" name="leave" value="yes"><button>Sign out</button>'


def identity_routes(visitors: Visitors) -> list[Route]:
    """Return the routes of a program's token, with which it acts as a visitor, and of the admin's sign-in."""

    async def token(request: Request) -> Response:
        if is_foreign(request.scope):
            return JSONResponse({"error": "Ask for it from a program."}, 403, NO_STORE)
        known = visitors.id_in(request.headers.get(HEADER, "")) or visitors.cookie_id(request.scope)
        answer = {"header": "X-RankViz-Visitor", "visitor": visitors.token(known or secrets.token_hex(16))}
        return JSONResponse(answer, headers=NO_STORE)

    async def door(request: Request) -> Response:
        """The page on which the admin signs in with the token, and signs out."""
        if request.method == "GET":
            return form("You are the admin." if visitor_of(request).admin else "", request)
        if is_foreign(request.scope):
            return form("Sign in from this page.", request, 403)
        try:
            fields = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=5)
        except ValueError:  # too many of them
            fields = {}
        proof, seconds, given = "", 0, fields.get("token", [""])[0]
        if not fields.get("leave"):
            if not hmac.compare_digest(given.encode(), visitors.admin_token.encode()):
                return form("This is not the token.", request, 403)
            proof, seconds = visitors.admin_proof(), ADMIN_SECONDS
        response = RedirectResponse("..", 303, NO_STORE)
        response.headers.append("set-cookie", cookie(request.scope, ADMIN_COOKIE, proof, seconds))
        return response

    def form(says: str, request: Request, status: int = 200) -> Response:
        fields = SIGN_OUT if visitor_of(request).admin else SIGN_IN
        headers = {**NO_STORE, "X-Frame-Options": "DENY"}
        return HTMLResponse(FORM.format(says=escape(says), fields=fields), status, headers)

    admin = [Route("/rankviz/admin", door, methods=["GET", "POST"])] if visitors.admin_token else []
    return [Route("/rankviz/visitor", token, methods=["GET"]), *admin]


def room_url(host: str, port: int) -> str | None:
    """Return the page's URL for other machines in the network; None for a loopback host; empty without a network, and
    inside a container, whose own address nobody else reaches."""
    if host in ("localhost", "::1") or host.startswith("127."):
        return None
    if host in ("", "0.0.0.0", "::"):
        host = ""
        if not Path("/.dockerenv").exists() and not Path("/run/.containerenv").exists():
            with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(("192.0.2.1", 9))  # an address that no machine has (RFC 5737); this sends nothing
                host = probe.getsockname()[0]
    return host and f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def announcement(host: str, port: int) -> list[str]:
    """Return lines for the terminal on a page that other machines can reach; empty for a loopback host."""
    if (url := room_url(host, port)) is None:
        return []
    url = url or f"the address of this machine (or of the host of this container), port {port}."
    return [
        f"Address in your network: {url}",
        "Warning: everyone in the network can use this page: read, start, cancel and delete runs, use this machine's "
        "access to the Hub, and open its files by their paths. Use it only in a network that you trust, or set "
        "RANKVIZ_SHARED=true, which gives each visitor limits. For another host name, set RANKVIZ_HOSTS.",
    ]
