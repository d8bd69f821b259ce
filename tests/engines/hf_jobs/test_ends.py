import os
import signal
import time
from dataclasses import replace

import pytest
from rankviz.jobs.hf_jobs.ends import CANCELLED, CANCELLED_THERE, end_of

from rankviz.jobs.hub import Seen
from rankviz.jobs.prices import Rented
from tests.support.engines.hub_jobs import only_job, sweep
from tests.support.processes.workers import HANG_IN_EACH, wait_for

RENTED = Rented(account="ann", flavor="l4x1", usd_per_minute=0.01, timeout_seconds=3600, sweep_id="s")


def test_the_worker_s_own_exit_code_goes_before_what_the_stage_says():
    end = end_of(Seen("1", "ERROR", "Job failed"), 1, "", RENTED)

    assert (1, False) == (end.exit_code, end.lost)


def test_a_worker_that_was_killed_is_lost():
    assert end_of(Seen("1", "ERROR"), -9, "", RENTED).lost


def test_a_job_whose_time_was_over_is_not_tried_again_nor_followed_by_another_whatever_hugging_face_calls_it():
    for seen in (
        Seen("1", "ERROR", "Job timeout"),
        Seen("1", "ERROR", "It timed out"),
        Seen("1", "ERROR", "", 1.0, 3600.0),
    ):
        end = end_of(seen, None, "", RENTED)
        assert (False, True) == (end.lost, end.is_final)
        assert "for its time limit (60 minutes" in end.why


def test_a_job_that_waited_for_its_machine_for_longer_than_its_limit_is_not_over_and_its_waiting_is_not_billed(
    supervise, store, hub
):
    run_ids = sweep(store, 2, 4, flavor="l4x1", spend="2")
    hub.holds.set()
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: "free machine" in store.get(run_ids[0]).waits)
    job = only_job(hub)
    job.created -= 3 * 3600
    hub.holds.clear()
    wait_for(lambda: store.get(run_ids[0]).steps)
    hub.holds.set()

    hub.end(job, "ERROR", "The node was lost")

    wait_for(lambda: store.get(run_ids[0]).attempt == 2 and len(hub.jobs) == 2)
    (cost,) = supervisor.engines[0].spending.jobs(store.get(run_ids[0]).request.sweep_id).values()
    assert cost.most < 1.0


def test_a_job_that_its_owner_cancelled_is_not_tried_again():
    assert (False, CANCELLED_THERE) == end_of(Seen("1", "CANCELED"), None, "", RENTED)[1:3]


@pytest.mark.parametrize("exit_code", [-15, -9, 143])
def test_a_job_that_hugging_face_ended_by_a_signal_is_not_tried_again(exit_code):
    assert (False, CANCELLED_THERE) == end_of(Seen("1", "CANCELED"), exit_code, "", RENTED)[1:3]
    for seen in (Seen("1", "ERROR", "Job timeout"), Seen("1", "ERROR", "", 1.0, 3600.0 if exit_code < 0 else 1.0)):
        end = end_of(seen, exit_code, "", RENTED)
        assert not end.lost
        assert end.is_final == ("time limit" in end.why)


def test_a_job_that_was_to_be_ended_and_ended_otherwise_ends_as_it_did():
    rented = replace(RENTED, is_ending=True)

    assert CANCELLED == end_of(Seen("1", "CANCELED"), None, "", rented).why
    assert CANCELLED == end_of(Seen("1", "ERROR", "exit code: 143"), -15, "", rented).why
    assert end_of(Seen("1", "ERROR", "The node was lost"), None, "", rented).lost


@pytest.mark.parametrize("has_returned", [True, False])
@pytest.mark.parametrize(("stage", "exit_code"), [("CANCELED", None), ("ERROR", None), ("ERROR", -9), ("ERROR", -15)])
def test_what_is_left_of_a_job_that_was_to_be_ended_is_not_given_up(stage, exit_code, has_returned):
    rented = replace(RENTED, is_ending=True, has_returned=has_returned)

    end = end_of(Seen("1", stage), exit_code, "", rented)

    assert (True, False) == (end.by_us or end.lost, end.is_final)


def test_a_job_that_ended_without_a_word_is_lost_and_what_its_log_said_last_is_told():
    end = end_of(Seen("1", "ERROR", "exit code: 127"), None, "uv: not found", RENTED)

    assert end.lost
    assert "The job ended on Hugging Face before its runs did (error). exit code: 127. uv: not found." == end.why


def test_a_job_that_its_owner_cancels_and_that_is_ended_by_a_signal_is_not_started_again(supervise, store, hub):
    run_ids = sweep(store, 2, 4)
    supervisor = supervise(HANG_IN_EACH)
    wait_for(lambda: store.get(run_ids[0]).steps)
    job = only_job(hub)
    hub.holds.set()  # a job that is started after all does nothing

    job.stage, job.message = "CANCELED", "Job cancelled"
    os.killpg(job.process.pid, signal.SIGTERM)
    job.process.wait()
    wait_for(lambda: any("exit_code" in line for line in job.log))
    job.ended = time.time()
    supervisor.settle()

    assert [CANCELLED_THERE] * 2 == [store.get(run_id).error for run_id in run_ids]
    assert 1 == len(hub.jobs)
