"""Addresses of Gradio's as its own router reads them: what a request is for is decided once, here."""

from collections.abc import Mapping
from typing import Any

from starlette.routing import get_route_path

API = "/gradio_api/"
UPLOAD = f"{API}upload"
FILES = (f"{API}file=", f"{API}file/")
"""What follows is the path of a file that Gradio opens."""
ANSWERS = ("/rankviz/answer", "/rankviz/words", "/rankviz/compare")
"""Beside Gradio's own addresses: what the page's script asks."""
HEALTH = "/rankviz/health"
CLOSED = (
    "component_server",
    "custom_component/",
    "deep_link",
    "dev/",
    "heartbeat/",
    "process_recording",
    "profiling/",
    "proxy=",
    "run-history/",
    "stream/",
    "undo-vibe-edit",
    "vibe-",
)
"""What Gradio serves for components and modes that this page does not have."""
LOGIN = ("/login", "/login/")
"""Where the form of Gradio's own `auth` is sent; a login at Hugging Face has addresses below it."""
MONITORING = "/monitoring"


def address_of(scope: Mapping[str, Any]) -> str:
    """The path of a request, without the part that a proxy has put in front of it."""
    return get_route_path(scope)


def is_upload(scope: Mapping[str, Any]) -> bool:
    """Whether files come with it."""
    return scope["method"] == "POST" and address_of(scope) == UPLOAD


def is_closed(address: str, *, asks_login: bool = False) -> bool:
    """Whether it is of no use on this page. asks_login: whether Gradio asks for a name and a password."""
    if address in LOGIN:
        return not asks_login
    return address.startswith((MONITORING, *(API + name for name in CLOSED)))


def is_answer(address: str) -> bool:
    """Whether the page itself answers, to whom Gradio would let in."""
    return address in ANSWERS


def file_in(address: str) -> str | None:
    """The path of the file that Gradio opens for this address; None where it opens none."""
    return next((address.removeprefix(mark) for mark in FILES if address.startswith(mark)), None)
