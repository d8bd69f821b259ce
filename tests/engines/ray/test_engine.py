"""What a run says while no slot has it."""

from contextlib import suppress

import pytest

from rankviz.core.runs.events import RunStarted
from rankviz.engines import Attempt, Job, bundle
from rankviz.engines.ray.engine import NO_ADDRESS, Ray
from rankviz.engines.ray.placing import REFUSED
from rankviz.errors import EngineUnavailableError
from rankviz.supervisor import Supervisor
from tests.support.engines.ray_cluster import RayCluster
from tests.support.processes.workers import COMPLETE_ALL, lost_reasons, states, sweep, wait_for


@pytest.fixture(scope="module")
def cluster():
    """One node without a label."""
    cluster = RayCluster(1)
    yield cluster
    cluster.close()


@pytest.fixture
def supervise(store):
    started = []

    def start(engine) -> Supervisor:
        supervisor = Supervisor(store, engines=[engine], poll_seconds=0.05)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


def test_without_an_address_nothing_is_started_and_a_run_says_what_to_set(store):
    engine = Ray(store)
    (run_id,) = sweep(store, 4)

    with pytest.raises(EngineUnavailableError, match="RANKVIZ_RAY_ADDRESS"):
        engine.start(Job(attempts=(Attempt(run_id, 1),)))

    assert [] == engine.live()
    assert not (store.home / "ray-jobs").exists()


def test_it_is_called_by_its_address_and_says_what_it_takes_and_needs(store):
    engine = Ray(store, address="10.0.0.1:6379", resources={"GPU": 1, "CPU": 4}, labels={"gpu": "l4"})

    assert "Ray cluster 10.0.0.1:6379" == engine.title
    assert (
        "The runs are sent to nodes of this cluster (GPU 1, CPU 4 per worker, on a node with gpu=l4), with their data. "
        "The base must be the embedded one or come from the Hub." == engine.about
    )
    assert "" == engine.why_not()
    assert NO_ADDRESS == Ray(store).why_not() == Ray(store).nodes().trouble


def test_a_run_that_waits_for_an_address_shows_it(store, supervise):
    (run_id,) = sweep(store, 4)

    supervise(Ray(store))

    wait_for(lambda: store.get(run_id).waits == NO_ADDRESS)
    assert ("ray", 1) == (store.get(run_id).engine, store.get(run_id).attempt)


@pytest.mark.parametrize("given_up_seconds, states_after", [(3600, "running"), (0, "cancelled")])
def test_a_run_of_a_cluster_that_is_away_waits_and_can_be_given_up_in_time(store, given_up_seconds, states_after):
    (run_id,) = sweep(store, 4)
    attempt = Attempt(run_id, 1)
    engine = Ray(store, address="127.0.0.1:1", given_up_seconds=given_up_seconds)
    bundle.pack(store, Job(attempts=(attempt,)), store.home / "ray-jobs" / f"{run_id}-a1", engine="ray")
    store.begin(run_id)
    store.append(run_id, RunStarted(time=1.0, attempt=1, environment={}))
    supervisor = Supervisor(store, engines=[engine])

    supervisor.tick()
    assert "Ray" in store.get(run_id).waits
    assert ("ray", "running") == (store.get(run_id).engine, store.get(run_id).state)

    with suppress(EngineUnavailableError):
        supervisor.cancel(run_id)
    assert [states_after] == states(store, [run_id])
    supervisor.stop()


def test_a_run_that_is_cancelled_while_its_cluster_is_away_is_given_up_in_time_by_itself(store):
    (run_id,) = sweep(store, 4)
    engine = Ray(store, address="127.0.0.1:1", given_up_seconds=2.0)
    bundle.pack(store, Job(attempts=(Attempt(run_id, 1),)), store.home / "ray-jobs" / f"{run_id}-a1", engine="ray")
    store.begin(run_id)
    store.append(run_id, RunStarted(time=1.0, attempt=1, environment={}))
    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.05)
    supervisor.start()
    wait_for(lambda: "Ray" in store.get(run_id).waits)

    with suppress(EngineUnavailableError):
        supervisor.cancel(run_id, timeout_seconds=0.1)

    wait_for(lambda: store.get(run_id).state.ended)
    assert ["cancelled"] == states(store, [run_id])
    assert [] == list((store.home / "ray-jobs").glob("*-a1"))
    supervisor.stop()


def test_a_job_takes_memory_of_its_node(store, supervise, two_slots):
    (run_id,) = sweep(store, 4)

    supervisor = supervise(two_slots.engine(store, COMPLETE_ALL, resources={"slot": 1, "memory": 1e6}))

    supervisor.settle(240)
    assert (["completed"], []) == (states(store, [run_id]), lost_reasons(store, run_id))


def test_resources_that_ray_refuses_are_the_end_of_a_run_and_named(store, supervise, two_slots):
    (run_id,) = sweep(store, 4)

    supervisor = supervise(two_slots.engine(store, COMPLETE_ALL, resources={"slot": 0.00001}))

    supervisor.settle(240)
    assert store.get(run_id).error.startswith(REFUSED.format(""))


@pytest.mark.slow
def test_a_label_that_no_node_has_is_said_and_the_run_starts_once_one_has_it(store, supervise, cluster):
    (run_id,) = sweep(store, 4)

    supervisor = supervise(cluster.engine(store, COMPLETE_ALL, labels={"gpu": "h100"}))

    wait_for(
        lambda: store.get(run_id).waits.startswith("No node of the Ray cluster has slot 1 and the label gpu=h100.")
    )
    cluster.start_node("labelled", labels={"gpu": "h100"})
    supervisor.settle(240)
    assert (["completed"], "labelled") == (states(store, [run_id]), store.get(run_id).where)


@pytest.mark.slow
def test_without_a_token_a_run_says_where_it_is_looked_for(store, supervise, cluster):
    (run_id,) = sweep(store, 4)
    none = [*cluster.enter, "env", "-u", "RAY_AUTH_TOKEN_PATH", f"HOME={store.home}"]

    supervisor = supervise(cluster.engine(store, COMPLETE_ALL, enter=none))

    wait_for(lambda: "set RAY_AUTH_TOKEN_PATH" in store.get(run_id).waits)
    supervisor.cancel(run_id)
    assert ["cancelled"] == states(store, [run_id])


@pytest.mark.slow
def test_a_wrong_token_is_refused_with_a_sentence(store, supervise, cluster):
    (run_id,) = sweep(store, 4)
    wrong = [*cluster.enter, "env", "-u", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN=" + "0" * 64]

    supervisor = supervise(cluster.engine(store, COMPLETE_ALL, enter=wrong))

    wait_for(lambda: "cannot be reached. Does its head run, is the token here the same" in store.get(run_id).waits)
    supervisor.cancel(run_id)
    assert ["cancelled"] == states(store, [run_id])
