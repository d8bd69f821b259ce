from rankviz.engines.hf_jobs.ends import CANCELLED_THERE, end_of
from rankviz.engines.hf_jobs.hub import Seen
from rankviz.engines.hf_jobs.papers import Rented

RENTED = Rented(account="ann", flavor="l4x1", usd_per_minute=0.01, timeout_seconds=3600, sweep_id="s")


def test_the_worker_s_own_exit_code_goes_before_what_the_stage_says():
    end = end_of(Seen("1", "ERROR", "Job failed"), 1, "", RENTED)

    assert (1, False) == (end.exit_code, end.lost)


def test_a_worker_that_was_killed_is_lost():
    assert end_of(Seen("1", "ERROR"), -9, "", RENTED).lost


def test_a_job_whose_time_was_over_is_not_tried_again_nor_followed_by_another_whatever_hugging_face_calls_it():
    for seen in (Seen("1", "ERROR", "Job timeout"), Seen("1", "ERROR", "It timed out"), Seen("1", "ERROR", "", 3600.0)):
        end = end_of(seen, None, "", RENTED)
        assert (False, True) == (end.lost, end.is_final)
        assert "for its time limit (60 minutes" in end.why


def test_a_job_that_its_owner_cancelled_is_not_tried_again():
    assert (False, CANCELLED_THERE) == end_of(Seen("1", "CANCELED"), None, "", RENTED)[1:3]


def test_a_job_that_ended_without_a_word_is_lost_and_what_its_log_said_last_is_told():
    end = end_of(Seen("1", "ERROR", "exit code: 127"), None, "uv: not found", RENTED)

    assert end.lost
    assert "The job ended on Hugging Face before its runs did (error). exit code: 127. uv: not found." == end.why
