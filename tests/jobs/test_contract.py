"""What every engine must hold, whichever it is: no run lost, none counted twice, no process left.

To add an engine: a function like those below, and its name in ENGINES.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import psutil
import pytest

from rankviz.core.runs.events import RunRequeued
from rankviz.jobs import Engine
from rankviz.jobs.hf_jobs import HfJobs
from rankviz.jobs.hub import Logins
from rankviz.jobs.local import Local
from rankviz.store import RunStore
from tests.support.engines.hub_jobs import stand_in_hub
from tests.support.engines.ray_jobs import RayJobs
from tests.support.engines.slurm_cluster import SlurmCluster
from tests.support.processes.workers import HANG_IN_EACH, Patient, processes_of, states, sweep, wait_for, worker
from tests.support.runs import questions

SECONDS = 600
"""Until all runs have ended, on a slow machine."""
SIX = (1, 2, 4, 8, 16, 32)


class Setting(NamedTuple):
    """An engine's set-up; what a failed test leaves running in it is killed."""

    at_once: int
    engine: Callable[[RunStore, Sequence[str]], Engine]
    """The engine of a store, which runs this command."""
    processes: Callable[[], list[psutil.Process]]

    @contextlib.contextmanager
    def cleared(self) -> Iterator["Setting"]:
        yield self
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


def on_this_machine(store: RunStore) -> Iterator[Setting]:
    """Two workers, as on a machine with two GPUs."""

    def engine(store: RunStore, command: Sequence[str]) -> Engine:
        return Local(store.home, commands={"finetune": command}, grace_seconds=2.0, gpus=("0", "1"))

    yield Setting(2, engine, lambda: processes_of(store.home))


def on_hugging_face(store: RunStore) -> Iterator[Setting]:
    """Jobs of a stand-in for the Hub. Each is paid for, so a sweep is one."""
    place = store.home.parent / "hub"
    with stand_in_hub(place) as hub:

        def engine(store: RunStore, command: Sequence[str]) -> Engine:
            logins = Logins(hub.url, of_machine=False)
            for owner in ("", "ann", "ben"):
                logins.give(owner, "hf_alice")
            return HfJobs(store, logins, worker=command, poll_seconds=0.1)

        yield Setting(1, engine, lambda: processes_of(place))


def on_slurm(store: RunStore) -> Iterator[Setting]:
    """Two nodes of a stand-in for a cluster, one job each."""
    with contextlib.closing(SlurmCluster(2)) as cluster:
        yield Setting(2, cluster.engine, lambda: processes_of(store.home / "slurm-jobs"))


def on_ray(store: RunStore) -> Iterator[Setting]:
    """Two slots of a stand-in for a Ray cluster."""
    place = store.home.parent / "ray"
    with contextlib.closing(RayJobs(place)) as cluster:
        yield Setting(2, cluster.engine, lambda: processes_of(place / "tmp"))


ENGINES = {"local": on_this_machine, "hf-jobs": on_hugging_face, "slurm": on_slurm, "ray": on_ray}


@pytest.fixture(params=ENGINES)
def setting(request, store):
    with contextlib.contextmanager(ENGINES[request.param])(store) as setting, setting.cleared():
        yield setting


@pytest.fixture
def supervise(setting, store, started):
    """Starts a supervisor with the engine and a command; all are stopped."""

    def start(command: Sequence[str], **settings) -> Patient:
        here = RunStore(store.home)
        return started(here, setting.engine(here, command), **{"split_runs": 3, **settings})

    return start


def three_steps(run: str) -> str:
    """A worker's program of three steps a run, in which `run` stands before the third."""
    return (
        "for run_id in run_ids:\n"
        "    if not begin(run_id): continue\n"
        "    step(run_id, 1); step(run_id, 2)\n"
        f"    {run}\n"
        "    complete(run_id, 3)\n"
    )


def steps_of(store: RunStore, run_ids: Sequence[str]) -> list[list[int]]:
    return [[step.step for step in store.get(run_id).steps] for run_id in run_ids]


def test_runs_complete_each_once_and_every_line_says_whose_it_is(supervise, setting, store):
    run_ids = sweep(store, *SIX)

    supervise(worker(three_steps("pass"))).settle(SECONDS)

    assert ["completed"] * 6 == states(store, run_ids)
    assert [[1, 2, 3]] * 6 == steps_of(store, run_ids)
    assert {1} == {event.attempt for run_id in run_ids for event in store.events(run_id)}
    assert setting.at_once == len({store.get(run_id).environment["pid"] for run_id in run_ids})
    assert [] == setting.processes()


