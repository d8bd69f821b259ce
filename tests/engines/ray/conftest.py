import pytest

from tests.support.engines.ray_cluster import RayCluster


@pytest.fixture(scope="session")
def two_slots():
    """A cluster with a node of two slots, for tests that leave it as it is."""
    cluster = RayCluster(2)
    yield cluster
    cluster.close()
