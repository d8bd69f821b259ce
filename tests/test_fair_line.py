"""Who goes next where only a few may: visitors take turns, and no number of requests takes a place from another."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest

from rankviz.children import FairLine
from rankviz.errors import BusyError
from rankviz.visitor import Visitor, acting_as
from tests.support.processes.workers import wait_for

BUSY = "One at a time. Try again in a minute."


class Played:
    """A line with visitors in threads of their own. Who is let in stays until `go_on`, one after the other."""

    def __init__(self, line: FairLine, pool: ThreadPoolExecutor):
        self.line, self.pool = line, pool
        self.order: list[str] = []
        self.leave: dict[str, Event] = {}

    def comes(self, name: str) -> Future:
        """A request of the visitor whom the first letter names. Returns once it is in and in `order`, waits or is
        refused."""
        before, self.leave[name] = self.line.length, Event()
        future = self.pool.submit(self._through, name)
        wait_for(lambda: self.line.length > before or future.done())
        time.sleep(0.1)  # one that is let in is in `order` by then
        return future

    def _through(self, name: str) -> None:
        with acting_as(Visitor(name[0])), self.line.turn():
            self.order.append(name)
            assert self.leave[name].wait(60)

    def let_all_through(self) -> list[str]:
        """The order in which they were in."""
        wait_for(lambda: [self.leave[name].set() for name in self.order] and not self.line.length)
        return self.order


@contextmanager
def played(at_once: int = 1, **settings) -> Iterator[Played]:
    with ThreadPoolExecutor(40) as pool:
        now = Played(FairLine(at_once, **{"busy": BUSY, "seconds": 60} | settings), pool)
        try:
            yield now
        finally:
            for event in now.leave.values():
                event.set()


def test_visitors_take_turns_however_many_requests_one_has_sent():
    with played() as line:
        for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
            line.comes(name)

        assert ["a1", "b1", "c1", "a2", "b2", "a3", "a4"] == line.let_all_through()


def test_one_visitor_has_no_more_places_than_each_may_have():
    with played(2, each=1) as line:
        for name in ("a1", "a2"):
            line.comes(name)
        assert ["a1"] == line.order
        line.comes("b1")

        assert ["a1", "b1"] == line.order[:2]
        assert {"a1", "a2", "b1"} == set(line.let_all_through())


def test_who_has_too_many_in_the_line_is_refused_at_once_and_others_are_not():
    with played(of_a_visitor=3) as line:
        for name in ("a1", "a2", "a3"):
            line.comes(name)

        with pytest.raises(BusyError, match=BUSY):
            line.comes("a4").result(60)
        assert not line.comes("b1").done()


def test_who_waits_too_long_is_refused_and_leaves_no_trace():
    line = FairLine(1, busy=BUSY, seconds=0.2)

    with line.turn(), pytest.raises(BusyError, match=BUSY), acting_as(Visitor("b")), line.turn():
        pass

    assert 0 == line.length
    with line.turn():
        pass
