"""`rankviz sweep --engine hf-jobs`, against a stand-in for the Hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankviz.core.runs.events import RunFailed
from rankviz.store import RunStore
from tests.support.engines.hub_jobs import stand_in_hub
from tests.support.runs import questions

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub(tmp_path):
    with stand_in_hub(tmp_path / "hub") as hub:
        yield hub


def sweep(*args: str, hub, home: Path, token: str = "hf_alice") -> subprocess.CompletedProcess:
    return rankviz("sweep", "embedded", "--data", "phonemes", "-r", "4", *args, hub=hub, home=home, token=token)


def rankviz(*args: str, hub, home: Path, token: str = "hf_alice") -> subprocess.CompletedProcess:
    hosts = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "hf")}
    return subprocess.run(
        [sys.executable, "-m", "rankviz", *args],
        cwd=ROOT,
        env={**os.environ, **hosts, "RANKVIZ_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=1200,
    )


def test_the_cost_is_said_and_an_account_without_credit_ends_it_with_what_to_do(tmp_path, hub):
    hub.refuses["POST /api/jobs/"] = (402, "Payment required")

    run = sweep("--engine", "hf-jobs", "--flavor", "l4x1", "--spend", "5", hub=hub, home=tmp_path / "home")

    assert 1 == run.returncode
    assert "1x Nvidia L4 (l4x1): $0.80 per hour today. Cost: $" in run.stderr
    assert "The limit of $5.00 ends the job after 6 h 5 min" in run.stderr
    assert "it has no credit" in run.stderr


def test_a_limit_that_pays_for_nothing_is_a_mistake_of_one_line(tmp_path, hub):
    run = sweep("--engine", "hf-jobs", "--spend", "0.05", hub=hub, home=tmp_path / "home")

    assert 2 == run.returncode
    assert "$0.05 does not pay for a job" in run.stderr
    assert {} == hub.jobs


def test_without_a_token_it_says_how_to_give_one(tmp_path, hub):
    run = sweep("--engine", "hf-jobs", hub=hub, home=tmp_path / "home", token="")

    assert 1 == run.returncode
    assert "Set HF_TOKEN" in run.stderr


def test_a_machine_without_the_engine_is_a_mistake(tmp_path, hub):
    run = sweep("--flavor", "l4x1", hub=hub, home=tmp_path / "home")

    assert 2 == run.returncode
    assert "--flavor and --spend need --engine hf-jobs." in run.stderr


@pytest.fixture
def failed(tmp_path):
    """The id of a sweep of this machine whose run has failed."""
    store = RunStore(tmp_path / "home")
    sweep_id = store.create(questions.sweep(ranks=(4,)))
    store.append(*store.run_ids(sweep_id), RunFailed(time=1.0, error="no luck"))
    return sweep_id


def test_a_sweep_moves_to_a_rented_machine_with_the_cost_before_it_starts(tmp_path, hub, failed):
    hub.refuses["POST /api/jobs/"] = (402, "Payment required")
    terms = ("--engine", "hf-jobs", "--flavor", "l4x1", "--spend", "5")

    run = rankviz("runs", "resume", failed, *terms, hub=hub, home=tmp_path / "home")

    assert "1x Nvidia L4 (l4x1): $0.80 per hour today. Cost: $" in run.stderr
    assert "The limit of $5.00 ends the job after 6 h 5 min" in run.stderr
    (record,) = RunStore(tmp_path / "home").all()
    assert ("failed", "hf-jobs") == (record.state, record.engine)
    assert "it has no credit" in record.error


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (("--flavor", "l4x1"), "--flavor and --spend need --engine hf-jobs."),
        (("--engine", "local", "--spend", "5"), "--flavor and --spend need --engine hf-jobs."),
        (("--engine", "hf-jobs", "--spend", "0.05"), "$0.05 does not pay for a job"),
        (("--engine", "hf-jobs", "--flavor", "h900"), "Hugging Face has no flavor 'h900'"),
    ],
)
def test_where_it_cannot_go_it_stays_and_one_line_says_why(tmp_path, hub, failed, terms, words):
    run = rankviz("runs", "resume", failed, *terms, hub=hub, home=tmp_path / "home")

    assert 2 == run.returncode
    assert words in run.stderr
    (record,) = RunStore(tmp_path / "home").all()
    assert ("failed", 1) == (record.state, record.attempt)
