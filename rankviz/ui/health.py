"""Serves /rankviz/health, for containers, proxies and monitors. It has counts, and nothing of anyone's runs."""

import os
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rankviz import __version__
from rankviz.api import Api
from rankviz.core.runs.record import RunState


class Health(TypedDict):
    """What the server says of itself. A count is None where the runs folder cannot be read, or is not read yet."""

    version: str
    home_writable: bool
    queued: int | None
    running: int | None


def routes(api: Api) -> list[Route]:
    def respond(request: Request) -> Response:
        return JSONResponse(health(api), headers={"Cache-Control": "no-store"})

    return [Route("/rankviz/health", respond, methods=["GET"])]


def health(api: Api) -> Health:
    """The health of the server that this page belongs to: runs and probes of all visitors are counted together."""
    home = Path(api.workspace.home)
    health = Health(version=__version__, home_writable=writable(home), queued=None, running=None)
    if api.workspace.store.reading:
        return health
    with suppress(OSError):
        states = Counter(record.state for record in api.workspace.store.records())
        health |= {"queued": states[RunState.QUEUED], "running": states[RunState.RUNNING]}
    return health


def writable(folder: Path) -> bool:
    """Whether files can be written in this folder, or the folder be made: it has the rights, and space is left."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is None or not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return False
    return shutil.disk_usage(there).free > 0
