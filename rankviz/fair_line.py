"""A line of visitors before something that only a few may do at once: they take turns, however much one of them asks
for.

Who waits keeps a thread of the page, so the line is short, and who finds no place in it is refused at once.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Condition
from typing import Literal

from rankviz import visitor
from rankviz.errors import BusyError

MAX_WAITING = 8
MAX_OF_A_VISITOR = 4
"""In and waiting, so that nobody takes all places."""


@dataclass(eq=False)
class _Ticket:
    visitor_id: str
    state: Literal["waits", "in", "refused"] = "waits"


class FairLine:
    """Among visitors who wait, the one with the fewest in goes first, then the one let in longest ago.

    Args:
        at_once: How many are in.
        busy: Said to who is refused.
        seconds: The longest wait.
        each: How many of one visitor are in; as many as there are places by default.
        waiting: How many may wait; None is no limit.
        of_a_visitor: How many of one visitor are in or wait; None is no limit.
    """

    def __init__(
        self,
        at_once: int,
        *,
        busy: str,
        seconds: float,
        each: int | None = None,
        waiting: int | None = MAX_WAITING,
        of_a_visitor: int | None = MAX_OF_A_VISITOR,
    ):
        self._at_once = at_once
        self._busy = busy
        self._seconds = seconds
        self._each = each or at_once
        self._waiting = waiting
        self._of_a_visitor = of_a_visitor
        self._changed = Condition()
        self._tickets: list[_Ticket] = []
        self._let_in = count()
        self._last: dict[str, int] = {}

    @contextmanager
    def turn(self, *, patient: bool = True) -> Iterator[None]:
        """Within it this thread is in. BusyError where there is no place in the line, or the wait is too long; of one
        who is not patient, where there would be any."""
        ticket = self._join()
        try:
            with self._changed:
                self._changed.wait_for(lambda: ticket.state != "waits", self._seconds if patient else 0)
                if ticket.state != "in":
                    raise BusyError(self._busy)
            yield
        finally:
            with self._changed:
                self._tickets.remove(ticket)
                self._let_in_the_next()

    @property
    def most(self) -> float:
        """The most that are in or wait, and the most threads that they keep."""
        return math.inf if self._waiting is None else self._at_once + self._waiting

    @property
    def length(self) -> int:
        """How many are in or wait."""
        return len(self._tickets)

    def _join(self) -> _Ticket:
        ticket = _Ticket((visitor.current() or visitor.HOST).id)
        with self._changed:
            mine = sum(each.visitor_id == ticket.visitor_id for each in self._tickets)
            if self._of_a_visitor is not None and mine >= self._of_a_visitor:
                raise BusyError(self._busy)
            self._tickets.append(ticket)
            self._let_in_the_next()
            if self._waiting is not None and len(self._in_state("waits")) > self._waiting:
                self._refuse_one()
        return ticket

    def _let_in_the_next(self) -> None:
        while len(inside := self._in_state("in")) < self._at_once:
            places = Counter(each.visitor_id for each in inside)
            able = [each for each in self._in_state("waits") if places[each.visitor_id] < self._each]
            if not able:
                break
            ticket = min(able, key=lambda each: (places[each.visitor_id], self._last.get(each.visitor_id, -1)))
            ticket.state = "in"
            self._last[ticket.visitor_id] = next(self._let_in)
        here = {each.visitor_id for each in self._tickets}
        self._last = {name: last for name, last in self._last.items() if name in here}
        self._changed.notify_all()

    def _refuse_one(self) -> None:
        """The last one of the visitor of whom most wait."""
        waits = self._in_state("waits")
        most = Counter(each.visitor_id for each in waits)
        max(reversed(waits), key=lambda each: most[each.visitor_id]).state = "refused"
        self._changed.notify_all()

    def _in_state(self, state: str) -> list[_Ticket]:
        return [each for each in self._tickets if each.state == state]
