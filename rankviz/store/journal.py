"""One run's journal: a JSON line an event, appended, never changed.

A line counts once its newline is there: what a crash has cut off is not yet an event. The next writer seals such a
stump with a newline, so that it stays one unreadable line and takes nothing with it.
"""

import errno
import functools
import json
import os
import types
import typing
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path

from rankviz.core.probe.record import ProbeRecord
from rankviz.core.probe.request import ProbeRequest
from rankviz.core.runs.events import EVENT_TYPES, RunEvent, StageProgressed, StepLogged
from rankviz.core.runs.record import RunRecord
from rankviz.core.runs.request import RunRequest
from rankviz.store.flat_requests import nested

Request = RunRequest | ProbeRequest
Record = RunRecord | ProbeRecord


def append_event(journal: Path, event: RunEvent) -> None:
    """One write, so that a reader sees the whole line or none. On disk before this returns, steps and progress
    excepted: there are many, and a machine that loses power may lose the last few."""
    data = (json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n").encode()
    fd = os.open(journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, f"An event of {journal.parent.name} was not written whole")
        if not isinstance(event, StepLogged | StageProgressed):
            os.fsync(fd)
    finally:
        os.close(fd)


def parse_event(line: bytes) -> RunEvent | None:
    """The event of a line; None where it is no event that this version knows."""
    try:
        row = json.loads(line)
        return _build(EVENT_TYPES[row.pop("event")], row)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_request(text: str | bytes) -> Request:
    """The request of a request.json, a run's or a probe's; ValueError or TypeError where it is neither."""
    row = json.loads(text)
    if not isinstance(row, dict):
        raise TypeError("request.json holds no object")
    return _build(ProbeRequest if "probe_id" in row else RunRequest, nested(row))


def request_text(request: Request) -> str:
    return json.dumps(asdict(request), indent=1, ensure_ascii=False) + "\n"


def new_record(request: Request) -> Record:
    """Of what was asked and hasn't begun."""
    return ProbeRecord(request=request) if isinstance(request, ProbeRequest) else RunRecord(request=request)


@dataclass(slots=True)
class JournalReader:
    """The record of one run or probe, kept up to date by reading only what was appended since."""

    journal: Path
    record: Record
    offset: int = 0

    def read(self) -> Record:
        """Fold what is new. An ended run changes only when it is asked for again: its file's size is looked at, no
        more."""
        events = [parse_event(line) for line in self._new_lines()]
        if events:
            self.record = self.record.after_all(event for event in events if event is not None)
            if unreadable := events.count(None):
                self.record = replace(self.record, unreadable_lines=self.record.unreadable_lines + unreadable)
        return self.record

    def _new_lines(self) -> list[bytes]:
        try:
            if self.journal.stat().st_size <= self.offset:
                return []
            with self.journal.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.splitlines()


def _build(kind: type, row: dict):
    """An instance of the dataclass from a JSON object; TypeError for a missing field or another type. Fields of a
    later version are left out."""
    hints = _hints(kind)
    values = {field.name: row[field.name] for field in fields(kind) if field.name in row}
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{kind.__name__}.{name} cannot be {value!r}")
    return kind(**{name: _value(value, hints[name]) for name, value in values.items()})


def _value(value: object, hint: object) -> object:
    if is_dataclass(hint):
        return _build(hint, value)
    if isinstance(value, list):
        return tuple(_value(item, typing.get_args(hint)[0]) if isinstance(item, dict) else item for item in value)
    return value


@functools.cache
def _hints(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _fits(value: object, hint: object) -> bool:
    """Whether a JSON value is of the annotated type; a tuple is a list in JSON, a whole number passes for a float."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if is_dataclass(hint) or typing.get_origin(hint) is dict:
        return isinstance(value, dict)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
