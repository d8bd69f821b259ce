"""The runs and probes in one folder, as they stand: nothing here writes."""

import contextlib
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from rankviz.core.bounds import INSIDE, NAME, printable
from rankviz.core.from_json import Misfit
from rankviz.core.probe.request import ProbeRecord
from rankviz.core.runs.events import RunEvent
from rankviz.core.runs.record import RunRecord, Sweep
from rankviz.errors import OF_NAMES, BadAdapterError, RunNotFoundError, UserError, after_first_word, redacted
from rankviz.paths import bytes_in, resolved
from rankviz.store import memory
from rankviz.store.changes import Reading
from rankviz.store.journal import (
    MAX_REQUEST_BYTES,
    JournalReader,
    Record,
    Request,
    new_record,
    parse_lines,
    parse_request,
)
from rankviz.store.memory import Current, Standing, begun_file
from rankviz.store.ownership import FILE, NO_ONES, UNKNOWN, UNKNOWN_SENTENCE, Ownership, read_ownership

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
        return tuple(memory.latest(self._current.reader(run_id)))

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
