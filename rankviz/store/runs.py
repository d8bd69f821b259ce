"""The folder of runs and probes: HOME/runs/ID/{request.json, events.jsonl, worker.log, adapter/ or config.json}."""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.core.bounds import INSIDE, NAME, printable
from rankviz.core.probe import ProbeRecord, ProbeRequest
from rankviz.core.runs.events import LOCAL, RunEvent, RunRequeued, StageProgressed, StepLogged
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.request import RunRequest, SweepRequest
from rankviz.errors import (
    PATH_ERRNOS,
    BadAdapterError,
    InvalidSettingError,
    RunNotFoundError,
    RunUnreadError,
    UserError,
    after_first_word,
    redacted,
)
from rankviz.paths import bytes_in, resolved, written_at
from rankviz.store import durable, journal
from rankviz.store.journal import ANYWHERE, NO_ONES, Entry, Ownership, Record, WantedEngine
from rankviz.visitor import data_folder

if TYPE_CHECKING:
    from filelock import FileLock  # with asyncio, which takes as long to load as all that lists runs

LOG_TAIL_BYTES = 4000
IMPORTED = "imported"
"""File in the folder of a run that was imported from a zip and has not been trained here since."""
LOOK_SHARE, CALM_SHARE, FREE_SECONDS = 0.05, 0.002, 0.003
"""Largest share of time for looking for other processes' writes in all folders: after a writer has set the time of the
runs folder, and while none does; and seconds that are always allowed."""
MANY = 20
"""Number of new runs from which progress of reading them is reported."""
PATIENCE_SECONDS = 0.05
_view: ContextVar[bool] = ContextVar("view", default=False)


@contextlib.contextmanager
def viewing() -> Iterator[None]:
    """Mark the block as a view of the page: while another thread reads many runs, a view gets those read so far."""
    token = _view.set(True)
    try:
        yield
    finally:
        _view.reset(token)


