"""HTTP servers on loopback that stand in for others."""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Answering(BaseHTTPRequestHandler):
    """Answers each request by `answer`, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def answer(self) -> None:
        raise NotImplementedError

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Bytes and texts as they are, anything else as JSON."""
        kind = {} if isinstance(content, bytes) else {"Content-Type": "application/json"}
        text = content if isinstance(content, bytes | str) else json.dumps(content)
        data = text.encode() if isinstance(text, str) else text
        with suppress(OSError):  # a client that has gone is no news
            self.send_response(status)
            for name, value in {**kind, **(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)


class Loopback(ThreadingHTTPServer):
    """A running server of this handler, with further class attributes of it."""

    daemon_threads = True

    def __init__(self, handler: type[Answering], **attributes: Any):
        super().__init__(("127.0.0.1", 0), type("Handler", (handler,), attributes))
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
