"""The steps of ended runs stay in the journal, and so do their latest events: they are read again when somebody looks
at the run. Of what was read again, the latest runs stay in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from rankviz.core.runs.events import StepLogged, median_seconds
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.run_time import Few, usual_seconds
from rankviz.store.journal import JournalReader, Record, Request, new_record
from rankviz.store.memory.read_again import ReadAgain, of_journal

KEPT_EVENTS = 50_000
"""Steps and latest events, of all runs that were read again."""


class Part(NamedTuple):
    """A journal up to a line."""

    journal: str
    size: int
    request: Request


@dataclass(frozen=True, slots=True, eq=False)
class StepsOnDisk(Sequence):
    """The steps of a run, without those between the first and the last. RunNotFoundError where the run has been
    deleted meanwhile; RunUnreadError where it cannot be read now."""

    part: Part
    length: int
    first: StepLogged
    last: StepLogged
    median_seconds: float | None
    """What tables, estimates and charts need of all steps of every run: as core.runs.record has it; as
    core.runs.timing.times has it; the points of a chart of many runs."""
    usual_seconds: float | None
    few: Few

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place):
        if isinstance(place, slice) and len(wanted := range(self.length)[place]) < self.length:
            return tuple(self[each] for each in wanted)
        if place in (0, -self.length):
            return self.first
        if place in (-1, self.length - 1):
            return self.last
        return _read(self.part).record.steps[place]

    def __iter__(self):
        return iter(_read(self.part).record.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None


def lighten(reader: JournalReader) -> None:
    """Leave on the disk what only whoever opens an ended run looks at."""
    record = reader.record
    if not isinstance(record, RunRecord) or not record.state.ended or not isinstance(record.steps, tuple):
        return
    if record.steps:
        steps = StepsOnDisk(
            part=_part(reader),
            length=len(record.steps),
            first=record.steps[0],
            last=record.steps[-1],
            median_seconds=median_seconds(record.steps),
            usual_seconds=usual_seconds(record.steps),
            few=Few.of(record.steps),
        )
        reader.record = replace(record, steps=steps)
    reader.latest = None


def latest(reader: JournalReader) -> Sequence:
    """The run's latest events, wherever they are."""
    return _read(_part(reader)).latest if reader.latest is None else reader.latest


def _part(reader: JournalReader) -> Part:
    return Part(reader.journal, reader.offset, reader.record.request)


def _read(part: Part) -> JournalReader:
    return _again.of((part.journal, part.size), partial(_whole, part))


def _whole(part: Part) -> JournalReader:
    reader = JournalReader(part.journal, new_record(part.request), most=part.size)
    with of_journal(part.journal):
        reader.read()
        if reader.offset != part.size:
            raise FileNotFoundError
    return reader


def _events_in(reader: JournalReader) -> int:
    record: Record = reader.record
    return len(reader.latest) + (len(record.steps) if isinstance(record, RunRecord) else 0)


_again = ReadAgain(_events_in, KEPT_EVENTS)
