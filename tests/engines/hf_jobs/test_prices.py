import pytest

from rankviz.core.quantity import Range
from rankviz.errors import InvalidSettingError
from rankviz.jobs.prices import MOST_USD, cost_of, cost_range, seconds_left, timeout_seconds


def test_a_minute_that_has_begun_is_paid_whole():
    assert 0.02 == cost_of(61.0, 0.01)
    assert 0.0 == cost_of(0.0, 0.01)


def test_the_cost_of_a_sweep_has_what_starting_takes_at_both_ends():
    cost = cost_range(Range(60.0, 300.0, 600.0), 0.01)

    assert (0.03, 0.10, 0.20) == (cost.low, cost.expected, cost.high)


def test_a_spending_limit_pays_for_a_time_limit_and_for_the_longest_start():
    assert (100 - 10) * 60 == timeout_seconds(1.0, 0.01)


def test_no_job_takes_longer_than_a_week_and_on_a_machine_without_a_price_none_longer_than_a_day():
    assert 604_800 - 600 == timeout_seconds(1e6, 0.01)
    assert 86_400 - 600 == timeout_seconds(1.0, 0.0)


@pytest.mark.parametrize("usd", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spending_limit_is_a_number_above_zero(usd):
    with pytest.raises(InvalidSettingError, match="above 0"):
        timeout_seconds(usd, 0.01)


def test_a_spending_limit_is_no_more_than_can_be_written_down_of_it():
    with pytest.raises(InvalidSettingError, match="at most 1,000,000 US dollars"):
        timeout_seconds(MOST_USD + 1.0, 0.01)
    assert 0 < timeout_seconds(MOST_USD, 0.01)


def test_a_limit_that_pays_for_no_more_than_the_start_is_refused_with_what_would_do():
    with pytest.raises(InvalidSettingError, match=r"Give at least \$0\.15"):
        timeout_seconds(0.14, 0.01)

    assert 300 == timeout_seconds(0.15, 0.01)


@pytest.mark.parametrize("usd", [0.05, 0.20, 0.30])
def test_after_earlier_jobs_the_first_refusal_names_the_limit_that_would_do(usd):
    with pytest.raises(InvalidSettingError, match=r"jobs have cost \$0\.11, .* Give at least \$0\.31 for the whole"):
        seconds_left(usd, 0.11, 0.2 / 15)

    assert 300 == seconds_left(0.31, 0.11, 0.2 / 15)
