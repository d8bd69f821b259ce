"""Uploads of a shared page: whose each is, how many and how large, and that nobody reads another's."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from rankviz import units
from rankviz.api.workspace import Workspace
from rankviz.errors import LimitError, StorageError
from rankviz.ui.visitors import visitor_of_scope
from rankviz.visitor import Visitor

UPLOAD = "/gradio_api/upload"
FILES = ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/")
FORM_BYTES = 100_000
"""Of an upload's request beside the file."""


class Refused(Exception):
    def __init__(self, status: int, message: str):
        self.status, self.message = status, message


class Uploads:
    """ASGI middleware around Gradio's own addresses of files. Behind the one that says who sent a request."""

    def __init__(self, app: Any, workspace: Workspace):
        self.app = app
        self._workspace = workspace
        self._changing = threading.Lock()
        self._files: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(UPLOAD):
                return await self._upload(scope, receive, send)
            if scope["type"] == "http" and (path := _file_in(scope["path"])):
                await run_in_threadpool(self._require_own, Path(path), visitor_of_scope(scope))
        except Refused as refused:
            return await PlainTextResponse(refused.message, refused.status)(scope, receive, send)
        await self.app(scope, receive, send)

    def _require_own(self, path: Path, visitor: Visitor) -> None:
        """As if there were no such file, where it is another's. The address of a download is known to one alone."""
        temp = self._workspace.temp
        try:
            allowed = not temp.is_of_page(path) or temp.is_download(path) or temp.owns(path, visitor)
        except (OSError, ValueError):  # no path at all
            allowed = False
        if not allowed:
            raise Refused(403, "This file is not here, or it is another visitor's.")

    async def _upload(self, scope: Any, receive: Any, send: Any) -> None:
        visitor_id = visitor_of_scope(scope).id
        length = _length(scope, otherwise=self._workspace.limits.upload_mb * 10**6)
        await run_in_threadpool(self._admit, visitor_id, length)
        try:
            # Its answer is read here, so it comes as it is.
            headers = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
            with self._workspace.writing():
                await self.app({**scope, "headers": headers}, receive, self._recorded(visitor_id, send))
        except StorageError as error:
            raise Refused(507, str(error)) from None
        finally:
            with self._changing:
                self._files[visitor_id] -= 1
                self._bytes[visitor_id] -= length
                self._files, self._bytes = +self._files, +self._bytes

    def _admit(self, visitor_id: str, length: int) -> None:
        """Refused where the limits leave no room, uploads that still go on among them."""
        limits, temp = self._workspace.limits, self._workspace.temp
        if not visitor_id:
            raise Refused(403, "Uploads need this page's cookie. Allow cookies for this page, and reload it.")
        if length > limits.upload_mb * 10**6 + FORM_BYTES:
            raise Refused(
                413, f"The file has {units.file_size(length)}, and this server takes at most {limits.upload_mb:,} MB."
            )
        if why := self._workspace.why_not_write():  # else nobody could say later whose the file is
            raise Refused(507, why)
        try:
            temp.require_room(limits.temp_mb)
        except LimitError as error:
            raise Refused(413, str(error)) from None
        kept = f"Your uploads are removed after {units.counted(self._workspace.settings.temp_hours, 'hour')}."
        with self._changing:
            usage = temp.usage(visitor_id)
            files, size = usage.files + self._files[visitor_id], usage.size_bytes + self._bytes[visitor_id]
            most, most_mb = limits.uploads_per_visitor, limits.uploads_mb_per_visitor
            if most is not None and files >= most:
                raise Refused(429, f"This server keeps at most {most:,} uploads of a visitor. {kept}")
            if most_mb is not None and size + length > most_mb * 10**6:
                raise Refused(413, f"This server keeps at most {most_mb:,} MB of a visitor's uploads. {kept}")
            self._files[visitor_id] += 1
            self._bytes[visitor_id] += length

    def _recorded(self, visitor_id: str, send: Any) -> Any:
        """Sends the answer once it is written down whose the files are."""
        messages = []

        async def write(message: Any) -> None:
            messages.append(message)
            if message["type"] != "http.response.body" or message.get("more_body"):
                return
            if messages[0]["status"] == 200:
                paths = json.loads(b"".join(part.get("body", b"") for part in messages[1:]))
                await run_in_threadpool(self._own, [Path(path) for path in paths], visitor_id)
            for each in messages:
                await send(each)

        return write

    def _own(self, paths: Sequence[Path], visitor_id: str) -> None:
        """Where that cannot be written down, nothing stays: what is nobody's counts for nobody."""
        try:
            for path in paths:
                self._workspace.temp.own(path, visitor_id)
        except OSError:
            for path in paths:
                path.unlink(missing_ok=True)
            raise


def _file_in(path: str) -> str:
    """The file that an address of Gradio's is of; empty for any other address."""
    return next((path.partition(mark)[2] for mark in FILES if mark in path), "")


def _length(scope: Any, otherwise: int) -> int:
    """Of the request's body; as much as may come where it does not say."""
    given = Headers(scope=scope).get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else otherwise
