"""Uploads: counted as they come in, how many and how large, and whose each is on a shared page."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from gradio import routes
from gradio.route_utils import FileUploadProgressTracker
from gradio.utils import LRUCache
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse

from rankviz import units
from rankviz.api.workspace import Workspace
from rankviz.errors import LimitError, StorageError
from rankviz.machine import disk
from rankviz.ui.requests.addresses import address_of, file_in, is_upload
from rankviz.ui.visitors import visitor_of_scope
from rankviz.visitor import HOST, Visitor

STEP_BYTES = 4_000_000
"""What is held at once, so that the files that are there are not counted again for every packet."""


PATIENCE_SECONDS = 60.0
PACE_BYTES = 50_000
"""A second, beyond that patience, or an upload that never ends would keep its room."""


class Refused(MultiPartException):
    """Gradio takes one that it meets while it reads an upload for its own, and removes what it has written of it."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Arriving:
    """One upload. Refused where the visitor or the server has no room for it, or the disk has none."""

    def __init__(self, workspace: Workspace, visitor: Visitor, scope: Any):
        self.refused: Refused | None = None
        self._workspace, self._visitor = workspace, visitor
        self._length = _length(Headers(scope=scope))
        self._most_bytes = workspace.limits.upload_mb * 10**6
        self._parser = self._parser_of(Headers(scope=scope))
        self._whole = False
        self._began = time.monotonic()
        self._bytes = self._files = self._file_bytes = 0
        self._held_bytes = self._held_files = 0
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""

    async def begin(self) -> None:
        """Refuse it before anything comes where it says that it is too long. Room is held for what has come alone: else
        whoever announces much and sends nothing would keep others out."""
        await run_in_threadpool(self._hold, self._length, 0, 0)
        self.end()

    def end(self) -> None:
        """Its files are there, or nothing of it is."""
        self._workspace.room.release_upload(self._visitor, self._held_bytes, self._held_files)
        self._held_bytes = self._held_files = 0

    def counting(self, receive: Any) -> Any:
        """The same as `receive`, until too much comes."""

        async def counted() -> Any:
            if self._whole:
                return await receive()
            try:
                message = await self._next(receive)
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The upload was given up.")
                await self._count(message.get("body", b""))
                self._whole = not message.get("more_body", False)
                if self._whole and self._parser.state != MultipartState.END:
                    raise _no_upload("its end is missing.")
            except Refused as refused:
                self.refused = refused
                raise
            return message

        return counted

    async def _next(self, receive: Any) -> Any:
        """Where a part comes in time. Of one's own machine, whenever it comes."""
        if not self._workspace.shared:
            return await receive()
        with anyio.move_on_after(self._began + PATIENCE_SECONDS + self._bytes / PACE_BYTES - time.monotonic()):
            return await receive()
        pace = units.file_size(PACE_BYTES)
        raise Refused(408, f"The upload came too slowly: this server waits for {pace} a second. Send a smaller file.")

    async def _count(self, data: bytes) -> None:
        self._bytes += len(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _no_upload(str(error)) from None
        if disk.is_full(self._workspace.temp.page):
            raise Refused(507, self._workspace.of_disk(disk.FULL_SENTENCE))
        more_bytes, more_files = max(0, self._bytes - self._held_bytes), self._files - self._held_files
        if more_bytes or more_files:
            await run_in_threadpool(self._hold, more_bytes, more_files, STEP_BYTES if more_bytes else 0)

    def _hold(self, size: int, files: int, up_to: int) -> None:
        room = self._workspace.room
        try:
            self._held_bytes += room.hold_upload(self._visitor, size, up_to=up_to, files=files)
        except LimitError as error:
            raise Refused(413, str(error)) from None
        self._held_files += files

    def _parser_of(self, headers: Headers) -> MultipartParser:
        kind, options = parse_options_header(headers.get("content-type"))
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise _no_upload("it has no parts.")
        if options.get(b"charset", b"utf-8").lower() != b"utf-8":  # in which Gradio reads the names of parts
            raise _no_upload("its charset is not UTF-8.")
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_to_name,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._count_part,
        }
        try:
            return MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:
            raise _no_upload(str(error)) from None

    def _begin_part(self) -> None:
        self._files += 1
        self._file_bytes = 0
        self._disposition = b""

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._name.extend(data[start:end])

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value.extend(data[start:end])

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        """Gradio keeps a part that is no file in memory, and reads none; a file of another name it leaves to nobody."""
        options = parse_options_header(self._disposition)[1]
        if b"filename" not in options:
            raise _no_upload("a part of it is no file.")
        if options.get(b"name") != b"files":
            raise _no_upload('a file of it is not named "files".')

    def _count_part(self, data: bytes, start: int, end: int) -> None:
        self._file_bytes += end - start
        if self._file_bytes > self._most_bytes:
            most_mb = self._workspace.limits.upload_mb
            raise Refused(413, f"A file is too large: this server takes at most {most_mb:,} MB of one file.")


def _no_upload(why: str) -> Refused:
    return Refused(400, f"This is no upload as browsers send it: {why}")


def _length(headers: Headers) -> int:
    """Of the body; 0 where it is not said."""
    given = headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else 0


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


MOST = 1000
"""Uploads, the newest; of an older one that is still coming, a browser is told less."""


class Signals(LRUCache[str, asyncio.Event]):
    """Whether an upload of this name has begun."""

    def __missing__(self, name: str) -> asyncio.Event:
        self[name] = signal = asyncio.Event()
        return signal


def bound(most: int = MOST) -> None:
    """For all servers of this process."""
    kept: LRUCache[str, FileUploadProgressTracker] = LRUCache(most)
    routes.file_upload_statuses._statuses = kept
    routes.file_upload_statuses._signals = Signals(most)
