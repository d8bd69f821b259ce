"""The app in a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


@contextmanager
def serving(
    home: Path, environment: Mapping[str, str] | None = None, python: str | Path = sys.executable
) -> Iterator[str]:
    """`python app.py` on this folder of runs; yields where it answers. What it prints is in app.log there.

    environment: beside the usual variables.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    usual = {**os.environ, "GRADIO_SERVER_PORT": str(port), "RANKVIZ_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    log = (home / "app.log").open("w")
    app = subprocess.Popen([python, "app.py"], cwd=ROOT, env={**usual, **(environment or {})}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, app)
        yield url
    finally:
        app.terminate()
        app.wait(20)


def _wait_for(url: str, app: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("app.py did not answer")
