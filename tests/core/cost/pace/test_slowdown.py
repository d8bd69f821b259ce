"""How much longer other programs make a run, worked by hand."""

import math

import pytest

from rankviz.core.cost.pace import NO_SLOWDOWN, UNSURE, Others, Spell, expected_slowdown, others, slowdown
from rankviz.core.quantity import Range


@pytest.mark.parametrize(
    ("seconds", "own", "waited", "times"),
    [
        (10.0, 20.0, 0.0, 1.0),  # both processors, all the time
        (10.0, 5.0, 15.0, 4.0),  # two threads that had a quarter of what they wanted
        (10.0, 6.0, 4.0, 10 / 6),  # one thread, which waited for 4 of 10 s
        (100.0, 20.0, 20.0, 100 / 80),  # mostly the disk: only what it waited for the processor is taken off
        (10.0, 0.0, 0.0, 1.0),
        (10.0, 0.0, 20.0, 1.0),  # nothing to divide by
        (10.0, math.inf, 5.0, 1.0),
        (10.0, 5.0, math.nan, 1.0),
    ],
)
def test_what_others_took_is_what_threads_waited(seconds, own, waited, times):
    assert times == pytest.approx(slowdown(seconds, own, waited))


def left(load_average, at, *spells):
    return others(load_average + UNSURE, at, 2, spells).threads


def test_a_run_that_has_just_ended_is_taken_off_the_load_average():
    run = Spell(began_at=0.0, ended_at=600.0, threads=2.0)

    assert 0.0 == pytest.approx(left(2.0, 600.0, run), abs=1e-3)
    assert 1 - 2 / math.e == pytest.approx(left(1.0, 660.0, run), abs=1e-3)
    assert 1.0 == pytest.approx(left(1.0, 6000.0, run))


def test_a_run_that_is_still_at_work_counts_until_now():
    at_work = Spell(began_at=0.0, ended_at=900.0, threads=2.0)

    assert 1.0 == pytest.approx(left(3.0, 600.0, at_work), abs=1e-3)


def test_threads_of_others_get_fair_shares_and_may_become_more_or_fewer():
    assert Range(1.5, 2.0, 3.0) == Others(threads=2.0, cpus=2).slowdown(2, drift=2.0)
    assert Range(1.125, 1.25, 1.5) == Others(threads=2.0, cpus=8).slowdown(8, drift=2.0)


def test_one_thread_is_not_slowed_by_what_leaves_a_processor_free():
    assert Range(1.0, 1.0, 1.0) == Others(threads=1.5, cpus=4).slowdown(1, drift=2.0)
    assert Range(1.0, 1.5, 2.5) == Others(threads=2.0, cpus=2).slowdown(1, drift=2.0)


def test_a_machine_with_nothing_else_to_do_slows_nothing():
    assert NO_SLOWDOWN == Others(threads=0.0, cpus=8).slowdown(8, drift=2.0)


def test_the_next_run_is_slowed_as_the_last_three_and_as_the_machine_is_now():
    assert Range(1.0, 1.2, 3.0) == expected_slowdown([9.0, 1.0, 3.0, 1.2], None)
    both = expected_slowdown([1.0, 3.0, 2.0], Range(3.0, 4.5, 5.0))
    assert (1.0, 3.0, 5.0) == pytest.approx((both.low, both.expected, both.high))
    assert Range(3.0, 4.0, 5.0) == expected_slowdown([], Range(3.0, 4.0, 5.0))
    assert NO_SLOWDOWN == expected_slowdown([], None)
