"""Defines how the page looks, and serves its script, stylesheet and plotly.js from its own host."""

import json
import os
import re
from functools import partial
from hashlib import sha256
from html import escape
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from rankviz import settings
from rankviz.api import Api
from rankviz.paths import ASSETS
from rankviz.shared import gate
from rankviz.shared.gate import answer_errors, check_request_body, unfit, with_checked_heads
from rankviz.shared.identity import identify, visitors_of
from rankviz.shared.page_cache import MadeOnce
from rankviz.shared.uploads import check_uploaded_files
from rankviz.ui import addresses
from rankviz.ui.explore.answer import FIGURES, routes
from rankviz.ui.explore.compare import compare
from rankviz.ui.link import DEFAULTS
from rankviz.ui.mcp import mcp_messages

STYLESHEETS = tuple(ASSETS / "css" / f"{name}.css" for name in ("tokens", "rankviz", "explore", "tabs"))
SCRIPTS = tuple(
    ASSETS / "js" / f"{name}.js"
    for name in ("newest", "files", "rankviz", "explore", "first", "hero", "present", "focus", "stays")
)
FIRST_STYLES = tuple(ASSETS / "css" / f"{name}.css" for name in ("tokens", "tables", "first"))
"""Linked stylesheets: for what scripts draw before Gradio adds the others, and one with rules that Gradio drops."""
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
    plotly = _plotly_url().lstrip("/")
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
    files = {_plotly_url(): plotly_js} | {_url(path): path for path in (*FIRST_STYLES, *SCRIPTS)}
    return [Route(url, partial(file, path)) for url, path in files.items()]


def _plotly_url() -> str:
    return f"/rankviz/plotly-{version('plotly')}.min.js"


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
                *routes(api, compare=compare),
                *addresses.health_routes(api),
                *(addresses.identity_routes(visitors) if visitors else []),
            ],
            "middleware": [
                Middleware(answer_errors),
                *([Middleware(identify, visitors=visitors, log_out=api.engines.log_out)] if visitors else []),
                Middleware(check_request_body),
                Middleware(mcp_messages),
                Middleware(check_uploaded_files, workspace=api.workspace),
                Middleware(MadeOnce, tags=head(addresses.room_url(host, port))),
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
