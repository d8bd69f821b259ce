"""A job is followed to its end, whatever goes wrong meanwhile."""

import threading
import time
from dataclasses import replace

import pytest
from rankviz.jobs.bounds import Bounds
from rankviz.jobs.hf_jobs.answers import DELETED, Seen
from rankviz.jobs.hf_jobs.following import log
from rankviz.jobs.hf_jobs.following import watch as watch_module
from rankviz.jobs.hf_jobs.following.mirror import Mirror
from rankviz.jobs.hf_jobs.following.watch import Watch

from rankviz.errors import EngineUnavailableError
from rankviz.jobs.prices import Rented
from rankviz.settings import Limits
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, states, wait_for, waiting_for


class Hub:
    """Knows one job; while `error` is set, it raises that."""

    name, rejected = "alice", False

    def __init__(self, error=None):
        self.error, self.calls, self.asked_at = error, 0, []

    def job(self, job_id):
        self.asked_at.append(time.monotonic())
        self.calls += 1
        if self.error:
            raise self.error
        return Seen(job_id, "SCHEDULING")


class Renting:
    rented = Rented(
        owner="ann",
        account="alice",
        job_id="1",
        is_asked=True,
        flavor="l4x1",
        usd_per_minute=0.01,
        timeout_seconds=600,
        sweep_id="s",
    )
    is_over = False

    def stop(self):
        pass

    def note(self, **news):
        self.rented = replace(self.rented, **news)


@pytest.fixture
def watching(tmp_path):
    started = []

    def watch(hub):
        mirror = Mirror(tmp_path, [], Bounds.of(Limits()))
        started.append(Watch(hub, Renting(), mirror, folder="f", poll_seconds=0.01))
        started[-1].start()
        return started[-1]

    yield watch
    for each in started:
        each.stop()
        each.join()


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("id"), OSError("no space"), AssertionError()])
def test_an_error_that_nobody_expected_is_its_trouble_and_after_a_pause_it_goes_on(watching, monkeypatch, error):
    monkeypatch.setattr(watch_module, "PAUSE_SECONDS", 0.4)
    hub = Hub(error)
    watch = watching(hub)

    wait_for(lambda: f"an error of its own ({type(error).__name__})" in watch.trouble)
    assert watch.lives
    wait_for(lambda: hub.calls > 1)
    assert hub.asked_at[1] - hub.asked_at[0] >= 0.4
    hub.error = None

    wait_for(lambda: watch.seen and not watch.trouble)


def test_a_job_counts_as_deleted_only_after_minutes_and_lives_where_it_is_seen_again():
    watch = Watch(Hub(), Renting(), None, folder="f", poll_seconds=0.01, look_seconds=0.2)
    runs, unknown = Seen("1", "RUNNING"), Seen("1", DELETED)

    for seen in (unknown, runs, unknown):
        if seen is runs:
            time.sleep(0.3)
            watch.see(seen)
        else:
            with pytest.raises(EngineUnavailableError, match="does not know its job just now"):
                watch.see(seen)
        assert not watch.has_ended
    time.sleep(0.3)
    watch.see(unknown)
    assert watch.has_ended
    watch.see(runs)
    assert not watch.has_ended


def test_a_job_has_ended_for_others_once_it_is_known_what_it_has_cost():
    watch, known = Watch(Hub(), Renting(), None, folder="f", poll_seconds=0.01), []

    class Ended:
        stage, ended = "CANCELED", True

        @property
        def seconds(self):
            known.append(watch.has_ended)
            return 61.0

    watch.see(Ended())

    assert {False} == {*known}
    assert watch.has_ended
    assert (61.0, 61.0) == watch.span


def test_a_job_that_still_runs_when_it_should_have_ended_was_not_ended_by_rankviz(monkeypatch):
    watch = Watch(Hub(), Renting(), None, folder="f", poll_seconds=0.01)
    watch.note_ending()

    watch.see(Seen("1", "RUNNING"))
    assert watch.renting.rented.is_ending
    monkeypatch.setattr(watch_module, "ENDING_SECONDS", -1.0)
    watch.see(Seen("1", "RUNNING"))
    assert not watch.renting.rented.is_ending


def test_what_is_billed_of_a_job_is_known_to_other_processes_while_its_log_is_followed(watching, monkeypatch):
    monkeypatch.setattr(watch_module, "SEEN_SECONDS", 0.0)
    monkeypatch.setattr(watch_module, "NOTED_SECONDS", 0.0)
    hub = Talking()

    watch = watching(hub)

    wait_for(lambda: (watch.renting.rented.billed_seconds or 0) > 5)
    assert 1 == hub.logs


