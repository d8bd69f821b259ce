"""How many slots the nodes of a cluster have, with which GPUs, and why there is none."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import RunRequeued
from rankviz.engines import Attempt, Job, bundle
from rankviz.engines.ray.alone import LeftAlone
from rankviz.engines.ray.cluster import Cluster, explain, gpus, slots, why_none
from rankviz.engines.ray.follow import _first_line
from rankviz.engines.ray.placing import Place
from rankviz.engines.ray.steps import Steps
from rankviz.engines.ray.terms import Terms
from rankviz.errors import EngineEndingError, EngineUnavailableError
from tests.support.processes.workers import sweep, wait_for


def node(labels=None, alive=True, **resources):
    """As ray.nodes() lists one."""
    return {"Alive": alive, "Resources": {"memory": 1e9, "node:10.0.0.1": 1.0, **resources}, "Labels": labels or {}}


@pytest.mark.parametrize("before", [0, 280, 740])
def test_what_ray_says_is_told_without_its_token_and_without_a_piece_of_it(monkeypatch, before):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f0" * 32)
    error = RuntimeError(f"{'x' * before} {'f0' * 32}")

    def fail():
        raise error

    def taken():
        with contextlib.suppress(EngineEndingError):
            steps.take("a", fail)

    steps = Steps("a")
    with pytest.raises(EngineUnavailableError) as failed:
        wait_for(taken)

    assert not any("f0f0" in words for words in (explain(error, "here"), _first_line(error), str(failed.value)))


def test_a_node_has_a_slot_for_each_gpu():
    assert 5 == slots([node(GPU=4), node(GPU=1), node(CPU=8)], {"GPU": 1}, {})


def test_a_slot_that_takes_two_gpus_fits_half_as_often():
    assert 2 == slots([node(GPU=5), node(GPU=1)], {"GPU": 2}, {})


def test_every_resource_of_a_slot_must_be_there():
    assert 3 == slots([node(GPU=4, CPU=12)], {"GPU": 1, "CPU": 4}, {})


def test_a_node_that_is_gone_has_none():
    assert 1 == slots([node(GPU=1), node(GPU=1, alive=False)], {"GPU": 1}, {})


def test_only_nodes_with_the_labels_have_slots():
    nodes = [node({"gpu": "l4", "zone": "a"}, GPU=1), node({"gpu": "h100"}, GPU=1), node(GPU=1)]

    assert 1 == slots(nodes, {"GPU": 1}, {"gpu": "l4"})


def test_a_resource_that_is_asked_for_is_named_though_ray_gives_it_to_every_node():
    assert "No node of the Ray cluster has GPU 1 and memory 2e+09. Its nodes have: GPU 1, memory 1e+09." == why_none(
        [node(GPU=1)], {"GPU": 1, "memory": 2e9}, {}
    )


def test_a_job_that_was_lost_avoids_a_node_that_failed_lately_as_long_as_another_has_slots():
    cluster = Cluster.__new__(Cluster)
    cluster._terms = Terms(address="", namespace="", jobs=Path())
    cluster.alone = LeftAlone(30.0, clock=lambda: seconds)
    cluster._nodes = [{"NodeID": name, **node(GPU=1)} for name in ("dead", "good")]
    seconds = 0.0
    cluster.alone.add("dead", "Its GPU failed.")

    def avoided():
        return [set(cluster.avoided(was_lost=was_lost)) for was_lost in (False, True)]

    assert [{"dead"}, {"dead"}] == avoided()
    seconds = 31.0
    assert [set(), {"dead"}] == avoided()
    cluster._nodes = cluster._nodes[:1]
    assert [set(), set()] == avoided()


def test_why_there_is_none_says_what_is_missing_and_what_there_is():
    nodes = [node({"gpu": "l4", "ray.io/node-id": "ab"}, GPU=1, CPU=8), node(alive=False, GPU=8)]

    assert (
        "No node of the Ray cluster has GPU 1 and the label gpu=h100. Its nodes have: CPU 8, GPU 1, gpu=l4."
        == why_none(nodes, {"GPU": 1}, {"gpu": "h100"})
    )


def test_a_cluster_without_nodes_says_that():
    assert "No node of the Ray cluster has GPU 1. Its nodes have: nothing." == why_none([], {"GPU": 1}, {})


def test_the_gpus_of_slots_are_named_as_ray_names_them_each_once():
    nodes = [
        node(GPU=4, **{"accelerator_type:L4": 1.0}),
        node(GPU=1, **{"accelerator_type:A100": 1.0}),
        node(GPU=1, **{"accelerator_type:L4": 1.0}),
    ]

    assert ["A100", "L4"] == gpus(nodes, {"GPU": 1}, {})
    assert ["L4"] == gpus(nodes, {"GPU": 2}, {})


def test_a_node_that_is_gone_or_has_other_labels_names_no_gpu():
    nodes = [
        node({"zone": "a"}, GPU=1, **{"accelerator_type:L4": 1.0}),
        node({"zone": "b"}, GPU=1, **{"accelerator_type:A100": 1.0}),
        node({"zone": "a"}, alive=False, GPU=1, **{"accelerator_type:T4": 1.0}),
    ]

    assert ["L4"] == gpus(nodes, {"GPU": 1}, {"zone": "a"})


def test_a_slot_that_takes_no_gpu_has_none():
    assert () == gpus([node(GPU=1, slot=2, **{"accelerator_type:L4": 1.0})], {"slot": 1}, {})


@pytest.mark.parametrize(("lost", "avoided"), [("", set()), ("Its node has gone.", {"dead"})])
def test_only_a_job_with_a_run_that_was_lost_avoids_such_a_node_whatever_the_number_of_its_attempt(
    store, tmp_path, lost, avoided
):
    """A run that gave way, was resumed or came from another engine has a second attempt too."""
    (run_id,) = sweep(store, 4)
    store.append(run_id, RunRequeued(time=1.0, lost=lost))
    bundle.pack(store, Job(attempts=(Attempt(run_id, 2),)), tmp_path / "job", engine="ray")
    cluster = SimpleNamespace(avoided=lambda *, was_lost: {"dead"} if was_lost else set())

    assert avoided == Place(tmp_path / "job", None, cluster, print)._avoided


def test_a_job_that_an_earlier_version_packed_was_not_lost(tmp_path):
    (tmp_path / bundle.JOB_FILE).write_text('{"kind": "finetune", "attempts": ["r4@2"]}')

    assert not bundle.was_lost(tmp_path)
