"""A job is ended whatever else Hugging Face does not do: it costs money until then."""

import threading

import pytest
from rankviz.jobs.hf_jobs.cancelling import ENDING, FETCHING, NAME, READING, Cancelling
from rankviz.jobs.hf_jobs.following import watch as watch_module

from rankviz.errors import EngineDeclinedError, EngineEndingError, EngineUnavailableError
from rankviz.jobs.hf_jobs import cancelling
from rankviz.jobs.prices import Papers
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import states, wait_for, wait_until_quiet, worker

FIRST_SAVES = worker(
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        if run_id.endswith('r4'):\n"
    "            step(run_id)\n"
    "            time.sleep(600)\n"
    "        folder = store.run_dir(run_id) / 'adapter'\n"
    "        folder.mkdir()\n"
    "        (folder / 'adapter_model.safetensors').write_bytes(b'12345678')\n"
    "        write(run_id, AdapterSaved(time=time.time(), path='adapter', file_bytes=8))\n"
    "        complete(run_id)"
)
BUCKET = ("GET /buckets/", "GET /api/buckets/")


def cancel_of(hub):
    return f"POST /api/jobs/alice/{only_job(hub).id}/cancel"


@pytest.mark.parametrize("code", [503, 403, None])
def test_a_job_is_ended_also_where_its_bucket_cannot_be_read(going, store, hub, monkeypatch, code):
    supervisor, run_ids = going
    monkeypatch.setattr(cancelling, "NEWS_SECONDS", 0.3)
    if code is None:
        hub.hangs.update(BUCKET)
    else:
        hub.refuses.update(dict.fromkeys(BUCKET, (code, "no bucket")))

    supervisor.cancel(store.get(run_ids[0]).request.sweep_id)

    assert (["cancelled"] * 2, "CANCELED") == (states(store, run_ids), only_job(hub).stage)


def test_before_hugging_face_was_asked_to_end_a_job_nobody_says_so(going, store, hub, monkeypatch):
    supervisor, run_ids = going
    monkeypatch.setattr(cancelling, "NEWS_SECONDS", 60.0)
    hub.hangs.update(BUCKET)

    with pytest.raises(EngineEndingError, match=READING):
        supervisor.cancel(store.get(run_ids[0]).request.sweep_id, timeout_seconds=0.3)

    assert cancel_of(hub) not in hub.calls
    hub.hangs.clear()
    supervisor.settle()


def test_a_job_that_hugging_face_does_not_know_just_now_is_ended_all_the_same(going, store, hub, until_it_says):
    supervisor, run_ids = going
    job = only_job(hub)
    hub.refuses[f"GET /api/jobs/alice/{job.id}"] = (404, "Not found")

    until_it_says(ENDING, supervisor, store.get(run_ids[0]).request.sweep_id)
    assert "CANCELED" == job.stage
    hub.refuses.clear()
    supervisor.settle()

    assert ["cancelled"] * 2 == states(store, run_ids)


def test_a_job_is_ended_also_where_the_disk_is_full(going, store, hub, monkeypatch):
    _, run_ids = going
    write = Papers.write

    def full(papers, folder, rented):
        if rented.is_ending:
            raise OSError(28, "No space left on device")
        write(papers, folder, rented)

    monkeypatch.setattr(Papers, "write", full)
    store.ask_to_cancel(run_ids[0])

    wait_for(lambda: only_job(hub).stage == "CANCELED")


def test_what_a_run_has_completed_is_fetched_after_its_job_was_ended(supervise, store, hub, until_it_says):
    first, second = sweep(store, 2, 4)
    hub.holds.set()
    supervisor = supervise(FIRST_SAVES)
    wait_for(lambda: hub.jobs)
    hub.refuses.update(dict.fromkeys(BUCKET, (503, "no bucket")))
    hub.holds.clear()
    wait_for(lambda: store.get(first).steps and any(second in line for line in only_job(hub).log))

    until_it_says(FETCHING, supervisor, store.get(first).request.sweep_id)
    assert "CANCELED" == only_job(hub).stage
    hub.refuses.clear()
    supervisor.settle()

    assert "completed" == store.get(first).state
    assert b"12345678" == (store.run_dir(first) / "adapter/adapter_model.safetensors").read_bytes()
    assert "cancelled" == store.get(second).state


def test_a_job_that_runs_on_after_hugging_face_said_that_it_ends_it_is_asked_for_again(going, store, hub, monkeypatch):
    supervisor, run_ids = going
    monkeypatch.setattr(watch_module, "ENDING_SECONDS", 0.3)
    hub.drops_cancels = 2
    for run_id in run_ids:
        store.ask_to_cancel(run_id)

    supervisor.settle()

    assert (["cancelled"] * 2, "CANCELED") == (states(store, run_ids), only_job(hub).stage)
    assert hub.calls.count(cancel_of(hub)) >= 3


def test_a_job_that_runs_on_and_whose_runs_are_not_to_end_any_more_is_left_alone(going, store, hub, monkeypatch):
    supervisor, _ = going
    engine = supervisor.engines[0]
    supervisor.stop()
    monkeypatch.setattr(watch_module, "ENDING_SECONDS", 0.3)
    hub.drops_cancels = 10**6
    (live,) = engine.live()

    def cancelled():
        try:
            return engine.cancel(live, unless=lambda: cancel_of(hub) in hub.calls) is None
        except EngineUnavailableError:
            return False

    wait_for(cancelled)

    assert 1 == hub.calls.count(cancel_of(hub))
    engine.release()


class Watch:
    """Of a job that runs, on a Hub that declines to end it."""

    job_id, has_ended, holds_back = "1", False, False

    def __init__(self):
        self.hub = self.renting = self
        self.asked = 0

    def refresh(self):
        pass

    def note_ending(self):
        pass

    def note(self, **news):
        pass

    def cancel(self, job_id):
        self.asked += 1
        raise EngineDeclinedError("too many")


def test_where_hugging_face_declines_to_end_a_job_it_is_asked_again_after_a_pause_that_grows(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(cancelling.time, "monotonic", lambda: clock[0])
    watch, asked = Watch(), []
    ending = Cancelling(watch, 5.0)

    for _ in range(1000):
        for _ in range(5):
            with pytest.raises(EngineUnavailableError):
                ending.look(lambda: False)
            for step in (ending._news, ending._end):
                if step is not None:
                    step.exception(10)
        asked.append(watch.asked)
        clock[0] += 0.2

    assert 1 == asked[20]
    assert 7 == asked[-1]  # in 200 s: after 0, 5, 15, 35, 75, 135 and 195 s


def test_whoever_has_logged_out_is_asked_for_nothing_more(going, store, hub, logins, monkeypatch, until_it_says):
    supervisor, run_ids = going
    monkeypatch.setattr(hub, "end", lambda *_: None)  # it takes the cancel and does not end the job
    until_it_says(ENDING, supervisor, store.get(run_ids[0]).request.sweep_id)

    logins.forget("ann")

    wait_for(lambda: not any(thread.name == NAME for thread in threading.enumerate()))
    wait_until_quiet(lambda: len(hub.calls))
