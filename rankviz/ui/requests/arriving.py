"""An upload as it comes in: every part of it is counted before it is passed on to Gradio, which writes it."""

import time
from typing import Any

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException

from rankviz import units
from rankviz.api.workspace import Workspace
from rankviz.errors import LimitError
from rankviz.machine import disk
from rankviz.visitor import Visitor

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
