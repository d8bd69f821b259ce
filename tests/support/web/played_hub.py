"""A Hub on this machine for child processes, which read its address from the environment: one that answers, one that
never does, and one whose answers drip."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from huggingface_hub import constants

COMMIT = "a" * 40


class PlayedHub:
    """What was asked of it, in order."""

    def __init__(self, repositories: Mapping[str, Path] | None = None):
        self.repositories = dict(repositories or {})
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _handler(hub) -> Any:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.asked.append(self.path)
                path = self.path.partition("?")[0].strip("/")
                if path.startswith("api/models/"):
                    owner, name = path.split("/")[2:4]
                    folder = hub.repositories.get(f"{owner}/{name}")
                    return self._answer(*hub._info(f"{owner}/{name}", folder) if folder else (404, b"{}"))
                owner, name, _, _, file = (*path.split("/"), *[""] * 5)[:5]
                folder = hub.repositories.get(f"{owner}/{name}")
                found = folder is not None and (folder / file).is_file()
                self._answer(*(200, (folder / file).read_bytes()) if found else (404, b""))

            do_HEAD = do_GET

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

    def _info(self, repo_id: str, folder: Path) -> tuple[int, bytes]:
        files = [{"rfilename": path.name, "size": path.stat().st_size} for path in folder.iterdir()]
        return 200, json.dumps({"id": repo_id, "sha": COMMIT, "siblings": files}).encode()


@contextmanager
def answering(monkeypatch: Any, **repositories: Path) -> Iterator[PlayedHub]:
    """A Hub that has these folders as repositories, a__b for a/b."""
    hub = PlayedHub({name.replace("__", "/"): folder for name, folder in repositories.items()})
    threading.Thread(target=hub.server.serve_forever, daemon=True).start()
    _use(monkeypatch, hub.url)
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()


@contextmanager
def silent(monkeypatch: Any, drip_seconds: float | None = None) -> Iterator[list[socket.socket]]:
    """A Hub that takes connections and never answers, or sends a byte of a header now and then; yields the
    connections."""
    connections: list[socket.socket] = []
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)

    def drip(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not over.is_set():
                connection.sendall(b"x")
                time.sleep(drip_seconds)

    def take() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connections.append(connection)
                if drip_seconds:
                    threading.Thread(target=drip, args=(connection,), daemon=True).start()

    threading.Thread(target=take, daemon=True).start()
    _use(monkeypatch, f"http://127.0.0.1:{listening.getsockname()[1]}")
    try:
        yield connections
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)  # which ends the thread that waits for the next
        listening.close()
        for each in connections:
            each.close()


def _use(monkeypatch: Any, url: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
