"""The contract of engines on a true Slurm of this machine, and what its words for the ends of jobs are."""

import contextlib
import types
from collections.abc import Sequence
from functools import update_wrapper

import psutil
import pytest

from rankviz.jobs import Engine
from rankviz.store import RunStore
from tests.jobs import test_contract as contract
from tests.jobs.test_contract import supervise  # noqa: F401  a fixture
from tests.support.engines.true_slurm import TrueSlurm
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

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm():
    slurm = TrueSlurm()
    yield slurm
    slurm.close()


class OnTrueSlurm:
    """Two places of one node."""

    at_once = 2

    def __init__(self, slurm: TrueSlurm):
        self._slurm = slurm

    def engine(self, store: RunStore, command: Sequence[str]) -> Engine:
        return self._slurm.engine(store, command)

    def processes(self, store: RunStore) -> list:
        return processes_of(store.home / "slurm-jobs")


@pytest.fixture
def setting(slurm, store):
    setting = OnTrueSlurm(slurm)
    yield setting
    for process in setting.processes(store):
        with contextlib.suppress(psutil.Error):
            process.kill()
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
