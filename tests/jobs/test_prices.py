import json
import time

import pytest

from rankviz.errors import EngineUnavailableError, InvalidSettingError
from rankviz.jobs.bundle import JobTerms, Submission
from rankviz.jobs.engine import End
from rankviz.jobs.hub import Ledger, cost_of, cost_so_far, seconds_left


def test_a_minute_that_has_begun_is_paid_whole_and_a_limit_pays_for_a_time_and_the_longest_start():
    """A week at most, and where a machine has no price a day."""
    assert (0.02, 0.0) == (cost_of(61.0, 0.01), cost_of(0.0, 0.01))
    assert (100 - 10) * 60 == seconds_left(1.0, 0.0, 0.01)
    assert (604_800 - 600, 86_400 - 600) == (seconds_left(1e6, 0.0, 0.01), seconds_left(1.0, 0.0, 0.0))
    assert (300, 300) == (seconds_left(0.15, 0.0, 0.01), seconds_left(0.31, 0.11, 0.2 / 15))


@pytest.mark.parametrize(
    ("usd", "spent", "per_minute", "words"),
    [
        *((usd, 0.0, 0.01, "above 0") for usd in (0.0, -1.0, float("nan"), float("inf"))),
        (0.14, 0.0, 0.01, r"Give at least \$0\.15"),
        *((usd, 0.11, 0.2 / 15, r"jobs have cost up to \$0\.11, .* Give at least \$0\.31 for") for usd in (0.05, 0.3)),
    ],
)
def test_a_limit_that_pays_for_no_job_is_refused_with_what_would_do(usd, spent, per_minute, words):
    with pytest.raises(InvalidSettingError, match=words):
        seconds_left(usd, spent, per_minute)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


def test_each_job_of_a_sweep_is_on_the_bill_once_with_those_that_run(ledger):
    assert (0, 0, True, 0) == ledger.bill("s", {})
    for job, usd in (("r4-a1", 0.5), ("r4-a2", 0.25), ("r4-a1", 0.5)):
        ledger.note("s", costs={job: (usd, usd)})
    ledger.note("another", costs={"r4-a3": (9.0, 9.0)})

    assert (2, 0.75, True, 0.75) == ledger.bill("s", {})
    assert (3, 0.75, False, 1.75) == ledger.bill("s", {"r8-a1": (0.0, 1.0)})


def test_the_latest_limit_of_a_sweep_is_kept_with_its_costs(ledger):
    ledger.note("s", limit=3.0)
    ledger.note("s", costs={"r4-a1": (0.5, 0.5)})
    ledger.note("s", limit=2.0)

    assert (2.0, None) == (ledger.limit("s"), ledger.limit("t"))
    assert 1 == ledger.bill("s", {}).jobs


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"limit": -1, "jobs": {}}', '{"limit": NaN, "jobs": {}}', '{"limit": 1, "jobs": {"j": [2, 1]}}'],
)
def test_costs_that_cannot_be_read_are_said_of_their_sweep_only(ledger, tmp_path, content):
    (tmp_path / "s.json").write_text(content)

    for ask in (ledger.limit, lambda sweep_id: ledger.bill(sweep_id, {}), lambda sweep_id: ledger.note("s", limit=1.0)):
        with pytest.raises(EngineUnavailableError, match=r"mend hf-jobs/s\.json"):
            ask("s")
    assert ledger.limit("t") is None


def test_a_job_costs_what_is_billed_and_all_that_it_may_where_that_is_not_known():
    now = time.time()

    price = {"account": "alice", "flavor": "l4x1", "usd_per_minute": 0.01, "timeout_seconds": 600}

    def cost(**known):
        return cost_so_far(Submission(**known, terms=JobTerms(**price, sweep_id="s", limit_usd=1.0)))

    assert (0.0, 0.0) == cost()
    assert (0.0, 0.2) == cost(submitted=True)
    assert (0.02, 0.02) == cost(submitted=True, seconds=61.0, seconds_at=now)
    assert (0.02, pytest.approx(0.07)) == cost(submitted=True, seconds=61.0, seconds_at=now - 310)
    assert (0.02, 0.02) == cost(submitted=True, handle="1", seconds=61.0, seconds_at=now - 310, end=End())
    assert (0.0, 0.2) == cost(submitted=True, handle="1", end=End())
    assert (0.0, 0.0) == cost(submitted=True, end=End(lost=True))


def test_what_an_earlier_version_stored_counts_and_is_kept(ledger, tmp_path):
    old = {"s": {"r4-a1": [0.5, 1.0]}, "s@ann": {"r4-a2": 0.25}, "t": {"r8-a1": [9.0, 9.0]}, "u": "?"}
    (tmp_path / "spent.json").write_text(json.dumps(old))
    (tmp_path / "limit-s").write_text("2.5")
    (tmp_path / "limit-s@ann").write_text("3.5")
    (tmp_path / "limit-t@ann").write_text("4.5")
    (tmp_path / "limit-v").write_text("nan")

    assert (2, 0.75, False, 1.25) == ledger.bill("s", {})
    assert (2.5, 4.5, None) == (ledger.limit("s"), ledger.limit("t"), ledger.limit("w"))
    for unreadable in "uv":
        with pytest.raises(EngineUnavailableError, match=r"spent\.json"):
            ledger.limit(unreadable)
    ledger.note("s", costs={"r4-a3": (1.0, 1.0)})
    assert (3, 1.75, False, 2.25) == ledger.bill("s", {})
    assert 2.5 == ledger.limit("s")
