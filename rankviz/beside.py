"""Questions answered in background threads, so that no page waits for a network.

Callers ask again for late answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Condition, Thread
from typing import Any

SOON_SECONDS = 0.3
KEPT_SECONDS = 10.0
"""Seconds for which an answer is kept: longer than a caller takes to ask again, and short enough to stay correct."""
MOST_LINES = 32


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a question: a value, or an error."""

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Beside:
    """Background questions in lines. Each line works on one question at a time and keeps only the newest waiting one.

    soon_seconds: Seconds that a caller waits for an answer.
    """

    def __init__(self, soon_seconds: float = SOON_SECONDS):
        self.soon_seconds = soon_seconds
        self._changed = Condition()
        self._answers: dict[Hashable, tuple[float, Outcome]] = {}
        self._at_work: dict[Hashable, Hashable] = {}
        self._next: dict[Hashable, tuple[Hashable, Callable[[], Any]]] = {}

    def ask(self, line: Hashable, question: Hashable, work: Callable[[], Any]) -> Outcome | None:
        """Return the answer to a question; None where it is not known yet, or all threads are busy. work: Computes the
        answer, in the context of the visitor who asks."""
        key = line, question
        with self._changed:
            before = time.monotonic() - KEPT_SECONDS
            self._answers = {key: known for key, known in self._answers.items() if known[0] >= before}
            is_free = line in self._at_work or len(self._at_work) < MOST_LINES
            if key not in self._answers and self._at_work.get(line) != key and is_free:
                self._next[line] = key, partial(copy_context().run, work)
                if line not in self._at_work:
                    self._at_work[line] = None
                    Thread(target=self._work, args=(line,), name="beside the page", daemon=True).start()
            self._changed.wait_for(lambda: key in self._answers, self.soon_seconds)
            known = self._answers.get(key)
        return known and known[1]

    def _work(self, line: Hashable) -> None:
        while True:
            with self._changed:
                if line not in self._next:
                    del self._at_work[line]
                    return
                key, work = self._next.pop(line)
                self._at_work[line] = key
            try:
                answer = Outcome(work())
            except Exception as error:  # whoever asked is told
                answer = Outcome(error=error)
            with self._changed:
                self._at_work[line] = None
                self._answers[key] = time.monotonic(), answer
                self._changed.notify_all()
