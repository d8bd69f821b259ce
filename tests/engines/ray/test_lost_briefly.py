"""What is lost with a node, in its short form: two runs of the true worker. The whole of it is in test_lost.py."""

import pytest

from rankviz.core.runs.events import RunRequeued
from rankviz.engines.local import Local
from rankviz.store import RunStore
from tests.engines.ray.test_lost import SECONDS, is_running, left, supervised, weights
from tests.support.engines.ray_cluster import RayCluster
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.processes.workers import wait_for
from tests.support.runs import questions


@pytest.fixture
def two_nodes():
    """With a slot each; a cluster of its own, since Ray may still choose a node that has just been lost."""
    cluster = RayCluster(1, 1)
    yield cluster
    cluster.close()


@pytest.mark.torch
@pytest.mark.timeout(1800)
def test_runs_of_which_one_loses_its_node_have_the_losses_of_this_machine(tmp_path, two_nodes):
    model, data = make_tiny_llama(tmp_path / "model"), write_tiny_data(tmp_path / "data.jsonl")
    request = questions.sweep(base=str(model), data=str(data), ranks=(2, 4), max_steps=150)
    here, there = RunStore(tmp_path / "here" / "home"), RunStore(tmp_path / "there" / "home")
    alone, spread = here.run_ids(here.create(request)), there.run_ids(there.create(request))

    with supervised(here, Local(here.home)) as supervisor:
        supervisor.settle(SECONDS)
    with supervised(there, two_nodes.engine(there)) as supervisor:
        wait_for(lambda: is_running(there, spread[0]) and there.get(spread[0]).where, SECONDS)
        two_nodes.lose_node(there.get(spread[0]).where)
        supervisor.settle(SECONDS)

    ours, theirs = [here.get(run_id) for run_id in alone], [there.get(run_id) for run_id in spread]
    assert ["completed"] * 4 == [run.state for run in (*ours, *theirs)], [run.error for run in (*ours, *theirs)]
    assert [[step.loss for step in run.steps] for run in ours] == [[step.loss for step in run.steps] for run in theirs]
    assert [weights(here, run) for run in ours] == [weights(there, run) for run in theirs]
    lost = [run_id for run_id in spread for event in there.events(run_id) if isinstance(event, RunRequeued)]
    assert spread[:1] == lost
    assert {"node-0", "node-1"} == {event.where for event in there.events(spread[0]) if getattr(event, "where", "")}
    assert [] == left(there)