def test_an_engine_has_a_name_and_a_run_says_where_it_is_and_a_cancelled_sweep_leaves_no_process(
    supervise, setting, store
):
    run_id, last = sweep(store, 4, 8)
    supervisor = supervise(worker(three_steps("subprocess.Popen(['sleep', '61']); time.sleep(600)")))
    (engine,) = supervisor.engines
    wait_for(lambda: len(store.get(run_id).steps) == 2)

    assert ("", True) == (engine.why_not(), engine.title not in ("", engine.name))
    assert engine.name == store.get(run_id).place.engine
    wait_for(lambda: (place := store.get(run_id).place).where and place.job)
    assert setting.processes()
    supervisor.cancel(store.get(run_id).request.sweep_id)
    assert (["cancelled"] * 2, []) == (states(store, [run_id, last]), setting.processes())


def test_a_worker_killed_in_the_middle_costs_its_run_one_attempt_and_nothing_counts_twice(supervise, setting, store):
    run_ids = sweep(store, *SIX)
    unlucky = next(run_id for run_id in run_ids if run_id.endswith("r8"))
    waits_once = f"while run_id == {unlucky!r} and attempts[run_id] == '1': time.sleep(0.02)"
    supervisor = supervise(worker(three_steps(waits_once)))
    wait_for(lambda: len(store.get(unlucky).steps) == 2)

    os.kill(store.get(unlucky).environment["pid"], signal.SIGKILL)
    supervisor.settle(SECONDS)

    assert ["completed"] * 6 == states(store, run_ids)
    assert [[1, 2, 3]] * 6 == steps_of(store, run_ids)
    assert {2} == {store.get(unlucky).attempt}
    assert 1 == sum(isinstance(event, RunRequeued) for event in store.events(unlucky))
    assert not any(isinstance(event, RunRequeued) for run in run_ids if run != unlucky for event in store.events(run))
    assert [] == setting.processes()


@pytest.mark.parametrize(
    ("does", "attempts", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, ""),
        ("write(run_id, RunFailed(time=time.time(), error='Out of memory.')); continue", 1, "Out of memory."),
    ],
)
def test_a_run_that_is_lost_each_time_or_that_fails_itself_ends_with_the_reason(
    supervise, setting, store, does, attempts, why
):
    run_ids = sweep(store, 4, 8)

    supervise(worker(three_steps(f"if run_id.endswith('r4'): {does}"))).settle(SECONDS)

    assert ["failed", "completed"] == states(store, run_ids)
    assert attempts == store.get(run_ids[0]).attempt
    assert why in (error := store.get(run_ids[0]).error) and error
    assert [] == setting.processes()


def test_a_cancelled_run_takes_no_other_with_it(supervise, setting, store):
    run_ids = sweep(store, 4, 8)
    supervisor = supervise(worker(three_steps("while run_id.endswith('r4'): time.sleep(0.02)")))
    wait_for(lambda: store.get(run_ids[0]).steps)

    supervisor.cancel(run_ids[0])
    supervisor.settle(SECONDS)

    assert ["cancelled", "completed"] == states(store, run_ids)
    assert [1, 2, 3] == steps_of(store, run_ids)[1]


def test_a_restarted_app_goes_on_with_what_still_runs(supervise, setting, store):
    run_ids = sweep(store, 4, 8)
    go = store.home.parent / "go"
    waits = worker(three_steps(f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"))
    first = supervise(waits)
    wait_for(lambda: len(store.get(run_ids[0]).steps) == 2)
    first.stop()

    second = supervise(waits)
    go.touch()
    second.settle(SECONDS)

    assert ["completed"] * 2 == states(store, run_ids)
    assert [[1, 2, 3]] * 2 == steps_of(store, run_ids)
    assert {1} == {store.get(run_id).attempt for run_id in run_ids}


def test_what_ended_while_no_app_looked_is_settled_by_the_next(supervise, setting, store):
    run_ids = sweep(store, 4, 8)
    supervise_first = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    supervise_first.stop()
    os.kill(store.get(run_ids[0]).environment["pid"], signal.SIGKILL)

    supervise(worker(three_steps("pass"))).settle(SECONDS)

    assert ["completed"] * 2 == states(store, run_ids)
    assert [2, 1] == [store.get(run_id).lost_attempts + 1 for run_id in run_ids]
    assert [[1, 2, 3]] * 2 == steps_of(store, run_ids)


def test_visitors_run_side_by_side(supervise, setting, store):
    mine = store.run_ids(store.create(questions.sweep(ranks=(1, 2, 3, 4)), "ann"))
    theirs = store.run_ids(store.create(questions.sweep(ranks=(4,)), "ben"))
    go = store.home.parent / "go"
    waits = worker(three_steps(f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"))

    supervisor = supervise(waits)
    wait_for(lambda: store.get(mine[0]).steps and store.get(theirs[0]).steps)
    go.touch()
    supervisor.settle(SECONDS)

    assert ["completed"] * 5 == states(store, [*mine, *theirs])
