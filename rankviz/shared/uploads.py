"""Uploads: limits on number and size while files arrive, and the owner of each file on a shared page."""

import json
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.routing import get_route_path

from rankviz.api.workspace import Workspace
from rankviz.errors import InvalidSettingError, LimitError, StorageError
from rankviz.machine import disk
from rankviz.shared.gate import FILES, is_upload
from rankviz.shared.identity import MARK, middleware
from rankviz.shared.quota import Held
from rankviz.visitor import HOST, NOBODY, Visitor, acting_as

STEP_BYTES = 4_000_000
"""Bytes that are reserved at a time, so that the visitor's files are not counted again for every packet."""


class Refused(MultiPartException):
    """Raised for an upload that is refused. Gradio treats it as a parser error and removes the partial files."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def _no_upload(why: str) -> Refused:
    return Refused(400, f"This is no upload as browsers send it: {why}")


class Arriving:
    """One upload while it arrives; refused where the visitor, the server or the disk has no room for it. Only bytes
    that have arrived are reserved: a sender who announces much and sends nothing must not block others."""

    def __init__(self, workspace: Workspace, visitor: Visitor, headers: Headers):
        self.refused: Refused | None = None
        self._workspace, self.held = workspace, Held(visitor, is_upload=True)
        self._bytes = self._files = 0
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        kind, options = parse_options_header(headers.get("content-type"))
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise _no_upload("it has no parts.")
        if options.get(b"charset", b"utf-8").lower() != b"utf-8":  # in which Gradio reads the names of parts
            raise _no_upload("its charset is not UTF-8.")
        callbacks = {
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
        }
        try:
            self._parser = MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:
            raise _no_upload(str(error)) from None

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        """Refuse a part that is no file, which Gradio would keep in memory, and a file that would have no owner."""
        options, self._disposition = parse_options_header(self._disposition)[1], b""
        self._files += 1
        if b"filename" not in options:
            raise _no_upload("a part of it is no file.")
        if options.get(b"name") != b"files":
            raise _no_upload('a file of it is not named "files".')

    async def begin(self, length: str) -> None:
        """Refuse the upload before any byte is read if its announced length is too large."""
        if length and len(length) < 20:
            await self.hold(int(length))
            self._workspace.room.release(self.held)

    async def hold(self, size: float, files: int = 0, up_to: int = 0) -> None:
        """Reserve bytes and files; raise Refused where there is no room for them."""
        try:
            await run_in_threadpool(self._workspace.room.hold, self.held, size, up_to=up_to, files=files)
        except LimitError as error:
            raise Refused(413, str(error)) from None

    def counting(self, receive: Any) -> Any:
        """Return a `receive` that counts bytes and files, and raises Refused once a limit is exceeded."""
        is_whole = False

        async def counted() -> Any:
            nonlocal is_whole
            message = await receive()
            if is_whole:
                return message
            try:
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The upload was given up.")
                self._bytes += len(data := message.get("body", b""))
                self._parser.write(data)
                if disk.is_full(self._workspace.temp.page):
                    raise Refused(507, self._workspace.of_disk(disk.FULL_SENTENCE))
                more_bytes, more_files = max(0, self._bytes - self.held.size_bytes), self._files - self.held.files
                if more_bytes or more_files:
                    await self.hold(more_bytes, more_files, STEP_BYTES if more_bytes else 0)
                is_whole = not message.get("more_body", False)
                if is_whole and self._parser.state != MultipartState.END:
                    raise _no_upload("its end is missing.")
            except (Refused, FormParserError) as error:
                self.refused = error if isinstance(error, Refused) else _no_upload(str(error))
                raise self.refused from None
            return message

        return counted


@middleware
async def check_uploaded_files(app: Any, scope: Any, receive: Any, send: Any, *, workspace: Workspace) -> None:
    """Answer uploads and requests for a file only where the visitor may send or read it; after `identify`."""
    visitor = scope.get(MARK, NOBODY) if workspace.shared else HOST
    try:
        if scope["type"] == "http" and is_upload(scope):
            return await _upload(app, scope, receive, send, workspace, visitor)
        address = get_route_path(scope) if scope["type"] == "http" and workspace.shared else ""
        for mark in FILES:
            if address.startswith(mark):
                await run_in_threadpool(_require_own, workspace, Path(address.removeprefix(mark)), visitor)
    except Refused as refused:
        return await PlainTextResponse(refused.message, refused.status)(scope, receive, send)
    except (StorageError, InvalidSettingError) as error:
        return await PlainTextResponse(str(error), 507 if isinstance(error, StorageError) else 403)(
            scope, receive, send
        )
    await app(scope, receive, send)


def _require_own(workspace: Workspace, path: Path, visitor: Visitor) -> None:
    """Raise Refused for another visitor's upload, as if it did not exist. Downloads pass: only their visitor knows
    the address. A path with ".." is refused, as a linked folder gives it two meanings."""
    temp = workspace.temp
    try:
        plain = path.is_absolute() and ".." not in path.parts
        allowed = plain and temp.is_of_page(path) and (temp.is_download(path) or temp.owns(path, visitor))
    except (OSError, ValueError):  # no path at all
        allowed = False
    if not allowed:
        raise Refused(403, "This file is not here, or it is another visitor's.")


async def _upload(app: Any, scope: Any, receive: Any, send: Any, workspace: Workspace, visitor: Visitor) -> None:
    """Handle an upload; the answer is sent only after the owner of the files is recorded."""
    shared, answer = workspace.shared, []
    if shared and (why := workspace.why_not_write()):
        raise StorageError(why)
    if shared:
        with acting_as(visitor):
            workspace.rights.somebody()

    async def keep(message: Any) -> None:
        answer.append(message)

    # The answer is read here, so it comes as it is.
    headers = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
    arriving = Arriving(workspace, visitor, Headers(scope=scope))
    try:
        await arriving.begin(Headers(scope=scope).get("content-length", ""))
        with workspace.writing():
            await app({**scope, "headers": headers}, arriving.counting(receive), keep)
            if arriving.refused:
                raise arriving.refused
            if answer[0]["status"] == 413:  # Gradio's max_file_size
                most_mb = workspace.limits.upload_mb
                raise Refused(413, f"A file is too large: this server takes at most {most_mb:,} MB of one file.")
            if shared and answer[0]["status"] == 200:
                paths = json.loads(b"".join(part.get("body", b"") for part in answer[1:]))
                await run_in_threadpool(_own, workspace, [Path(path) for path in paths], visitor.id)
    finally:
        workspace.room.release(arriving.held)
    for each in answer:
        await send(each)


def _own(workspace: Workspace, paths: list[Path], visitor_id: str) -> None:
    """Record the owner of these files; delete them if that fails, as they would count for no visitor."""
    try:
        for path in paths:
            workspace.temp.own(path, visitor_id)
    except OSError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
