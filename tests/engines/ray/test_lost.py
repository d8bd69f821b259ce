"""What is lost, and what is not: nodes, the head, the app. `make test-engines` runs it: minutes, with real node
processes and the true worker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from rankviz.core.runs.events import RunRequeued
from rankviz.engines import Engine
from rankviz.engines.local import Local
from rankviz.store import RunStore
from rankviz.store.ownership import Destination
from rankviz.supervisor import Supervisor
from tests.engines.test_contract import TWELVE, steps_of, three_steps
from tests.support.engines.ray_cluster import RayCluster, node_folder
from tests.support.models.tiny_llama import make_tiny_llama, write_tiny_data
from tests.support.processes.workers import name_of, processes_of, states, sweep, wait_for, worker
from tests.support.runs import questions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SECONDS = 1200
WITH_CHILDREN = (
    "subprocess.Popen(['sleep', '901'], cwd=sys.argv[1]); "
    "subprocess.Popen(['setsid', 'sh', '-c', 'sleep 902 & sleep 903'], cwd=sys.argv[1]); "
    "time.sleep(900)"
)


@pytest.fixture
def cluster():
    """Three nodes with a slot each."""
    cluster = RayCluster(1, 1, 1)
    yield cluster
    cluster.close()


@contextmanager
def supervised(store: RunStore, engine: Engine, **settings) -> Iterator[Supervisor]:
    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.1, max_attempts=3, **settings)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def left(store: RunStore) -> list[psutil.Process]:
    """Processes on the nodes that work for this runs folder."""
    place, found = str(node_folder(store)), {each.pid: each for each in processes_of(node_folder(store))}
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(place) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
        except psutil.Error:
            continue
    return list(found.values())


def is_running(store: RunStore, run_id: str) -> bool:
    """Whether it has begun to train and not ended."""
    return bool(store.get(run_id).steps) and not store.get(run_id).state.ended


@pytest.mark.torch
def test_twelve_runs_over_three_nodes_of_which_one_dies_have_the_losses_of_this_machine(tmp_path, cluster):
    model, data = make_tiny_llama(tmp_path / "model"), write_tiny_data(tmp_path / "data.jsonl")
    request = questions.sweep(base=str(model), data=str(data), ranks=TWELVE, max_steps=12)
    here, there = RunStore(tmp_path / "here" / "home"), RunStore(tmp_path / "there" / "home")
    alone, spread = here.run_ids(here.create(request)), there.run_ids(there.create(request))

    with supervised(here, Local(here.home)) as supervisor:
        supervisor.settle(SECONDS)
    with supervised(there, cluster.engine(there)) as supervisor:
        wait_for(lambda: any(is_running(there, run_id) for run_id in spread), SECONDS)
        victim = next(run_id for run_id in spread if is_running(there, run_id))
        cluster.lose_node(there.get(victim).where)
        supervisor.settle(SECONDS)

    ours, theirs = [here.get(run_id) for run_id in alone], [there.get(run_id) for run_id in spread]
    assert ["completed"] * 24 == [run.state for run in (*ours, *theirs)], [run.error for run in (*ours, *theirs)]
    assert [[step.loss for step in run.steps] for run in ours] == [[step.loss for step in run.steps] for run in theirs]
    assert [run.loss_after.loss for run in ours] == [run.loss_after.loss for run in theirs]
    assert [weights(here, run) for run in ours] == [weights(there, run) for run in theirs]
    lost = [run_id for run_id in spread for event in there.events(run_id) if isinstance(event, RunRequeued)]
    assert 1 == len(lost)
    assert 3 == len({event.where for run_id in spread for event in there.events(run_id) if getattr(event, "where", "")})
    assert [] == left(there)


def test_a_lost_head_loses_no_run(store, monkeypatch):
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    cluster, run_ids = RayCluster(1, 1), sweep(store, 4, 8)
    hangs_once = f"while attempts[run_id] == '1': {WITH_CHILDREN}"
    try:
        with supervised(store, cluster.engine(store, worker(three_steps(hangs_once))), split_runs=1) as supervisor:
            wait_for(lambda: all(len(store.get(run_id).steps) == 2 for run_id in run_ids), SECONDS)

            cluster.lose_head()
            wait_for(lambda: all("Ray" in store.get(run_id).waits for run_id in run_ids), SECONDS)
            assert ["running"] * 2 == states(store, run_ids)
            wait_for(lambda: not left(store), SECONDS)

            cluster.start_head()
            cluster.start_node("node-2", 2)
            supervisor.settle(SECONDS)
        assert ["completed"] * 2 == states(store, run_ids)
        assert [[1, 2, 3]] * 2 == steps_of(store, run_ids)
        assert [2, 2] == [store.get(run_id).attempt for run_id in run_ids]
        assert [] == left(store)
    finally:
        cluster.close()


def test_a_node_that_dies_leaves_no_process_and_costs_one_attempt(store, cluster):
    run_ids = sweep(store, 4, 8)
    hangs_once = f"while run_id.endswith('r4') and attempts[run_id] == '1': {WITH_CHILDREN}"
    with supervised(store, cluster.engine(store, worker(three_steps(hangs_once)))) as supervisor:
        wait_for(lambda: sum(name_of(each) == "sleep" for each in left(store)) == 3, SECONDS)

        cluster.lose_node(store.get(run_ids[0]).where)

        wait_for(lambda: not any(name_of(each) == "sleep" for each in left(store)), SECONDS)
        supervisor.settle(SECONDS)
    assert ["completed"] * 2 == states(store, run_ids)
    assert [[1, 2, 3]] * 2 == steps_of(store, run_ids)
    assert 2 == store.get(run_ids[0]).attempt
    assert [] == left(store)
    wait_for(lambda: not cluster.slots(), SECONDS)


def test_cancelling_leaves_no_process_on_any_node_whatever_it_started(store, cluster):
    run_ids = sweep(store, *TWELVE)
    with supervised(store, cluster.engine(store, worker(three_steps(WITH_CHILDREN)))) as supervisor:
        wait_for(lambda: sum(name_of(each) == "sleep" for each in left(store)) == 9, SECONDS)

        supervisor.cancel(store.get(run_ids[0]).request.sweep_id, timeout_seconds=SECONDS)

        assert ["cancelled"] * 12 == states(store, run_ids)
        wait_for(lambda: not left(store))  # runs that had not begun here are cancelled before their job has ended
        wait_for(lambda: not cluster.slots(), SECONDS)


@pytest.mark.torch
def test_a_sweep_moves_to_ray_and_its_killed_app_costs_it_nothing(tmp_path, cluster, store):
    model, data = make_tiny_llama(tmp_path / "model"), write_tiny_data(tmp_path / "data.jsonl")
    request = questions.sweep(base=str(model), data=str(data), ranks=(4, 8), max_steps=600)
    sweep_id = store.create(request, "", Destination("local"))
    run_ids = store.run_ids(sweep_id)
    with supervised(store, Local(store.home)) as supervisor:
        supervisor.cancel(sweep_id)

    moving = rankviz(cluster, store, "runs", "resume", sweep_id, "--engine", "ray")
    wait_for(lambda: store.get(run_ids[0]).steps, SECONDS)
    os.kill(moving.pid, signal.SIGKILL)
    following = rankviz(cluster, store, "runs", "watch", sweep_id)

    assert 0 == following.wait(SECONDS)
    runs = [store.get(run_id) for run_id in run_ids]
    assert ["completed"] * 2 == [run.state for run in runs], [run.error for run in runs]
    assert [("ray", 2), ("ray", 2)] == [(run.engine, run.attempt) for run in runs]
    assert not any(event.lost for run_id in run_ids for event in store.events(run_id) if isinstance(event, RunRequeued))
    wait_for(lambda: not (left(store) or cluster.slots()), SECONDS)  # although the last app has ended with its sweep


def test_nothing_listens_beyond_loopback_and_only_ray_does(store, cluster):
    (run_id,) = sweep(store, 4)
    with supervised(store, cluster.engine(store, worker(three_steps("time.sleep(900)")))) as supervisor:
        wait_for(lambda: is_running(store, run_id), SECONDS)

        listening = listeners(cluster)

        supervisor.cancel(run_id, timeout_seconds=SECONDS)
    assert listening
    assert {"127.0.0.1", "::ffff:127.0.0.1"} >= {address for address, _ in listening}
    assert {"gcs_server", "raylet", "ray", "driver"} >= {program for _, program in listening}


def rankviz(cluster: RayCluster, store: RunStore, *words: str) -> subprocess.Popen:
    """A command of RankViz on this runs folder, whose Ray is this cluster."""
    variables = {
        "RANKVIZ_HOME": store.home,
        "RANKVIZ_RAY_ADDRESS": cluster.address,
        "RANKVIZ_RAY_RESOURCES": json.dumps({"slot": 1}),
        "RANKVIZ_RAY_NODE_FOLDER": node_folder(store).parent,
        "RANKVIZ_RAY_SAME_FOLDERS": "1",
    }
    given = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.Popen(
        [*cluster.enter, *given, sys.executable, "-m", "rankviz", *words], stdout=subprocess.DEVNULL, cwd=store.home
    )


def listeners(cluster: RayCluster) -> Sequence[tuple[str, str]]:
    """(address, program) of every listening socket of the cluster's processes, the driver among them."""
    script = (
        "import json, os\n"
        "from tests.support.processes.guard import having\n"
        "found = [(each.laddr.ip, process.cmdline()) for process in having('RAY_TMPDIR', os.environ['RAY_TMPDIR']) "
        "for each in process.net_connections('inet') if each.status == 'LISTEN']\n"
        "print(json.dumps(found))"
    )
    found = subprocess.run([*cluster.enter, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [(address, _program(command)) for address, command in json.loads(found.stdout)]


def _program(command: Sequence[str]) -> str:
    if "rankviz.engines.ray.driver" in command:
        return "driver"
    return Path(command[0]).name.partition("::")[0]


def weights(store: RunStore, run) -> bytes:
    return (Path(store.run_dir(run.run_id)) / run.adapter_path / "adapter_model.safetensors").read_bytes()
