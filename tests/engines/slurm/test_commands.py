"""Slurm's commands where they refuse, hang or are not there, played by shell scripts."""

import time

import pytest

from rankviz.engines.slurm.commands import Commands, NotAnsweredError
from rankviz.errors import EngineError, EngineUnavailableError
from tests.support.processes.workers import processes_of, wait_for


@pytest.fixture
def commands(tmp_path):
    """Commands of a folder, and what makes one there."""

    def make(seconds=60.0, **scripts):
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        return Commands(f"{tmp_path}:/usr/bin:/bin", seconds)

    return make


def refuses(text):
    return f"echo 'sbatch: warning: first' >&2; echo 'sbatch: error: {text}' >&2; exit 1"


@pytest.mark.parametrize("printed", ["71", "71;cluster-a"])
def test_a_job_that_was_sent_has_a_number(commands, printed):
    assert "71" == commands(sbatch=f"echo '{printed}'").submit(["batch.sh"])


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        (
            "Batch job submission failed: Invalid partition name specified",
            "RANKVIZ_SLURM_PARTITION or RANKVIZ_SLURM_OPTIONS",
        ),
        (
            "Batch job submission failed: Invalid account or account/partition combination specified",
            "RANKVIZ_SLURM_OPTIONS",
        ),
        ("Batch job submission failed: Requested node configuration is not available", "RANKVIZ_SLURM_OPTIONS"),
        (
            "Batch job submission failed: User.s group not permitted to use this partition",
            "RANKVIZ_SLURM_PARTITION or RANKVIZ_SLURM_OPTIONS",
        ),
        ("Invalid --time specification", "RANKVIZ_SLURM_OPTIONS"),
    ],
)
def test_a_job_that_is_wrong_as_it_is_cannot_be_started(commands, text, setting):
    with pytest.raises(EngineError) as caught:
        commands(sbatch=refuses(text)).submit([])

    change = f"Change {setting}, and start RankViz again."
    assert f"Slurm does not take the job: {text}. {change}" == str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "Job violates accounting/QOS policy (job submit limit, user.s size and/or time limits)",
        "Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "Batch job submission failed: Requested partition configuration not available now",
        "Batch job submission failed: Required partition not available (inactive or drain)",
        "something that nobody knows",
    ],
)
def test_one_that_may_start_later_waits(commands, text):
    with pytest.raises(EngineUnavailableError) as caught:
        commands(sbatch=refuses(text)).submit([])

    assert f"Slurm does not take the job now: {text}." == str(caught.value)


@pytest.mark.parametrize(
    "script",
    [
        refuses("Batch job submission failed: Socket timed out on send/recv operation"),
        refuses("Batch job submission failed: Unable to contact slurm controller (receive failure)"),
        refuses("Batch job submission failed: Zero Bytes were transmitted or received"),
        "kill -9 $$",
        "echo no number",
    ],
)
def test_where_the_answer_is_lost_slurm_may_have_the_job(commands, script):
    with pytest.raises(NotAnsweredError):
        commands(sbatch=script).submit([])


def test_a_command_that_hangs_is_ended_with_what_it_started(commands, tmp_path):
    hanging = commands(seconds=0.5, squeue=f"sleep 600 # {tmp_path}", sbatch=f"sh -c 'sleep 601; : {tmp_path}'; :")

    began = time.monotonic()
    with pytest.raises(EngineUnavailableError, match="does not answer"):
        hanging.jobs()
    with pytest.raises(NotAnsweredError):
        hanging.submit([])

    assert time.monotonic() - began < 120
    wait_for(lambda: not processes_of(tmp_path))


def test_a_command_that_leaves_something_behind_is_not_waited_for(commands, tmp_path):
    """Which keeps its output open."""
    leaves = commands(seconds=0.5, squeue=f"setsid sh -c 'sleep 602; : {tmp_path}' & sleep 603")

    began = time.monotonic()
    with pytest.raises(EngineUnavailableError, match="does not answer"):
        leaves.jobs()

    assert time.monotonic() - began < 60
    for process in processes_of(tmp_path):
        for each in (*process.children(), process):
            each.kill()


@pytest.mark.parametrize(
    "script, sentence",
    [
        ("echo 'squeue: error: slurm_load_jobs error: Zero Bytes' >&2; exit 1", "Zero Bytes"),
        ("echo JOBID PARTITION NAME", "printed something else"),
        ("head -c 200000 /dev/zero | tr '\\0' '['", "printed something else"),
        ("exit 1", "it says nothing"),
    ],
)
def test_a_squeue_that_fails_is_asked_again(commands, script, sentence):
    with pytest.raises(EngineUnavailableError, match=sentence):
        commands(squeue=script).jobs()


@pytest.mark.parametrize(
    "script", ["echo 'Slurm accounting storage is disabled' >&2; exit 1", "echo '7|mine|RUNNING|n'"]
)
def test_accounting_that_is_off_or_behind_knows_of_no_end(commands, script):
    assert {} == commands(sacct=script).ended(["7"])


def test_a_machine_without_slurm_says_where_to_start_the_page(tmp_path):
    with pytest.raises(EngineUnavailableError, match="There is no sbatch on this machine"):
        Commands(str(tmp_path)).submit([])


def test_a_command_gets_where_slurm_is_and_no_secret(commands, monkeypatch):
    for name in ("HF_TOKEN", "RANKVIZ_ADMIN_TOKEN", "SLURM_JOB_ID", "SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_WAIT"):
        monkeypatch.setenv(name, "it")

    with pytest.raises(EngineUnavailableError) as caught:
        commands(squeue="env | grep =it | cut -d= -f1 | sort | tr '\\n' ' ' >&2; exit 1").jobs()

    assert "SBATCH_ACCOUNT SLURM_CONF." in str(caught.value)
    assert "TOKEN" not in str(caught.value)
    assert "SLURM_JOB_ID" not in str(caught.value)
