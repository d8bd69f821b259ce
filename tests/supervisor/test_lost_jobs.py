"""Jobs that are lost before they begin a run, engines that stumble over one job, and what a lost job must not undo."""

import errno
from dataclasses import replace

import pytest

from rankviz.core.runs.events import RunRequeued
from rankviz.errors import EngineUnavailableError, WorkerError
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from rankviz.store.ownership import Destination
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import COMPLETE_ALL, HANG_IN_EACH, lost_reasons, states, sweep, wait_for, worker
from tests.support.runs import questions


def lost_so_often(store, times):
    """A worker that is killed before it begins anything, in so many jobs; the others complete their runs."""
    tries = store.home.parent / "tries"
    return worker(
        f"tries = open({str(tries)!r}, 'a+'); tries.write('x'); tries.flush()\n"
        f"if tries.tell() <= {times}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "for run_id in run_ids: begin(run_id) and complete(run_id)"
    )


def jobs_of(store):
    return len((store.home.parent / "tries").read_text())


@pytest.fixture(params=["local", "elsewhere"])
def supervise(request, store, tmp_path):
    def start(command, **settings):
        engines = [Elsewhere(store, tmp_path / "elsewhere", command, 1)] if request.param == "elsewhere" else []
        return Supervisor(store, engines=engines, command=command, poll_seconds=0.02, **settings)

    return start


def test_a_job_that_is_lost_before_its_first_run_costs_that_run_an_attempt_and_the_sweep_goes_on(supervise, store):
    run_ids = sweep(store, 4, 8, 16)

    supervisor = supervise(lost_so_often(store, 2), max_attempts=3)
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 3 == states(store, run_ids)
    assert [2, 0, 0] == [len(lost_reasons(store, run_id)) for run_id in run_ids]


def test_jobs_that_are_always_lost_before_their_first_run_end(supervise, store):
    run_ids = sweep(store, 4, 8, 16, 32)

    supervisor = supervise(lost_so_often(store, 99), max_attempts=2)
    supervisor.settle()
    supervisor.stop()

    assert ["failed"] * 4 == states(store, run_ids)
    assert 4 == jobs_of(store)
    assert store.get(run_ids[3]).error.startswith("Not started: 2 workers in a row completed no run")


class Unforgetting(Elsewhere):
    """Cannot forget a job at first."""

    left = 5

    def forget(self, live):
        self.left -= 1
        if self.left >= 0:
            raise EngineUnavailableError("It does not answer.")
        super().forget(live)


def test_a_job_that_cannot_be_forgotten_is_settled_once(store, tmp_path):
    run_ids = sweep(store, 4, 8, 16)
    engine = Unforgetting(store, tmp_path / "elsewhere", lost_so_often(store, 1), 1)

    supervisor = Supervisor(store, engines=[engine], poll_seconds=0.02, max_attempts=3)
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] * 3 == states(store, run_ids)
    assert [1, 0, 0] == [len(lost_reasons(store, run_id)) for run_id in run_ids]


def test_a_wish_to_cancel_outlives_the_app_and_the_worker(store):
    (run_id,) = sweep(store, 4)
    store.begin(run_id)
    store.ask_to_cancel(run_id)

    supervisor = Supervisor(RunStore(store.home), command=COMPLETE_ALL, max_attempts=3)
    supervisor.settle()
    supervisor.stop()

    assert (["cancelled"], []) == (states(store, [run_id]), lost_reasons(store, run_id))


def test_a_wish_that_comes_while_a_run_is_tried_again_stays(store):
    (run_id,) = sweep(store, 4)
    store.begin(run_id)
    store.ask_to_cancel(run_id)

    store.clear(run_id)

    assert "" == store.cancel_word(run_id)


