"""A job's folder here, brought from its log and from its bucket.

It is the packed job (rankviz.engines.bundle): each journal grows as the one in the job did. A piece of a journal has
its place in bytes, so what came by the log, by the bucket, or by both counts once. The line that ends a run is held
back until the files that its journal names are here. What comes is its owner's: nothing of it may be of any length.
"""

import glob
import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import Attempt
from rankviz.engines import bundle
from rankviz.engines.bounds import Bounds
from rankviz.engines.hf_jobs.following.growing import Growing
from rankviz.engines.hf_jobs.following.lines import Piece
from rankviz.engines.hf_jobs.hub import READ_BYTES

LOG, JOURNAL = "worker.log", "events.jsonl"
TOO_LARGE = "Its adapters have {:,} files of {:,.0f} MB in all, more than this server takes ({:,} files, {:,.0f} MB)."
TOO_MUCH = "The adapters of its job are more than this server takes of one ({:,.0f} MB)."

Fetch = Callable[[str, Path, int, int], None]
"""Writes a file of the bucket into a new one here: its path, the target, the offset, bytes at most."""


class Mirror:
    """Of one job. Its methods may be called from several threads. One that is closed changes nothing any more, so that
    another may take over its folder.

    Args:
        bounds: Of what is taken. A run that has more fails.
    """

    def __init__(self, folder: Path, attempts: Sequence[Attempt], bounds: Bounds):
        self.folder = folder
        self._bounds = bounds
        self._attempts = {attempt.run_id: attempt for attempt in attempts}
        self._journals = {run: Growing(bundle.journal(folder, run), self._bounds) for run in self._attempts}
        self._fetched_bytes = 0
        self._closed = False
        self._lock = threading.Lock()
        """Held for moments, and while a journal is written."""
        self._bringing = threading.Lock()
        """Held while files are fetched."""

    def close(self) -> None:
        """Another one has this folder from now on, or nobody. Returns at once, also while files are fetched."""
        with self._lock:
            self._closed = True

    def take(self, piece: Piece) -> bool:
        """Of the log. Whether an end is held back since."""
        with self._lock:
            if self._closed or self._attempts.get(piece.attempt.run_id) != piece.attempt:
                return False
            journal = self._journals[piece.attempt.run_id]
            had_ended = journal.ended
            journal.put(piece.offset, piece.data)
            return journal.ended and not had_ended

    @property
    def waits(self) -> bool:
        """For the bucket: whether an end is held back, or something came whose beginning is missing."""
        with self._lock:
            return any(journal.last or journal.later for journal in self._journals.values())

    def fill(self, read: Callable[[str, int], bytes], *, final: bool) -> None:
        """From the bucket: whole lines that follow. While the job writes, none that is not JSON: a file may be read as
        it is written. read: gives READ_BYTES at most."""
        for run_id, journal in self._journals.items():
            with self._lock:
                goes_on = not (self._closed or journal.ended)
            while goes_on:
                with self._lock:
                    offset = journal.whole_size
                data = read(f"runs/{run_id}/{JOURNAL}", offset)
                whole = data[: data.rfind(b"\n") + 1] or (data if len(data) >= READ_BYTES else b"")
                taken = whole if final else b"".join(_readable(whole))
                with self._lock:
                    if self._closed:
                        return
                    journal.put(offset, taken)
                    goes_on = len(data) >= READ_BYTES and taken == whole and not journal.ended

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended."""
        with self._lock:
            return all(journal.ended for journal in self._journals.values())

    def bring(self, files: Mapping[str, int], fetch: Fetch, *, logs: bool) -> None:
        """From the bucket: the adapters of runs whose end is held back, as far as they are there. files: sizes by path;
        logs: with the end of the log of each run. One thread brings them: another waits where it brings the logs too,
        and else leaves them to the first."""
        if self._bringing.acquire(blocking=logs):
            try:
                self._bring_all(files, fetch, logs=logs)
            finally:
                self._bringing.release()

    def _bring_all(self, files: Mapping[str, int], fetch: Fetch, *, logs: bool) -> None:
        for run_id, journal in self._journals.items():
            start = f"runs/{run_id}/"
            if journal.last:
                here = {path: size for path, size in files.items() if path.startswith(start) and _is_plain(path)}
                named = {path: size for path, size in here.items() if journal.names(path.removeprefix(start))}
                self._bring(journal, named, fetch)
            size = files.get(start + LOG, 0) if logs else 0
            if size:
                most = min(size, bundle.LOG_BYTES)
                self._fetch(start + LOG, size - most, most, fetch)

    def _bring(self, journal: Growing, files: Mapping[str, int], fetch: Fetch) -> None:
        in_all, most = sum(files.values()), self._bounds.adapter_bytes
        if in_all > most or len(files) > bundle.MAX_FILES:
            sentence = TOO_LARGE.format(len(files), in_all / 1e6, bundle.MAX_FILES, most / 1e6)
            return self._fail(journal, sentence)
        for path, size in files.items():
            if not self._is_here(path, size):
                if self._fetched_bytes + size > self._bounds.job_bytes:
                    return self._fail(journal, TOO_MUCH.format(self._bounds.job_bytes / 1e6))
                self._fetch(path, 0, size, fetch)

    def _is_here(self, path: str, size: int) -> bool:
        target = self.folder / path
        return target.exists() and target.stat().st_size == size

    def _fetch(self, path: str, offset: int, most: int, fetch: Fetch) -> None:
        """Unless it is here. What is fetched has a name of its own: a mirror that was closed meanwhile may still write
        another part of the same file."""
        target = self.folder / path
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        with self._lock:
            if self._closed or self._is_here(path, most):
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
                left.unlink(missing_ok=True)
        try:
            fetch(path, aside, offset, most)
            with self._lock:
                if not self._closed:
                    self._fetched_bytes += aside.stat().st_size
                    os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)

    def _fail(self, journal: Growing, why: str) -> None:
        with self._lock:
            if not self._closed:
                journal.fail(why)

    def release(self, *, final: bool) -> bool:
        """Let the ends be read of runs whose files are here; with `final` of all. Whether none is held back."""
        with self._lock:
            if self._closed:
                return False
            for run_id, journal in self._journals.items():
                if journal.last and (final or not bundle.missing(self.folder, run_id)):
                    journal.release()
            return not any(journal.last for journal in self._journals.values())

    def bridge(self) -> None:
        """The job has ended, and what has not come does not come any more."""
        with self._lock:
            for journal in () if self._closed else self._journals.values():
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
