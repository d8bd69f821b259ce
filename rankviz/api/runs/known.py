"""What was found once, kept in little memory."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Found = TypeVar("Found")


class Known:
    """By key; of more than so many the oldest go. Several threads may use it, and may find the same twice."""

    def __init__(self, most: int):
        self._most = most
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable) -> Any:
        """None where there is none."""
        return self._values.get(key)

    def keep(self, key: Hashable, value: Found) -> Found:
        if len(self._values) >= self._most:
            for oldest in list(self._values)[: self._most // 10 + 1]:
                self._values.pop(oldest, None)
        self._values[key] = value
        return value

    def of(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """Found where it is not known. No value is None."""
        return value if (value := self.get(key)) is not None else self.keep(key, find())
