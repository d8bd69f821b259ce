"""A Hub on this machine for child processes, which read its address from the environment: one that answers, and one
that never does."""

import mmap
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from tests.support.engines.hub_stand_in import Hub, Repository, hub_stand_in

COMMIT = "a" * 40


@contextmanager
def answering(monkeypatch: Any, **repositories: Path) -> Iterator[Hub]:
    """A Hub that has these folders as model repositories, a__b for a/b."""
    with hub_stand_in() as hub:
        for name, folder in repositories.items():
            files = {path.name: _content(path) for path in folder.iterdir() if path.is_file()}
            hub.repositories[f"models/{name.replace('__', '/')}"] = Repository(private=False, files=files, head=COMMIT)
        _use(monkeypatch, hub.url)
        yield hub


def _content(path: Path) -> bytes | mmap.mmap:
    """A file's bytes; those of a sparse file that is larger than memory are only mapped."""
    if path.stat().st_size < 2**30:
        return path.read_bytes()
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@contextmanager
def silent(monkeypatch: Any) -> Iterator[list[socket.socket]]:
    """A Hub that takes connections and never answers; yields the connections."""
    connections: list[socket.socket] = []
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)

    def take() -> None:
        with suppress(OSError):
            while True:
                connections.append(listening.accept()[0])

    threading.Thread(target=take, daemon=True).start()
    _use(monkeypatch, f"http://127.0.0.1:{listening.getsockname()[1]}")
    try:
        yield connections
    finally:
        listening.shutdown(socket.SHUT_RDWR)  # which ends the thread that waits for the next
        listening.close()
        for each in connections:
            each.close()


def _use(monkeypatch: Any, url: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
