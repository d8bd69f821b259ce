"""The lists of evaluations and the answers stay in the journal: a record holds where they are, and they are read when a
verdict or an export needs them. Of what was read, the latest million numbers stay in memory."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import NamedTuple

from rankviz.core.from_json import build
from rankviz.core.runs.events import EVENT_TYPES, Answered, HeldOut, Matches, RunEvent, matches_of
from rankviz.store.memory.read_again import ReadAgain, of_journal

SHORT = 2
"""Lists of at most so many numbers stay in the record: longer ones take more memory there than where they are on the
disk, and a fast curve has four for each rank."""
KEPT_NUMBERS = 1_000_000
EVENT_NUMBERS = 12
"""What is kept of an event takes as much memory as so many numbers, however short its lists."""


class Line(NamedTuple):
    """Where an event stands."""

    journal: str
    inode: int
    start: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class LongList(Sequence):
    """One list of an event, read from its line. RunNotFoundError where its run has been deleted meanwhile;
    RunUnreadError where it cannot be read now."""

    line: Line
    name: str
    count: int
    matches: Matches | None = None
    """Of example_exact_matches."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place):
        return _of(self.line)[self.name][place]

    def __iter__(self):
        return iter(_of(self.line)[self.name])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None


def without_long_lists(event: RunEvent, line: Line) -> RunEvent:
    """The event with its long lists left on the disk."""
    if not isinstance(event, HeldOut | Answered):
        return event
    most = 0 if isinstance(event, Answered) else SHORT
    long = {name: values for name, values in _lists_in(event).items() if len(values) > most}
    return replace(event, **{name: _left(line, name, values) for name, values in long.items()})


def _left(line: Line, name: str, values: Sequence) -> LongList:
    return LongList(line, name, len(values), matches_of(values) if name == "example_exact_matches" else None)


def numbers_in(event: RunEvent) -> int:
    """How many its lists have."""
    return sum(map(len, _lists_in(event).values())) if isinstance(event, HeldOut) else 0


def _lists_in(event: HeldOut | Answered) -> Mapping[str, Sequence]:
    if isinstance(event, Answered):
        return {"answers": event.answers}
    return {each.name: getattr(event, each.name) for each in fields(event) if each.name.startswith("example_")}


def _count(lists: Mapping[str, Sequence]) -> int:
    return EVENT_NUMBERS + sum(map(len, lists.values()))


_lists = ReadAgain(_count, KEPT_NUMBERS)


def _of(line: Line) -> Mapping[str, Sequence]:
    return _lists.of(line, partial(_read, line))


def _read(line: Line) -> Mapping[str, Sequence]:
    with of_journal(line.journal):
        with open(line.journal, "rb") as file:
            if os.fstat(file.fileno()).st_ino != line.inode:
                raise FileNotFoundError
            file.seek(line.start)
            row = json.loads(file.read(line.size))
        return _lists_in(build(EVENT_TYPES[row.pop("event")], row))
