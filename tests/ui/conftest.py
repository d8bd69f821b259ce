"""One real app in its own process, with its own runs folder, and one browser for all tests of the page."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 120
WAIT_MILLISECONDS = 60_000
"""Far more than a page needs: another test may have the machine to itself meanwhile."""


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Where `python app.py` answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "RANKVIZ_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    log = (home / "app.log").open("w")
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, app)
        yield url
    finally:
        app.terminate()
        app.wait(20)


def _wait_for(url, app):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.poll() is None:
        try:
            return urllib.request.urlopen(url, timeout=5)
        except OSError:
            time.sleep(0.2)
    raise AssertionError("app.py did not answer")


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser, address):
    """One cache for all pages, so that scripts and fonts are loaded and compiled once."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=address)
    context.set_default_timeout(WAIT_MILLISECONDS)
    yield context
    context.close()


@pytest.fixture
def page(context):
    """A wide page that fails the test if the browser console says error."""
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert [] == errors
