"""By which names the page answers, and to whose pages. Another site's page must not use it: neither one whose name was
bound to this machine's address, nor one that sends requests to it from the browser of somebody who may."""

import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from gradio.utils import get_space
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from rankviz.core.checks import shown
from rankviz.ui.visitors import is_foreign

LOOPBACK = "localhost"
HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::\d*)?")
ANOTHERS = (
    "Another site's page has sent this request, and this page answers its own alone. Where a proxy serves it, let that "
    "pass the header Host on with its port: in nginx, proxy_set_header Host $http_host."
)


def trusted(server: str, given: str) -> list[str]:
    """The names of this server, beside IP addresses, which cannot be bound to another machine.

    server: the name or address that it listens on.
    given: what RANKVIZ_HOSTS has.
    """
    own = socket.gethostname()
    short = own.partition(".")[0]
    public = [os.environ.get(variable, "") for variable in ("SPACE_HOST", "GRADIO_ROOT_PATH")]
    named = [each.strip() for each in ",".join((given, *public)).split(",")]
    whole = [each if "//" in each else f"//{each}" for each in (LOOPBACK, own, short, f"{short}.local", server, *named)]
    return [name for each in whole if (name := urlsplit(each).hostname)]


class Hosts(TrustedHostMiddleware):
    """ASGI middleware: answers 421 under a name that is not the server's, and 403 to another site's page, which a Space
    answers as nobody."""

    def __init__(self, app: Any, allowed_hosts: Sequence[str]) -> None:
        super().__init__(app, allowed_hosts, www_redirect=False)
        self._answers_others = get_space() is not None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            names = [headers.get("host", ""), headers.get("x-forwarded-host", LOOPBACK).partition(",")[0].strip()]
            if others := [name for name in names if not self._is_ours(name)]:
                text = (
                    f"This server has no name {shown(others[0])}. If it has, name it in RANKVIZ_HOSTS and start again."
                )
                return await PlainTextResponse(text, 421)(scope, receive, send)
            if not self._answers_others and is_foreign(scope):
                return await PlainTextResponse(ANOTHERS, 403)(scope, receive, send)
        await self.app(scope, receive, send)

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
