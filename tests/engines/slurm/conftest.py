"""A stand-in for a cluster, and supervisors with an engine of it."""

import pytest

from rankviz.store import RunStore
from tests.support.engines.slurm_cluster import SlurmCluster
from tests.support.processes.workers import COMPLETE_ALL, Patient


@pytest.fixture
def make_cluster():
    """Makes stand-ins; all are closed."""
    made = []

    def make(nodes: int, **settings) -> SlurmCluster:
        made.append(SlurmCluster(nodes, **settings))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(make_cluster):
    """Of two nodes."""
    return make_cluster(2)


@pytest.fixture
def supervise(store, cluster):
    """Starts a supervisor with an engine of the cluster; all are stopped."""
    started = []

    def start(
        command=COMPLETE_ALL, *, cluster=cluster, turn_minutes=float("inf"), room_seconds=0.05, **settings
    ) -> Patient:
        here = RunStore(store.home)
        engine = cluster.engine(here, command, **settings)
        supervisor = Patient(
            here,
            engines=[engine],
            poll_seconds=0.05,
            max_attempts=2,
            split_runs=3,
            turn_minutes=turn_minutes,
            room_seconds=room_seconds,
        )
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()
