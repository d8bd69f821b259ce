"""One shared app in a process of its own, and strangers who do to it what others did, over HTTP.

RANKVIZ_ATTACK_REPORT names a file that each attack's figures are added to.
"""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.support.stranger import Stranger

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
ADMIN_TOKEN = "an-admin-token-of-this-test"
GRACE_BYTES = 700 * 10**6
"""What the app itself may grow by during one attack; its children have bounds of their own."""


class Space:
    """A running app that strangers share."""

    def __init__(self, folder, **environment):
        self.home, self.temp, self.log = folder / "home", folder / "temp", folder / "app.log"
        for each in (self.home, self.temp):
            each.mkdir()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        # Nothing is trained here: with its lock held the app queues sweeps and starts none.
        self.queue = FileLock(self.home / "supervisor.lock")
        self.queue.acquire()
        own = {"SPACE_ID": "somebody/rankviz", "RANKVIZ_SHARED": "1", "RANKVIZ_ADMIN_TOKEN": ADMIN_TOKEN}
        place = {"GRADIO_SERVER_PORT": str(port), "RANKVIZ_HOME": str(self.home), "TMPDIR": str(self.temp)}
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **own, **place, **environment}
        self.process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=environment,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()
        self.rss = psutil.Process(self.process.pid)

    def _wait(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return urllib.request.urlopen(self.url, timeout=5)
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"app.py did not answer: {self.log.read_text()[-2000:]}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="session")
def space(tmp_path_factory):
    space = Space(tmp_path_factory.mktemp("space"))
    yield space
    space.stop()


@pytest.fixture
def ann(space):
    """Who attacks."""
    stranger = Stranger(space.url)
    yield stranger
    stranger.close()


@pytest.fixture
def ben(space):
    """Who only wants to use the page."""
    stranger = Stranger(space.url)
    yield stranger
    stranger.close()


@pytest.fixture
def during(space, ben, request):
    """during(attack): what the attack returns. Meanwhile another visitor is answered again and again, and afterwards
    the page loads for them, on every tab; the app has logged no traceback and has not grown without bound."""

    def run(attack):
        before, logged = space.rss.memory_info().rss, len(space.log.read_text())
        waits, failed, over = [], [], threading.Event()

        def ask():
            ranks = iter(range(1, 10**6))
            while not over.is_set() or len(waits) < 3:
                start = time.perf_counter()
                reply = ben.ask(model="Qwen/Qwen3-4B", r=next(ranks) % 250 + 1)
                waits.append(time.perf_counter() - start)
                if reply.status_code != 200 or "records" not in reply.json():
                    failed.append(reply.text[:300])
                time.sleep(0.05)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            result = attack()
        finally:
            over.set()
            asking.join()
        grown = space.rss.memory_info().rss - before
        _report(request.node.name, len(waits), max(waits), grown)
        assert [] == failed
        assert [] == Stranger(space.url).load()
        assert [] == ben.load("?tab=runs")
        assert [] == tracebacks(space.log.read_text()[logged:])
        assert grown < GRACE_BYTES
        return result

    return run


def tracebacks(log):
    """The last line of each in a log."""
    ends = [re.search(r"^\w.*", text, re.MULTILINE) for text in log.split("Traceback (most recent call last):\n")[1:]]
    return [end[0] for end in ends if end]


def _report(name, answers, slowest, grown):
    if path := os.environ.get("RANKVIZ_ATTACK_REPORT"):
        row = {"attack": name, "answers_meanwhile": answers, "slowest_seconds": slowest, "grown_mb": grown / 1e6}
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def name():
    return f"x{secrets.token_hex(4)}"
