"""What is brought from elsewhere into a run's journal."""

import json
import time
from types import SimpleNamespace

import pytest

from rankviz.core.runs.events import (
    Attempt,
    AttemptPlaced,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequeued,
    StepLogged,
)
from rankviz.errors import EngineError, EngineUnavailableError
from rankviz.jobs import Engine, Job, Live
from rankviz.jobs import live as jobs
from rankviz.jobs.live import Copying, stamped
from rankviz.jobs.supervisor import Supervisor
from rankviz.store import RunStore
from rankviz.store.ownership import WantedEngine
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import COMPLETE_ALL, states, sweep, wait_for
from tests.support.runs import questions

STEP = {"event": "StepLogged", "time": 1.0, "loss": 1.0, "learning_rate": 1e-3, "memory_bytes": 1}
DONE = {"event": "RunCompleted", "time": 9.0, "train_seconds": 1.0, "peak_memory_bytes": 1, "peak_memory_kind": "x"}


def step(number):
    return {**STEP, "step": number, "tokens": number, "seconds": number}


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


class Far(Engine):
    """Has the journal that it is given."""

    name, shares_disk = "far", False

    def __init__(self, data=b""):
        self.data, self.error, self.asked = data, None, []

    def events(self, live, attempt, offset):
        self.asked.append((attempt.run_id, offset))
        return self.data[offset:]

    def collect(self, live, attempt, folder):
        if self.error:
            raise self.error


@pytest.fixture
def run_id(store):
    return sweep(store, 4)[0]


def copy(store, run_id, far, copying=None, attempt=1):
    (copying or Copying(store)).copy(far, Live(job=Job(attempts=(Attempt(run_id, attempt),)), handle="1"))
    return store.get(run_id)


def test_each_event_gets_its_attempt_and_where_its_line_ends():
    data = lines(step(1), step(2))

    events = list(stamped(data, Attempt("r", 3), 1000))

    assert [(3, 1000 + len(lines(step(1)))), (3, 1000 + len(data))] == [(e.attempt, e.offset) for e in events]


def test_a_worker_elsewhere_gives_out_no_attempts():
    requeued = {"event": "RunRequeued", "time": 1.0}
    placed = {"event": "AttemptPlaced", "time": 1.0, "attempt": 9, "engine": "mine"}

    assert [StepLogged] == [type(e) for e in stamped(lines(requeued, placed, step(1)), Attempt("r", 1), 0)]


def test_a_journal_that_grows_comes_once_whoever_brings_it(store, run_id):
    far = Far(lines(step(1)))
    copy(store, run_id, far)
    far.data += lines(step(2)) + b'{"event": "Step'

    record = copy(RunStore(store.home), run_id, far)

    assert [1, 2] == [each.step for each in record.steps]
    assert [(run_id, 0), (run_id, len(lines(step(1))))] == far.asked


def test_lines_that_are_no_event_are_not_asked_for_again(store, run_id):
    far, copying = Far(b"noise\n"), Copying(store)

    copy(store, run_id, far, copying)
    copy(store, run_id, far, copying)

    assert [(run_id, 0), (run_id, 6)] == far.asked


def test_a_run_completes_once_its_adapter_is_here(store, run_id):
    far, copying = Far(lines(step(1), DONE)), Copying(store)
    far.error = EngineUnavailableError("The bucket does not answer.")

    with pytest.raises(EngineUnavailableError):
        copy(store, run_id, far, copying)
    meanwhile = store.get(run_id)
    far.error = None
    record = copy(store, run_id, far, copying)

    assert ("queued", 1) == (meanwhile.state, len(meanwhile.steps))
    assert ("completed", 1) == (record.state, len(record.steps))


def test_a_run_whose_adapter_did_not_arrive_fails_with_the_reason(store, run_id):
    far = Far(lines(step(1), DONE))
    far.error = EngineError("adapter/adapter_model.safetensors did not arrive whole.")

    record = copy(store, run_id, far)

    assert ("failed", 1) == (record.state, len(record.steps))
    assert "The run completed, but its adapter is not here. adapter/adapter_model.safetensors" in record.error


def test_what_is_not_the_current_attempt_is_not_brought(store, run_id):
    store.append(run_id, RunFailed(time=1.0, error="no luck"))
    store.append(run_id, RunRequeued(time=2.0, attempt=1))

    record = copy(store, run_id, Far(lines(step(1), DONE)), attempt=1)

    assert ("queued", ()) == (record.state, record.steps)
    assert not any(isinstance(event, RunCompleted) for event in store.events(run_id))


def test_runs_after_the_first_that_goes_on_are_asked_only_once_the_job_has_ended(store):
    first, second = sweep(store, 4, 8)
    far = Far(lines(step(1)))
    job = Job(attempts=(Attempt(first, 1), Attempt(second, 1)))

    Copying(store).copy(far, Live(job=job, handle="1"))

    assert [(first, 0)] == far.asked