class RunStore:
    """All runs and probes under HOME/runs, which many pages may read each second. Thread-safe.

    The records of all runs are in memory; an update reads what was appended to the journals. This index is not a
    database: pages need the records as objects, and SQLite's WAL does not work on the network disks of clusters. The
    journals are the only source, and each start builds the index from them.

    Files are created only when there is something to write. Appending a line in one write, and publishing by a rename,
    need POSIX (Linux, macOS).
    """

    def __init__(self, home: Path):
        self.home = resolved(home)
        self.runs_dir = self.home / "runs"
        self.reading: tuple[int, int] | None = None
        """(folders read, folders to read) while a thread reads many; views then get the runs so far. Else None."""
        self._entries: dict[str, Entry] = {}
        self._updating = threading.RLock()
        self._is_updating = False
        self._looked = 0.0, 0.0, 0.0
        """Of the last look at all folders: time of the runs folder (0 if a write may follow within its resolution), end
        (time.monotonic), and seconds above FREE_SECONDS."""
        self._due: set[str] = set()
        self._names: Collection[str] = frozenset()
        self._turns = self._version = 0
        self._order: tuple[Any, ...] = (-1,)
        self._made: tuple[Any, ...] = (-1,)

    def run_dir(self, run_id: str) -> Path:
        return self.runs_dir / run_id

    def path(self, run_id: str, relative: str) -> Path:
        """Return the absolute path of a path relative to a run's folder; it need not exist. Raise BadAdapterError for a
        path that leads out of the folder, by its name or by a link."""
        try:
            inside = self.run_dir(run_id).resolve()
            path = (inside / relative).resolve() if INSIDE.fullmatch(relative) else None
        except (OSError, RuntimeError):  # links in a circle
            path = None
        if path is None or not path.is_relative_to(inside):
            raise BadAdapterError(f"The adapter of run {run_id!r} is not in the run's own folder, so it is not read.")
        return path

    def record(self, run_id: str) -> Record:
        """Return the current record of a run or probe. Raise RunNotFoundError where there is none, and RunUnreadError
        where its files cannot be read; a view gets the last known record instead."""
        try:
            self._look(run_id)
        except OSError as error:
            if not _view.get():
                raise RunUnreadError(run_id, error.strerror) from error
        if (entry := self._entries.get(run_id)) is None:
            raise RunNotFoundError(run_id)
        return entry.record

    def get(self, run_id: str) -> RunRecord:
        """Return the record of a run; raise RunNotFoundError for a probe or an unknown id."""
        record = self.record(run_id)
        if not isinstance(record, RunRecord):
            raise RunNotFoundError(run_id)
        return record

    def records(self) -> list[Record]:
        """Return every run and probe, the oldest first; runs of a sweep are in training order."""
        self.update()
        return list(self._lists()[1])

    def unended(self) -> Sequence[Record]:
        """Return the runs and probes that are queued or running, in the order of `records`."""
        self.update()
        return self._lists()[2]

    def begun_and_cancelled(self) -> tuple[Sequence[Record], Sequence[str], bool]:
        """Return what a supervisor handles: records of runs that have begun, the oldest first; ids of runs to cancel;
        and True where a run has not ended."""
        self.update()
        *_, unended, at_work, unwanted = self._lists()
        return at_work, unwanted, bool(unended)

    def _of_sweep(self, sweep_id: str) -> Sequence[Record]:
        """Return the runs of a sweep in training order."""
        self.update()
        for record in self._lists()[1]:
            if record.request.sweep_id == sweep_id:
                self._try(record.run_id)  # of an ended run only its folder tells that another app deleted it
        return [each for each in self._lists()[1] if each.request.sweep_id == sweep_id]

    def turns(self) -> int:
        """Return a number that changes when a run is added, removed, begun or ended, and so with the queue."""
        self.update()
        return self._turns

    def ids(self, owners: Collection[str] | None = None) -> set[str]:
        """Return the names of all folders that may hold runs, readable or not. owners: Only of these owners' runs."""
        try:
            with os.scandir(self.runs_dir) as entries:
                ids = {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}
        except FileNotFoundError:
            return set()
        return ids if owners is None else {each for each in ids if self.listed_ownership(each).owner in owners}

    def listed_ownership(self, run_id: str) -> Ownership:
        """Return the owner of a run from the index; for a run that is not in the index, from the disk."""
        entry = self._entries.get(run_id)
        return journal.read_ownership(self.run_dir(run_id)) if entry is None else entry.ownership

    def listed_destination(self, run_id: str) -> WantedEngine:
        """Return the engine of a run from the index; for a run that is not in the index, from the disk."""
        entry = self._entries.get(run_id)
        return journal.read_destination(self.run_dir(run_id)) if entry is None else entry.destination

    def all(self) -> list[RunRecord]:
        """Return every run, the oldest sweep first; runs of a sweep are in training order."""
        return [record for record in self.records() if isinstance(record, RunRecord)]

    def probes(self) -> list[ProbeRecord]:
        """Return every probe, the oldest first."""
        return [record for record in self.records() if isinstance(record, ProbeRecord)]

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        """Return all events of a run in order, without unreadable lines and an unfinished last line."""
        self.record(run_id)
        file = self._journal(run_id)
        return tuple(journal.parse_lines(file.read_bytes())) if file.exists() else ()

    def sweep(self, sweep_id: str) -> Sweep:
        """Return the sweep with this id; raise RunNotFoundError where it has no runs."""
        runs = tuple(each for each in self._of_sweep(sweep_id) if isinstance(each, RunRecord))
        if not runs:
            raise RunNotFoundError(sweep_id)
        return Sweep(sweep_id=sweep_id, runs=runs)

    def named(self, run_or_sweep_id: str) -> Sequence[Record]:
        """Return the run or probe with this id, and all runs of the sweep with this id."""
        others = [each for each in self._of_sweep(run_or_sweep_id) if each.run_id != run_or_sweep_id]
        if self._has_folder(run_or_sweep_id):
            with contextlib.suppress(RunNotFoundError):
                return [self.record(run_or_sweep_id), *others]
        return others

    def run_ids(self, run_or_sweep_id: str) -> list[str]:
        """Return the id itself for a run or probe, or the ids of a sweep's runs."""
        if self._has_folder(run_or_sweep_id):
            return [run_or_sweep_id]
        return [record.run_id for record in self.sweep(run_or_sweep_id).runs]

    def journal_bytes(self, owners: Collection[str]) -> int:
        """Return the bytes of all journals of these owners' runs together."""
        total = 0
        for run_id in self.ids(owners):
            with contextlib.suppress(OSError):  # not begun, or gone meanwhile
                total += self._journal(run_id).stat().st_size
        return total

    def saved_adapter_bytes(self, run_id: str) -> int:
        """Return the bytes on disk of a run's saved adapter and its truncated adapters."""
        return sum(bytes_in(self.run_dir(run_id) / name) for name in ("adapter", "cuts"))

    def ownership(self, run_id: str) -> Ownership:
        """Return the owner of a run or probe, and its visibility to others, from the disk."""
        return journal.read_ownership(self.run_dir(run_id))

    def has_begun(self, run_id: str) -> bool:
        """Return from the disk whether the current attempt of a run has begun."""
        return (self.run_dir(run_id) / journal.begun_file(self.record(run_id).attempt)).exists()

    def unreadable(self) -> dict[str, str]:
        """Return {name of an unreadable folder: reason}: request.json is invalid, the journal cannot be opened, or the
        owner is not known. Folders without a request.json do not belong to RankViz and are left out."""
        self.update()
        entries = list(self._entries.items())
        unowned = sorted(run_id for run_id, entry in entries if entry.ownership.owner == journal.UNKNOWN_OWNER)
        reasons = dict.fromkeys(unowned, journal.UNKNOWN_SENTENCE)
        for run_id in sorted(set(self._names) - self._entries.keys()):
            try:
                journal.read_request(self.run_dir(run_id))
                self._journal(run_id).open("rb").close()
            except FileNotFoundError:
                continue
            except (OSError, ValueError, UserError) as error:
                reasons[printable(run_id)] = printable(str(error))
        return reasons

    def log_tail(self, run_id: str) -> str:
        """Return the end of the run's worker.log, without tokens; of a progress bar only its last state."""
        try:
            with (self.run_dir(run_id) / "worker.log").open("rb") as log:
                start = max(0, log.seek(0, os.SEEK_END) - 4 * LOG_TAIL_BYTES)
                log.seek(start)
                data = log.read()
        except OSError:
            return ""
        text = (after_first_word(data) if start else data).decode(errors="replace")
        lines = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
        return redacted("\n".join(lines))[-LOG_TAIL_BYTES:].strip()

    def create(
        self, request: SweepRequest, owner: str = "", destination: WantedEngine = ANYWHERE, *, data: Path | None = None
    ) -> str:
        """Queue a sweep and return its id. All its runs appear at once. data: A file to copy for the runs, in place of
        the data that the request names."""
        now = time.time()
        sweep_id = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}"
        self.add(request.runs(sweep_id=sweep_id, created_at=now), Ownership(owner), destination, data=data)
        return sweep_id

    def add(
        self,
        requests: Sequence[RunRequest],
        ownership: Ownership = NO_ONES,
        destination: WantedEngine = ANYWHERE,
        *,
        data: Path | None = None,
        joins: str = "",
    ) -> None:
        """Queue runs, all at once. data: As for `create`. joins: Id of a sweep to which the runs are added;
        RunNotFoundError is raised where it was deleted."""
        kept = self.copy_path(data, ownership.owner) if data else None
        if kept:
            requests = [replace(request, data=str(kept)) for request in requests]

        def prepare() -> None:
            if joins:
                self.sweep(joins)
            if kept:
                durable.copy(data, kept)  # now, so that no run that goes meanwhile takes it along

        folders = {each.run_id: {"request.json": journal.request_text(each), **destination.files} for each in requests}
        self.publish(folders, ownership, prepare, joins=requests)

    def create_probe(self, request: ProbeRequest, config: str, owner: str = "") -> None:
        """Queue a probe on this machine. config: Content of the config.json of its model."""
        files = {"request.json": journal.request_text(request), "config.json": config, **WantedEngine(LOCAL).files}
        self.publish({request.probe_id: files}, Ownership(owner))

    def publish(
        self,
        folders: Mapping[str, Mapping[str, str | bytes]],
        ownership: Ownership = NO_ONES,
        require: Callable[[], object] = lambda: None,
        joins: Sequence[RunRequest] = (),
    ) -> None:
        """Create run folders from {run id: {file name: content}}, all or none: in a temporary folder, then renamed.
        require: Called just before the rename, while nobody else publishes; its exception cancels everything. joins:
        Requests whose sweep may exist; each run gets the visibility of the owner's other runs of the sweep."""
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.runs_dir) as aside:
            for run_id, files in folders.items():
                (Path(aside) / run_id).mkdir()
                for name, text in files.items():
                    durable.write_durably(Path(aside) / run_id / name, text)
                journal.write_ownership(Path(aside) / run_id, ownership)
            with self.publishing():
                require()
                for run_id in folders:
                    if self.run_dir(run_id).exists():
                        raise InvalidSettingError(f"Run {run_id!r} is here already.")
                for sweep_id in {each.sweep_id for each in joins}:
                    others = [self.ownership(each.run_id) for each in self._of_sweep(sweep_id)]
                    shared = {each.is_open for each in others if each.owner == ownership.owner} == {True}
                    for each in joins if shared != ownership.is_open else ():
                        if each.sweep_id == sweep_id:
                            journal.write_ownership(Path(aside) / each.run_id, replace(ownership, is_open=shared))
                durable.rename_all(self.runs_dir, Path(aside), list(folders))
                self._due.update(folders)

    def admission(self) -> "FileLock":
        """Return the lock to hold while checking that there is room for more runs, and creating them."""
        from filelock import FileLock

        self.runs_dir.mkdir(parents=True, exist_ok=True)
        return FileLock(self.runs_dir / ".admission.lock")

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the lock for renaming run folders, so that nobody reads half a sweep; finish what a killed app left."""
        from filelock import FileLock

        self.runs_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(self.runs_dir / ".publish.lock"):
            durable.finish_renames(self.runs_dir)
            yield

    def copy_path(self, data: Path, owner: str = "") -> Path:
        """Return the path for the copy of a data file for its owner's runs. The path depends on the file's content."""
        state = data.stat()
        digest = durable.cached_digest(data, state.st_mtime_ns, state.st_size, state.st_ino)
        return data_folder(self.home, owner) / digest / data.name

    def open_to_all(self, run_or_sweep_id: str, is_open: bool) -> None:
        """Set whether a run, or all runs of a sweep, are visible to others."""
        for run_id in self.run_ids(run_or_sweep_id):
            journal.write_ownership(self.run_dir(run_id), replace(self.ownership(run_id), is_open=is_open))
            self._changed(run_id)

    def append(self, run_id: str, *events: RunEvent) -> None:
        """Append events to a run's journal. One process writes at a time: the worker while it lives, then the
        supervisor. Events that an attempt wrote elsewhere have its number, and their offset in the journal there."""
        journal.append_events(self._journal(run_id), events)
        if all(isinstance(event, StepLogged | StageProgressed) for event in events):
            self._due.add(run_id)  # only of a run at work, which all read
        else:
            self._changed(run_id)

    def begin(self, run_id: str, attempt: int = 0) -> bool:
        """Mark an attempt of a queued run as begun, for good. attempt: 0 for the current one.

        Return True for only one caller: the worker that will write the journal, or a supervisor that cancels the run
        first. Return False for all others, and for an attempt that is not the current one.
        """
        current = self.record(run_id).attempt
        if attempt not in (0, current):
            return False
        try:
            (self.run_dir(run_id) / journal.begun_file(current)).touch(exist_ok=False)
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise RunNotFoundError(run_id) from None
        self._changed(run_id)
        return True

    def ask_to_cancel(self, run_id: str, word: str = "") -> None:
        """Request that a run's supervisor cancel it. word: Text stored with the request; "" keeps an earlier text."""
        file = self.run_dir(run_id) / journal.CANCEL
        if word:
            file.write_text(word)
        else:
            file.touch()
        self._changed(run_id)

    def cancel_word(self, run_id: str) -> str | None:
        """Return the text stored with a request to cancel a run; None without a request, empty where the text cannot be
        read. Raise RunUnreadError where the disk cannot be read now."""
        try:
            return (self.run_dir(run_id) / journal.CANCEL).read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return None
        except (IsADirectoryError, PermissionError):
            return ""
        except OSError as error:
            raise RunUnreadError(run_id, error.strerror) from error

    def requeue_all(self, run_ids: Sequence[str], destination: WantedEngine | None = None) -> Sequence[str]:
        """Queue the failed and cancelled ones of these runs again, together, so that one job loads the base; return
        their ids. destination: New engine of the runs; None for no change."""
        with self.publishing():
            records = [self.record(run_id) for run_id in run_ids if self.run_dir(run_id).is_dir()]
            again = [each for each in records if each.state in (RunState.FAILED, RunState.CANCELLED)]
            for record in again:
                folder = self.run_dir(record.run_id)
                if destination is not None:
                    journal.write_destination(folder, destination)
                (folder / journal.CANCEL).unlink(missing_ok=True)
                self.clear(record.run_id)
                self.append(record.run_id, RunRequeued(time=time.time(), attempt=record.attempt))
            return [record.run_id for record in again]

    def clear(self, run_id: str) -> None:
        """Delete the adapter of the last attempt, before the next one. A request to cancel stays."""
        (self.run_dir(run_id) / IMPORTED).unlink(missing_ok=True)
        shutil.rmtree(self.run_dir(run_id) / "adapter", ignore_errors=True)

    def forget(self, run_ids: Iterable[str]) -> None:
        """Remove runs whose folders no longer exist from the index."""
        for run_id in run_ids:
            if self._entries.pop(run_id, None) is not None:
                self._version += 1
                self._turns += 1

    def _lists(self) -> tuple[int, list[Record], list[Record], list[Record], list[str]]:
        """Return the index's version, its records in order, the records that have not ended, those of them that have
        begun, and the ids of those to cancel. Cached until an entry changes."""
        if (version := self._version) != self._made[0]:
            if (turns := self._turns) != self._order[0]:
                entries = sorted(
                    list(self._entries.values()), key=lambda each: (each.record.request.created_at, each.record.run_id)
                )
                unended = [entry for entry in entries if not entry.record.state.ended]
                self._order = turns, entries, unended, [entry for entry in unended if entry.is_begun]
            _, *parts = self._order
            unwanted = sorted(entry.record.run_id for entry in parts[1] if entry.has_cancel)
            self._made = version, *([entry.record for entry in part] for part in parts), unwanted
        return self._made

    def update(self, *, waits: bool = False) -> None:
        """Read changes in the folder. waits: True to wait, in a view too, while another thread reads many runs."""
        is_idle = not self._due and not self._is_updating
        if _view.get() and is_idle and not waits and time.monotonic() < self._looked[1] + PATIENCE_SECONDS:
            return  # a view asks several times
        while not self._updating.acquire(timeout=PATIENCE_SECONDS):
            if self.reading and _view.get() and not waits:
                return
        self._is_updating = True
        try:
            at, (seen, ended, costly) = written_at(self.runs_dir), self._looked
            if time.monotonic() >= ended + costly / (CALM_SHARE if at == seen else LOOK_SHARE):
                began = time.thread_time()
                self._names = self.ids()  # of runs that other processes have added, deleted or changed
                self.forget(self._entries.keys() - self._names)
                self._due |= self._names - self._entries.keys()
                self._due.update(run_id for run_id, entry in list(self._entries.items()) if entry.has_changed())
                is_settled = time.time() - at > journal.SETTLED_NANOSECONDS / 1e9
                costly = max(0.0, time.thread_time() - began - FREE_SECONDS)
                self._looked = at if is_settled else 0.0, time.monotonic(), costly
            self._lists()
            self._due.update(entry.record.run_id for entry in self._order[3] if entry.has_changed())
            due, new = sorted(self._due, reverse=True), sum(each not in self._entries for each in self._due)
            for number, run_id in enumerate(due):
                if new >= MANY:
                    self.reading = number, len(due)
                self._due.discard(run_id)
                self._try(run_id)
        finally:
            self.reading, self._is_updating = None, False
            self._updating.release()

    def _changed(self, run_id: str) -> None:
        """Read a run at the next update, in this process, and soon in others, which see the runs folder's new time."""
        self._due.add(run_id)
        with contextlib.suppress(OSError):
            os.utime(self.runs_dir)

    def _try(self, run_id: str) -> None:
        """Read a run. A run that cannot be read now stays in the index, and is read again at the next update."""
        try:
            self._look(run_id)
        except RunNotFoundError:
            self.forget([run_id])
        except OSError:
            self._due.add(run_id)

    def _look(self, run_id: str) -> None:
        """Read a run; raise RunNotFoundError where its folder holds no run."""
        known, folder = self._entries.get(run_id), self.run_dir(run_id)
        try:
            if known is None and not NAME.fullmatch(run_id):  # names come from addresses and command lines too
                raise RunNotFoundError(run_id)
            entry = known or Entry(
                str(folder), f"{folder}/events.jsonl", journal.new_record(journal.read_request(folder))
            )
            record, turn = entry.record, entry.turn
            try:
                entry.read()
            finally:  # an error after the journal was read leaves a new record
                self._version += entry.record is not record or entry.turn != turn
                self._turns += entry.turn != turn
        except (ValueError, UserError):
            raise RunNotFoundError(run_id) from None
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError) and (
                known or error.errno not in PATH_ERRNOS
            ):
                raise
            self.forget([run_id])
            raise RunNotFoundError(run_id) from None
        if known is None:
            self._entries[run_id] = entry
            self._version += 1
            self._turns += 1

    def _has_folder(self, name: str) -> bool:
        return bool(name and NAME.fullmatch(name)) and self.run_dir(name).is_dir()  # a page may show none yet

    def _journal(self, run_id: str) -> Path:
        return self.run_dir(run_id) / "events.jsonl"


def group(records: Iterable[RunRecord], *, recorded: bool = False) -> list[Sweep]:
    """Group runs into sweeps, in the order of each sweep's first run."""
    by_sweep: dict[str, list[RunRecord]] = {}
    for record in records:
        by_sweep.setdefault(record.request.sweep_id, []).append(record)
    return [Sweep(sweep_id=sweep_id, runs=tuple(runs), recorded=recorded) for sweep_id, runs in by_sweep.items()]


def recorded(assets: Path) -> Sequence[Sweep]:
    """Return the sweeps that ship with RankViz, in ASSETS/recorded/runs."""
    return group(RunStore(Path(assets) / "recorded").all(), recorded=True)