class Talking(Hub):
    """Its job's log goes on and on, and each look finds it billed for one second more."""

    logs, word = 0, "a word"

    def job(self, job_id):
        self.calls += 1
        return Seen(job_id, "RUNNING", seconds=float(self.calls))

    def log(self, job_id):
        self.logs += 1
        return self

    def lines(self, log):
        while True:
            yield self.word
            time.sleep(0.01)

    def close(self):
        pass


def test_the_last_words_of_a_log_have_no_token_and_no_piece_of_one(watching):
    hub = Talking()
    hub.word = f"{'x' * 290} hf_alicesOwnToken0123456789"

    watch = watching(hub)

    wait_for(lambda: watch.last_words)
    assert f"{'x' * 290} ..." == watch.last_words


@pytest.fixture
def endless_logs(hub, monkeypatch):
    monkeypatch.setattr(watch_module, "SEEN_SECONDS", 0.3)
    hub.keeps_logs_open = True


def test_a_job_that_is_lost_while_its_log_stays_open_and_says_nothing_is_seen_to_have_ended(
    going, store, hub, endless_logs
):
    _, run_ids = going

    hub.end(only_job(hub), "ERROR", "The node was lost")

    wait_for(lambda: store.get(run_ids[0]).attempt == 2)
    assert "The node was lost" in store.get(run_ids[0]).lost


def test_a_job_that_has_done_all_and_whose_log_stays_open_is_read_to_its_end(supervise, store, hub, endless_logs):
    run_ids = sweep(store, 2, 4)

    supervise().settle()

    assert ["completed"] * 2 == states(store, run_ids)


def test_a_job_whose_log_stays_open_and_says_nothing_is_followed_by_its_bucket(supervise, store, hub, endless_logs):
    hub.drops_log = True
    (run_id,) = sweep(store, 4)

    supervise(HANG_IN_EACH)

    wait_for(lambda: store.get(run_id).steps)
    assert only_job(hub).ended is None


def threads_of_jobs():
    return sum(thread.name.startswith("rankviz-job-") for thread in threading.enumerate())


def test_one_who_is_logged_in_twice_has_one_thread_that_follows_the_job(supervise, store, hub, logins):
    hub.tokens["hf_alice2"] = "alice"
    (run_id,) = sweep(store, 4)
    supervise(HANG_IN_EACH)
    logins.give("ann", "hf_alice", "alice")
    wait_for(lambda: store.get(run_id).steps)
    before = sum(call.endswith("/logs") for call in hub.calls)

    for number in range(10):
        logins.give("ann", ("hf_alice2", "hf_alice")[number % 2], "alice")
        time.sleep(0.1)

    wait_for(lambda: 1 == threads_of_jobs())
    assert before == sum(call.endswith("/logs") for call in hub.calls)


def test_one_who_logs_out_leaves_no_thread_and_no_connection(supervise, store, hub, logins):
    (run_id,) = sweep(store, 4)
    supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_id).steps)

    logins.forget("ann")

    wait_for(lambda: not threads_of_jobs())
    assert only_job(hub).ended is None


def test_of_a_log_that_is_too_long_the_rest_is_read_from_the_bucket(supervise, store, hub, monkeypatch):
    monkeypatch.setattr(log, "MAX_BYTES", 0)
    run_ids = sweep(store, 2, 4)

    supervise().settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert 1 == sum(call.endswith("/logs") for call in hub.calls)


@pytest.mark.parametrize("code", [403, 404, 500])
def test_where_the_log_is_refused_a_job_is_followed_by_its_bucket(supervise, store, hub, tmp_path, code):
    hub.refuses[f"GET /api/jobs/alice/{1:024x}/logs"] = code, "no log"
    run_ids = sweep(store, 2, 4)

    supervisor = supervise(waiting_for(tmp_path / "go"))
    wait_for(lambda: store.get(run_ids[0]).steps)
    assert only_job(hub).ended is None
    wait_for(lambda: "" == store.get(run_ids[0]).waits)
    (tmp_path / "go").touch()
    supervisor.settle()

    assert ["completed"] * 2 == states(store, run_ids)
    assert [] == [*supervisor.engines[0].papers.folders()]


def test_a_log_that_is_refused_for_a_moment_is_still_read(supervise, store, hub):
    hub.refuses[f"GET /api/jobs/alice/{1:024x}/logs"] = 503, "busy"
    hub.refuses["GET /buckets/"] = 503, "busy"
    (run_id,) = sweep(store, 4)

    supervise(HANG_IN_EACH)
    wait_for(lambda: sum(call.endswith("/logs") for call in hub.calls) > 1)
    hub.refuses.pop(f"GET /api/jobs/alice/{1:024x}/logs")

    wait_for(lambda: store.get(run_id).steps)
