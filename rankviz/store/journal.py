"""One run's journal: a JSON line an event, appended, never changed.

A line counts once its newline is there: what a crash has cut off is not yet an event. The next writer seals such a
stump with a newline, so that it stays one unreadable line and takes nothing with it.
"""

import errno
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from rankviz.core.bounds import printable
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.from_json import Misfit, build
from rankviz.core.lora.config import LoraConfig
from rankviz.core.probe.record import ProbeRecord
from rankviz.core.probe.request import ProbeRequest
from rankviz.core.runs.events import (
    EVENT_TYPES,
    Answered,
    AttemptPlaced,
    RunEvent,
    StageProgressed,
    StepLogged,
    counting,
)
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest
from rankviz.errors import redacted_in
from rankviz.store.flat_requests import nested
from rankviz.store.memory.long_lists import Line, without_long_lists

LATEST = 60
"""Events of a run that are kept to be shown."""
MAX_REQUEST_BYTES = 1_000_000
MAX_LINE_BYTES = 4_000_000
"""An evaluation of 100,000 examples, the most there can be, has at most 3.6 MB with all that is counted of each."""
MAX_SHORT_LINE_BYTES = 400_000
"""Of all events but those."""
_LONG = re.compile(rb'\{"event": ?"(Evaluated|AdapterCut|Answered)"')
"""How a line begins that may be long."""
NOT_SHOWN = (StepLogged, StageProgressed, Answered)
SMALL = (StepLogged, StageProgressed, AttemptPlaced)
Request = RunRequest | ProbeRequest
Setting = TypeVar("Setting", LoraConfig, TrainingSetup)
Record = RunRecord | ProbeRecord


def append_event(journal: Path, event: RunEvent) -> None:
    """One write, so that a reader sees the whole line or none. On disk before this returns, steps, progress and places
    excepted: there are many, and a machine that loses power may lose the last few."""
    append_events(journal, [event])


def append_events(journal: Path, events: Sequence[RunEvent]) -> None:
    """The same of several events."""
    if not events:
        return
    data = b"".join(map(line_of, events))
    fd = os.open(journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, f"An event of {journal.parent.name} was not written whole")
        if not all(isinstance(event, SMALL) for event in events):
            os.fsync(fd)
    finally:
        os.close(fd)


def line_of(event: RunEvent) -> bytes:
    """As it stands in a journal: without an attempt and an offset of 0, as older journals are, and without a token that
    somebody has said back."""
    row = {name: value for name, value in asdict(event).items() if value or name not in ("attempt", "offset")}
    return (json.dumps({"event": type(event).__name__, **redacted_in(row)}) + "\n").encode()


def parse_event(line: bytes) -> RunEvent | None:
    """The event of a line; None where it is no event that this version knows, or holds what none can."""
    if len(line) > (MAX_LINE_BYTES if _LONG.match(line) else MAX_SHORT_LINE_BYTES):
        return None  # before it is parsed: many small objects take a hundred times the room of their text
    try:
        row = json.loads(line.decode())
        return build(EVENT_TYPES[row.pop("event")], row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


class Lines(NamedTuple):
    """What stands in a piece of a journal."""

    events: Sequence[RunEvent]
    unreadable: int
    """Whole lines that are no event."""


NOTHING_NEW = Lines((), 0)


def parse_lines(data: bytes) -> Lines:
    """The events of all whole lines."""
    events = [parse_event(line) for _, line in whole_lines(BytesIO(data))]
    return Lines([event for event in events if event is not None], events.count(None))


def whole_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Where each line begins, and the line with its newline: the one reading of a journal, wherever it lies. One that
    is longer than any can be is passed over, and is a newline alone; one without a newline is not there yet."""
    while True:
        start = file.tell()
        line = last = file.readline(MAX_LINE_BYTES)
        while last and not last.endswith(b"\n"):
            last = file.readline(MAX_LINE_BYTES)
        if not last:
            return
        yield start, line if last is line else b"\n"


def parse_request(text: str | bytes) -> Request:
    """The request of a request.json, a run's or a probe's. UserError or ValueError says why it is neither."""
    if len(text) > MAX_REQUEST_BYTES:
        raise Misfit(f"request.json is larger than {MAX_REQUEST_BYTES:,} bytes.")
    try:
        row = json.loads(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise Misfit(f"request.json is not JSON: {printable(str(error), 100)}.") from None
    if not isinstance(row, dict):
        raise Misfit("request.json holds no object.")
    try:
        request = build(ProbeRequest if "probe_id" in row else RunRequest, nested(row))
    except Misfit as misfit:
        raise Misfit(f"request.json: {misfit}.") from None
    request.validate()
    return replace(request, lora=_one(request.lora), training=_one(request.training))


@lru_cache(maxsize=1000)
def _one(setting: Setting) -> Setting:
    """The same setting of many runs once: they are in memory all the time."""
    return setting


def request_text(request: Request) -> str:
    return json.dumps(asdict(request), indent=1, ensure_ascii=False) + "\n"


def new_record(request: Request) -> Record:
    """Of what was asked and hasn't begun."""
    return ProbeRecord(request=request) if isinstance(request, ProbeRequest) else RunRecord(request=request)


@dataclass(slots=True)
class JournalReader:
    """The record of one run or probe, kept up to date by reading only what was appended since."""

    journal: str
    record: Record
    offset: int = 0
    latest: Sequence[RunEvent] | None = ()
    """The last events that counted, without steps, progress and answers, of which there are many; None of an ended run
    (memory/left_on_disk.py)."""
    most: float = math.inf
    """Bytes of the journal that are read."""

    def read(self) -> Record:
        """Fold what is new. An ended run changes only when it is asked for again: its file's size is looked at, no
        more."""
        new = self._appended() if self._has_grown() else NOTHING_NEW
        if new.events:
            counted = counting(new.events, self.record.attempt)
            shown = [event for event in counted if not isinstance(event, NOT_SHOWN)]
            self.latest = [*(self.latest or ()), *shown][-LATEST:]
            self.record = self.record.after_all(new.events)
        if new.unreadable:
            self.record = replace(self.record, unreadable_lines=self.record.unreadable_lines + new.unreadable)
        return self.record

    def _has_grown(self) -> bool:
        try:
            return min(self.most, os.stat(self.journal).st_size) > self.offset
        except FileNotFoundError:
            return False

    def _appended(self) -> Lines:
        """What is new, with long lists left on the disk."""
        events: list[RunEvent] = []
        unreadable, offset = 0, self.offset
        try:
            with open(self.journal, "rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                file.seek(self.offset)
                for start, text in whole_lines(file):
                    if start >= self.most:
                        break
                    offset = file.tell()
                    if (event := parse_event(text)) is None:
                        unreadable += 1
                    else:
                        events.append(without_long_lists(event, Line(self.journal, inode, start, len(text))))
        except FileNotFoundError:
            pass
        self.offset = offset  # not before: what cannot be read to its end is read again
        return Lines(events, unreadable)
