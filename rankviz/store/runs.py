"""The folder of runs: create, append, read."""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from rankviz.core.bounds import INSIDE, NAME, printable
from rankviz.core.from_json import Misfit
from rankviz.core.probe import ProbeRecord, ProbeRequest
from rankviz.core.runs.events import LOCAL, RunEvent, RunRequeued, StageProgressed, StepLogged
from rankviz.core.runs.record import RunRecord, RunState, Sweep
from rankviz.core.runs.request import RunRequest, SweepRequest
from rankviz.errors import (
    OF_NAMES,
    BadAdapterError,
    InvalidSettingError,
    RunNotFoundError,
    RunUnreadError,
    UserError,
    after_first_word,
    redacted,
)
from rankviz.paths import bytes_in, resolved
from rankviz.store import durable, index
from rankviz.store.durable import write_durably
from rankviz.store.index import CANCEL, Current, Reading, Standing, begun_file
from rankviz.store.journal import (
    MAX_REQUEST_BYTES,
    JournalReader,
    Record,
    Request,
    append_events,
    new_record,
    parse_lines,
    parse_request,
    request_text,
)
from rankviz.store.ownership import (
    ANYWHERE,
    FILE,
    NO_ONES,
    UNKNOWN,
    UNKNOWN_SENTENCE,
    Destination,
    Ownership,
    read_ownership,
    write_destination,
    write_ownership,
)

LOG_TAIL_BYTES = 4000


