"""Answers questions in background threads, so that no page waits for a network; callers ask again for late answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Condition, Thread
from typing import Any

SOON_SECONDS = 0.3
KEPT_SECONDS = 10.0
"""Seconds for which an answer is cached: longer than the time between two calls, short enough to stay correct."""
MOST_LINES = 32


class Background:
    """Background threads that compute and cache answers. Each line, named by any key, computes one answer at a time.

    soon_seconds: Longest wait of one call of `ask` for an answer. kept_seconds: Seconds for which a value is cached; an
    error is cached for at most KEPT_SECONDS.
    """

    def __init__(self, soon_seconds: float = SOON_SECONDS, kept_seconds: float = KEPT_SECONDS):
        self.soon_seconds, self._kept_seconds = soon_seconds, kept_seconds
        self._changed = Condition()
        self._answers: dict[Hashable, tuple[float, Future]] = {}
        self._at_work: set[Hashable] = set()

    def ask(
        self, line: Hashable, question: Hashable, work: Callable[[], Any], soon_seconds: float | None = None
    ) -> Future | None:
        """Return the finished Future of a question, with a value or an error; None while the answer is being computed,
        or while MOST_LINES other lines are busy. work: Computes the answer, in the context of the calling visitor.
        soon_seconds: Longest wait, in place of that of all calls."""
        key, context = (line, question), copy_context()

        def known() -> bool:
            if key not in self._answers and line not in self._at_work and len(self._at_work) < MOST_LINES:
                self._at_work.add(line)
                Thread(target=context.run, args=(self._work, line, key, work), name="background", daemon=True).start()
            return key in self._answers

        with self._changed:
            now, soon = time.monotonic(), self.soon_seconds if soon_seconds is None else soon_seconds
            self._answers = {key: answer for key, answer in self._answers.items() if answer[0] >= now}
            return self._answers[key][1] if self._changed.wait_for(known, soon) else None

    def _work(self, line: Hashable, key: Hashable, work: Callable[[], Any]) -> None:
        answer = Future()
        try:
            answer.set_result(work())
        except Exception as error:  # whoever asked is told
            answer.set_exception(error)
        with self._changed:
            self._at_work.discard(line)
            seconds = min(KEPT_SECONDS, self._kept_seconds) if answer.exception() else self._kept_seconds
            self._answers[key] = time.monotonic() + seconds, answer
            self._changed.notify_all()
