"""What a process asks of other servers: a proxy on loopback that notes each request and answers none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@contextmanager
def outside() -> Iterator[tuple[dict[str, str], list[bytes]]]:
    """Yields the environment of a process that asks this proxy, and the first lines of what it was asked."""
    requests: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)

    def note() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                requests.append(connection.recv(1000).partition(b"\r\n")[0])

    threading.Thread(target=note, daemon=True).start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield {**dict.fromkeys(PROXIES, address), "NO_PROXY": "127.0.0.1,localhost"}, requests
    finally:
        listening.close()
