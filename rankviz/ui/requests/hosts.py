"""By which names the page answers, and to whose pages. Another site's page must not use it: neither one whose name was
bound to this machine's address, nor one that sends requests to it from the browser of somebody who may."""

import os
import re
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from gradio.utils import get_space
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from rankviz.core.bounds import shown
from rankviz.errors import InvalidSettingError
from rankviz.ui.head import is_page
from rankviz.ui.requests.addresses import HEALTH, address_of
from rankviz.ui.visitors import is_foreign

LOOPBACK = "localhost"
HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::\d*)?")
NAME = re.compile(r"\*|(\*\.)?[a-z0-9_.-]+|[0-9a-f:.]*")
"""Of a server: a name, any name below one, any at all, or an IP address; empty where only a path is given."""
ANOTHERS = (
    "Another site's page has sent this request, and this page answers its own alone. Where a proxy serves it, let that "
    "pass the header Host on with its port: in nginx, proxy_set_header Host $http_host."
)


def trusted(server: str, given: str) -> list[str]:
    """The names of this server, beside IP addresses, which cannot be bound to another machine.

    server: the name or address that it listens on.
    given: what RANKVIZ_HOSTS has.
    """
    own = socket.gethostname().lower()
    short = own.partition(".")[0]
    public = [os.environ.get(variable, "") for variable in ("SPACE_HOST", "GRADIO_ROOT_PATH")]
    return [LOOPBACK, f"*.{LOOPBACK}", own, short, f"{short}.local", *_names(",".join((server, given, *public)))]


def _names(given: str) -> list[str]:
    """Host names as browsers send them. Each may have a scheme, a port and a path around it; a path has none."""
    names = []
    for each in given.split(","):
        text = each.strip()
        try:
            host = urlsplit(text if "//" in text else f"//{text}").hostname or ""
            name = host.rstrip(".").encode("idna").decode()
        except ValueError:
            name = "?"
        if not NAME.fullmatch(name):
            raise InvalidSettingError(
                f"No host has the name {text!r}. Correct it in --host, GRADIO_SERVER_NAME, RANKVIZ_HOSTS or "
                "GRADIO_ROOT_PATH."
            )
        names += [name] if name else []
    return names


class Hosts(TrustedHostMiddleware):
    """ASGI middleware: answers 421 under a name that is not the server's, and 403 to another site's page, which a
    shared Space answers as nobody. Only sites of RANKVIZ_HOSTS show the page in a frame, and the Hub a Space.

    Args:
        server: The name or address that it listens on.
        given: What RANKVIZ_HOSTS has.
        shared: Whether strangers use the page.
    """

    def __init__(self, app: Any, server: str, given: str, shared: bool) -> None:
        super().__init__(app, trusted(server, given), www_redirect=False)
        on_space = get_space() is not None
        self._answers_others = on_space and shared
        sites = [*(f"{name}:*" for name in _names(given)), *(["https://huggingface.co"] if on_space else [])]
        self._policy = "" if self._answers_others or self.allow_any else " ".join(("frame-ancestors 'self'", *sites))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            names = [headers.get("host", ""), headers.get("x-forwarded-host", LOOPBACK).partition(",")[0].strip()]
            others = [name for name in names if not self._is_ours(name)]
            if others and address_of(scope) != HEALTH:
                text = (
                    f"This server has no name {shown(others[0])}. If it has, name it in RANKVIZ_HOSTS and start again."
                )
                return await PlainTextResponse(text, 421)(scope, receive, send)
            if not self._answers_others and is_foreign(scope):
                return await PlainTextResponse(ANOTHERS, 403)(scope, receive, send)
        await self.app(scope, receive, self._framed(send) if self._policy and is_page(scope) else send)

    def _framed(self, send: Any) -> Any:
        async def write(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("content-security-policy", self._policy)
            await send(message)

        return write

    def _is_ours(self, host: str) -> bool:
        match = HOST.fullmatch(host)
        if match is None:
            return self.allow_any
        name = (match["v6"] or match["name"]).lower().rstrip(".")
        with suppress(ValueError):
            ip_address(name)
            return True
        return self.allow_any or any(
            name == each or (each.startswith("*") and name.endswith(each[1:])) for each in self.allowed_hosts
        )
