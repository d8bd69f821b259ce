"""Runs an hour on 1, 2, 4 and 8 places, through each engine: `make bench engines`.

The worker sleeps instead of training, so that what is measured is what the engines add. Ideal is the time of the sleeps
divided by the places. Ray and Slurm are stand-ins.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rankviz.jobs import Engine
from rankviz.jobs.local import Local
from rankviz.store import RunStore
from tests.support.engines.ray_jobs import RayJobs
from tests.support.engines.slurm_cluster import SlurmCluster
from tests.support.processes.workers import Patient, worker
from tests.support.runs import questions

PLACES = (1, 2, 4, 8)
RUN_SECONDS = float(os.environ.get("BENCH_RUN_SECONDS", 10))
"""Of one run; those of a sweep on a GPU take minutes."""
RUNS_PER_PLACE = 4
WARM_UP = 1000
"""The rank of a run before the others, which does not sleep: an app that has just started connects to Ray by it."""
TARGET = 0.85
POLL_SECONDS = 10.0
"""As RANKVIZ_SLURM_POLL_SECONDS is, unless set."""
SLEEPER = worker(
    "for run_id in run_ids:\n"
    "    if not begin(run_id): continue\n"
    "    step(run_id, 1)\n"
    f"    time.sleep(0 if run_id.endswith('r{WARM_UP}') else {RUN_SECONDS})\n"
    "    complete(run_id, 2)\n"
)


class Measured(NamedTuple):
    """Of one engine with so many places."""

    seconds: float
    first_step_cold: float
    """From the press of the button to the first step, of an app that has just started."""
    first_step: float
    """The same of the next press."""
    between: float
    """From the end of a run to the first step of the next in the same worker, the median."""


def bench_engines() -> None:
    """A table for each engine, and what the others add to a run beside the local one."""
    results = {name: _bench(name, engine_for) for name, engine_for in ENGINES.items()}
    for name in [name for name in results if name != "local"]:
        for places in PLACES:
            local, other = results["local"][places], results[name][places]
            print(
                f"{name} beside local, {places} places: {(other.seconds - local.seconds) / RUNS_PER_PLACE:+.2f} s a "
                f"run, first step {other.first_step - local.first_step:+.1f} s"
            )


def _bench(name: str, engine_for: Callable) -> dict[int, Measured]:
    results = {}
    for places in PLACES:
        with engine_for(places) as make:
            results[places] = measured = _measure(make, places)
        count = places * RUNS_PER_PLACE
        ratio = RUNS_PER_PLACE * RUN_SECONDS / measured.seconds
        print(
            f"{name}, {places} places: {count} runs of {RUN_SECONDS:g} s in {measured.seconds:.1f} s, "
            f"{count / measured.seconds * 3600:,.0f} runs an hour, {ratio:.2f} of ideal"
            f"{'' if ratio >= TARGET else f' (below {TARGET})'}; first step after {measured.first_step:.1f} s "
            f"({measured.first_step_cold:.1f} s in a new app), {measured.between:.2f} s between runs"
        )
    return results


def _measure(make: Callable[[RunStore], Engine], places: int) -> Measured:
    """One sweep, from the press of the button to its last line."""
    with tempfile.TemporaryDirectory(prefix="rv-") as folder:
        store = RunStore(Path(folder) / "home")
        supervisor = Patient(store, engines=[make(store)], split_runs=RUNS_PER_PLACE)
        supervisor.start()
        cold, (first,) = _swept(store, supervisor, (WARM_UP,))
        begin, runs = _swept(store, supervisor, range(1, places * RUNS_PER_PLACE + 1))
        supervisor.stop()
        return Measured(
            seconds=max(run.ended_at for run in runs) - begin,
            first_step_cold=first.started_at - cold,
            first_step=min(run.started_at for run in runs) - begin,
            between=_between(runs),
        )


def _swept(store: RunStore, supervisor: Patient, ranks: Sequence[int]) -> tuple[float, Sequence]:
    """When the button was pressed, and the runs."""
    begin = time.time()
    run_ids = store.run_ids(store.create(questions.sweep(ranks=tuple(ranks))))
    supervisor.settle(RUN_SECONDS * RUNS_PER_PLACE * 20 + 600)
    runs = [store.get(run_id) for run_id in run_ids]
    assert all(run.state == "completed" for run in runs), [run.error for run in runs]
    return begin, runs


def _between(runs: Sequence) -> float:
    by_worker: dict[object, list] = {}
    for run in sorted(runs, key=lambda run: run.started_at):
        by_worker.setdefault(run.environment["pid"], []).append(run)
    gaps = [later.started_at - sooner.ended_at for each in by_worker.values() for sooner, later in pairwise(each)]
    return statistics.median(gaps) if gaps else float("nan")


@contextmanager
def _on_this_machine(places: int):
    """Workers side by side, as where there are so many GPUs."""
    gpus = tuple(map(str, range(places)))
    yield lambda store: Local(store.home, commands={"finetune": SLEEPER, "probe": SLEEPER}, gpus=gpus)


@contextmanager
def _on_ray(places: int):
    """So many slots of a stand-in, which starts a job at once: what a true cluster's queue adds is not in it."""
    with tempfile.TemporaryDirectory(prefix="rv-") as folder:
        cluster = RayJobs(Path(folder), places)
        try:
            yield lambda store: cluster.engine(store, SLEEPER, poll_seconds=2.0)
        finally:
            cluster.close()


@contextmanager
def _on_slurm(places: int):
    """So many nodes of a stand-in, which start what waits at once: what a true cluster's queue adds is not in it."""
    cluster = SlurmCluster(places)
    try:
        yield lambda store: cluster.engine(store, SLEEPER, poll_seconds=POLL_SECONDS)
    finally:
        cluster.close()


ENGINES = {"local": _on_this_machine, "ray": _on_ray, "slurm": _on_slurm}


if __name__ == "__main__":
    sys.exit(bench_engines())
