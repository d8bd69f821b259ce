"""What is read from the disk once more, of which the latest stays in memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from rankviz.errors import RunNotFoundError, RunUnreadError

Value = TypeVar("Value")


@contextmanager
def of_journal(journal: str) -> Iterator[None]:
    """Around what reads a run's journal again. RunNotFoundError where it has gone, or is another one; RunUnreadError
    where it cannot be read now."""
    run_id = Path(journal).parent.name
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        raise RunNotFoundError(run_id) from None
    except OSError as error:
        raise RunUnreadError(run_id, error.strerror) from error


class ReadAgain(Generic[Value]):
    """By key, the latest at the end. Several threads may ask: each key is read by one of them, and different keys at
    the same time.

    Args:
        size: Of a value.
        most: The sizes of those that are kept, unless one alone is larger.
    """

    def __init__(self, size: Callable[[Value], int], most: int):
        self._size, self._most = size, most
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._kept_size = 0
        self._reading: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def of(self, key: Hashable, read: Callable[[], Value]) -> Value:
        """The value that is kept, or what `read` gives; what that raises."""
        if (value := self._known(key)) is not None:
            return value
        with self._lock:
            reading = self._reading.setdefault(key, Lock())
        with reading:
            if (value := self._known(key)) is not None:  # another thread has read it meanwhile
                return value
            try:
                return self._keep(key, read())
            finally:
                self._reading.pop(key, None)

    def _known(self, key: Hashable) -> Value | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: Hashable, value: Value) -> Value:
        with self._lock:
            if key in self._kept:
                return self._kept[key]
            self._kept[key] = value
            self._kept_size += self._size(value)
            while len(self._kept) > 1 and self._kept_size > self._most:
                self._kept_size -= self._size(self._kept.popitem(last=False)[1])
        return value
