"""PEFT's patterns for module names (rank_pattern, alpha_pattern), as PEFT itself matches them: by Python's `re`.

A pattern can take `re` for ever, so matching stops after some seconds of processor time. Adapters from outside are
also read in a child process, whose time is bounded as a whole (rankviz.children).
"""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rankviz.errors import BadAdapterError, quoted

PLAIN = re.compile(r"[\w.:/-]*")
MATCHING_SECONDS = 2.0
"""Processor time for all names of one adapter."""
MAX_NAMES = 10_000
"""Names that one pattern stands for, from which on it is not written out."""


class Shape(NamedTuple):
    """What plain patterns have in common, so that all those of one shape are looked up at once."""

    length: int
    dots: tuple[int, ...]
    """Places of ".", which stands for any character."""
    anchored: bool
    """The pattern must begin where the name does."""


class Patterns:
    """The values of patterns in their order. BadAdapterError names a pattern that `re` does not take."""

    def __init__(self, values: Mapping[str, Any]):
        self._values, self._keys = values, tuple(values)
        self._plain: dict[Shape, dict[str, int]] = {}
        self._others: list[tuple[int, re.Pattern[str]]] = []
        for order, key in enumerate(self._keys):
            names = _names(key.removeprefix("^"))
            for name in names:
                dots = tuple(place for place, character in enumerate(name) if character == ".")
                shape = Shape(len(name), dots, key.startswith("^"))
                self._plain.setdefault(shape, {}).setdefault(name, order)
            if not names:
                self._others.append((order, _compiled(key)))

    def get(self, name: str, default: Any) -> Any:
        """The value of the first pattern that matches, else the default."""
        key = self.first(name)
        return default if key is None else self._values[key]

    def first(self, name: str) -> str | None:
        """The first pattern that matches the end of a name, from a dot or from its start."""
        orders = [
            order for shape, known in self._plain.items() if (order := _looked_up(name, shape, known)) is not None
        ]
        orders += [next((order for order, pattern in self._others if pattern.match(name)), len(self._keys))]
        return self._keys[min(orders)] if min(orders) < len(self._keys) else None


@contextlib.contextmanager
def bounded_matching(seconds: float = MATCHING_SECONDS) -> Iterator[None]:
    """Raise BadAdapterError where matching takes more processor time than this, in a process's main thread."""

    def stop(*_: Any) -> None:
        raise BadAdapterError(
            "rank_pattern or alpha_pattern in adapter_config.json takes too long to match, so it is not read: name the "
            "modules without nested repeats."
        )

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _compiled(key: str) -> re.Pattern[str]:
    try:
        return re.compile(rf"(.*\.)?({key})$")  # peft.utils.other.get_pattern_key
    except (re.error, OverflowError, RecursionError) as error:
        raise BadAdapterError(f"The pattern {quoted(key)} is not a regular expression: {error}.") from None


def _looked_up(name: str, shape: Shape, known: Mapping[str, int]) -> int | None:
    start = len(name) - shape.length
    if start < 0 or (start and (shape.anchored or name[start - 1] != ".")):
        return None
    end = list(name[start:])
    for place in shape.dots:
        end[place] = "."
    return known.get("".join(end))


def _names(key: str) -> list[str]:
    """The names that a key without other operators stands for: "a.(0|3).b" is "a.0.b" and "a.3.b". None of others."""
    before, group, rest = key.partition("(")
    inside, closed, after = rest.partition(")")
    each = inside.split("|")
    if bool(group) != bool(closed) or len(each) > MAX_NAMES or not all(map(PLAIN.fullmatch, (before, *each, after))):
        return []
    return [f"{before}{one}{after}" for one in each]
