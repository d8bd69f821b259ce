"""The app in a process of its own, and its page in the test's own."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankviz.api import Api
from rankviz.ui.serve import launch_options
from tests.support.web.ports import free_port

ROOT = Path(__file__).parents[3]
START_SECONDS = 120


@contextmanager
def serving(
    home: Path, environment: Mapping[str, str] | None = None, python: str | Path = sys.executable
) -> Iterator[str]:
    """`python app.py` on this folder of runs; yields where it answers. What it prints is in app.log there.

    environment: beside the usual variables.
    """
    port = free_port()
    usual = {**os.environ, "GRADIO_SERVER_PORT": str(port), "RANKVIZ_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    log = (home / "app.log").open("w")
    app = subprocess.Popen([python, "app.py"], cwd=ROOT, env={**usual, **(environment or {})}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        answers(url, app, home / "app.log")
        yield url
    finally:
        app.terminate()
        app.wait(120)


@contextmanager
def launched(page: Any, api: Api) -> Iterator[tuple[Any, str]]:
    """The page served in this process; yields what serves it, and where it answers."""
    options = {**launch_options(api), "server_name": "127.0.0.1", "server_port": free_port()}
    page.api_open = False
    try:
        app, address, _ = page.launch(prevent_thread_lock=True, quiet=True, inbrowser=False, **options)
        yield app, address
    finally:
        page.close()


def answers(url: str, app: subprocess.Popen, log: Path) -> None:
    """Wait until it does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"app.py did not answer: {log.read_text()[-2000:]}")
