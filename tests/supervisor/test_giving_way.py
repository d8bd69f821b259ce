"""Which jobs are asked to end before their next run: those that have begun, and no more than others need."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rankviz.store import RunStore
from rankviz.supervisor import Supervisor, stopwatch
from tests.support.elsewhere import Elsewhere
from tests.support.workers import each_waits_for, states, wait_for
from tests.supervisor.test_turns import queued


class Cluster(Elsewhere):
    """Says which jobs were asked to give way. Some wait in its own queue."""

    def __init__(self, *args):
        super().__init__(*args)
        self.waits, self.asked = "", []

    def live(self):
        return [replace(live, waits=self.waits) for live in super().live()]

    def give_way(self, live):
        self.asked.append(live.job.attempts[0].run_id)


@pytest.fixture
def start(store, tmp_path):
    """A supervisor of so many machines. Their workers begin once tmp_path has the file `node`, and hold each run until
    it has one with its rank."""
    started = []
    waits = f"while not os.path.exists({str(tmp_path / 'node')!r}): time.sleep(0.02)\n"
    *python, program = each_waits_for(tmp_path)
    command = *python, program.replace("for run_id in run_ids", f"{waits}for run_id in run_ids", 1)

    def of(machines, **settings):
        engine = Cluster(RunStore(store.home), tmp_path / "elsewhere", command, machines)
        supervisor = Supervisor(store, engines=[engine], poll_seconds=0.02, **settings)
        started.append((supervisor, engine))
        return supervisor, engine

    yield of
    for supervisor, engine in started:
        supervisor.stop()
        for live in engine.live():
            engine.cancel(live)


@pytest.fixture
def clock(monkeypatch):
    """Of turns, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


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
