"""Files of one run: request.json, written once, and events.jsonl with a JSON line appended for each event."""

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, TypeVar

from rankviz.core.bounds import printable
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.from_json import Misfit, build
from rankviz.core.lora.config import LoraConfig
from rankviz.core.probe import ProbeRecord, ProbeRequest
from rankviz.core.runs.events import (
    EVENT_TYPES,
    Answered,
    AttemptPlaced,
    HeldOut,
    RunEvent,
    StageProgressed,
    StepLogged,
    matches_of,
)
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.run_time import StepSummary
from rankviz.errors import RunNotFoundError, RunUnreadError, redacted_in

MAX_REQUEST_BYTES = 1_000_000
MAX_LINE_BYTES = 4_000_000
"""Limit for the longest events: an evaluation of 100,000 examples, the most allowed, takes up to 3.6 MB."""
MAX_SHORT_LINE_BYTES = 400_000
"""Limit for all events except evaluations, truncations and answers."""
_LONG_EVENT = re.compile(rb'\{"event": ?"(Evaluated|AdapterCut|Answered)"')
_NOT_SYNCED = (StepLogged, StageProgressed, AttemptPlaced)
Request = RunRequest | ProbeRequest
Record = RunRecord | ProbeRecord
Setting = TypeVar("Setting", LoraConfig, TrainingSetup)


def append_events(journal: Path, events: Sequence[RunEvent]) -> None:
    """Append events in one write, so that a reader sees whole lines.

    Events are synced to the disk, except steps, progress and places: there are many of them, and a power failure may
    lose the last few.
    """
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
        if not all(isinstance(event, _NOT_SYNCED) for event in events):
            os.fsync(fd)
    finally:
        os.close(fd)


def line_of(event: RunEvent) -> bytes:
    """Return the event as a JSON line without secrets. As in older journals, attempt and offset are left out if 0."""
    row = {name: value for name, value in asdict(event).items() if value or name not in ("attempt", "offset")}
    return (json.dumps({"event": type(event).__name__, **redacted_in(row)}) + "\n").encode()


