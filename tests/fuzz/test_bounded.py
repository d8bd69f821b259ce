"""The harness itself: a reader that hangs, fills the memory, dies or raises is found, and the rest goes on."""

import gc
from random import Random

from rankviz.errors import BadDataError
from tests.fuzz.bounded import run_cases


def outcomes_of(read, cases=4):
    return [outcome.kind for outcome in run_cases(lambda rng: rng.random(), read, seed="s", cases=range(cases))]


def once(broken):
    """A reader that breaks on the second case."""
    second = Random("s:1").random()
    return lambda given: broken() if given == second else None


def refuse():
    raise BadDataError("no")


def spin():
    while True:
        pass


def fill():
    return len(bytearray(b"1") * (700 * 10**6))


def test_a_reader_that_hangs_is_ended_and_the_cases_after_it_run():
    assert ["result", "time", "result", "result"] == outcomes_of(once(spin))


def test_a_reader_that_fills_the_memory_is_found_and_the_cases_after_it_run():
    assert ["result", "memory", "result", "result"] == outcomes_of(once(fill))


def test_what_the_process_held_before_does_not_slow_a_reader():
    held = [[] for _ in range(10_000_000)]

    try:
        assert ["result"] * 2 == outcomes_of(lambda given: [gc.collect() for _ in range(4)], cases=2)
    finally:
        held.clear()
