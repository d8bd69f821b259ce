"""A Ray cluster of real node processes on this machine, with a token, that nobody else can reach.

It lies in a network namespace of its own, entered by `enter`, where this machine allows that; else its processes
listen on loopback only. A guard ends all of them once the tests have gone, also where those were killed.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from rankviz.engines.ray.engine import Ray
from rankviz.engines.ray.slot import own_folder
from rankviz.paths import IMPORT_ROOT
from rankviz.store import RunStore
from tests.support.processes.workers import name_of
from tests.support.web.ports import free_port

ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Then whoever connects to Ray finds it there, and not at the machine's own address."""
START_SECONDS, STARTS = 300.0, 3
PLACE = "RAY_TMPDIR"
"""The variable by which the guard knows the processes of a cluster."""
MOUNTED = 'mount -t tmpfs -o size=12k tmpfs {folder} && exec "$@"'
LO_UP = "ip link set lo up && echo up && exec sleep 1000000"


class RayCluster:
    """A head without slots, and nodes.

    Args:
        slots: Of each node.
    """

    def __init__(self, *slots: int):
        self.place = Path(tempfile.mkdtemp(prefix="rv-"))  # short: sockets lie below it
        (self.place / "token").write_text(secrets.token_hex(32))
        self._environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.place / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            PLACE: str(self.place),
            **ON_LOOPBACK,
            "PYTHONPATH": str(IMPORT_ROOT),
            "OMP_NUM_THREADS": "1",
        }
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "tests.support.processes.guard", PLACE, str(self.place)],
            cwd=IMPORT_ROOT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._namespace = _namespace({**os.environ, PLACE: str(self.place)})
        self.address = f"127.0.0.1:{free_port()}"
        self.head: subprocess.Popen | None = None
        self.nodes: dict[str, subprocess.Popen] = {}
        try:
            self.start_head()
            for number, each in enumerate(slots):
                self.start_node(f"node-{number}", each)
        except BaseException:
            self.close()
            raise

    @property
    def enter(self) -> Sequence[str]:
        """Stands before the command line of a process that is to reach it."""
        inside = ["nsenter", "-t", str(self._namespace.pid), "-n"] if self._namespace else []
        return [*inside, "env", *(f"{name}={value}" for name, value in self._environment.items())]

    def engine(self, store: RunStore, worker: Sequence[str] = (), **settings) -> Ray:
        """Of a runs folder; what its slots write lies beside that."""
        given = {
            "address": self.address,
            "resources": {"slot": 1},
            "node_folder": str(node_folder(store).parent),
            "sees_folders": True,
            "enter": self.enter,
        }
        return Ray(store, worker=worker, **given | settings)

    def start_head(self) -> None:
        port = self.address.rpartition(":")[2]
        self.head = self._start("--head", "--port", port, "--num-cpus", "0", "--include-dashboard", "false")

    def start_node(
        self, name: str, slots: int = 1, labels: Mapping[str, str] | None = None, small_disk: Path | None = None
    ) -> None:
        """small_disk: a folder that this node alone sees as a disk with hardly any room."""
        resources = f'{{"slot": {slots}}}'
        labelled = ["--labels", ",".join(f"{key}={value}" for key, value in labels.items())] if labels else []
        address = ("--address", self.address, "--node-name", name)
        enter = ("unshare", "-m", "sh", "-c", MOUNTED.format(folder=small_disk), "sh") if small_disk else ()
        self.nodes[name] = self._start(*address, "--num-cpus", "1", "--resources", resources, *labelled, enter=enter)

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Of a node, or of the head; the one that was started first."""
        started = self.nodes[name] if name else self.head
        try:
            leader = psutil.Process(started.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def slots(self) -> list[psutil.Process]:
        """The actors that hold a place of some node."""
        return [each for name in self.nodes for each in self.processes(name) if name_of(each).startswith("ray::Slot")]

    def lose_node(self, name: str) -> None:
        """As where its power fails, as far as Ray's own processes go: what they started is left to itself."""
        _kill([each for each in self.processes(name) if "ray::" not in name_of(each)])

    def lose_head(self) -> None:
        """All processes of Ray's head."""
        _kill(self.processes())

    def close(self) -> None:
        """Returns once nothing is left of it."""
        self._guard.stdin.close()
        self._guard.wait()
        for process in filter(None, [*self.nodes.values(), self.head, self._namespace]):
            process.wait()

    def _start(self, *arguments: str, enter: Sequence[str] = ()) -> subprocess.Popen:
        """Returns once Ray says that it has started. On a busy machine Ray may give up after half a minute."""
        for _ in range(STARTS):
            process, log = self._try_to_start(arguments, enter)
            if process.poll() is None:
                return process
        raise AssertionError(log)

    def _try_to_start(self, arguments: Sequence[str], enter: Sequence[str]) -> tuple[subprocess.Popen, str]:
        """The process, which has started or has ended, and its log."""
        log = self.place / f"start-{secrets.token_hex(4)}.log"
        fixed = ("--node-ip-address", "127.0.0.1", "--object-store-memory", "80000000", "--disable-usage-stats")
        ports = ("--min-worker-port", "0", "--max-worker-port", "0")  # free ones, whoever else is on this machine
        start = ["env", "-u", *ON_LOOPBACK, sys.executable, "-m", "tests.support.engines.ray_start"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.enter, *enter, *start, "start", "--block", *arguments, *fixed, *ports],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text() and process.poll() is None:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return process, log.read_text()


def node_folder(store: RunStore) -> Path:
    """Of the jobs of a runs folder, on each node."""
    return own_folder(str(store.home.parent / "on-ray"))


def _namespace(environment: Mapping[str, str]) -> subprocess.Popen | None:
    """A process in a network namespace that has nothing but loopback; None where this machine does not allow it."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return None
    process = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", LO_UP], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    if process.stdout.readline():
        return process
    process.wait()
    return None


def _kill(processes: Sequence[psutil.Process]) -> None:
    """All of them, before any can see that another has gone."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(psutil.Error, OSError):
                os.kill(process.pid, number)
    psutil.wait_procs(processes, timeout=20)
