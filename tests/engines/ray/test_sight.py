"""What the nodes of a cluster have, seen before anything is queued."""

import pytest

from rankviz.engines import Nodes
from rankviz.engines.ray.sight import Sight
from tests.support.engines.ray_cluster import RayCluster

SECONDS = 300.0
"""For a look, on a slow machine."""


@pytest.fixture
def sight(two_slots: RayCluster):
    def of(address="", resources=None, labels=None, seconds=SECONDS):
        return Sight(
            address or two_slots.address, resources or {"slot": 1}, labels or {}, two_slots.enter, look_seconds=seconds
        )

    return of


def test_where_there_are_slots_nothing_stands_in_the_way(sight):
    assert Nodes(gpus=[]) == sight().nodes()


def test_what_no_node_has_is_said(sight):
    nodes = sight(resources={"slot": 1, "GPU": 1}).nodes()

    assert nodes.has_gpu
    assert nodes.trouble.startswith("No node of the Ray cluster has slot 1 and GPU 1. Its nodes have: ")


def test_a_cluster_that_does_not_answer_in_time_is_said(sight):
    trouble = sight(address="127.0.0.1:1", seconds=1.0).nodes().trouble

    assert "The Ray cluster at 127.0.0.1:1 does not answer." == trouble
