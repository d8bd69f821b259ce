"""What takes a while is worked out beside whoever asks, so that a page waits for no network.

Whoever asks is given the answer where it is there soon, and asks again otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextvars import copy_context
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

SOON_SECONDS = 0.3
KEPT_SECONDS = 10.0
"""Longer than whoever asks again takes for that, and short enough that an answer is true."""
MOST_LINES = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value


class Beside:
    """Questions in lines, each of which works on one at a time. Of those that wait in a line only the newest counts.

    Args:
        soon_seconds: So long whoever asks waits.
    """

    def __init__(self, soon_seconds: float = SOON_SECONDS):
        self.soon_seconds = soon_seconds
        self._changed = Condition()
        self._answers: dict[Hashable, tuple[float, Answer]] = {}
        self._at_work: dict[Hashable, Hashable] = {}
        self._next: dict[Hashable, tuple[Hashable, Callable[[], Any]]] = {}

    def ask(self, line: Hashable, question: Hashable, work: Callable[[], Any]) -> Answer | None:
        """The answer to a question; None where it is not there yet, or nobody can work on it now.

        work: Answers it, as the visitor who asks.
        """
        key = line, question
        with self._changed:
            self._forget()
            if key not in self._answers and self._at_work.get(line) != key:
                self._begin(line, key, work)
            self._changed.wait_for(lambda: key in self._answers, self.soon_seconds)
            known = self._answers.get(key)
        return known and known[1]

    def _begin(self, line: Hashable, key: Hashable, work: Callable[[], Any]) -> None:
        if line not in self._at_work and len(self._at_work) >= MOST_LINES:
            return
        context = copy_context()
        self._next[line] = key, lambda: context.run(work)
        if line not in self._at_work:
            self._at_work[line] = None
            Thread(target=self._work, args=(line,), name="beside the page", daemon=True).start()

    def _work(self, line: Hashable) -> None:
        while True:
            with self._changed:
                if line not in self._next:
                    del self._at_work[line]
                    return
                key, work = self._next.pop(line)
                self._at_work[line] = key
            try:
                answer = Answer(work())
            except Exception as error:  # whoever asked is told
                answer = Answer(error=error)
            with self._changed:
                self._at_work[line] = None
                self._answers[key] = time.monotonic(), answer
                self._changed.notify_all()

    def _forget(self) -> None:
        before = time.monotonic() - KEPT_SECONDS
        for key in [key for key, (at, _) in self._answers.items() if at < before]:
            del self._answers[key]