class RunRecords:
    """Every run and every probe under HOME/runs. Reading is cheap enough to be done each second by many pages, whatever
    is there: only what was appended is read, and only where something was written (memory.py)."""

    def __init__(self, home: Path):
        self.home = resolved(home)
        self.runs_dir = self.home / "runs"
        self._current = Current(self.runs_dir, self._open)
        self._owners: dict[str, tuple[tuple[int, int], Ownership]] = {}
        self._listed: dict[str, tuple[int, Ownership]] = {}
        self._unowned: tuple[int, Sequence[str]] = -1, ()

    @property
    def reading(self) -> Reading | None:
        """How far another thread has read the folder for the first time, or what is new there; None where nobody does.
        Meanwhile views leave out what it has not read yet (memory.first_read.viewing), and all others wait."""
        return self._current.reading

    def wait_until_read(self) -> None:
        """Return once the folder has been read for the first time, whoever asks."""
        self._current.wait_until_read()

    def run_dir(self, run_id: str) -> Path:
        return self.runs_dir / run_id

    def path(self, run_id: str, relative: str) -> Path:
        """A file or folder that a run's journal names, with links followed: it need not exist, but is nowhere else than
        in the run's folder. BadAdapterError where it is."""
        return path_in_run(self.run_dir(run_id), relative)

    def record(self, run_id: str) -> Record:
        """A run or a probe, as it stands now. RunUnreadError where it cannot be read now; a view gets it as it was
        known last. Where all are asked for, or those of a sweep, it is among them so, or left out, and looked at again
        each time."""
        return self._current.record(run_id)

    def get(self, run_id: str) -> RunRecord:
        """A run; RunNotFoundError for a probe too."""
        record = self.record(run_id)
        if not isinstance(record, RunRecord):
            raise RunNotFoundError(run_id)
        return record

    def probe(self, probe_id: str) -> ProbeRecord:
        """A probe; RunNotFoundError for a run too."""
        record = self.record(probe_id)
        if not isinstance(record, ProbeRecord):
            raise RunNotFoundError(probe_id)
        return record

    def records(self) -> list[Record]:
        """Every run and probe, the oldest first, within a sweep in the order they run."""
        return list(self._current.records())

    def unended(self) -> Sequence[Record]:
        """Those that wait or run, in the same order."""
        return self._current.unended()

    def standing(self) -> Standing:
        """What there is for a supervisor to do."""
        return self._current.standing()

    def turns(self) -> int:
        """A number that grows whenever a run comes, goes, begins or ends: while it stays the queue does too."""
        return self._current.turns()

    def all(self) -> list[RunRecord]:
        """Every run, the oldest sweep first, within a sweep in the order they run."""
        return [record for record in self.records() if isinstance(record, RunRecord)]

    def probes(self) -> list[ProbeRecord]:
        """Every probe, the oldest first."""
        return [record for record in self.records() if isinstance(record, ProbeRecord)]

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        """All events in order; unreadable lines left out, an unfinished last line too."""
        self.record(run_id)
        journal = self._journal(run_id)
        return tuple(parse_lines(journal.read_bytes()).events) if journal.exists() else ()

    def latest(self, run_id: str) -> Sequence[RunEvent]:
        """The last events in order, without steps and progress."""
        return tuple(index.latest(self._current.reader(run_id)))

    def sweeps(self) -> list[Sweep]:
        """The oldest first."""
        return group(self.all())

    def sweep(self, sweep_id: str) -> Sweep:
        runs = tuple(each for each in self._current.of_sweep(sweep_id) if isinstance(each, RunRecord))
        if not runs:
            raise RunNotFoundError(sweep_id)
        return Sweep(sweep_id=sweep_id, runs=runs)

    def named(self, run_or_sweep_id: str) -> Sequence[Record]:
        """Every run and probe of this name, and of the sweep of this name."""
        others = [each for each in self._current.of_sweep(run_or_sweep_id) if each.run_id != run_or_sweep_id]
        if self._has_folder(run_or_sweep_id):
            with contextlib.suppress(RunNotFoundError):
                return [self.record(run_or_sweep_id), *others]
        return others

    def _has_folder(self, name: str) -> bool:
        return bool(name and NAME.fullmatch(name)) and self.run_dir(name).is_dir()  # a page may show none yet

    def run_ids(self, run_or_sweep_id: str) -> list[str]:
        """The run or the probe, or the runs of the sweep."""
        if self._has_folder(run_or_sweep_id):
            return [run_or_sweep_id]
        return [record.run_id for record in self.sweep(run_or_sweep_id).runs]

    def _of_unknown_owners(self) -> Sequence[str]:
        looks = self._current.looks_at_all()
        if self._unowned[0] != looks:
            run_ids = [record.run_id for record in self._current.records()]
            self._unowned = looks, sorted(each for each in run_ids if self.listed_ownership(each) == UNKNOWN)
        return self._unowned[1]

    def names(self) -> tuple[set[str], set[str]]:
        """The ids of all runs and probes, readable or not, and those of all sweeps."""
        return self._current.ids(), self._current.sweep_ids()

    def counts(self, owners: Collection[str]) -> tuple[int, int]:
        """How many runs and probes are here of these owners, and of all; those that cannot be read count too."""
        ids = self._current.ids()
        return sum(self.listed_ownership(run_id).owner in owners for run_id in ids), len(ids)

    def journal_bytes(self, owners: Collection[str]) -> int:
        """Of the journals of these owners' runs."""
        total = 0
        for run_id in self._current.ids():
            if self.listed_ownership(run_id).owner in owners:
                with contextlib.suppress(OSError):  # not begun, or gone meanwhile
                    total += self._journal(run_id).stat().st_size
        return total

    def adapter_bytes(self, run_id: str) -> int:
        """Of the adapter that a run has saved, and of those that it was truncated to."""
        return sum(bytes_in(self.run_dir(run_id) / name) for name in ("adapter", "cuts"))

    def ownership(self, run_id: str) -> Ownership:
        """Whose a run or a probe is, and whether others may look at it."""
        try:
            state = os.stat(os.path.join(self.runs_dir, run_id, FILE))
        except FileNotFoundError:
            return NO_ONES
        except OSError:
            return UNKNOWN
        stamp = state.st_ino, state.st_mtime_ns  # it is written anew and renamed, never changed in place
        known = self._owners.get(run_id)
        if known is None or known[0] != stamp:
            known = self._owners[run_id] = stamp, read_ownership(self.run_dir(run_id))
        return known[1]

    def listed_ownership(self, run_id: str) -> Ownership:
        """The same of one among many, as it was when something was written of the run last."""
        looks = self.looks(run_id)
        known = self._listed.get(run_id)
        if known is not None and known[0] == looks:
            return known[1]
        ownership = self.ownership(run_id)
        if looks is not None:
            self._listed[run_id] = looks, ownership
        return ownership

    def looks(self, run_id: str) -> int | None:
        """A number that grows when something beside its journal may have been written of a run."""
        return self._current.looks(run_id)

    def is_begun(self, run_id: str) -> bool:
        """`has_begun` of one among many, as it was when something was written of the run last."""
        return self._current.is_begun(run_id)

    def has_begun(self, run_id: str) -> bool:
        """Whether somebody took up its current attempt."""
        return self._begun(run_id, self.record(run_id).attempt).exists()

    def unreadable(self) -> dict[str, str]:
        """Why, for each folder whose request.json is of no run or probe that there can be, or whose journal cannot be
        opened, or whose owner is not known, by its name. A folder without a request.json is someone else's."""
        reasons = dict.fromkeys(self._of_unknown_owners(), UNKNOWN_SENTENCE)
        for run_id in sorted(self._current.others()):
            try:
                self._read_request(run_id)
                self._journal(run_id).open("rb").close()
            except FileNotFoundError:
                continue
            except (OSError, ValueError, UserError) as error:
                reasons[printable(run_id)] = printable(str(error))
        return reasons

    def log_tail(self, run_id: str) -> str:
        """The end of the run's worker.log, without tokens; of a progress bar only its last state."""
        try:
            with (self.run_dir(run_id) / "worker.log").open("rb") as log:
                start = max(0, log.seek(0, os.SEEK_END) - 4 * LOG_TAIL_BYTES)
                log.seek(start)
                data = log.read()
        except OSError:
            return ""
        text = (after_first_word(data) if start else data).decode(errors="replace")
        lines = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n")]
        return redacted("\n".join(lines))[-LOG_TAIL_BYTES:].strip()

    def forget(self, run_ids: Iterable[str]) -> None:
        """Their folders have gone."""
        for run_id in run_ids:
            self._current.forget(run_id)
            self._owners.pop(run_id, None)
            self._listed.pop(run_id, None)

    def _open(self, run_id: str) -> JournalReader:
        return JournalReader(str(self._journal(run_id)), new_record(self._request(run_id)))

    def _request(self, run_id: str) -> Request:
        # A run's name comes from addresses and command lines too: it must be one plain folder name.
        if not NAME.fullmatch(run_id):
            raise RunNotFoundError(run_id)
        try:
            return self._read_request(run_id)
        except OSError as error:
            if error.errno not in OF_NAMES:
                raise
            raise RunNotFoundError(run_id) from None
        except (ValueError, UserError):
            raise RunNotFoundError(run_id) from None

    def _read_request(self, run_id: str) -> Request:
        with (self.run_dir(run_id) / "request.json").open("rb") as file:
            request = parse_request(file.read(MAX_REQUEST_BYTES + 1))
        if request.run_id != run_id:
            raise Misfit(f"The request in this folder is of a run called {request.run_id!r}.")
        return request

    def _journal(self, run_id: str) -> Path:
        return self.run_dir(run_id) / "events.jsonl"

    def _begun(self, run_id: str, attempt: int) -> Path:
        return self.run_dir(run_id) / begun_file(attempt)


