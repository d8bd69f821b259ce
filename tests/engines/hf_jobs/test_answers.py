"""What Hugging Face says of a job, as huggingface_hub reads it."""

import pytest
from huggingface_hub import JobInfo
from rankviz.jobs.hf_jobs.answers import seen

JOB = {"id": "1", "status": {"stage": "RUNNING"}, "owner": {"id": "1", "name": "alice", "type": "user"}}


def described(stage, **durations):
    return seen(JobInfo(**{**JOB, "status": {"stage": stage}, "durations": durations or None}))


@pytest.mark.parametrize(
    ("stage", "total", "running", "billed"),
    [
        ("SCHEDULING", 20, None, 20.0),
        ("SCHEDULING", 10800, None, 600.0),  # starting may be the last of it
        ("CANCELED", 10800, None, 600.0),
        ("RUNNING", 80, 60, 80.0),
        ("RUNNING", 10860, 60, 660.0),
        ("ERROR", 10860, 60, 660.0),
        ("COMPLETED", 10860, None, 10860.0),  # it ran, and how long is not said
        ("RUNNING", None, None, None),
        ("RUNNING", 80, -1, 80.0),
        ("RUNNING", -1, -1, None),
        ("RUNNING", float("nan"), 60, None),
    ],
)
def test_what_is_billed_is_the_time_that_a_job_runs_and_the_most_that_starting_takes(stage, total, running, billed):
    job = described(stage, totalSecs=total, runningSecs=running, schedulingSecs=None)

    assert billed == job.seconds
    assert (running if running is not None and running >= 0 else None) == job.running_seconds


def test_what_is_said_of_a_job_is_told_without_the_token():
    job = JobInfo(**{**JOB, "status": {"stage": "ERROR", "message": f"{'x' * 290} of ofAMirror/0123456789+"}})

    assert f"{'x' * 290} of ..." == seen(job, "ofAMirror/0123456789+").message


def test_where_no_times_are_given_none_are_known():
    assert (None, None) == (described("RUNNING").seconds, described("RUNNING").running_seconds)
