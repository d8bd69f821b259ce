"""Files of one run: request.json, written once; events.jsonl, appended to, one JSON line per event; and marks.

Marks are owner.json and engine.json, which no export contains, and empty files of a begun attempt or a cancel.
"""

import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, TypeVar

from rankviz.core.bounds import Word
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
    median_seconds,
)
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.request import RunRequest
from rankviz.core.runs.run_time import FEW, LossPoint, StepSummary, thinned, usual_seconds
from rankviz.errors import RunNotFoundError, RunUnreadError, json_place, redacted_in
from rankviz.store.durable import replace_durably

MAX_REQUEST_BYTES = 1_000_000
MAX_LINE_BYTES = 4_000_000
"""Most bytes of an event's line. An evaluation of 100,000 examples, the most allowed, takes up to 3.6 MB."""
MAX_SHORT_LINE_BYTES = 400_000
"""Most bytes of an event's line, except for evaluations, truncations and answers."""
_LONG_EVENT = re.compile(rb'\{"event": ?"(Evaluated|AdapterCut|Answered)"')
CANCEL = "cancel"
"""Name of the file in a run's folder that requests to cancel the run."""
SETTLED_NANOSECONDS = 1_000_000_000
"""Resolution of a folder's modification time. A folder changed more recently than this is read again."""
_NOT_SYNCED = (StepLogged, StageProgressed, AttemptPlaced)
Request = RunRequest | ProbeRequest
Record = RunRecord | ProbeRecord
Setting = TypeVar("Setting", LoraConfig, TrainingSetup)
Mark = TypeVar("Mark")
OWNER_FILE, ENGINE_FILE = "owner.json", "engine.json"
MAX_MARK_BYTES = 4000


def append_events(journal: Path, events: Sequence[RunEvent]) -> None:
    """Append events in one write, so that readers see whole lines.

    Events are synced to the disk, except steps, progress and places: these are many, and a power failure may lose the
    last few.
    """
    if not events:
        return
    data = b"".join(map(line_of, events))
    with open(journal, "a+b", buffering=0) as file:
        if (size := file.tell()) and os.pread(file.fileno(), 1, size - 1) != b"\n":
            data = b"\n" + data
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, f"An event of {journal.parent.name} was not written whole")
        if not all(isinstance(event, _NOT_SYNCED) for event in events):
            os.fsync(file.fileno())


def line_of(event: RunEvent) -> bytes:
    """Return an event as a JSON line without secrets. Attempt and offset are left out if 0, as in older journals."""
    row = {name: value for name, value in asdict(event).items() if value or name not in ("attempt", "offset")}
    return (json.dumps({"event": type(event).__name__, **redacted_in(row)}) + "\n").encode()


