"""The index of a runs folder: the record of every run and probe in memory, updated by reading what was appended.

It is no database: every page needs the records as objects each second, and SQLite's WAL does not work on the network
disks of clusters. The journals are the only source: each start builds the index from them.
"""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rankviz.core.bounds import NAME
from rankviz.core.runs.record import RunState
from rankviz.errors import OF_NAMES, RunNotFoundError, RunUnreadError, UserError
from rankviz.store.journal import Record, lightened, new_record, read_events, read_request
from rankviz.store.ownership import ANYWHERE, NO_ONES, Ownership, WantedEngine, read_destination, read_ownership

CANCEL = "cancel"
"""File in a run's folder that requests its cancellation."""
LOOK_SHARE, FREE_SECONDS = 0.05, 0.003
"""Share of time for checking all folders for other processes' writes, and seconds that are always allowed."""
MANY = 20
"""Number of new runs to read from which on progress is reported."""
PATIENCE_SECONDS = 0.05
SETTLED_NANOSECONDS = 10**9
"""Resolution of a folder's modification time. A folder that changed more recently is checked again."""


def begun_file(attempt: int) -> str:
    """Return the name of the file that marks an attempt as begun."""
    return "begun" if attempt == 1 else f"begun-{attempt}"


_view: ContextVar[bool] = ContextVar("view", default=False)


@contextmanager
def viewing() -> Iterator[None]:
    """Mark the caller as a view, which gets the runs read so far while another thread reads many runs."""
    token = _view.set(True)
    try:
        yield
    finally:
        _view.reset(token)