def test_a_job_is_not_at_a_run_that_nobody_wants_once_a_later_one_of_it_has_completed(store):
    unwanted, done, last = sweep(store, 4, 8, 16)
    store.append(unwanted, RunCancelled(time=1.0))
    far, copying = Far(lines(step(1))), Copying(store)

    def is_at_unwanted(*run_ids):
        return copying.is_at_unwanted(
            far, Live(job=Job(attempts=tuple(Attempt(each, 1) for each in run_ids)), handle="1")
        )

    assert is_at_unwanted(unwanted, done, last)
    store.append(done, RunCompleted(time=9.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x"))
    assert not is_at_unwanted(unwanted, done, last)


def test_a_journal_of_a_run_that_nobody_wants_is_read_once(store):
    unwanted, last = sweep(store, 4, 8)
    store.append(unwanted, RunCancelled(time=1.0))
    far, copying = Far(lines(step(1))), Copying(store)
    live = Live(job=Job(attempts=(Attempt(unwanted, 1), Attempt(last, 1))), handle="1")

    assert copying.is_at_unwanted(far, live)
    assert copying.is_at_unwanted(far, live)
    far.data += lines(DONE)
    assert not copying.is_at_unwanted(far, live)

    whole = len(lines(step(1)))
    assert [(unwanted, 0), (unwanted, whole), (unwanted, whole)] == far.asked


class Refusing(Elsewhere):
    """Starts nothing as long as it has a reason."""

    reason = "Its cluster does not answer."

    def start(self, job):
        if self.reason:
            raise EngineUnavailableError(self.reason)
        return super().start(job)


def test_a_run_that_is_refused_again_and_again_stays_one_attempt_and_says_why_once(store, tmp_path):
    (run_id,) = sweep(store, 4)
    engine = Refusing(store, tmp_path / "elsewhere", COMPLETE_ALL)
    supervisor = Supervisor(store, engines=[engine])

    for _ in range(5):
        supervisor.tick()

    record = store.get(run_id)
    assert (1, "Its cluster does not answer.") == (record.attempt, record.waits)
    assert 2 == sum(isinstance(event, AttemptPlaced) for event in store.events(run_id))
    engine.reason = ""
    supervisor.settle()
    supervisor.stop()
    assert (["completed"], 1) == (states(store, [run_id]), store.get(run_id).attempt)
    assert "" == store.get(run_id).waits


class Wordy(Refusing):
    """Gives another reason each time."""

    asked = 0

    def start(self, job):
        self.asked += 1
        self.reason = self.reason and f"It does not answer (request {self.asked})."
        return super().start(job)


def test_a_reason_in_other_words_each_time_is_written_down_more_and_more_rarely(store, tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock[0]))
    (run_id,) = sweep(store, 4)
    engine = Wordy(store, tmp_path / "elsewhere", COMPLETE_ALL)
    supervisor = Supervisor(store, engines=[engine])

    for _ in range(1000):
        supervisor.tick()
        clock[0] += 1.0

    assert 1000 == engine.asked
    assert store.get(run_id).waits.startswith("It does not answer (request ")
    # The place, a reason, then after 1, 3, 7, ... 255 s, and then again after 256 s.
    assert 1 + 1 + 8 + 1 == sum(isinstance(event, AttemptPlaced) for event in store.events(run_id))
    engine.reason = ""
    wait_for(lambda: supervisor.tick() or states(store, [run_id]) == ["completed"])
    supervisor.stop()
    assert "" == store.get(run_id).waits


class Broken(Elsewhere):
    """With a mistake in its code."""

    name = "broken"
    where = ""

    def live(self):
        return self._or_stumble("live", super().live)

    def room(self):
        return self._or_stumble("room", super().room)

    def start(self, job):
        return self._or_stumble("start", lambda: super(Broken, self).start(job))

    def _or_stumble(self, where, answer):
        if self.where == where:
            raise ZeroDivisionError
        return answer()


@pytest.mark.parametrize("where", ["live", "room", "start"])
def test_an_engine_with_a_mistake_keeps_the_runs_of_no_other_waiting_and_is_in_the_log_once(
    store, tmp_path, caplog, where
):
    broken = Broken(store, tmp_path / "broken", COMPLETE_ALL)
    broken.where = where
    supervisor = Supervisor(store, engines=[Elsewhere(store, tmp_path / "elsewhere", COMPLETE_ALL), broken])
    (there,) = store.run_ids(store.create(questions.sweep(ranks=(8,)), destination=WantedEngine("broken")))
    (here,) = sweep(store, 4)

    wait_for(lambda: supervisor.tick() or states(store, [here]) == ["completed"])

    assert ["queued"] == states(store, [there])
    assert "The engine broken has an error (ZeroDivisionError)" in supervisor.away["broken"]
    assert 1 == caplog.text.count("Traceback")
    broken.where = ""
    wait_for(lambda: supervisor.tick() or states(store, [there]) == ["completed"])
    supervisor.stop()
