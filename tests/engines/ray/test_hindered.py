"""Nodes that cannot do what they are asked, and people who clean up: full disks, processes that stand still, folders
that go, copies of a runs folder. No run is lost, none counted twice, and nobody else waits for them."""

import contextlib
import os
import shutil
import signal
import time
from contextlib import ExitStack, suppress

import psutil
import pytest

from rankviz.core.runs.events import GPU_LOST, RunStarted
from rankviz.engines import Live
from rankviz.engines.local import Local
from rankviz.engines.ray.engine import Ray
from rankviz.engines.ray.slot import own_folder
from rankviz.errors import EngineEndingError, EngineUnavailableError
from rankviz.store import RunStore
from rankviz.store.ownership import Destination
from rankviz.supervisor import Supervisor
from tests.engines.ray.test_lost import left
from tests.support.engines.ray_cluster import RayCluster, node_folder
from tests.support.processes.hostile_disks import fill, small_disk
from tests.support.processes.workers import (
    COMPLETE_ALL,
    HANG_IN_EACH,
    lost_reasons,
    states,
    sweep,
    wait_for,
    waiting_for,
    worker,
)
from tests.support.runs import questions

pytestmark = pytest.mark.timeout(1200)
SECONDS = 300.0
STEPS_ON = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        for number in range(1, 100): step(run_id, number); time.sleep(0.1)\n"
    "        complete(run_id, 100)"
)


class Timed(Supervisor):
    """Knows how long its longest tick took, in seconds."""

    longest = 0.0

    def tick(self) -> None:
        since = time.monotonic()
        super().tick()
        self.longest = max(self.longest, time.monotonic() - since)


@pytest.fixture
def supervise(store):
    with ExitStack() as stack:

        def start(*engines, store=store, **settings) -> Timed:
            supervisor = Timed(store, engines=engines, poll_seconds=0.05, **{"max_attempts": 3, **settings})
            supervisor.start()
            stack.callback(supervisor.stop)
            return supervisor

        yield start


def on(store, engine: str, *ranks: int, owner: str = "") -> list[str]:
    """Queue a sweep on an engine and return its run ids."""
    return store.run_ids(store.create(questions.sweep(ranks=ranks), owner, Destination(engine)))


def with_disk(cluster: RayCluster, store: RunStore, command, folder, **settings) -> Ray:
    return cluster.engine(store, command, **settings, node_folder=str(folder))


def test_a_slot_that_stands_still_keeps_nobody_waiting_and_what_was_cancelled_ends_once_it_goes_on(
    two_slots, store, supervise
):
    local = Local(store.home, commands={"finetune": COMPLETE_ALL})
    supervisor = supervise(two_slots.engine(store, HANG_IN_EACH), local)
    (run_id,) = on(store, "ray", 4, owner="ann")
    wait_for(lambda: store.get(run_id).steps)
    stopped = two_slots.slots()
    for slot in stopped:
        slot.send_signal(signal.SIGSTOP)
    try:
        with suppress(EngineUnavailableError):
            supervisor.cancel(run_id, timeout_seconds=1.0)
        (other,) = on(store, "local", 4, owner="ben")
        wait_for(lambda: store.get(other).state.ended)
        time.sleep(3.0)
        assert ["running", "completed"] == states(store, [run_id, other])
        assert supervisor.longest < 60.0
    finally:
        for slot in stopped:
            slot.send_signal(signal.SIGCONT)

    wait_for(lambda: store.get(run_id).state.ended)
    assert (["cancelled"], []) == (states(store, [run_id]), left(store))
    wait_for(lambda: not two_slots.slots())


def test_a_run_waits_for_room_on_the_disk_of_its_only_node_and_loses_no_attempt(two_slots, store, supervise):
    with small_disk(1) as disk:
        filler = fill(disk)
        supervise(with_disk(two_slots, store, COMPLETE_ALL, disk / "jobs", alone_seconds=2.0))
        run_ids = sweep(store, 4, 8)
        place = own_folder(str(disk / "jobs"))
        full = f"node-0 gets no job for 2 s. The disk with {place} is full. Free some space on it."
        wait_for(lambda: full in [store.get(run_id).waits for run_id in run_ids])

        filler.unlink()

        wait_for(lambda: all(store.get(run_id).state.ended for run_id in run_ids))
        assert ["completed"] * 2 == states(store, run_ids)
        assert [[], []] == [lost_reasons(store, run_id) for run_id in run_ids]
        assert [1, 1] == [store.get(run_id).attempt for run_id in run_ids]


