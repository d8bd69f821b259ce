"""One run's journal: a JSON line an event, appended, never changed."""

import errno
import json
import math
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar

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
    Matches,
    RunEvent,
    StageProgressed,
    StepLogged,
    counting,
    matches_of,
)
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import SHORT_TRAINING, RunRequest
from rankviz.errors import RunNotFoundError, RunUnreadError, redacted_in

LORA = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora")
TRAINING = (
    "framework",
    "precision",
    "optim",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "max_steps",
)


PROBE_DEFAULTS = {
    "precision": "fp32",
    "optim": "adamw_torch",
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 256,
}
"""Of a flat probe that left a setting out."""


def nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its settings under "lora" and "training"; a row in today's form as it is.

    A flat run had no choice of checkpointing and loss path: its worker settled both by the device. A flat probe was
    settled, and its loss path followed from its framework.
    """
    if "lora" in row or "r" not in row:
        return dict(row)
    rest = {name: value for name, value in row.items() if name not in (*LORA, *TRAINING, "checkpointing")}
    defaults = PROBE_DEFAULTS if "probe_id" in row else asdict(SHORT_TRAINING)
    training = defaults | {name: row[name] for name in TRAINING if name in row}
    if "probe_id" in row:
        training["gradient_checkpointing"] = row.get("checkpointing", "none")
        training["loss_path"] = "full" if row.get("framework") == "peft" else "fused"
    else:
        training |= {"gradient_checkpointing": "auto", "loss_path": "auto"}
    return {**rest, "lora": {name: row[name] for name in LORA if name in row}, "training": training}


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
    (memory.py)."""
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
