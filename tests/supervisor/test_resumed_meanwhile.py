"""What is resumed or deleted while somebody still waits for the end of others that were cancelled with it."""

import pytest

from rankviz.errors import EngineEndingError
from rankviz.store.removal import remove
from tests.support.engines.elsewhere import Elsewhere
from tests.support.processes.workers import FIRST_HANGS, states, sweep, wait_for


@pytest.fixture
def at_the_first(supervise, store):
    """Two runs of a sweep, whose job holds the first, with supervisor and engine."""
    first, last = sweep(store, 4, 8)
    supervisor, engine = supervise(FIRST_HANGS)
    wait_for(lambda: supervisor.tick() or store.get(first).steps)
    return first, last, supervisor, engine


def test_a_run_that_is_resumed_while_its_sweep_is_being_cancelled_is_not_cancelled_again(at_the_first, store):
    first, last, supervisor, engine = at_the_first
    asked = []

    def cancel(live, unless=lambda: False):
        asked.append(live)
        if len(asked) == 1:
            assert supervisor.store.requeue(last)  # by its owner, on another page
        if len(asked) < 3:
            raise EngineEndingError("It takes a while.")
        return Elsewhere.cancel(engine, live, unless)

    engine.cancel = cancel
    supervisor.cancel_runs([first, last])
    assert ["cancelled", "queued"] == states(store, [first, last])

    supervisor.settle()
    assert ["cancelled", "completed"] == states(store, [first, last])


def test_a_run_that_is_deleted_while_its_sweep_is_being_cancelled_is_in_nobody_s_way(at_the_first, store):
    first, last, supervisor, engine = at_the_first
    asked = []

    def cancel(live, unless=lambda: False):
        asked.append(live)
        if len(asked) == 1:
            remove(supervisor.store, [last])  # by its owner, on another page
            raise EngineEndingError("It takes a while.")
        return Elsewhere.cancel(engine, live, unless)

    engine.cancel = cancel
    supervisor.cancel_runs([first, last])

    assert ["cancelled"] == states(store, [first])


def test_a_run_that_is_deleted_just_before_its_sweep_is_cancelled_is_in_nobody_s_way(at_the_first, store):
    first, last, supervisor, _ = at_the_first
    supervisor.cancel(last)
    remove(supervisor.store, [last])

    supervisor.cancel_runs([first, last])

    assert ["cancelled"] == states(store, [first])