@pytest.mark.slow
def test_a_node_with_a_full_disk_gets_no_work_while_a_good_one_is_busy(tmp_path, store, supervise):
    go, folder = tmp_path / "go", tmp_path / "jobs"
    folder.mkdir()
    cluster = RayCluster(1)
    try:
        supervise(with_disk(cluster, store, waiting_for(go), folder))
        (first,) = on(store, "ray", 4, owner="ann")
        wait_for(lambda: store.get(first).steps)
        cluster.start_node("full", small_disk=folder)
        others = [run_id for owner in ("ben", "cy", "di") for run_id in on(store, "ray", 8, 16, 32, owner=owner)]
        wait_for(lambda: any("full gets no job for 30 s. The disk" in store.get(run_id).waits for run_id in others))
        assert ["queued"] * 9 == states(store, others)

        go.touch()

        wait_for(lambda: all(store.get(run_id).state.ended for run_id in others))
        assert ["completed"] * 10 == states(store, [first, *others])
        assert {"node-0"} == {store.get(run_id).where for run_id in others}
        assert [] == [reason for run_id in others for reason in lost_reasons(store, run_id)]
    finally:
        cluster.close()


@pytest.mark.slow
def test_a_run_that_fills_the_disk_of_its_node_is_tried_again_and_the_reason_is_kept(two_slots, store, supervise):
    fills_once = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        if attempts[run_id] == '1': (store.run_dir(run_id) / 'adapter').write_bytes(bytes(4_000_000))\n"
        "        complete(run_id)"
    )
    with small_disk(3) as disk:
        supervisor = supervise(with_disk(two_slots, store, fills_once, disk, alone_seconds=0.5))
        (run_id,) = sweep(store, 4)
        supervisor.settle(SECONDS)

        assert ["completed"] == states(store, [run_id])
        full = f"node-0: The disk with {own_folder(str(disk))} is full. Free some space on it."
        assert [full] == lost_reasons(store, run_id)


@pytest.mark.slow
def test_a_folder_that_is_removed_in_the_middle_costs_an_attempt_and_the_same_one_is_not_begun_again(
    tmp_path, two_slots, store, supervise
):
    go = tmp_path / "go"
    supervisor = supervise(two_slots.engine(store, waiting_for(go)))
    (run_id,) = sweep(store, 4)
    wait_for(lambda: store.get(run_id).steps)

    for folder in node_folder(store).glob("[!.]*"):
        shutil.rmtree(folder)
    wait_for(lambda: store.get(run_id).attempt == 2)
    go.touch()
    supervisor.settle(SECONDS)

    assert ["completed"] == states(store, [run_id])
    assert ["The folder of the job was removed on node-0 while it ran."] == lost_reasons(store, run_id)
    assert [1, 2] == [event.attempt for event in store.events(run_id) if isinstance(event, RunStarted)]
    assert [] == left(store)


@pytest.mark.slow
def test_a_copy_of_a_runs_folder_leaves_the_slots_of_the_first_alone(tmp_path, two_slots, store, supervise):
    go = tmp_path / "go"
    first = supervise(two_slots.engine(store, waiting_for(go)))
    (run_id,) = sweep(store, 4)
    wait_for(lambda: store.get(run_id).steps)
    shutil.copytree(store.home, tmp_path / "copy" / "home", ignore=shutil.ignore_patterns("*.lock"))
    copy = RunStore(tmp_path / "copy" / "home")

    second = supervise(two_slots.engine(copy, COMPLETE_ALL), store=copy)
    second.settle(SECONDS)
    go.touch()
    first.settle(SECONDS)

    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    assert (["completed"], 2) == (states(copy, [run_id]), copy.get(run_id).attempt)


