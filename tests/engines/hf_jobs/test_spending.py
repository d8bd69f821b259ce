"""What the jobs of sweeps have cost, and the time that is left of a limit."""

import json

import pytest

from rankviz.errors import EngineError, EngineUnavailableError, InvalidSettingError
from rankviz.jobs.hf_jobs import HfJobs
from rankviz.jobs.prices import SPENT, Cost, Papers, Rented, Spending, seconds_left

RENTED = Rented(account="alice", flavor="l4x1", usd_per_minute=0.01, timeout_seconds=600, sweep_id="s")


@pytest.fixture
def spending(tmp_path):
    return Spending(tmp_path / "hf-jobs")


def test_a_bill_adds_what_has_ended_and_what_is_going(spending):
    spending.add("s", "a-job", Cost(0.5, 0.5))
    spending.add("another", "its-job", Cost(9.0, 9.0))

    assert (2, 0.75, True, 0.75) == spending.bill("s", {"a-second-job": Cost(0.25, 0.25)})


@pytest.mark.parametrize("other", ["s-b", "s-0123abcd", "s-0123456789abcdef"])
@pytest.mark.parametrize("payer", ["", "ben"])
def test_a_sweep_whose_id_begins_with_that_of_another_costs_that_one_nothing(spending, tmp_path, other, payer):
    papers = Papers(tmp_path)
    for sweep_id, usd, who in (("s", 2.0, "ann"), (other, 50.0, payer)):
        spending.add(sweep_id, f"{sweep_id}-job", Cost(usd, usd), who)
        papers.note_limit(sweep_id, usd, who)

    assert ((1, 2.0, True, 2.0), [2.0]) == (spending.bill("s", {}), papers.limits("s"))
    assert ((1, 50.0, True, 50.0), [50.0]) == (spending.bill(other, {}), papers.limits(other))


@pytest.mark.parametrize(("asks", "limits"), [("", [2.0, 3.0]), ("ann", [3.0])])
def test_of_a_sweep_that_others_pay_for_too_the_owner_s_limit_counts_where_that_is_no_earlier_one(
    tmp_path, asks, limits
):
    papers = Papers(tmp_path)
    papers.note_limit("s", 2.0)
    assert [2.0] == papers.limits("s", asks)
    papers.note_limit("s", 3.0, "ann")

    assert limits == papers.limits("s", asks)


def test_a_job_that_is_going_is_on_the_bill_once_when_it_ends(spending):
    spending.add("s", "a-job", Cost(0.5, 0.5))

    assert (1, 0.5, True, 0.5) == spending.bill("s", {"a-job": Cost(0.5, 0.5)})


def test_a_job_whose_cost_is_not_known_makes_the_bill_one_of_at_least_so_much_and_counts_with_the_most(spending):
    spending.add("s", "a-job", Cost(0.5, 0.5))

    assert (2, 0.5, False, 2.5) == spending.bill("s", {"a-second-job": Cost(0.0, 2.0)})
    spending.add("s", "a-second-job", Cost(0.25, 1.25))
    assert (2, 0.75, False, 1.75) == spending.bill("s", {})


def test_one_figure_for_all_jobs_of_a_sweep_is_still_read_and_added_to(spending, tmp_path):
    (tmp_path / "hf-jobs").mkdir()
    (tmp_path / "hf-jobs" / SPENT).write_text(json.dumps({"s": 0.4}))

    spending.add("s", "a-job", Cost(0.5, 0.5))

    assert pytest.approx(0.9) == spending.bill("s", {}).usd


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "nonsense",
        "[]",
        '"x"',
        '{"s": {"j": -1}}',
        '{"s": {"j": NaN}}',
        '{"s": null}',
        '{"s": {"j": [1]}}',
        "[" * 5000,
    ],
)
def test_what_cannot_be_read_is_no_bill_of_nothing_and_stays_as_it_is(spending, tmp_path, content):
    (tmp_path / "hf-jobs").mkdir()
    file = tmp_path / "hf-jobs" / SPENT
    file.write_text(content)

    with pytest.raises(EngineUnavailableError, match="What jobs have cost cannot be read, so none starts"):
        spending.bill("s", {})
    with pytest.raises(EngineUnavailableError):
        spending.add("s", "a-job", Cost(0.5, 0.5))
    assert content == file.read_text()


def test_what_was_spent_is_taken_off_the_limit():
    # 60 minutes at 0.05 a minute, less the ten that a start may take.
    assert 3000 == seconds_left(5.0, 2.0, 0.05)
    with pytest.raises(InvalidSettingError, match=r"of \$5\.00 is used up: this sweep's jobs have cost \$4\.90"):
        seconds_left(5.0, 4.9, 0.05)
    with pytest.raises(InvalidSettingError, match="does not pay for a job"):
        seconds_left(0.1, 0.0, 0.05)
    with pytest.raises(InvalidSettingError, match=r"this sweep's jobs may have cost up to \$4\.90"):
        seconds_left(5.0, 4.9, 0.05, is_whole=False)


def test_a_bill_that_another_thread_asks_for_as_a_job_ends_has_no_error(store, logins, monkeypatch):
    engine = HfJobs(store, logins)
    folder = engine.papers.place / "r4-a1"
    (folder / "runs").mkdir(parents=True)
    (folder / "job.json").write_text('{"kind": "finetune", "attempts": ["r4@1"]}')
    engine.papers.write(folder, RENTED)
    read, reads = Papers.read, []

    def removed_at(number):
        def of(papers, folder):
            reads.append(folder)
            if len(reads) >= number:
                raise EngineError("gone")
            return read(papers, folder)

        return of

    for number in range(1, 6):
        reads.clear()
        monkeypatch.setattr(Papers, "read", removed_at(number))
        assert engine.bill(RENTED.sweep_id).jobs <= 1
