"""Long lists of evaluations stay in the journal: a record holds where they are, and they are read when a verdict or an
export needs them. Of what was read, the latest million numbers stay in memory."""

import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from rankviz.core.from_json import build
from rankviz.core.runs.events import EVENT_TYPES, HeldOut, RunEvent
from rankviz.errors import RunNotFoundError

SHORT = 1000
"""Lists of at most so many numbers stay in the record."""
KEPT_NUMBERS = 1_000_000


class Line(NamedTuple):
    """Where an event stands."""

    journal: Path
    inode: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class LongList(Sequence):
    """One list of an event, read from its line. RunNotFoundError where its run has been deleted meanwhile."""

    line: Line
    name: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place):
        return _lists.of(self.line)[self.name][place]

    def __iter__(self):
        return iter(_lists.of(self.line)[self.name])


def without_long_lists(event: RunEvent, line: Line) -> RunEvent:
    """The event with its long lists left on the disk."""
    if not isinstance(event, HeldOut):
        return event
    long = {name: values for name, values in _lists_in(event).items() if len(values) > SHORT}
    return replace(event, **{name: LongList(line, name, len(values)) for name, values in long.items()})


def numbers_in(event: RunEvent) -> int:
    """How many its lists have."""
    return sum(map(len, _lists_in(event).values())) if isinstance(event, HeldOut) else 0


def _lists_in(event: HeldOut) -> Mapping[str, Sequence]:
    return {each.name: getattr(event, each.name) for each in fields(event) if each.name.startswith("example_")}


class _Lists:
    """By line, the latest at the end."""

    def __init__(self):
        self._kept: OrderedDict[Line, Mapping[str, Sequence]] = OrderedDict()
        self._lock = Lock()

    def of(self, line: Line) -> Mapping[str, Sequence]:
        with self._lock:
            if line not in self._kept:
                self._kept[line] = _read(line)
            self._kept.move_to_end(line)
            while len(self._kept) > 1 and sum(_count(lists) for lists in self._kept.values()) > KEPT_NUMBERS:
                self._kept.popitem(last=False)
            return self._kept[line]


_lists = _Lists()


def _count(lists: Mapping[str, Sequence]) -> int:
    return sum(map(len, lists.values()))


def _read(line: Line) -> Mapping[str, Sequence]:
    try:
        with line.journal.open("rb") as file:
            if os.fstat(file.fileno()).st_ino != line.inode:
                raise RunNotFoundError(line.journal.parent.name)
            file.seek(line.start)
            row = json.loads(file.read(line.size))
        return _lists_in(build(EVENT_TYPES[row.pop("event")], row))
    except (OSError, ValueError, KeyError):
        raise RunNotFoundError(line.journal.parent.name) from None