@pytest.mark.slow
def test_a_job_that_was_stopped_by_an_app_that_then_forgot_it_goes_on(two_slots, store, supervise):
    engine = two_slots.engine(store, STEPS_ON)
    supervisor = supervise(engine)
    (run_id,) = sweep(store, 4)
    wait_for(lambda: store.get(run_id).steps)
    (live,) = engine.live()

    with suppress(RuntimeError):
        cancel_and_break_off(engine, live)
    seen = len(store.get(run_id).steps)

    wait_for(lambda: len(store.get(run_id).steps) > seen + 20)
    supervisor.cancel(run_id, timeout_seconds=60)
    assert (["cancelled"], []) == (states(store, [run_id]), left(store))


def cancel_and_break_off(engine: Ray, live: Live) -> None:
    """RuntimeError once the job stands still."""

    def breaks() -> bool:
        raise RuntimeError

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(EngineUnavailableError):
            engine.cancel(live, breaks)
        time.sleep(0.05)


@pytest.mark.slow
def test_a_driver_that_stands_still_keeps_nobody_waiting_and_loses_no_run(tmp_path, two_slots, store, supervise):
    go = tmp_path / "go"
    local = Local(store.home, commands={"finetune": COMPLETE_ALL})
    supervisor = supervise(two_slots.engine(store, waiting_for(go)), local)
    (run_id,) = on(store, "ray", 4)
    wait_for(lambda: store.get(run_id).steps)

    for process in psutil.Process().children(recursive=True):
        if "rankviz.engines.ray.driver" in process.cmdline():
            os.kill(process.pid, signal.SIGSTOP)
    (other,) = on(store, "local", 4)
    wait_for(lambda: store.get(other).state.ended)
    assert ["running", "completed"] == states(store, [run_id, other])
    assert supervisor.longest < 60.0

    wait_for(lambda: "Ray" in store.get(run_id).waits)
    wait_for(lambda: store.get(run_id).waits == "")
    go.touch()
    wait_for(lambda: store.get(run_id).state.ended)
    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)


@pytest.mark.slow
def test_a_job_of_which_nothing_is_known_to_have_begun_ends_too_though_its_runs_are_cancelled_at_once(
    two_slots, store, supervise
):
    supervisor = supervise(two_slots.engine(store, HANG_IN_EACH))
    run_ids = sweep(store, 4, 8)
    wait_for(lambda: len(left(store)) >= 2)
    for slot in two_slots.slots():
        slot.send_signal(signal.SIGSTOP)

    with contextlib.suppress(EngineEndingError):  # its slots stand still
        supervisor.cancel_runs([run_id for run_id in run_ids if store.get(run_id).state.value == "queued"], 3.0)
    for slot in two_slots.slots():
        slot.send_signal(signal.SIGCONT)

    wait_for(lambda: not left(store) and not two_slots.slots())


@pytest.mark.slow
def test_a_run_that_was_lost_with_a_bad_node_waits_for_a_good_one_that_is_busy(tmp_path, store, supervise):
    go, only_there = tmp_path / "go", tmp_path / "only-there"
    only_there.mkdir()
    *python, program = waiting_for(go)
    dies = f"import os, sys\nif os.path.ismount({str(only_there)!r}): sys.exit({GPU_LOST})\n"
    cluster = RayCluster(1)
    try:
        supervise(cluster.engine(store, (*python, dies + program), alone_seconds=0.1), max_attempts=2)
        (first,) = on(store, "ray", 4)
        wait_for(lambda: store.get(first).steps)
        cluster.start_node("bad", small_disk=only_there)
        (second,) = on(store, "ray", 8)
        waits = "It was lost before, so it waits for another node than bad."
        wait_for(lambda: store.get(second).state.ended or store.get(second).waits.endswith(waits))

        go.touch()

        wait_for(lambda: store.get(second).state.ended)
        assert ["completed"] * 2 == states(store, [first, second])
        assert 1 == len(lost_reasons(store, second))
    finally:
        cluster.close()