@dataclass(slots=True)
class Entry:
    """One run in the index."""

    folder: str
    record: Record
    """Folded from the journal up to `offset`."""
    offset: int = 0
    ownership: Ownership = NO_ONES
    destination: WantedEngine = ANYWHERE
    begun_attempt: int = 0
    """Number of the attempt that is marked as begun; 0 for none."""
    has_cancel: bool = False
    folder_time: int = 0
    """Modification time of its folder in nanoseconds when last read; 0 where it must be read again."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def journal(self) -> str:
        return f"{self.folder}/events.jsonl"

    @property
    def is_begun(self) -> bool:
        """True where the current attempt has begun and not ended."""
        state = self.record.state
        return not state.ended and (state is RunState.RUNNING or self.begun_attempt == self.record.attempt)

    @property
    def turn(self) -> tuple[object, ...]:
        """State, attempt and marks of the run, which determine its place in the queue."""
        return self.record.state, self.record.attempt, self.is_begun, self.has_cancel

    def journal_bytes(self) -> int:
        """Return the size of the journal now."""
        try:
            return os.stat(self.journal).st_size
        except FileNotFoundError:
            return 0

    def read(self) -> None:
        """Read new events, and owner, engine and marks if the folder may have changed. Raise FileNotFoundError where
        the folder does not exist; after any OSError the record is unchanged."""
        with self.lock:
            if self.journal_bytes() > self.offset:
                self._read_journal()
            if (at := os.stat(self.folder).st_mtime_ns) == self.folder_time:
                return
            folder, attempt = Path(self.folder), self.record.attempt
            self.ownership, self.destination = read_ownership(folder), read_destination(folder)
            self.begun_attempt = attempt if _is_there(f"{self.folder}/{begun_file(attempt)}") else 0
            self.has_cancel = _is_there(f"{self.folder}/{CANCEL}")
            self.folder_time = at if time.time_ns() - at > SETTLED_NANOSECONDS else 0

    def _read_journal(self) -> None:
        with open(self.journal, "rb") as file:
            file.seek(self.offset)
            lines, offset = list(read_events(file)), file.tell()
        events = [event for event in lines if event is not None]
        record = self.record.after_all(events)
        if unreadable := len(lines) - len(events):
            record = replace(record, unreadable_lines=record.unreadable_lines + unreadable)
        part = self.journal, offset, record.request
        self.record, self.offset = lightened(record, part) if record.state.ended else record, offset


class RunIndex:
    """Index of the runs and probes of one folder, which has a folder for each. Thread-safe."""

    def __init__(self, folder: Path):
        self.reading: tuple[int, int] | None = None
        """Number of folders that a thread has read and has to read, while it reads many, or None. Views (`viewing`)
        then get the runs read so far."""
        self._folder = str(folder)
        self._entries: dict[str, Entry] = {}
        self._updating = threading.RLock()
        self._look_at = 0.0
        self._due: set[str] = set()
        self._names: Collection[str] = frozenset()
        self._turns = self._version = 0
        self._made: dict[str, tuple[int, Any]] = {}

    def _entry(self, run_id: str) -> Entry:
        """Return the current entry of a run. Raise RunNotFoundError where there is none, and RunUnreadError where its
        files cannot be read; a view then gets the last known entry."""
        try:
            self._look(run_id)
        except OSError as error:
            if not _view.get():
                raise RunUnreadError(run_id, error.strerror) from error
        if (entry := self._entries.get(run_id)) is None:
            raise RunNotFoundError(run_id)
        return entry

    def records(self) -> list[Record]:
        """Return every run and probe, the oldest first, and within a sweep in training order."""
        self.update()
        return list(self._in_order())

    def unended(self) -> Sequence[Record]:
        """Return the runs and probes that are queued or running, in the order of `records`."""
        self.update()
        return self._once("unended", lambda: [each for each in self._in_order() if not each.state.ended])

    def standing(self) -> tuple[Sequence[Record], Sequence[str]]:
        """Return what a supervisor has to handle: the runs at work, the oldest first, and the ids of runs to cancel."""
        self.update()
        return self._standing()

    def _of_sweep(self, sweep_id: str) -> Sequence[Record]:
        """Return the runs of a sweep in training order."""
        self.update()
        for run_id in [each.run_id for each in self._in_order() if each.request.sweep_id == sweep_id]:
            self._try(run_id)  # of an ended run only its folder tells that another app deleted it
        return [each for each in self._in_order() if each.request.sweep_id == sweep_id]

    def turns(self) -> int:
        """Return a number that changes whenever a run is added, removed, begun or ended, so that the queue changes."""
        self.update()
        return self._turns

    def ids(self, owners: Collection[str] | None = None) -> set[str]:
        """Return the names of all folders that may hold runs, readable or not. owners: Of their runs only."""
        try:
            with os.scandir(self._folder) as entries:
                ids = {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}
        except FileNotFoundError:
            return set()
        return ids if owners is None else {each for each in ids if self.listed_ownership(each).owner in owners}

    def listed_ownership(self, run_id: str) -> Ownership:
        """Return the owner of a run from the index, without reading the disk where the run is indexed."""
        entry = self._entries.get(run_id)
        return read_ownership(Path(self._folder) / run_id) if entry is None else entry.ownership

    def listed_destination(self, run_id: str) -> WantedEngine:
        """Return the engine of a run from the index, without reading the disk where the run is indexed."""
        entry = self._entries.get(run_id)
        return read_destination(Path(self._folder) / run_id) if entry is None else entry.destination

    def is_begun(self, run_id: str) -> bool:
        """Return `has_begun` from the index; False once the run has ended."""
        entry = self._entries.get(run_id)
        return entry is not None and entry.is_begun

    def _changed(self, run_ids: Iterable[str]) -> None:
        """Have these runs read at the next update, since this process wrote to them."""
        self._due.update(run_ids)

    def forget(self, run_ids: Iterable[str]) -> None:
        """Drop runs whose folders are gone."""
        for run_id in run_ids:
            if self._entries.pop(run_id, None) is not None:
                self._version += 1
                self._turns += 1

    def _in_order(self) -> Sequence[Record]:
        def sort() -> Sequence[Record]:
            records = [entry.record for entry in list(self._entries.values())]
            return tuple(sorted(records, key=lambda each: (each.request.created_at, each.run_id)))

        return self._once("records", sort)

    def _standing(self) -> tuple[Sequence[Record], Sequence[str]]:
        def select() -> tuple[Sequence[Record], Sequence[str]]:
            unended = [self._entries.get(each.run_id) for each in self._in_order() if not each.state.ended]
            entries = [entry for entry in unended if entry is not None]
            unwanted = sorted(entry.record.run_id for entry in entries if entry.has_cancel)
            return [entry.record for entry in entries if entry.is_begun], unwanted

        return self._once("standing", select)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of `make`, cached by name until an entry changes."""
        version = self._version
        if (made := self._made.get(name)) is None or made[0] != version:
            made = self._made[name] = version, make()
        return made[1]

    def update(self, *, waits: bool = False) -> None:
        """Read changes in the folder. waits: True to wait for another thread that reads many runs, also as a view."""
        while not self._updating.acquire(timeout=PATIENCE_SECONDS):
            if self.reading and _view.get() and not waits:
                return
        try:
            if time.monotonic() >= self._look_at:
                began = time.thread_time()
                self._look_around()
                cost = time.thread_time() - began
                self._look_at = time.monotonic() + cost / LOOK_SHARE if cost > FREE_SECONDS else 0.0
            for run_id in {record.run_id for record in self._standing()[0]} - self._due:
                self._try(run_id)
            due, new = sorted(self._due, reverse=True), len(self._due - self._entries.keys())
            for number, run_id in enumerate(due):
                if new >= MANY:
                    self.reading = number, len(due)
                self._due.discard(run_id)
                self._try(run_id)
        finally:
            self.reading = None
            self._updating.release()

    def _look_around(self) -> None:
        """Find the runs that other processes have added, deleted or changed."""
        self._names = self.ids()
        self.forget(self._entries.keys() - self._names)
        self._due |= self._names - self._entries.keys()
        for run_id, entry in list(self._entries.items()):
            try:
                folder_time, size = os.stat(entry.folder).st_mtime_ns, entry.journal_bytes()
                if folder_time != entry.folder_time or size > entry.offset:
                    self._due.add(run_id)
            except OSError:
                self._due.add(run_id)

    def _try(self, run_id: str) -> None:
        """Read a run. A run that cannot be read now keeps its entry, and is read again at the next update."""
        try:
            self._look(run_id)
        except RunNotFoundError:
            self.forget([run_id])
        except OSError:
            self._due.add(run_id)

    def _look(self, run_id: str) -> None:
        """Read a run; raise RunNotFoundError where its folder holds none."""
        known, folder = self._entries.get(run_id), f"{self._folder}/{run_id}"
        try:
            if known is None and not NAME.fullmatch(run_id):  # names come from addresses and command lines too
                raise RunNotFoundError(run_id)
            entry = known or Entry(folder, new_record(read_request(Path(folder))))
            record, turn = entry.record, entry.turn
            entry.read()
        except (ValueError, UserError):
            raise RunNotFoundError(run_id) from None
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError) and (known or error.errno not in OF_NAMES):
                raise
            self.forget([run_id])
            raise RunNotFoundError(run_id) from None
        if known is None:
            self._entries[run_id] = entry
        self._version += known is None or entry.record is not record or entry.turn != turn
        self._turns += known is None or entry.turn != turn


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        return False
    return True
