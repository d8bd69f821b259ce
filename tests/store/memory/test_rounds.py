"""Which runs are looked at without a reason: each once in a round, and at no time many."""

import pytest

from rankviz.store.index import MOST_AT_ONCE, SECONDS, Rounds


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def rounds(clock):
    return Rounds(clock)


def test_looked_at_every_second_each_run_comes_once_in_a_round(rounds, clock):
    names = [f"run-{number}" for number in range(1200)]
    rounds.begin(names)
    seen = []

    while not rounds.is_over:
        clock.now += 1
        seen.append(rounds.due())

    assert sorted(names) == sorted(name for due in seen for name in due)
    assert SECONDS == len(seen)
    assert max(map(len, seen)) <= 21


def test_after_a_long_time_no_more_than_some_come_at_once(rounds, clock):
    rounds.begin([f"run-{number}" for number in range(3 * MOST_AT_ONCE)])
    clock.now += 10 * SECONDS

    assert [MOST_AT_ONCE] * 3 == [len(rounds.due()) for _ in range(3)]
    assert rounds.is_over


def test_a_round_lasts_its_time_though_nothing_is_left_of_it(rounds, clock):
    rounds.begin([])
    clock.now += SECONDS - 1

    assert not rounds.is_over
    clock.now += 1
    assert rounds.is_over