def parse_event(line: bytes) -> RunEvent | None:
    """Parse a line into an event; None for a line that is no event of this version, or has impossible values."""
    if len(line) > (MAX_LINE_BYTES if _LONG_EVENT.match(line) else MAX_SHORT_LINE_BYTES):
        return None  # before it is parsed: many small objects take a hundred times the memory of their text
    try:
        row = json.loads(line.decode())
        return build(EVENT_TYPES[row.pop("event")], row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_events(file: BinaryIO) -> Iterator[RunEvent | None]:
    """Yield an event, or None for no event, per complete line; the file's position ends behind the last."""
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
    """Parse all complete lines into events, without lines that are not events."""
    return [event for event in read_events(BytesIO(data)) if event is not None]


def read_request(folder: Path) -> Request:
    """Return the request of a folder's run or probe; OSError, UserError or ValueError without a valid one."""
    with (folder / "request.json").open("rb") as file:
        request = parse_request(file.read(MAX_REQUEST_BYTES + 1))
    if request.run_id != folder.name:
        raise Misfit(f"The request in this folder is of a run called {request.run_id!r}.")
    return request


def parse_request(text: str | bytes) -> Request:
    """Parse the request.json of a run or probe; raise UserError or ValueError, with the reason, for anything else."""
    if len(text) > MAX_REQUEST_BYTES:
        raise Misfit(f"request.json is larger than {MAX_REQUEST_BYTES:,} bytes.")
    try:
        row = json.loads(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise Misfit(f"request.json is not JSON{json_place(error)}.") from None
    if not isinstance(row, dict):
        raise Misfit("request.json holds no object.")
    if "r" in row:
        raise Misfit("request.json is of before 25 November 2026, which this version does not read.")
    try:
        request = build(ProbeRequest if "probe_id" in row else RunRequest, row)
    except Misfit as misfit:
        raise Misfit(f"request.json: {misfit}.") from None
    request.validate()
    return replace(request, lora=_shared(request.lora), training=_shared(request.training))


@lru_cache(maxsize=1000)
def _shared(setting: Setting) -> Setting:
    """Return one shared object for equal settings of many runs, to save memory."""
    return setting


def request_text(request: Request) -> str:
    """Return the content of a request.json."""
    return json.dumps(asdict(request), indent=1, ensure_ascii=False) + "\n"


def new_record(request: Request) -> Record:
    """Return the record of a run or probe before its first event."""
    return ProbeRecord(request=request) if isinstance(request, ProbeRequest) else RunRecord(request=request)


Part = tuple[str, int, Request]
"""(path of a journal, number of its first bytes, request of its run): a part of a journal, which never changes."""
SHORT = 2
"""Length up to which lists stay in memory, because an OnDisk would take more."""


@dataclass(frozen=True, slots=True, eq=False)
class OnDisk(Sequence):
    """A long list in an ended run's record, which is read from the run's journal when it is used.

    Raises RunNotFoundError where the run was deleted, and RunUnreadError where the journal cannot be read now.
    """

    part: Part
    path: tuple[str | int, ...]
    """Where the list is in the record, such as ("steps",) or ("cuts", 3, "example_losses")."""
    count: int
    summary: Any = None
    """A StepSummary, or the result of `matches_of`; in memory, since tables and estimates need it for every run."""

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

    def _values(self) -> Sequence:
        with _reading_again:  # lru_cache does not join those who ask for the same at once
            value = _read_again(self.part)
        for name in self.path:
            value = value[name] if isinstance(name, int) else getattr(value, name)
        return value


def with_lists_on_disk(record: Record, part: Part) -> Record:
    """Return the record of an ended run with an OnDisk in place of each long list."""
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
        few = tuple(LossPoint(each.step, each.loss, each.learning_rate) for each in thinned(steps, FEW))
        summary = StepSummary(steps[0], steps[-1], few, median_seconds(steps), usual_seconds(steps))
        steps = OnDisk(part, ("steps",), len(steps), summary)
    return replace(
        record,
        steps=steps,
        cuts=tuple(light(cut, "cuts", place) for place, cut in enumerate(record.cuts)),
        **{name: light(getattr(record, name), name) for name in names},
    )


def numbers_in(event: RunEvent | None) -> int:
    """Return the number of values in an event's lists of one value per example."""
    return sum(map(len, _lists_in(event).values())) if isinstance(event, HeldOut) else 0


def _lists_in(event: RunEvent | None) -> Mapping[str, Sequence]:
    if isinstance(event, HeldOut):
        return {each.name: getattr(event, each.name) for each in fields(event) if each.name.startswith("example_")}
    return {"answers": event.answers} if isinstance(event, Answered) else {}


_reading_again = Lock()


@lru_cache(maxsize=8)
def _read_again(part: Part) -> Record:
    """Return the record after this part of a journal, with all lists in memory."""
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


@dataclass(frozen=True, slots=True)
class Ownership:
    """Owner of a run, and whether others may see it."""

    owner: str = ""
    """Id of the visitor; empty for the host, UNKNOWN_OWNER where not known."""
    is_open: bool = False
    """True where anybody with the run's address may see it."""


NO_ONES = Ownership()
UNKNOWN_OWNER = "?"
"""Id that no visitor has, so that only the admin sees and changes runs of an unknown owner."""
UNKNOWN = Ownership(UNKNOWN_OWNER)
UNKNOWN_SENTENCE = "Its owner.json cannot be read, so its owner is not known. Only the admin sees it and can delete it."


def read_ownership(folder: Path) -> Ownership:
    """Return the owner of the run in a folder: the host where there is no file, UNKNOWN where it cannot be read."""
    return _read(folder / OWNER_FILE, Ownership, NO_ONES, UNKNOWN)


def write_ownership(folder: Path, ownership: Ownership) -> None:
    """Write the owner into a run's folder; not for the host, if the folder has no such file yet."""
    if ownership != NO_ONES or (folder / OWNER_FILE).exists():
        replace_durably(folder / OWNER_FILE, json.dumps(asdict(ownership)))


@dataclass(frozen=True, slots=True)
class WantedEngine:
    """The engine on which a run is to be trained."""

    engine: Word = ""
    """Name of the engine; empty for the default engine."""
    options: dict[Word, Word] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """Files for a run's folder that store the engine, as {name: content}; empty for ANYWHERE."""
        return {ENGINE_FILE: json.dumps(asdict(self))} if self != ANYWHERE else {}


ANYWHERE = WantedEngine()


def read_destination(folder: Path) -> WantedEngine:
    """Return the engine for the run in a folder; ANYWHERE where there is no valid file."""
    return _read(folder / ENGINE_FILE, WantedEngine, ANYWHERE, ANYWHERE)


def write_destination(folder: Path, destination: WantedEngine) -> None:
    """Write the engine into a run's folder, in place of an earlier one."""
    (folder / ENGINE_FILE).unlink(missing_ok=True)
    for name, text in destination.files.items():
        replace_durably(folder / name, text)


def _read(file: Path, kind: type[Mark], missing: Mark, invalid: Mark) -> Mark:
    """Read a JSON file with all fields of `kind`; return `missing` without a file, `invalid` for an invalid one."""
    try:
        with file.open("rb") as stream:
            row = json.loads(stream.read(MAX_MARK_BYTES))
        return build(kind, {name: row[name] for name in kind.__annotations__})
    except FileNotFoundError:
        return missing
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return invalid


def begun_file(attempt: int) -> str:
    """Return the name of the file that marks an attempt as begun."""
    return "begun" if attempt == 1 else f"begun-{attempt}"


@dataclass(slots=True)
class Entry:
    """One run in the index of all runs, which is in memory."""

    folder: str
    journal: str
    record: Record
    """Record of the run after the first `offset` bytes of its journal."""
    offset: int = 0
    ownership: Ownership = NO_ONES
    destination: WantedEngine = ANYWHERE
    begun_attempt: int = 0
    """Number of the attempt that is marked as begun; 0 for none."""
    has_cancel: bool = False
    folder_time: int = 0
    """Modification time of the run's folder at the last reading, in nanoseconds; 0 where it must be read again."""
    lock: Lock = field(default_factory=Lock)

    @property
    def is_begun(self) -> bool:
        """True where the current attempt has begun and not ended."""
        state = self.record.state
        return not state.ended and (state is RunState.RUNNING or self.begun_attempt == self.record.attempt)

    @property
    def turn(self) -> tuple[object, ...]:
        """State, attempt, place, marks, owner and engine of the run, on which its place in the queue depends."""
        of, marks = self.record, (self.is_begun, self.has_cancel)
        return of.state, of.attempt, of.place, *marks, self.ownership, self.destination

    def journal_bytes(self) -> int:
        """Return the present size of the journal in bytes."""
        try:
            return os.stat(self.journal).st_size
        except FileNotFoundError:
            return 0

    def has_changed(self) -> bool:
        """Return True where there may be something to read."""
        try:
            return os.stat(self.folder).st_mtime_ns != self.folder_time or self.journal_bytes() > self.offset
        except OSError:
            return True

    def read(self) -> None:
        """Read new events, and owner, engine and marks if the folder may have changed. Raise FileNotFoundError where
        the folder does not exist. After another OSError the events may have been read, but not the rest."""
        with self.lock:
            if self.journal_bytes() > self.offset:
                with open(self.journal, "rb") as file:
                    file.seek(self.offset)
                    lines, offset = list(read_events(file)), file.tell()
                events = [event for event in lines if event is not None]
                record = self.record.after_all(events)
                if unreadable := len(lines) - len(events):
                    record = replace(record, unreadable_lines=record.unreadable_lines + unreadable)
                part = self.journal, offset, record.request
                self.record = with_lists_on_disk(record, part) if record.state.ended else record
                self.offset = offset
            if (at := os.stat(self.folder).st_mtime_ns) == self.folder_time:
                return
            folder, attempt = Path(self.folder), self.record.attempt
            self.ownership, self.destination = read_ownership(folder), read_destination(folder)
            self.begun_attempt = attempt if (folder / begun_file(attempt)).exists() else 0
            self.has_cancel = (folder / CANCEL).exists()
            self.folder_time = at if time.time_ns() - at > SETTLED_NANOSECONDS else 0
