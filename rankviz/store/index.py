"""Which runs of a folder were written since, and how a folder is read for the first time."""

import contextlib
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rankviz.core.runs.events import StepLogged, median_seconds
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.run_time import Few, usual_seconds
from rankviz.errors import OF_NAMES, RunNotFoundError, RunUnreadError
from rankviz.store.journal import MAX_REQUEST_BYTES, JournalReader, ReadAgain, Record, Request, new_record, of_journal

FILE = ".changed"
MOST_BYTES = 1_000_000
"""A longer one is begun anew."""


def tell(folder: Path, run_ids: Iterable[str], most_bytes: int = MOST_BYTES) -> None:
    """Something was written of these runs. Where there is no room for that, the file goes: it may go at any time.

    Nothing is lost where it goes while this writes: whoever sees that it has gone looks at all runs, and what was
    written of these is there by then.
    """
    data = "".join(f"{run_id}\n" for run_id in run_ids).encode()
    try:
        fd = os.open(os.path.join(folder, FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            is_whole, size = os.write(fd, data) == len(data), os.fstat(fd).st_size
        finally:
            os.close(fd)
    except OSError:
        is_whole, size = False, 0
    if not is_whole:
        _drop(folder)
    elif size > most_bytes:
        tell_of_all(folder)


def tell_of_all(folder: Path) -> None:
    """Something may have been written of any run; no name is left. Another file takes the place of this one at once: of
    one that came and went between two looks nobody would know."""
    path = os.path.join(folder, FILE)
    try:
        os.close(os.open(f"{path}-new", os.O_WRONLY | os.O_CREAT, 0o644))
        os.replace(f"{path}-new", path)
    except FileNotFoundError:
        pass  # another writer was faster, or there is no such folder
    except OSError:
        _drop(folder)


def _drop(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, FILE))


class Changes:
    """What is told, from when this began to read."""

    def __init__(self, folder: Path):
        self._path = os.path.join(folder, FILE)
        self._fd: int | None = None
        self._offset = 0
        self._close: weakref.finalize | None = None
        self._is_new = True

    def news(self) -> Set[str] | None:
        """The runs that were named since the last call; None: it may be any, also as this file cannot be read."""
        try:
            return self._begin() if self._fd is None else self._read(self._fd)
        except OSError:  # on a network disk another file may have taken its place
            self._fd, self._is_new = None, True
            return None

    def _read(self, fd: int) -> Set[str] | None:
        # The file stays open, so that no other one can have its number while this reads it.
        state = os.fstat(fd)
        if state.st_nlink == 0 or state.st_size < self._offset:
            return self._begin()
        if state.st_size == self._offset:
            return frozenset()
        data = os.pread(fd, state.st_size - self._offset, self._offset)
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        return {os.fsdecode(name) for name in data[:whole].split(b"\n") if name}

    def _begin(self) -> Set[str] | None:
        was_there, self._is_new = self._is_new or self._fd is not None, False
        if self._close is not None:
            self._close()
        self._fd = self._close = None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            self._close = weakref.finalize(self, os.close, fd)
            state = os.fstat(fd)
            if stat.S_ISREG(state.st_mode):
                self._fd, self._offset = fd, state.st_size
        return None if was_there or self._fd is not None else frozenset()


HELD_SECONDS = 0.02
"""So long does it read while others wait, a long journal excepted."""
PAUSE_SECONDS = 0.001
"""Enough for one of them to go on."""

_view: ContextVar[bool] = ContextVar("view", default=False)


@contextmanager
def viewing() -> Iterator[None]:
    """Within it, somebody looks and changes nothing: runs that have not been read yet are left out."""
    token = _view.set(True)
    try:
        yield
    finally:
        _view.reset(token)


def is_view() -> bool:
    return _view.get()


class Reading(NamedTuple):
    """How far it is."""

    done: int
    total: int
    """Folders that may be of runs."""


class FirstRead:
    """Of one folder, by whichever thread is the first to ask; and of what comes later by the first to ask for that."""

    def __init__(self):
        self.lock = threading.Condition(threading.RLock())
        """Held by whoever looks at or changes what is known of the folder."""
        self.reading: Reading | None = None
        """Of what comes later, set from the first pause on: before, nobody else has to wait or to make do."""
        self.is_done = False
        """Whether the folder has been read once."""
        self._thread = 0

    @property
    def is_ahead(self) -> bool:
        """Whether nobody has asked for all runs yet."""
        return not self.is_done and self.reading is None

    @property
    def is_mine(self) -> bool:
        """Whether this thread is at it."""
        return self._thread == threading.get_ident()

    def read(self, run_ids: Collection[str], look_at: Callable[[str], None]) -> None:
        """Look at each, with the lock held, except for pauses in which others have it."""
        self._thread = threading.get_ident()
        if not self.is_done:
            self.reading = Reading(0, len(run_ids))
        try:
            self._read(run_ids, look_at)
            self.is_done = True
        finally:
            self.reading, self._thread = None, 0
            self.lock.notify_all()

    def wait(self) -> None:
        """Return once no other thread is at it. The lock is held, and free meanwhile."""
        self.lock.wait_for(lambda: self.reading is None or self.is_mine)

    def pause(self, reading: Reading) -> None:
        """Let others have the lock, who see how far it is."""
        self.reading = reading
        self.lock.wait(PAUSE_SECONDS)

    def _read(self, run_ids: Collection[str], look_at: Callable[[str], None]) -> None:
        since = time.monotonic()
        for number, run_id in enumerate(sorted(run_ids, reverse=True)):
            if time.monotonic() - since > HELD_SECONDS and threading.active_count() > 1:
                self.pause(Reading(number, len(run_ids)))
                since = time.monotonic()
            look_at(run_id)


def naming(folder: str, run_ids: Iterable[str], sweep_id: str) -> Iterator[str]:
    """Those whose request names this sweep, and maybe a few more, such as those whose request cannot be read now: they
    are searched, and not parsed, which is twenty times as fast."""
    text = f'"{sweep_id}"'.encode()
    for run_id in run_ids:
        try:
            with open(f"{folder}/{run_id}/request.json", "rb", buffering=0) as file:
                may_be = text in file.read(MAX_REQUEST_BYTES)
        except OSError as error:
            may_be = error.errno not in OF_NAMES
        if may_be:
            yield run_id


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
    core.runs.run_time has it; the points of a chart of many runs."""
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


def names_in(folder: str) -> set[str]:
    """Of all folders that may be of runs, readable or not."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}
    except FileNotFoundError:
        return set()


def time_of(folder: str) -> int:
    """Nanoseconds; 0 where it is not there."""
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0


def is_there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno not in OF_NAMES:
            raise
        return False
    return True


CANCEL = "cancel"
"""The file in a run's folder by which somebody asks to cancel it."""
SETTLED_NANOSECONDS = 10**9
"""What was made in a folder since its time was read has another time, where the time read is so old."""


def begun_file(attempt: int) -> str:
    """The file in a run's folder by which somebody takes up an attempt."""
    return "begun" if attempt == 1 else f"begun-{attempt}"


@dataclass(slots=True)
class Kept:
    """What is known of one run."""

    reader: JournalReader
    is_begun: bool = False
    """Whether somebody took it up and nobody has ended it."""
    is_unwanted: bool = False
    """Whether somebody asks to cancel it."""
    has_journal: bool = True
    """False: there was none when all that is in its folder was looked at last."""
    looks: int = 0
    """How often it was looked at with all that is in its folder."""
    folder_time: int = 0
    """Of its folder when a round last came to it; 0: something may have been made there since."""

    @property
    def stand(self) -> tuple[object, ...]:
        """What decides of its turn in the queue."""
        return self.reader.record.state, self.reader.record.attempt, self.is_begun, self.is_unwanted

    def read(self, folder: str, *, with_marks: bool) -> None:
        """All that is new of it, or nothing: OSError where some of that cannot be read now. RunNotFoundError where its
        folder has gone. with_marks: also whether somebody took it up, or asks to cancel it."""
        self.looks += with_marks
        reader = self.reader
        known = reader.record, reader.offset, reader.latest
        try:
            self._read(folder, with_marks=with_marks)
        except OSError:
            reader.record, reader.offset, reader.latest = known
            self.folder_time = 0
            raise

    def _read(self, folder: str, *, with_marks: bool) -> None:
        before, record = self.reader.record, self.reader.read()
        if record is before and not with_marks:
            return
        if record.state.ended:
            lighten(self.reader)
            self.is_begun = self.is_unwanted = False
        elif with_marks:
            is_begun = is_there(f"{folder}/{begun_file(record.attempt)}") or record.state is RunState.RUNNING
            is_unwanted = is_there(f"{folder}/{CANCEL}")
            has_journal = bool(self.reader.offset) or is_there(self.reader.journal)
            if not (is_begun or self.reader.offset) and not is_there(folder):
                raise RunNotFoundError(record.run_id)
            self.is_begun, self.is_unwanted, self.has_journal = is_begun, is_unwanted, has_journal
        elif record.state is RunState.RUNNING:
            self.is_begun = True

    def has_changed(self, folder: str) -> bool:
        """Whether anything may have been made in its folder since this was asked last."""
        try:
            at = os.stat(folder).st_mtime_ns
        except OSError:
            return True
        has_changed = at != self.folder_time
        self.folder_time = at if time.time_ns() - at > SETTLED_NANOSECONDS else 0
        return has_changed


class Standing(NamedTuple):
    """What there is to do."""

    at_work: Sequence[Record]
    """Runs that somebody took up and nobody has ended, the oldest first."""
    unwanted: Sequence[str]
    """The names of those that somebody asks to cancel."""
    has_unended: bool
    """Whether any wait or run."""


SECONDS = 60.0
"""Of a round through all runs, where somebody looks every second."""
MOST_AT_ONCE = 500


class Rounds:
    """Through the runs of one folder.

    Args:
        clock: Seconds, by a clock that nobody sets.
    """

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._left: list[str] = []
        self._size = 0
        self._ends = 0.0

    @property
    def is_over(self) -> bool:
        """Whether another round may begin."""
        return not self._left and self._clock() >= self._ends

    def begin(self, run_ids: Collection[str]) -> None:
        """A round through these; through none where all of them have just been looked at."""
        self._left, self._size = list(run_ids), len(run_ids)
        self._ends = self._clock() + SECONDS

    def due(self) -> Set[str]:
        """Those whose turn has come since the last call, once in a round."""
        share = max(0.0, self._ends - self._clock()) / SECONDS
        first = max(int(share * self._size), len(self._left) - MOST_AT_ONCE)
        due = set(self._left[first:])
        del self._left[first:]
        return due


class Current:
    """Of one folder. Several threads may use it.

    Args:
        open_reader: Of a run by its name; RunNotFoundError where its folder holds none.
        clock: Seconds, by a clock that nobody sets.
    """

    def __init__(
        self, folder: Path, open_reader: Callable[[str], JournalReader], clock: Callable[[], float] = time.monotonic
    ):
        self._folder = str(folder)
        self._open_reader = open_reader
        self._changes = Changes(folder)
        self._first = FirstRead()
        self._lock = self._first.lock
        self._kept: dict[str, Kept] = {}
        self._by_sweep: dict[str, set[str]] = {}
        self._unended: set[str] = set()
        self._at_work: set[str] = set()
        self._unwanted: set[str] = set()
        self._order: Sequence[str] | None = None
        self._records: Sequence[Record] | None = None
        self._waiting: Sequence[Record] | None = None
        self._rounds, self._stamp = Rounds(clock), 0
        self._names: set[str] = set()
        self._due: Set[str] | None = frozenset()
        self._searched: tuple[str, int] | None = None
        self._found: set[str] = set()
        self._looks = 0
        self._turns = 0

    @property
    def reading(self) -> Reading | None:
        """How far another thread has read the folder for the first time, or what is new there; None where nobody
        does."""
        return self._first.reading

    def wait_until_read(self) -> None:
        """Return once the folder has been read for the first time, by whomever."""
        with self._lock:
            self._first.wait()
            self._look()

    def record(self, run_id: str) -> Record:
        """As it stands now. RunNotFoundError: there is none. RunUnreadError: not now; a view gets what is known."""
        return self.reader(run_id).record

    def reader(self, run_id: str) -> JournalReader:
        """The same, with the run's latest events."""
        with self._lock:
            try:
                self._add_or_read(run_id)
            except OSError as error:
                if not is_view():
                    raise RunUnreadError(run_id, error.strerror) from error
            if run_id not in self._kept:
                raise RunNotFoundError(run_id)
            return self._kept[run_id].reader

    def records(self) -> Sequence[Record]:
        """The oldest first, within a sweep in the order they run."""
        with self._lock:
            self._look()
            if self._records is None:
                self._records = tuple(self._kept[run_id].reader.record for run_id in self._in_order())
            return self._records

    def unended(self) -> Sequence[Record]:
        """Those that wait or run, in the same order."""
        with self._lock:
            self._look()
            if self._waiting is None:
                self._waiting = self._of(self._unended)
            return self._waiting

    def standing(self) -> Standing:
        """What there is for a supervisor to do."""
        with self._lock:
            self._look()
            return Standing(self._of(self._at_work), sorted(self._unwanted), bool(self._unended))

    def of_sweep(self, sweep_id: str) -> Sequence[Record]:
        """In the order they run, each as it stands now. Only these are read as long as nobody has asked for all."""
        with self._lock:
            if self._first.is_ahead:
                return self._alone(sweep_id)
            self._look()
            unread = self._names - self._kept.keys() if self.reading else ()
            for run_id in (*self._by_sweep.get(sweep_id, ()), *(n for n in unread if n.startswith(f"{sweep_id}-"))):
                self._look_at(run_id, with_marks=False)
            return self._of(self._by_sweep.get(sweep_id, set()))

    def _alone(self, sweep_id: str) -> Sequence[Record]:
        search = sweep_id, time_of(self._folder)
        if self._searched != search:
            self._found = set(naming(self._folder, self.ids(), sweep_id))
            self._searched = search
        for run_id in self._found:
            self._look_at(run_id)
        its_runs = self._by_sweep.get(sweep_id, set())
        self._found = its_runs | (self._found - self._kept.keys())  # what could not be read is looked at again
        return self._of(its_runs)

    def sweep_ids(self) -> set[str]:
        with self._lock:
            self._look()
            return set(self._by_sweep)

    def is_begun(self, run_id: str) -> bool:
        """Whether somebody took up its current attempt."""
        with self._lock:
            return run_id in self._at_work

    def turns(self) -> int:
        """A number that grows whenever a run comes, goes, begins or ends: while it stays the queue does too. The end of
        a run at work counts once somebody has looked at those."""
        with self._lock:
            self._look(at_work=False)
            return self._turns

    def ids(self) -> set[str]:
        """Of all folders that may be of runs, readable or not."""
        return names_in(self._folder)

    def others(self) -> set[str]:
        """The folders in the place of runs that hold none that can be read."""
        with self._lock:
            self._look()
            return self._names - self._kept.keys()

    def looks(self, run_id: str) -> int | None:
        """How often something may have been written of a run that is not in its record; None where it is not known."""
        kept = self._kept.get(run_id)
        return None if kept is None else kept.looks

    def looks_at_all(self) -> int:
        """The same of all runs together."""
        with self._lock:
            self._look()
            return self._looks

    def forget(self, run_id: str) -> None:
        """Its folder has gone."""
        with self._lock:
            if (kept := self._kept.pop(run_id, None)) is None:
                return
            sweep_id = kept.reader.record.request.sweep_id
            self._by_sweep[sweep_id].discard(run_id)
            if not self._by_sweep[sweep_id]:
                del self._by_sweep[sweep_id]
            for names in (self._unended, self._at_work, self._unwanted):
                names.discard(run_id)
            self._order = self._records = self._waiting = None
            self._turns += 1

    def _look(self, *, at_work: bool = True) -> None:
        """Make it what the folder says now. While another thread reads the folder, a view is content with what it has
        read; whoever else asks waits. at_work: the runs that somebody works on are read too."""
        if self.reading and not self._first.is_mine:
            if is_view():
                return
            self._first.wait()
        news = self._changes.news()
        self._due = None if news is None or self._due is None else self._due | news
        told, stamp, begins = self._due, time_of(self._folder), self._rounds.is_over
        named = told or frozenset()
        if told is None or stamp != self._stamp or begins:
            self._names, self._stamp = self.ids(), stamp
            for gone in self._kept.keys() - self._names:
                self.forget(gone)
            named = named | (self._names - self._kept.keys())
        if told is None or begins:
            self._rounds.begin(self._names if told is not None else ())
        self._due = frozenset()
        if not self._first.is_done:
            return self._first.read(self._names, self._look_at)
        due = self._names if told is None else self._rounds.due()
        for run_id in self._at_work - named if at_work else ():
            self._look_at(run_id, with_marks=False)
        for run_id in due - named:
            kept = self._kept.get(run_id)
            if (has_changed := kept is None or kept.has_changed(self._folder_of(run_id))) or kept.has_journal:
                self._look_at(run_id, with_marks=has_changed)
        self._first.read(named, self._look_at)  # runs that came together may be many, with long journals

    def _look_at(self, run_id: str, *, with_marks: bool = True) -> None:
        try:
            self._add_or_read(run_id, with_marks=with_marks)
        except RunNotFoundError:
            self.forget(run_id)  # someone else's folder, or one just deleted
        except OSError:  # what is known of it stays
            self._due = None if self._due is None else self._due | {run_id}

    def _add_or_read(self, run_id: str, *, with_marks: bool = False) -> None:
        if run_id in self._kept:
            self._read(run_id, with_marks=with_marks)
        else:
            self._add(run_id)

    def _add(self, run_id: str) -> None:
        kept = Kept(self._open_reader(run_id))
        kept.has_changed(self._folder_of(run_id))  # not since now
        try:
            kept.read(self._folder_of(run_id), with_marks=True)
        except OSError as error:
            if error.errno in OF_NAMES:
                raise RunNotFoundError(run_id) from None
            raise
        self._kept[run_id] = kept
        self._by_sweep.setdefault(kept.reader.record.request.sweep_id, set()).add(run_id)
        self._order = self._records = self._waiting = None
        self._turns += 1
        self._looks += 1
        self._put(run_id, kept)

    def _read(self, run_id: str, *, with_marks: bool = False) -> None:
        """What is new of it; OSError where that cannot be read, and then nothing has changed."""
        kept = self._kept[run_id]
        before, stand = kept.reader.record, kept.stand
        self._looks += with_marks
        try:
            kept.read(self._folder_of(run_id), with_marks=with_marks)
        except NotADirectoryError:
            self.forget(run_id)
            raise RunNotFoundError(run_id) from None
        if kept.reader.record is not before:
            self._records = self._waiting = None
        if kept.stand != stand:
            self._turns += 1
            self._put(run_id, kept)

    def _put(self, run_id: str, kept: Kept) -> None:
        for names, is_in in (
            (self._unended, not kept.reader.record.state.ended),
            (self._at_work, kept.is_begun),
            (self._unwanted, kept.is_unwanted),
        ):
            (names.add if is_in else names.discard)(run_id)

    def _folder_of(self, run_id: str) -> str:
        return f"{self._folder}/{run_id}"

    def _in_order(self) -> Sequence[str]:
        if self._order is None:
            self._order = tuple(sorted(self._kept, key=self._place))
        return self._order

    def _place(self, run_id: str) -> tuple[float, str]:
        return self._kept[run_id].reader.record.request.created_at, run_id

    def _of(self, run_ids: set[str]) -> Sequence[Record]:
        if len(run_ids) > len(self._kept) // 10:
            return tuple(self._kept[each].reader.record for each in self._in_order() if each in run_ids)
        return tuple(self._kept[each].reader.record for each in sorted(run_ids, key=self._place))