def parse_event(line: bytes) -> RunEvent | None:
    """Parse a line into an event; None where it is no event of this version, or has impossible values."""
    if len(line) > (MAX_LINE_BYTES if _LONG_EVENT.match(line) else MAX_SHORT_LINE_BYTES):
        return None  # before it is parsed: many small objects take a hundred times the memory of their text
    try:
        row = json.loads(line.decode())
        return build(EVENT_TYPES[row.pop("event")], row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_events(file: BinaryIO) -> Iterator[RunEvent | None]:
    """Yield the event of each complete line, and None for a line that is no event. The file is left after the last
    complete line."""
    while True:
        start = file.tell()
        line = last = file.readline(MAX_LINE_BYTES)
        while last and not last.endswith(b"\n"):
            last = file.readline(MAX_LINE_BYTES)
        if not last:
            file.seek(start)
            return
        yield parse_event(line) if last is line else None


def parse_lines(data: bytes) -> list[RunEvent]:
    """Parse all complete lines into events; lines that are no events are left out."""
    return [event for event in read_events(BytesIO(data)) if event is not None]


def read_request(folder: Path) -> Request:
    """Return the request of the run or probe in a folder; OSError, UserError or ValueError without a valid one."""
    with (folder / "request.json").open("rb") as file:
        request = parse_request(file.read(MAX_REQUEST_BYTES + 1))
    if request.run_id != folder.name:
        raise Misfit(f"The request in this folder is of a run called {request.run_id!r}.")
    return request


def parse_request(text: str | bytes) -> Request:
    """Parse the request.json of a run or probe; raise UserError or ValueError with the reason where it is neither."""
    if len(text) > MAX_REQUEST_BYTES:
        raise Misfit(f"request.json is larger than {MAX_REQUEST_BYTES:,} bytes.")
    try:
        row = json.loads(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise Misfit(f"request.json is not JSON: {printable(str(error), 100)}.") from None
    if not isinstance(row, dict):
        raise Misfit("request.json holds no object.")
    if "r" in row and "lora" not in row:
        raise Misfit("request.json is of before 25 November 2026, which this version does not read.")
    try:
        request = build(ProbeRequest if "probe_id" in row else RunRequest, row)
    except Misfit as misfit:
        raise Misfit(f"request.json: {misfit}.") from None
    request.validate()
    return replace(request, lora=_shared(request.lora), training=_shared(request.training))


@lru_cache(maxsize=1000)
def _shared(setting: Setting) -> Setting:
    """Return one shared object for equal settings of many runs, since all of them stay in memory."""
    return setting


def request_text(request: Request) -> str:
    """Return the content of a request.json."""
    return json.dumps(asdict(request), indent=1, ensure_ascii=False) + "\n"


def new_record(request: Request) -> Record:
    """Return the record of a request without any events."""
    return ProbeRecord(request=request) if isinstance(request, ProbeRequest) else RunRecord(request=request)


Part = tuple[str, int, Request]
"""The first bytes of a journal, which never change: its path, their number, and the request of its run."""
SHORT = 2
"""Length up to which lists stay in memory, since an OnDisk would take more."""


@dataclass(frozen=True, slots=True, eq=False)
class OnDisk(Sequence):
    """A long list of an ended run's record, read from the run's journal when used.

    Raises RunNotFoundError where the run was deleted, and RunUnreadError where the journal cannot be read now.
    """

    part: Part
    path: tuple[str | int, ...]
    """Path of the list in the record, such as ("steps",) or ("cuts", 3, "example_losses")."""
    count: int
    summary: Any = None
    """A StepSummary or Matches, kept in memory since tables and estimates need it for every run."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place):
        if isinstance(place, slice):
            places = range(self.count)[place]
            return tuple(self[each] for each in places) if len(places) < 2 else self._values()[place]
        place = range(self.count)[place]
        if isinstance(self.summary, StepSummary) and place in (0, self.count - 1):
            return self.summary.last if place else self.summary.first
        return self._values()[place]

    def __iter__(self):
        return iter(self._values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None

    def _values(self) -> Sequence:
        with _reading_again:  # lru_cache does not join those who ask for the same at once
            value = _read_again(self.part)
        for name in self.path:
            value = value[name] if isinstance(name, int) else getattr(value, name)
        return value


def lightened(record: Record, part: Part) -> Record:
    """Return the record of an ended run with its long lists replaced by OnDisk."""
    if not isinstance(record, RunRecord):
        return record

    def light(event: HeldOut | Answered | None, *path: str | int) -> HeldOut | Answered | None:
        left = {}
        for name, values in _lists_in(event).items():
            if len(values) > SHORT and not isinstance(values, OnDisk):
                summary = matches_of(values) if name == "example_exact_matches" else None
                left[name] = OnDisk(part, (*path, name), len(values), summary)
        return replace(event, **left) if left else event

    names = ("loss_before", "loss_after", "answered_before", "answered_after")
    steps = record.steps
    if steps and not isinstance(steps, OnDisk):
        steps = OnDisk(part, ("steps",), len(steps), StepSummary.of(steps))
    return replace(
        record,
        steps=steps,
        cuts=tuple(light(cut, "cuts", place) for place, cut in enumerate(record.cuts)),
        **{name: light(getattr(record, name), name) for name in names},
    )


def numbers_in(event: RunEvent | None) -> int:
    """Return the number of values in the event's lists of examples."""
    return sum(map(len, _lists_in(event).values())) if isinstance(event, HeldOut) else 0


def _lists_in(event: RunEvent | None) -> Mapping[str, Sequence]:
    if isinstance(event, HeldOut):
        return {each.name: getattr(event, each.name) for each in fields(event) if each.name.startswith("example_")}
    return {"answers": event.answers} if isinstance(event, Answered) else {}


_reading_again = Lock()


@lru_cache(maxsize=8)
def _read_again(part: Part) -> Record:
    """Return the record by this part of a journal, with all lists in memory."""
    journal, size, request = part
    run_id = request.run_id
    try:
        with open(journal, "rb") as file:
            data = file.read(size)
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(run_id) from None
    except OSError as error:
        raise RunUnreadError(run_id, error.strerror) from error
    if len(data) != size:
        raise RunNotFoundError(run_id)
    return new_record(request).after_all(parse_lines(data))
