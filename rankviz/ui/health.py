"""Serves /rankviz/health, for containers, proxies and monitors. It has counts, and nothing of anyone's runs."""

from collections import Counter
from contextlib import suppress
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.runs.record import RunState
from rankviz.machine import disk
from rankviz.ui.requests.addresses import HEALTH


class Health(TypedDict):
    """What the server says of itself. A count is None where the runs folder cannot be read, or is not read yet."""

    version: str
    home_writable: bool
    queued: int | None
    running: int | None


def routes(api: Api) -> list[Route]:
    def respond(request: Request) -> Response:
        return JSONResponse(health(api), headers={"Cache-Control": "no-store"})

    return [Route(HEALTH, respond, methods=["GET"])]


def health(api: Api) -> Health:
    """The health of the server that this page belongs to: runs and probes of all visitors are counted together."""
    home_writable = not disk.trouble(api.workspace.home)
    health = Health(version=__version__, home_writable=home_writable, queued=None, running=None)
    if api.workspace.store.reading:
        return health
    with suppress(OSError):
        states = Counter(record.state for record in api.workspace.store.records())
        health |= {"queued": states[RunState.QUEUED], "running": states[RunState.RUNNING]}
    return health
