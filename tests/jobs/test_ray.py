"""Jobs of a stand-in for a Ray cluster. What every engine must hold is in test_contract.py; the same on a true Ray, in
test_true_ray.py."""

import threading
from contextlib import suppress

import pytest

from rankviz.errors import EngineUnavailableError
from rankviz.jobs import Attempt, Job
from rankviz.jobs.bundle import read_job
from rankviz.jobs.ray import NO_ADDRESS, NO_STORAGE, Ray, end_of
from tests.support.engines.ray_jobs import RayJobs
from tests.support.processes.workers import HANG_IN_EACH, on_cluster, states, sweep, wait_for


@pytest.fixture
def cluster(tmp_path):
    cluster = RayJobs(tmp_path / "ray")
    yield cluster
    cluster.close()


supervise = pytest.fixture(on_cluster)


def test_without_an_address_or_a_storage_nothing_is_started_and_a_run_says_what_to_set(store):
    (run_id,) = sweep(store, 4)
    engine = Ray(store)

    with pytest.raises(EngineUnavailableError, match="RANKVIZ_RAY_ADDRESS"):
        engine.start(Job(attempts=(Attempt(run_id, 1),)))

    assert NO_ADDRESS == engine.why_not()
    assert NO_STORAGE == Ray(store, address="http://10.0.0.1:8265").why_not()
    assert not (store.home / "ray-jobs").exists()


def test_a_job_asks_for_the_resources_and_labels_of_the_settings(store, cluster, supervise):
    (run_id,) = sweep(store, 4)

    supervise(resources={"GPU": 0.5, "CPU": 2, "memory": 1e6, "slot": 1}, labels={"gpu": "l4"}).settle()

    (job,) = cluster.jobs.values()
    asked = {name.removeprefix("entrypoint_"): value for name, value in job.request.items()}
    assert (0.5, 2, 1_000_000) == (asked["num_gpus"], asked["num_cpus"], asked["memory"])
    assert ({"slot": 1}, {"gpu": "l4"}) == (asked["resources"], asked["label_selector"])
    assert ["completed"] == states(store, [run_id])


def test_a_job_whose_answer_was_lost_is_not_submitted_twice(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    submit = cluster.answer

    def loses(method, path, body):
        answer = submit(method, path, body)
        if method == "POST" and path.endswith("/api/jobs/"):
            return 503, "The answer was lost."
        return answer

    cluster.answer = loses
    supervise().settle()

    assert (["completed"], 1, 1) == (states(store, [run_id]), store.get(run_id).attempt, len(cluster.jobs))


def test_a_head_that_refuses_the_connection_has_got_no_job_and_costs_no_attempt(store, cluster, supervise):
    (first,) = sweep(store, 4)
    engine = supervise().engines[0]
    wait_for(lambda: store.get(first).state.ended)
    cluster.close()

    (run_id,) = sweep(store, 8)
    wait_for(lambda: "cannot be reached" in store.get(run_id).waits)

    wait_for(lambda: not read_job(engine.place / f"{run_id}-a1")[1].submitted, 30)  # True only while it asks again


def test_a_call_that_ray_does_not_answer_ends_in_time(store, cluster, supervise, monkeypatch):
    """Ray's client has no time limit, and ours is set in a private method of it (seen with Ray 2.60)."""
    monkeypatch.setattr("rankviz.jobs.ray.CALL_SECONDS", 0.2)
    answers, answer = threading.Event(), cluster.answer
    cluster.answer = lambda method, *given: ("version" in given[0] or answers.wait()) and answer(method, *given)
    (run_id,) = sweep(store, 4)

    supervise()

    wait_for(lambda: "Read timed out. (read timeout=0.2)" in store.get(run_id).waits, 30)
    answers.set()


def test_resources_that_ray_refuses_are_the_end_of_a_run_and_named(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    cluster.faults["POST /api/jobs/"] = 400, "Resource quantities must be a multiple of 0.0001"

    supervise().settle()

    assert "Ray does not take the job" in store.get(run_id).error
    assert "must be a multiple of 0.0001" in store.get(run_id).error


@pytest.mark.parametrize("given_up_seconds, state", [(3600, "running"), (0, "cancelled")])
def test_a_run_that_is_cancelled_while_its_cluster_is_away_is_given_up_in_time(
    store, cluster, supervise, given_up_seconds, state
):
    (run_id,) = sweep(store, 4)
    supervisor = supervise(HANG_IN_EACH, given_up_seconds=given_up_seconds)
    wait_for(lambda: store.get(run_id).steps)
    cluster.faults["GET /api/jobs/"] = cluster.faults["POST /api/jobs/"] = 500, "Internal error"
    wait_for(lambda: "cannot be reached" in store.get(run_id).waits)

    with suppress(EngineUnavailableError):
        supervisor.cancel(run_id)
    if state == "cancelled":
        wait_for(lambda: store.get(run_id).state.ended)

    assert [state] == states(store, [run_id])
    cluster.faults.clear()


@pytest.mark.parametrize(
    ("exit_code", "message", "lost", "by_us", "code"),
    [
        (0, "", False, False, 0),
        (1, "", False, False, 1),
        (137, "", True, False, -9),
        (-9, "", True, False, -9),
        (None, "Job supervisor actor failed to start within 900.0 seconds.", False, True, None),
        (None, "The job failed because its node has died.", True, False, None),
    ],
)
def test_the_exit_code_of_the_worker_and_what_ray_says_tell_how_it_ended(exit_code, message, lost, by_us, code):
    """A job that no node took in time costs no attempt."""
    end = end_of("SUCCEEDED" if exit_code == 0 else "FAILED", exit_code, message)

    assert (lost, by_us, code) == (end.lost, end.by_us, end.exit_code)


def test_a_storage_that_cannot_be_used_is_said_and_a_job_is_removed_from_it_once_it_is_read(store, cluster, supervise):
    (run_id,) = sweep(store, 4)
    storage = cluster.place / "storage"
    storage.touch()

    supervisor = supervise()
    wait_for(lambda: "The storage of Ray (RANKVIZ_RAY_STORAGE) cannot be used" in store.get(run_id).waits)
    storage.unlink()
    supervisor.settle()

    assert ["completed"] == states(store, [run_id])
    wait_for(lambda: not any(storage.iterdir()))
