"""Cold starts: the command line beside bare Python, and the page beside a bare Gradio page, in turn."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.web.ports import free_port

ROOT = Path(__file__).parents[1]
ESTIMATE = (sys.executable, "-m", "rankviz", "estimate", "meta-llama/Llama-3.1-8B", "--json")
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PYTHON = (sys.executable, "-c", "pass")
ENV = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Bytecode is kept, as where RankViz is installed; without it every start compiles our modules again, and not the
libraries that are compared with them."""


class Pair(NamedTuple):
    """What ours took and what the bare one took, round by round."""

    ours: Sequence[float]
    bare: Sequence[float]


def cold_commands(rounds: int) -> tuple[Pair, float]:
    """Seconds of an estimate of nine ranks as JSON and of a Python that does nothing; and our peak memory in bytes."""
    command = [*ESTIMATE, *(part for r in RANKS for part in ("-r", str(r)))]
    _run(command)  # writes the bytecode
    ours, bare = zip(*((_run(command), _run(PYTHON)) for _ in range(rounds)), strict=True)
    return Pair([seconds for seconds, _ in ours], [seconds for seconds, _ in bare]), max(peak for _, peak in ours)


def _run(command: Sequence[str]) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def page_starts(rounds: int, home: str) -> Pair:
    """Seconds from the start of the process to the first HTTP 200."""
    ours, bare = [], []
    with our_page(home):
        pass  # writes the bytecode
    for _ in range(rounds):
        with bare_page() as (_, seconds):
            bare.append(seconds)
        with our_page(home) as (_, seconds):
            ours.append(seconds)
    return Pair(ours, bare)


@contextmanager
def our_page(home: str) -> Iterator[tuple[str, float]]:
    """Its address, and the seconds until it answered."""
    port = free_port()
    with _serving([sys.executable, "app.py"], port, RANKVIZ_HOME=home, GRADIO_SERVER_PORT=str(port)) as seconds:
        yield f"http://127.0.0.1:{port}/", seconds


@contextmanager
def bare_page() -> Iterator[tuple[str, float]]:
    port = free_port()
    with _serving([sys.executable, "benchmarks/bare_page.py", str(port)], port) as seconds:
        yield f"http://127.0.0.1:{port}/", seconds


@contextmanager
def _serving(command: Sequence[str], port: int, **env: str) -> Iterator[float]:
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**ENV, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # it is interrupted below, and says so at length
    )
    try:
        while not _answers(port):
            assert process.poll() is None, f"the server ended: {' '.join(command)}"
            time.sleep(0.01)
        yield time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
