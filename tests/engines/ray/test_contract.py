"""The contract of engines, on a Ray cluster of real node processes."""

from collections.abc import Sequence

import pytest

from rankviz.engines import Engine
from rankviz.store import RunStore
from tests.engines import test_contract as contract
from tests.engines.test_contract import supervise  # noqa: F401  a fixture
from tests.support.ray_cluster import RayCluster, node_folder
from tests.support.workers import processes_of


@pytest.fixture(scope="module")
def cluster():
    cluster = RayCluster(2)
    yield cluster
    cluster.close()


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
def setting(cluster, store):
    setting = OnRay(cluster)
    yield setting
    for process in setting.processes(store):
        process.kill()


globals().update({name: test for name, test in vars(contract).items() if name.startswith("test_")})