class Stumbling(Elsewhere):
    """Fails at one of its methods."""

    name = "stumbling"
    at = ""

    def room(self):
        return self._or_fail("room", super().room)

    def give_way(self, live):
        self._or_fail("give_way", lambda: None)

    def events(self, live, attempt, offset):
        return self._or_fail("events", lambda: super(Stumbling, self).events(live, attempt, offset))

    def collect(self, live, attempt, folder):
        self._or_fail("collect", lambda: super(Stumbling, self).collect(live, attempt, folder))

    def cancel(self, live, unless=lambda: False):
        return self._or_fail("cancel", lambda: super(Stumbling, self).cancel(live, unless))

    def forget(self, live):
        self._or_fail("forget", lambda: super(Stumbling, self).forget(live))

    def release(self):
        self._or_fail("release", lambda: None)

    def _or_fail(self, what, answer):
        if self.at == what:
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
        return answer()


@pytest.mark.parametrize("at", ["room", "give_way", "events", "collect", "cancel", "forget", "release"])
def test_an_engine_that_stumbles_over_a_file_keeps_no_other_waiting(store, tmp_path, caplog, at):
    """One that divides its sweep since a place is free, and whose run is to be cancelled."""
    there = store.run_ids(store.create(questions.sweep(ranks=range(1, 10)), destination=Destination("stumbling")))
    hangs_or_dies = worker(
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        step(run_id)\n"
        "        while not (store.home / 'go').exists(): time.sleep(0.02)\n"
        "        raise SystemExit(1)"
    )
    stumbling = Stumbling(store, tmp_path / "stumbling", hangs_or_dies, 1)
    supervisor = Supervisor(store, engines=[Elsewhere(store, tmp_path / "elsewhere", COMPLETE_ALL), stumbling])
    wait_for(lambda: supervisor.tick() or store.get(there[0]).steps)
    stumbling._machines, stumbling.at = 2, at
    store.ask_to_cancel(there[1])
    if at == "cancel":
        store.ask_to_cancel(there[0])
    if at != "give_way":  # a job that has ended is asked for nothing
        for folder in (tmp_path / "stumbling").iterdir():
            (folder / "go").touch()

    (here,) = sweep(store, 4)
    wait_for(lambda: supervisor.tick() or states(store, [here]) == ["completed"])
    supervisor.stop()

    assert 1 >= caplog.text.count("Traceback")
    stumbling.at = ""
    supervisor.cancel_runs(there)
    supervisor.stop()


class Holding(Elsewhere):
    """Ends nothing."""

    waits = ""

    def live(self):
        return [replace(live, waits=self.waits) for live in super().live()]

    def cancel(self, live, unless=lambda: False):
        raise EngineUnavailableError("Its cluster does not answer.")


@pytest.mark.parametrize("waits", ["", "Its cluster does not answer."])
def test_who_cancels_while_an_engine_is_away_leaves_a_wish_and_is_told_what_is_true(store, tmp_path, caplog, waits):
    (run_id,) = sweep(store, 4)
    engine = Holding(RunStore(store.home), tmp_path / "elsewhere", HANG_IN_EACH)
    supervisor = Supervisor(RunStore(store.home), engines=[engine], poll_seconds=0.02)
    wait_for(lambda: supervisor.tick() or store.get(run_id).steps)
    engine.waits = waits
    supervisor.tick()

    with pytest.raises(WorkerError, match="is asked to cancel it, and has not done so yet") as error:
        Supervisor(store, engines=[engine]).cancel(run_id, timeout_seconds=0.1)
    assert str(error.value).endswith(waits or "It goes on trying, unless it is stopped or hangs.")
    with pytest.raises(EngineUnavailableError, match=r"does not answer. The wish to cancel is kept"):
        supervisor.cancel(run_id)
    for _ in range(5):
        supervisor.tick()

    assert (["running"], "") == (states(store, [run_id]), store.cancel_word(run_id))
    assert 1 == caplog.text.count("does not answer")
    supervisor.stop()
    Elsewhere.cancel(engine, Elsewhere.live(engine)[0])


def test_a_run_that_was_asked_for_again_has_no_wish_left(store):
    (run_id,) = sweep(store, 4)
    store.ask_to_cancel(run_id)
    supervisor = Supervisor(store, command=COMPLETE_ALL)
    supervisor.settle()
    store.requeue(run_id)
    supervisor.settle()
    supervisor.stop()

    assert ["completed"] == states(store, [run_id])
    assert 1 == sum(isinstance(event, RunRequeued) for event in store.events(run_id))
