"""The contract of engines on a true Ray of this machine: a head with a dashboard, which needs ray[default]."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from rankviz.jobs import Engine
from rankviz.jobs.ray import Ray
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore
from tests.jobs import test_contract as contract
from tests.jobs.test_contract import supervise  # noqa: F401  a fixture
from tests.support.processes.workers import processes_of
from tests.support.web.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
START_SECONDS, STARTS = 180.0, 3


@pytest.fixture(scope="module")
def head():
    """The address of its dashboard, and its folder. On a busy machine Ray may give up after half a minute."""
    pytest.importorskip("opencensus", reason="ray[default] is not installed")
    log = ""
    for _ in range(STARTS):
        place = Path(tempfile.mkdtemp(prefix="rv-"))  # short: sockets lie below it
        port = free_port()
        try:
            process = _start(place, port)
            deadline = time.monotonic() + START_SECONDS
            while b"Ray runtime started" not in (place / "log").read_bytes() and process.poll() is None:
                assert time.monotonic() < deadline, (place / "log").read_text()
                time.sleep(0.2)
            log = (place / "log").read_text()
            if process.poll() is None:
                yield f"http://127.0.0.1:{port}", place
                return
        finally:
            _end(place)
            shutil.rmtree(place, ignore_errors=True)
    raise AssertionError(log)


def _start(place: Path, port: int) -> subprocess.Popen:
    (place / "tmp").mkdir()
    (place / "token").write_text(secrets.token_hex(32))
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "import sys; from ray.scripts.scripts import main; sys.exit(main())"),
            *("start", "--head", "--block", "--num-cpus", "2", "--resources", json.dumps({"slot": 2})),
            *("--port", str(free_port()), "--node-ip-address", "127.0.0.1", "--dashboard-port", str(port)),
            *("--object-store-memory", "80000000", "--disable-usage-stats", "--temp-dir", str(place / "ray")),
        ],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(IMPORT_ROOT), os.environ.get("PYTHONPATH", "")]),
            "TMPDIR": str(place / "tmp"),
            **_with_token(place),
        },
        stdin=subprocess.DEVNULL,
        stdout=(place / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _end(place: Path) -> None:
    """Every process that has the token of this head."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("RAY_AUTH_TOKEN_PATH") == str(place / "token"):
                left.append(process)
                process.send_signal(signal.SIGKILL)
    psutil.wait_procs(left, timeout=20)


def _with_token(place: Path) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place / "token")}


@pytest.fixture
def setting(head, store, monkeypatch):
    """Two slots of one node."""
    address, place = head
    for name, value in _with_token(place).items():
        monkeypatch.setenv(name, value)

    def engine(store: RunStore, command: Sequence[str]) -> Engine:
        given = {"address": address, "storage": str(store.home.parent / "storage"), "resources": {"slot": 1}}
        return Ray(store, worker=command, sees_folders=True, poll_seconds=0.3, at_once=2, **given)

    there = contract.Setting(2, engine, lambda: processes_of(place / "tmp"))
    with there.cleared():
        yield there


globals().update({name: test for name, test in vars(contract).items() if name.startswith("test_")})
