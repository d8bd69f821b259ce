"""What is brought from elsewhere into a run's journal."""

import json

import pytest
from rankviz.jobs.supervisor.copying import Copying, stamped

from rankviz.core.runs.events import Attempt, RunCancelled, RunCompleted, RunFailed, RunRequeued, StepLogged
from rankviz.errors import EngineError, EngineUnavailableError
from rankviz.jobs import Engine, Job, Live
from rankviz.store import RunStore
from tests.support.processes.workers import sweep

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


def test_a_line_cut_anywhere_is_not_yet_one():
    data = lines(step(1), step(2))

    for cut in range(len(data)):
        assert data[:cut].count(b"\n") == len(list(stamped(data[:cut], Attempt("r", 1), 0)))


def test_a_worker_elsewhere_gives_out_no_attempts():
    requeued = {"event": "RunRequeued", "time": 1.0}
    placed = {"event": "AttemptPlaced", "time": 1.0, "attempt": 9, "engine": "mine"}

    assert [StepLogged] == [type(e) for e in stamped(lines(requeued, placed, step(1)), Attempt("r", 1), 0)]


def test_what_a_line_says_of_its_attempt_is_not_believed():
    (event,) = stamped(lines({**step(1), "attempt": 7, "offset": 5}), Attempt("r", 1), 0)

    assert 1 == event.attempt


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

    def is_in_vain(*run_ids):
        return copying.is_in_vain(far, Live(job=Job(attempts=tuple(Attempt(each, 1) for each in run_ids)), handle="1"))

    assert is_in_vain(unwanted, done, last)
    store.append(done, RunCompleted(time=9.0, train_seconds=1.0, peak_memory_bytes=1, peak_memory_kind="x"))
    assert not is_in_vain(unwanted, done, last)


def test_a_job_is_at_a_run_that_nobody_wants_also_where_that_has_a_newer_attempt(store):
    again, last = sweep(store, 4, 8)
    store.append(again, RunCancelled(time=1.0))
    store.requeue(again)
    far, live = Far(lines(step(1))), Live(job=Job(attempts=(Attempt(again, 1), Attempt(last, 1))), handle="1")

    assert Copying(store).is_in_vain(far, live)
    far.data += lines(DONE)
    assert not Copying(store).is_in_vain(far, live)


def test_a_journal_of_a_run_that_nobody_wants_is_read_once(store):
    unwanted, last = sweep(store, 4, 8)
    store.append(unwanted, RunCancelled(time=1.0))
    far, copying = Far(lines(step(1))), Copying(store)
    live = Live(job=Job(attempts=(Attempt(unwanted, 1), Attempt(last, 1))), handle="1")

    assert copying.is_in_vain(far, live)
    assert copying.is_in_vain(far, live)
    far.data += lines(DONE)
    assert not copying.is_in_vain(far, live)

    whole = len(lines(step(1)))
    assert [(unwanted, 0), (unwanted, whole), (unwanted, whole)] == far.asked
