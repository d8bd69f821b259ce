"""A job's folder here, brought from its log and from its bucket.

It is the packed job (rankviz.engines.bundle): each journal grows as the one in the job did. A piece of a journal has
its place in bytes, so what came by the log, by the bucket, or by both counts once. The line that ends a run is held
back until the files that its journal names are here.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path, PurePosixPath

from rankviz.core.bounds import INSIDE
from rankviz.core.runs.attempts import Attempt
from rankviz.core.runs.events import ProbeCompleted, RunCompleted, RunFailed
from rankviz.engines import bundle
from rankviz.engines.hf_jobs.lines import Piece
from rankviz.store.journal import parse_event

LAST = (RunCompleted, RunFailed, ProbeCompleted)
LOG, JOURNAL = "worker.log", "events.jsonl"
MAX_PIECES = 100_000
"""That wait for what stands before them."""


class _Journal:
    """One journal: whole lines on the disk, what follows in memory."""

    def __init__(self, path: Path):
        self.path = path
        self.tail = b""
        self.later: list[tuple[int, bytes]] = []
        """A heap of what came before what stands before it."""
        self.last = b""
        """The line that ends the run, while it is held back."""
        self.ended = False

    @property
    def size(self) -> int:
        on_disk = self.path.stat().st_size if self.path.exists() else 0
        return on_disk + len(self.last) + len(self.tail)

    def put(self, offset: int, data: bytes) -> None:
        if self.ended:
            return
        if len(self.later) < MAX_PIECES:
            heappush(self.later, (offset, data))
        while self.later and self.later[0][0] <= self.size:
            at, known = heappop(self.later)
            self._add(known[self.size - at :])

    def bridge(self) -> None:
        """What is missing does not come any more: a line that is no event takes its place."""
        while self.later:
            at, data = heappop(self.later)
            self._add(b" " * (at - self.size - 1) + b"\n")
            self.put(at, data)

    def release(self) -> None:
        line, self.last = self.last, b""
        self._write(line)

    def _add(self, data: bytes) -> None:
        self.tail += data
        while b"\n" in self.tail:
            line, self.tail = self.tail.split(b"\n", 1)
            if isinstance(parse_event(line), LAST):
                self.last, self.ended, self.tail = line + b"\n", True, b""
                self.later.clear()
            else:
                self._write(line + b"\n")

    def _write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


class Mirror:
    """Of one job. Its methods may be called from several threads."""

    def __init__(self, folder: Path, attempts: Sequence[Attempt]):
        self.folder = folder
        self._attempts = {attempt.run_id: attempt for attempt in attempts}
        self._journals = {run: _Journal(bundle.journal(folder, run)) for run in self._attempts}
        self._lock = threading.Lock()

    def take(self, piece: Piece) -> None:
        """Of the log."""
        with self._lock:
            if self._attempts.get(piece.attempt.run_id) == piece.attempt:
                self._journals[piece.attempt.run_id].put(piece.offset, piece.data)

    @property
    def has_gap(self) -> bool:
        """Whether something came whose beginning is missing."""
        with self._lock:
            return any(journal.later for journal in self._journals.values())

    def fill(self, read: Callable[[str, int], bytes], *, final: bool) -> None:
        """From the bucket: whole lines that follow. While the job writes, none that is not JSON: a file may be read as
        it is written."""
        for run_id, journal in self._journals.items():
            with self._lock:
                offset = journal.size - len(journal.tail)
            data = read(f"runs/{run_id}/{JOURNAL}", offset)
            whole = data[: data.rfind(b"\n") + 1]
            if not final:
                whole = b"".join(_readable(whole))
            if whole:
                with self._lock:
                    journal.put(offset, whole)

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended."""
        return all(journal.ended for journal in self._journals.values())

    def bring(self, files: Mapping[str, int], fetch: Callable[[str, Path], None], *, logs: bool) -> None:
        """From the bucket: the files of runs whose end is held back, as far as they are there. files: sizes by path;
        logs: with the logs of all runs."""
        for path, size in files.items():
            _, run_id, name = (*path.split("/", 2), "", "")[:3]
            journal = self._journals.get(run_id) if path.startswith("runs/") else None
            wanted = journal is not None and (bool(journal.last) or (logs and name == LOG)) and name != JOURNAL
            target = self.folder / path
            if wanted and _is_plain(path) and not (target.exists() and target.stat().st_size == size):
                _fetch(path, target, fetch)

    def release(self, *, final: bool) -> bool:
        """Let the ends be read of runs whose files are here; with `final` of all. Whether none is held back."""
        with self._lock:
            for run_id, journal in self._journals.items():
                if journal.last and (final or not bundle.missing(self.folder, run_id)):
                    journal.release()
            return not any(journal.last for journal in self._journals.values())

    def bridge(self) -> None:
        """The job has ended, and what has not come does not come any more."""
        with self._lock:
            for journal in self._journals.values():
                journal.bridge()


def _readable(data: bytes) -> list[bytes]:
    """Lines up to the first that is not JSON."""
    found = []
    for line in data.splitlines(keepends=True):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            break
        found.append(line)
    return found


def _is_plain(path: str) -> bool:
    return bool(INSIDE.fullmatch(path)) and ".." not in PurePosixPath(path).parts


def _fetch(path: str, target: Path, fetch: Callable[[str, Path], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    try:
        fetch(path, aside)
        os.replace(aside, target)
    finally:
        if aside.exists():
            aside.unlink()
