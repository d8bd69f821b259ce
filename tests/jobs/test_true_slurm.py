"""The contract of engines on a true Slurm of this machine: a controller and a node with room for two jobs, in a network
namespace that nobody else can reach. `make test-engines` installs Debian's packages; it needs root, as a node does."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import types
from collections.abc import Sequence
from functools import update_wrapper
from pathlib import Path

import psutil
import pytest

from rankviz.jobs.slurm import Slurm
from rankviz.store import RunStore
from tests.jobs import test_contract as contract
from tests.jobs.test_contract import supervise  # noqa: F401  a fixture
from tests.support.processes.workers import (
    COMPLETE_ALL,
    FIRST_HANGS,
    Patient,
    lost_reasons,
    processes_of,
    states,
    sweep,
    wait_for,
)

NEEDED = ("slurmctld", "slurmd", "sbatch", "unshare", "nsenter", "ip")
ADDRESS = "10.77.0.1"
"""Of the node: with loopback alone Slurm resolves no name."""
UP = f"""mount -t tmpfs tmpfs /run && mkdir /run/slurm /run/slurmctld /run/slurmd &&
ip link set lo up && ip addr add {ADDRESS}/32 dev lo && echo up && exec sleep 1000000"""
COMMAND = '#!/bin/sh\nexec {enter} {name} "$@"\n'
CONFIGURATION = """
ClusterName=rankviz
SlurmctldHost={host}({address})
NodeName={host} NodeAddr={address} CPUs=2 RealMemory=100
SlurmdParameters=config_overrides
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1
PartitionName=first Nodes=ALL PriorityTier=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/none
AuthType=auth/slurm
CredType=auth/slurm
MpiDefault=none
SlurmUser=root
SlurmdUser=root
ReturnToService=2
KillWait=5
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
"""


class TrueSlurm:
    """A cluster that has just been set up. Skips the test where this machine cannot have one."""

    def __init__(self) -> None:
        if missing := [name for name in NEEDED if shutil.which(name) is None]:
            pytest.skip(f"There is no {missing[0]}. make test-engines installs Slurm.")
        self.place = Path(tempfile.mkdtemp(prefix="rv-"))
        self.node = socket.gethostname().partition(".")[0]
        self._namespace = _namespace()
        for folder in ("state", "spool", "bin"):
            (self.place / folder).mkdir()
        configuration = CONFIGURATION.format(host=self.node, address=ADDRESS, place=self.place)
        (self.place / "slurm.conf").write_text(configuration)
        (self.place / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        (self.place / "slurm.key").write_bytes(secrets.token_bytes(64))
        (self.place / "slurm.key").chmod(0o600)
        for name in ("sbatch", "squeue", "sacct", "scancel"):
            (self.place / "bin" / name).write_text(COMMAND.format(enter=" ".join(self._enter), name=shutil.which(name)))
            (self.place / "bin" / name).chmod(0o755)
        self._daemons: dict[str, subprocess.Popen] = {}
        try:
            self._start("slurmctld")
            self.start_node()
        except BaseException:
            self.close()
            raise

    @property
    def _enter(self) -> Sequence[str]:
        """Stands before a command of Slurm's."""
        inside = ["nsenter", "-t", str(self._namespace.pid), "-n", "-m"]
        return [*inside, "env", f"SLURM_CONF={self.place / 'slurm.conf'}"]

    def engine(self, store: RunStore, worker: Sequence[str] = (), **settings) -> Slurm:
        path = f"{self.place / 'bin'}:{os.environ['PATH']}"
        settings = {"poll_seconds": 0.2, "at_once": 2, "options": (), **settings}
        return Slurm(store, search_path=path, worker=worker, **settings)

    def run(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        return subprocess.run([*self._enter, *command], capture_output=True, text=True, check=False).stdout

    def start_node(self) -> None:
        """Start the node, and wait until it takes jobs."""
        self._start("slurmd")

        def takes_jobs() -> bool:
            self.run("scontrol", "update", f"nodename={self.node}", "state=resume")
            return self.run("sinfo", "--noheader", "--partition=gpu", "--format=%T").strip() in ("idle", "mixed")

        wait_for(takes_jobs)

    def lose_node(self) -> None:
        """The node's machine stops, with what runs there."""
        for process in (*_below(self._daemons["slurmd"].pid), *_steps(self.place)):
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._daemons["slurmd"].wait()
        self.run("scontrol", "update", f"nodename={self.node}", "state=down", "reason=test")

    def end_all(self) -> None:
        """Every job."""
        self.run("scancel", "--me")
        wait_for(lambda: not self.run("squeue", "--noheader"))

    def close(self) -> None:
        """End all of it."""
        with contextlib.suppress(AssertionError):
            self.end_all()
        for daemon in reversed(self._daemons.values()):
            for process in _below(daemon.pid):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            daemon.wait()
        self._namespace.kill()
        self._namespace.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def _start(self, name: str) -> None:
        with (self.place / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen([*self._enter, name, "-D"], stdout=output, stderr=output)


def _namespace() -> subprocess.Popen:
    """A process in a namespace of its own, which another enters."""
    process = subprocess.Popen(["unshare", "-n", "-m", "sh", "-c", UP], stdout=subprocess.PIPE)
    if not process.stdout.readline():
        process.wait()
        pytest.skip("This machine allows no namespaces.")
    return process


def _below(pid: int) -> Sequence[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def _steps(place: Path) -> Sequence[psutil.Process]:
    """What runs the jobs of a cluster, with the jobs: it outlives the node's daemon."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("slurmstepd") and str(place) in str(process.environ()):
                found += [*process.children(recursive=True), process]
    return found


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm():
    slurm = TrueSlurm()
    yield slurm
    slurm.close()


@pytest.fixture
def setting(slurm, store):
    """Two places of one node."""
    there = contract.Setting(2, slurm.engine, lambda: processes_of(store.home / "slurm-jobs"))
    with there.cleared():
        yield there
    slurm.end_all()


@pytest.fixture
def run(slurm, store, started):
    """Starts a supervisor with an engine of the cluster; all are stopped."""

    def start(command, **settings) -> Patient:
        here = RunStore(store.home)
        return started(here, slurm.engine(here, command, **settings))

    return start


def copied(test):
    """A test of the contract as one of this module."""
    copy = types.FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__)
    return update_wrapper(copy, test)


globals().update({name: copied(test) for name, test in vars(contract).items() if name.startswith("test_")})


def test_a_node_that_fails_costs_a_run_one_attempt_and_slurm_itself_repeats_nothing(run, slurm, store):
    run_ids = sweep(store, 4, 8)
    supervisor = run(FIRST_HANGS)
    wait_for(lambda: store.get(run_ids[0]).steps)

    slurm.lose_node()
    wait_for(lambda: lost_reasons(store, run_ids[0]))
    slurm.start_node()
    supervisor.settle(240)

    assert ["Slurm ended the job: NODE_FAIL."] == lost_reasons(store, run_ids[0])
    assert ["completed"] * 2 == states(store, run_ids)
    assert [2, 1] == [store.get(run_id).lost_attempts + 1 for run_id in run_ids]


def test_a_folder_of_any_name_is_a_runs_folder(slurm, tmp_path):
    store = RunStore(tmp_path / 'it\'s "my" $(touch injected) %j; runs')
    run_ids = sweep(store, 4, 8)
    supervisor = Patient(store, engines=[slurm.engine(store, COMPLETE_ALL)], poll_seconds=0.05)
    supervisor.start()

    supervisor.settle(240)
    supervisor.stop()

    assert ["completed"] * 2 == states(store, run_ids)
    assert [] == [*tmp_path.rglob("injected")]
