"""Calls of one job that take as long as its node takes. Each has a thread, so nobody waits for it: whoever wants it
done asks until it is."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rankviz.errors import EngineEndingError, EngineUnavailableError, redacted

ENDING = "Ray has not ended the job yet. What you cancelled ends with it."


class Steps:
    """By name; each is under way once at most."""

    def __init__(self, *names: str):
        self._threads = ThreadPoolExecutor(len(names))
        self._futures: dict[str, Future] = {}

    def take(self, name: str, call: Callable[[], Any]) -> Any:
        """What it returned, once it has. EngineEndingError: not yet. EngineUnavailableError: it failed, and is begun
        anew where it is asked for again."""
        if name not in self._futures:
            self._futures[name] = self._threads.submit(call)
        future = self._futures[name]
        if not future.done():
            raise EngineEndingError(ENDING)
        if error := future.exception():
            del self._futures[name]
            raise EngineUnavailableError(f"Ray: {type(error).__name__}: {redacted(str(error))[:300]}") from error
        return future.result()

    def forget(self, name: str) -> None:
        """It may be taken again."""
        self._futures.pop(name, None)
