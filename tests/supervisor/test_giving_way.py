"""Which jobs are asked to end before their next run: those that have begun, and no more than others need."""

from dataclasses import replace

import pytest

from tests.supervisor.test_turns import queued
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import each_waits_for, states, wait_for


class Cluster(Elsewhere):
    """Says which jobs were asked to give way. Some wait in its own queue."""

    def __init__(self, *args):
        super().__init__(*args)
        self.waits, self.asked, self.dead = "", [], 0

    def live(self):
        return [replace(live, waits=self.waits) for live in super().live()]

    def sound_room(self):
        return self.room() - self.dead

    def give_way(self, live):
        self.asked.append(live.job.attempts[0].run_id)


@pytest.fixture
def start(supervise, tmp_path):
    """A supervisor of so many machines. Their workers begin once tmp_path has the file `node`, and hold each run until
    it has one with its rank."""
    waits = f"while not os.path.exists({str(tmp_path / 'node')!r}): time.sleep(0.02)\n"
    *python, program = each_waits_for(tmp_path)
    command = *python, program.replace("for run_id in run_ids", f"{waits}for run_id in run_ids", 1)
    return lambda machines, **settings: supervise(command, make=Cluster, machines=machines, **settings)


def test_a_turn_begins_with_the_first_run_and_not_while_the_job_waits_in_its_cluster(start, store, clock, tmp_path):
    (long, _), (other,) = queued(store, "ann", 1, 2), queued(store, "ben", 4)
    supervisor, engine = start(1, turn_minutes=10)
    engine.waits = "Other jobs of the cluster go first."
    for _ in range(3):
        supervisor.tick()
        clock[0] += 3600
    assert [] == engine.asked

    (tmp_path / "node").touch()
    wait_for(lambda: supervisor.tick() or store.get(long).steps)
    engine.waits = ""
    supervisor.tick()
    clock[0] += 599
    supervisor.tick()
    assert [] == engine.asked
    engine.waits = "Slurm does not answer."
    clock[0] += 2
    supervisor.tick()

    assert [long] == engine.asked
    assert ["queued"] == states(store, [other])


@pytest.fixture
def divisible(start, store, tmp_path):
    """A supervisor and its machines, which are at the first runs of sweeps of 9, 10 and 8, and those runs."""
    sweeps = [queued(store, "ann", *range(first, last)) for first, last in ((1, 10), (11, 21), (31, 39))]
    supervisor, engine = start(3)
    (tmp_path / "node").touch()
    first = [run_ids[0] for run_ids in sweeps]
    wait_for(lambda: supervisor.tick() or all(store.get(run_id).steps for run_id in first))
    return supervisor, engine, first


def test_one_free_place_is_for_the_sweep_with_most_left_and_no_other_is_asked(divisible):
    supervisor, engine, first = divisible
    engine._machines = 4
    for _ in range(5):
        supervisor.tick()

    assert {first[1]} == set(engine.asked)


def test_so_many_sweeps_give_way_as_can_use_the_places_that_are_free(divisible):
    """What is left of 10 is worth three places, so two more; each of the others takes one more."""
    supervisor, engine, first = divisible
    engine._machines = 3 + 2 + 1
    for _ in range(5):
        supervisor.tick()

    assert {first[1], first[0]} == set(engine.asked)


def test_no_sweep_gives_way_for_a_place_that_has_lost_its_last_job(divisible):
    supervisor, engine, _ = divisible
    engine._machines, engine.dead = 4, 1
    for _ in range(5):
        supervisor.tick()

    assert [] == engine.asked


def test_no_job_that_waits_in_its_cluster_is_asked_to_divide_its_sweep(start, store):
    queued(store, "ann", *range(1, 9))
    supervisor, engine = start(1)
    engine.waits = "Other jobs of the cluster go first."
    supervisor.tick()
    engine._machines = 2
    for _ in range(5):
        supervisor.tick()

    assert [] == engine.asked