def group(records: Iterable[RunRecord], *, recorded: bool = False) -> list[Sweep]:
    """Runs by sweep, in the order they come."""
    by_sweep: dict[str, list[RunRecord]] = {}
    for record in records:
        by_sweep.setdefault(record.request.sweep_id, []).append(record)
    return [Sweep(sweep_id=sweep_id, runs=tuple(runs), recorded=recorded) for sweep_id, runs in by_sweep.items()]


def path_in_run(folder: Path, relative: str) -> Path:
    """The path that a journal gives relative to its run's folder. BadAdapterError where it leaves that, by its name or
    by a link."""
    try:
        inside = folder.resolve()
        path = (inside / relative).resolve() if INSIDE.fullmatch(relative) else None
    except (OSError, RuntimeError):  # links in a circle
        path = None
    if path is None or not path.is_relative_to(inside):
        raise BadAdapterError(f"The adapter of run {folder.name!r} is not in the run's own folder, so it is not read.")
    return path


FREQUENT = (StepLogged, StageProgressed)
"""Of runs that are looked at anyway while somebody works on them."""
IMPORTED = "imported"
"""A file in the folder of a run that came from a zip, and was not trained here since."""


class RunStore(RunRecords):
    """What is in the folder (records.py), and all that is written there. Nothing is written before there is something
    to write."""

    def create(
        self,
        request: SweepRequest,
        owner: str = "",
        destination: Destination = ANYWHERE,
        *,
        data: Path | None = None,
    ) -> str:
        """Queue a sweep and return its id. Its runs appear whole, and together for whoever reads the queue.

        data: a file of which they get a copy, in place of the data that the request names.
        """
        now = time.time()
        kept = self.kept_path(data, owner) if data else None
        if kept:
            request = replace(request, data=str(kept))
        sweep_id = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}"
        self.publish(
            {
                run.run_id: {"request.json": request_text(run), **destination.files}
                for run in request.runs(sweep_id=sweep_id, created_at=now)
            },
            Ownership(owner),
            require=lambda: kept and durable.copy(data, kept),  # no run that goes meanwhile takes it along
        )
        return sweep_id

    def add(
        self,
        request: RunRequest,
        ownership: Ownership = NO_ONES,
        destination: Destination = ANYWHERE,
        *,
        data: Path | None = None,
    ) -> None:
        """Queue one more run of a sweep that exists; nothing of its other runs is rewritten. RunNotFoundError where the
        sweep has been deleted meanwhile. data: as of `create`."""
        kept = self.kept_path(data, ownership.owner) if data else None
        if kept:
            request = replace(request, data=str(kept))
        self.publish(
            {request.run_id: {"request.json": request_text(request), **destination.files}},
            ownership,
            require=lambda: self.sweep(request.sweep_id) and kept and durable.copy(data, kept),
            joins=[request],
        )

    def create_probe(self, request: ProbeRequest, config: str, owner: str = "") -> None:
        """Queue a probe of this machine, with the config.json of its model beside it."""
        files = {"request.json": request_text(request), "config.json": config, **Destination(LOCAL).files}
        self.publish({request.probe_id: files}, Ownership(owner))

    def publish(
        self,
        folders: Mapping[str, Mapping[str, str | bytes]],
        ownership: Ownership = NO_ONES,
        require: Callable[[], object] = lambda: None,
        joins: Sequence[RunRequest] = (),
    ) -> None:
        """Make run folders out of {run id: {file name: content}}: written aside first, then renamed into place; all of
        them, or none.

        require: called just before that, while nobody else publishes; what it raises leaves nothing behind.
        joins: those of them whose sweep may be here: they are as open as their owner's runs of it.
        """
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.runs_dir) as aside:
            for run_id, files in folders.items():
                (Path(aside) / run_id).mkdir()
                for name, text in files.items():
                    write_durably(Path(aside) / run_id / name, text)
                write_ownership(Path(aside) / run_id, ownership)
            with self.publishing():
                require()
                for run_id in folders:
                    if self.run_dir(run_id).exists():
                        raise InvalidSettingError(f"Run {run_id!r} is here already.")
                opened = {each.sweep_id: self._is_open(each.sweep_id, ownership.owner) for each in joins}
                for each in joins:
                    if opened[each.sweep_id] != ownership.is_open:
                        write_ownership(Path(aside) / each.run_id, replace(ownership, is_open=opened[each.sweep_id]))
                durable.bring(self.runs_dir, Path(aside), list(folders))
                self.tell(*folders)

    def _is_open(self, sweep_id: str, owner: str) -> bool:
        """Whether others may look at all that somebody has of a sweep."""
        try:
            kept = [self.ownership(run.run_id) for run in self.sweep(sweep_id).runs]
        except RunNotFoundError:
            return False
        is_open = [each.is_open for each in kept if each.owner == owner]
        return bool(is_open) and all(is_open)

    def tell(self, *run_ids: str) -> None:
        """Something was written of these runs."""
        index.tell(self.runs_dir, run_ids)

    def tell_of_all(self) -> None:
        """Runs have gone, or may have, and nothing here is to name them."""
        index.tell_of_all(self.runs_dir)

    def admission(self) -> FileLock:
        """Held while somebody looks whether there is room for more runs, and makes them."""
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        return FileLock(self.runs_dir / ".admission.lock", thread_local=False)

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Held while folders are renamed into place or away, so that nobody takes up half a sweep. What an app has left
        half renamed has come, or gone, by then."""
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(self.runs_dir / ".publish.lock", thread_local=False):
            if durable.move_the_rest(self.runs_dir):
                self.tell_of_all()
            yield

    def keep(self, data: Path, owner: str = "") -> Path:
        """A copy of a data file for the runs of its owner, filed by its content."""
        kept = self.kept_path(data, owner)
        durable.copy(data, kept)
        return kept

    def kept_path(self, data: Path, owner: str = "") -> Path:
        """Where `keep` files it."""
        return durable.kept_path(self.home, data, owner)

    def open_to_all(self, run_or_sweep_id: str, is_open: bool) -> None:
        """Let others look at a run or at all runs of a sweep, or no longer."""
        for run_id in self.run_ids(run_or_sweep_id):
            write_ownership(self.run_dir(run_id), replace(self.ownership(run_id), is_open=is_open))
            self.tell(run_id)

    def append(self, run_id: str, event: RunEvent) -> None:
        """Write down what happened. One writer at a time: the worker while it lives, then the supervisor."""
        self.append_copied(run_id, [event])

    def append_copied(self, run_id: str, events: Sequence[RunEvent]) -> None:
        """Write down what an attempt wrote elsewhere, each with its attempt and its offset there."""
        append_events(self._journal(run_id), events)
        if not all(isinstance(event, FREQUENT) for event in events):
            self.tell(run_id)

    def begin(self, run_id: str, attempt: int = 0) -> bool:
        """Take an attempt of a queued run up, for good; 0 is the current one. True for one caller only: the worker that
        will write its journal, or the supervisor that cancels it before one has. False where another attempt is the
        current one by now."""
        current = self.record(run_id).attempt
        if attempt not in (0, current):
            return False
        try:
            os.close(os.open(self._begun(run_id, current), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise RunNotFoundError(run_id) from None
        self.tell(run_id)
        return True

    def ask_to_cancel(self, run_id: str, word: str = "") -> None:
        """Ask whoever supervises the run; an earlier word stays where this has none."""
        file = self.run_dir(run_id) / CANCEL
        if word:
            file.write_text(word)
        else:
            file.touch()
        self.tell(run_id)

    def cancel_word(self, run_id: str) -> str | None:
        """Of whoever asks to cancel it; None where nobody does. What is there and is no text is an empty word.
        RunUnreadError where that cannot be read now."""
        try:
            return (self.run_dir(run_id) / CANCEL).read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return None
        except (IsADirectoryError, PermissionError):
            return ""
        except OSError as error:
            raise RunUnreadError(run_id, error.strerror) from error

    def requeue(self, run_id: str, destination: Destination | None = None) -> bool:
        """Ask again for a run that failed or was cancelled. False for any other: of several who ask at once, one is
        answered True. destination: as of `requeue_all`."""
        return bool(self.requeue_all([run_id], destination))

    def requeue_all(self, run_ids: Sequence[str], destination: Destination | None = None) -> Sequence[str]:
        """Ask again for those of these runs that failed or were cancelled, and return them. They wait together for
        whoever reads the queue: a job of some of them would load the base, or rent a machine, once more for the rest.

        destination: where they are to run from now on; None is where they were to run.
        """
        with self.publishing():
            return [run_id for run_id in run_ids if self._requeue(run_id, destination)]

    def _requeue(self, run_id: str, destination: Destination | None) -> bool:
        record = self.record(run_id)
        if record.state not in (RunState.FAILED, RunState.CANCELLED) or not self.run_dir(run_id).is_dir():
            return False
        if destination is not None:
            write_destination(self.run_dir(run_id), destination)
        (self.run_dir(run_id) / CANCEL).unlink(missing_ok=True)
        self.clear(run_id)
        self.append(run_id, RunRequeued(time=time.time(), attempt=record.attempt))
        return True

    def clear(self, run_id: str) -> None:
        """Before another attempt: without an adapter of the last one. What it brings is no copy. A wish to cancel it
        stays."""
        (self.run_dir(run_id) / IMPORTED).unlink(missing_ok=True)
        shutil.rmtree(self.run_dir(run_id) / "adapter", ignore_errors=True)


def recorded(assets: Path) -> Sequence[Sweep]:
    """The sweeps shipped in ASSETS/recorded/runs, made by RankViz itself and folded as any other."""
    return group(RunStore(Path(assets) / "recorded").all(), recorded=True)
