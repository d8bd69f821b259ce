"""Uploads: how many and how large, whose each is on a shared page, and that nobody reads another's there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse

from rankviz.api.workspace import Workspace
from rankviz.errors import StorageError
from rankviz.ui.requests.addresses import address_of, file_in, is_upload
from rankviz.ui.requests.arriving import Arriving, Refused
from rankviz.ui.visitors import visitor_of_scope
from rankviz.visitor import HOST, Visitor

NOBODYS = (
    "Uploads need this page's cookie. Allow cookies for this page, and reload it; a program sends the header "
    "X-RankViz-Visitor, whose value it gets from /rankviz/visitor; that of a login ends with it."
)


class Uploads:
    """ASGI middleware around Gradio's own addresses of files. Behind the one that says who sent a request."""

    def __init__(self, app: Any, workspace: Workspace):
        self.app = app
        self._workspace = workspace

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            if scope["type"] == "http" and is_upload(scope):
                return await self._upload(scope, receive, send)
            if scope["type"] == "http" and self._workspace.shared:
                path = file_in(address_of(scope))
                if path is not None:
                    await run_in_threadpool(self._require_own, Path(path), visitor_of_scope(scope))
        except Refused as refused:
            return await PlainTextResponse(refused.message, refused.status)(scope, receive, send)
        await self.app(scope, receive, send)

    def _require_own(self, path: Path, visitor: Visitor) -> None:
        """As if there were no such file, where it is another's. The address of a download is known to one alone.

        A path with ".." is another one to who follows links than to who does not: only plain ones are opened."""
        temp = self._workspace.temp
        try:
            plain = path.is_absolute() and ".." not in path.parts
            allowed = plain and temp.is_of_page(path) and (temp.is_download(path) or temp.owns(path, visitor))
        except (OSError, ValueError):  # no path at all
            allowed = False
        if not allowed:
            raise Refused(403, "This file is not here, or it is another visitor's.")

    async def _upload(self, scope: Any, receive: Any, send: Any) -> None:
        """Its answer is sent once it is written down whose the files are."""
        visitor = visitor_of_scope(scope) if self._workspace.shared else HOST
        if self._workspace.shared and not visitor.id:
            raise Refused(403, NOBODYS)
        if self._workspace.shared:
            why = self._workspace.why_not_write() or self._workspace.rights.why_unknown_later()
            if why:  # then it would be nobody's
                raise Refused(507, why)
        answer = []

        async def keep(message: Any) -> None:
            answer.append(message)

        # The answer is read here, so it comes as it is.
        headers = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
        arriving = Arriving(self._workspace, visitor, scope)
        try:
            await arriving.begin()
            with self._workspace.writing():
                await self.app({**scope, "headers": headers}, arriving.counting(receive), keep)
                if arriving.refused:
                    raise arriving.refused
                if self._workspace.shared and answer[0]["status"] == 200:
                    paths = json.loads(b"".join(part.get("body", b"") for part in answer[1:]))
                    await run_in_threadpool(self._own, [Path(path) for path in paths], visitor.id)
        except StorageError as error:
            raise Refused(507, str(error)) from None
        finally:
            arriving.end()
        for each in answer:
            await send(each)

    def _own(self, paths: Sequence[Path], visitor_id: str) -> None:
        """Where that cannot be written down, nothing stays: what is nobody's counts for nobody."""
        try:
            for path in paths:
                self._workspace.temp.own(path, visitor_id)
        except OSError:
            for path in paths:
                path.unlink(missing_ok=True)
            raise
