"""What Slurm's words mean, as versions from 21.08 on print them."""

import json

import pytest

from rankviz.core.runs.events import GPU_LOST
from rankviz.engines.slurm.states import Seen, end_by, end_of, read_jobs, states_of, waits_of

ME, SOMEBODY = 1000, 1001


def row(**fields):
    return {"job_id": 7, "name": "mine", "user_id": ME, "job_state": "RUNNING", "nodes": "node-1"} | fields


def read(*rows):
    return read_jobs(json.dumps({"jobs": rows}), user=ME)


def seen(*states, reason="None"):
    return Seen("7", frozenset(states), reason)


def test_a_state_is_a_text_in_older_versions_and_a_list_in_newer_ones():
    assert (
        read(row(job_state="RUNNING", state_reason="None"))
        == read(row(job_state=["RUNNING"], state_reason="None"))
        == {"mine": Seen("7", frozenset({"RUNNING"}), "None", "node-1")}
    )


def test_a_number_is_a_number_or_an_object():
    number = {"set": True, "infinite": False, "number": 7}

    assert "7" == read(row(job_id=number, user_id=number | {"number": ME}))["mine"].id


def test_a_job_of_another_user_with_the_same_name_is_not_ours():
    """Older versions ignore --me where they print JSON."""
    assert {} == read(row(user_id=SOMEBODY, job_state="COMPLETED"))


def test_of_two_jobs_with_one_name_the_one_that_has_not_ended_counts():
    rows = [row(job_id=8), row(job_id=9, job_state="FAILED")]

    assert ["8", "8"] == [read(*order)["mine"].id for order in (rows, rows[::-1])]


@pytest.mark.parametrize(
    "text",
    [
        *("", "slurm_load_jobs error", "{}", "[]", '{"jobs": [{}]}', '{"jobs": [7]}', '{"jobs": null}', "\0"),
        "[" * 200_000,
        '{"jobs": [{"user_id": Infinity}]}',
        '{"jobs": [{"user_id": {"number": {}}}]}',
        '{"jobs": [{"user_id": 1000, "name": "mine", "job_id": "x"}]}',
        '{"jobs": [{"user_id": 1000, "name": "mine", "job_id": 7, "job_state": 5}]}',
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_list_of_jobs_is_an_error(text):
    with pytest.raises(ValueError):
        read_jobs(text, user=ME)


@pytest.mark.parametrize("words", [["FAILED", 5], ["FAILED", None, []], ["FAILED", {"a": 1}]])
def test_a_list_of_states_with_something_else_in_it_still_says_the_state(words):
    (seen,) = read(row(job_state=words)).values()

    assert end_of(seen, 1, yields=False).exit_code == 1
    assert "FAILED" in end_of(seen, None, yields=False).why


def test_what_slurm_says_of_nodes_and_reasons_fits_on_a_line_of_a_journal():
    (seen,) = read(row(nodes="node\n1 \ud800\x00" + "x" * 999, state_reason={"a": "\n"})).values()

    assert "node 1 \ufffd\ufffdxx" == seen.nodes[:11]
    assert 200 == len(seen.nodes)
    assert "\n" not in seen.reason


def test_sacct_says_who_cancelled_a_job():
    assert frozenset({"CANCELLED"}) == states_of("CANCELLED by 1000")


@pytest.mark.parametrize(
    "state, reason, sentence",
    [
        ("PENDING", "Priority", "Other jobs of the cluster go first."),
        ("PENDING", "Resources", "No node is free."),
        ("PENDING", "None", "Slurm has not said yet when the job may start."),
        (
            "PENDING",
            "ReqNodeNotAvail, UnavailableNodes:node-[1-2]",
            "A node that the job asks for is down, drained or reserved. (ReqNodeNotAvail, UnavailableNodes:node-[1-2])",
        ),
        (
            "PENDING",
            "QOSMaxGRESPerUser",
            "Jobs of this user, account or QOS are at a limit of the cluster (QOSMaxGRESPerUser). The job starts "
            "once some of them have ended. If it asks for more than the limit, ask for less in RANKVIZ_SLURM_OPTIONS.",
        ),
        (
            "PENDING",
            "AReasonOfALaterVersion",
            "The cluster has a limit or a condition that holds the job: AReasonOfALaterVersion. Ask its "
            "administrators. Other options are set in RANKVIZ_SLURM_OPTIONS.",
        ),
        ("CONFIGURING", "None", "The node is being made ready."),
        ("SUSPENDED", "None", "Slurm has suspended the job."),
        ("RUNNING", "None", ""),
        ("A_STATE_OF_A_LATER_VERSION", "None", ""),
    ],
)
def test_why_a_job_waits(state, reason, sentence):
    assert sentence == waits_of(seen(state, reason=reason))
    assert end_of(seen(state, reason=reason), None, yields=False) is None


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])
def test_a_job_whose_place_was_lost_is_lost(state):
    assert end_of(seen(state), None, yields=False).lost


@pytest.mark.parametrize(
    "state, remedy", [("TIMEOUT", "--time"), ("OUT_OF_MEMORY", "--mem"), ("CANCELLED", ""), ("DEADLINE", "")]
)
def test_a_job_that_reached_a_limit_of_its_own_is_not_lost(state, remedy):
    """Also where its worker was killed for that, which alone would be a loss."""
    end = end_of(seen(state), -9, yields=False)

    assert (False, -9) == (end.lost, end.exit_code)
    assert remedy in end.why


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "PREEMPTED"])
def test_a_job_has_not_ended_while_processes_of_it_may_be_left(state):
    assert end_of(seen(state, "COMPLETING"), 0, yields=False) is None
    assert end_of(seen("COMPLETING"), 0, yields=False) is None
    assert end_of(seen(state), 0, yields=False) is not None


def test_a_node_that_has_failed_is_not_waited_for():
    assert end_of(seen("NODE_FAIL", "COMPLETING"), None, yields=False).lost


@pytest.mark.parametrize(
    "exit_code, lost, gave_way",
    [(0, False, True), (1, False, False), (-9, True, False), (GPU_LOST, True, False)],
)
def test_otherwise_the_exit_code_of_the_worker_tells(exit_code, lost, gave_way):
    end = end_of(seen("FAILED" if exit_code else "COMPLETED"), exit_code, yields=True)

    assert (exit_code, lost, gave_way) == (end.exit_code, end.lost, end.gave_way)
    assert end == end_by(exit_code, yields=True)


def test_a_job_that_ended_before_its_worker_is_lost_and_says_what_slurm_says():
    end = end_of(seen("FAILED", reason="NonZeroExitCode"), None, yields=False)

    assert end.lost
    assert "before its worker did: FAILED, NonZeroExitCode." in end.why
