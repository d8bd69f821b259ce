"""The contract of engines, on a Ray cluster of real node processes; some of it in every run of the tests, all of it by
`make test-engines`."""

import contextlib
import types
from collections.abc import Sequence

import psutil
import pytest

from rankviz.engines import Engine
from rankviz.store import RunStore
from tests.engines import test_contract as contract
from tests.engines.test_contract import supervise  # noqa: F401  a fixture
from tests.support.engines.ray_cluster import RayCluster, node_folder
from tests.support.processes.workers import processes_of

pytestmark = pytest.mark.timeout(1800)
ALWAYS = (
    "test_one_that_is_set_up_is_offered_under_a_name_of_its_own",
    "test_a_worker_killed_in_the_middle_costs_its_run_one_attempt_and_nothing_counts_twice",
    "test_cancelling_a_sweep_leaves_no_process_anywhere",
    "test_a_restarted_app_goes_on_with_what_still_runs",
)


class OnRay:
    """Two slots of one node."""

    at_once = 2

    def __init__(self, cluster: RayCluster):
        self._cluster = cluster

    def engine(self, store: RunStore, command: Sequence[str]) -> Engine:
        return self._cluster.engine(store, command)

    def processes(self, store: RunStore) -> list:
        return processes_of(node_folder(store))


@pytest.fixture
def setting(two_slots, store):
    setting = OnRay(two_slots)
    yield setting
    for process in setting.processes(store):
        with contextlib.suppress(psutil.Error):
            process.kill()


def copied(test):
    """A test of the contract as one of this module, with marks of its own."""
    same = types.FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__)
    return same if test.__name__ in ALWAYS else pytest.mark.slow(same)


globals().update({name: copied(test) for name, test in vars(contract).items() if name.startswith("test_")})
