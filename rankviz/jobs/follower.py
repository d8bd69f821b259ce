"""Follows one remote job in a thread of its own, since any call may take minutes: submits it once, polls it, copies its
journals and adapters into its folder here, and cancels it.

A journal here grows as the one of the job does. The line that ends a run comes once the files that its journal names
are here. What a job wrote is read as an import is: nothing of it may be of any length, nor lie anywhere else.
"""

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import LAST, RunFailed
from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError
from rankviz.jobs import bundle
from rankviz.jobs.cluster import CANCELLED, Cluster, JobLimits, RemoteJob, Status, write_submission
from rankviz.jobs.engine import End
from rankviz.machine import disk
from rankviz.store.durable import aside_of
from rankviz.store.journal import line_of, parse_event

MANIFEST = "files.json"
"""Beside a run's journal elsewhere, once the run has ended: the sizes of its files by path."""
READ_BYTES, CHUNK_BYTES = 2**22, 2**26
"""Read at once of a journal, and of another file."""
LATE_LOOKS = 5
"""How often files of a job that has ended are looked for."""
NOTE_SECONDS = 10.0
"""Between two notes of what is billed of a job."""
CANCEL_AGAIN_SECONDS = 60.0
MAX_BACKOFF_SECONDS = 60.0
UNEXPECTED_SECONDS = 30.0
"""Pause after an error that no code expects."""
SUBMITTING = "The job is being submitted."
POLLING = "Asking for the state of the job."
NOT_KNOWN = "It is not known yet whether the job was started: no answer came. RankViz looks for it."
LEFT = "The job was given up: its cluster could not be reached."
NEVER = "It was not answered whether the job was started, and the job is not listed there."
GONE = "The job is not known there any more, and its worker left no exit code."
UNEXPECTED = "RankViz could not follow the job because of an error of its own ({}). It tries again."
TOO_LONG = "The journal of this run is longer than this server accepts ({:,} MB or {:,} lines)."
TOO_LARGE = "Its adapters have {:,} files of {:,.0f} MB, more than this server accepts ({:,} files, {:,.0f} MB)."

_logger = logging.getLogger(__name__)


class Follower:
    """Submits one job and follows it to its end, in a thread."""

    def __init__(
        self,
        cluster: Cluster,
        job: RemoteJob,
        *,
        limits: JobLimits,
        poll_seconds: float,
        missing_seconds: float,
        given_up_seconds: float,
    ):
        self.job, self.trouble = job, ""
        self.status: Status | None = None
        self.end = job.submission.end
        self._cluster, self._limits = cluster, limits
        self._poll_seconds, self._missing_seconds = poll_seconds, missing_seconds
        self._given_up_seconds, self._reached_at = given_up_seconds, time.monotonic()
        self._cancelled_at = -math.inf
        self._nowhere_since: float | None = None
        self._is_prepared = False
        self._bytes = self._looks = 0
        self._ended: set[str] = set()
        """Runs whose end is here."""
        self._lines: dict[str, int] = {}
        self._lock = threading.RLock()
        """Held while something is written here."""
        self._stopped, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"rankviz-{job.name}", daemon=True)

    def started(self) -> "Follower":
        if not self._thread.is_alive() and self.end is None and not self._stopped.is_set():
            with contextlib.suppress(RuntimeError):  # it has ended
                self._thread.start()
        return self

    def stop(self) -> None:
        """Write nothing any more, so that another may follow the job."""
        with self._lock:
            self._stopped.set()
            self._woken.set()

    @property
    def waits(self) -> str:
        """Why the job does not run, as far as is known."""
        if self.status:
            return self.status.waits
        return POLLING if self.job.handle else SUBMITTING

    def cancel(self) -> None:
        """Cancel the job; one that was not submitted ends at once."""
        with self._lock:
            self.job.is_unwanted, self.job.asked_at = True, time.monotonic()
            if not self.job.submission.submitted:
                self._finish(End(why=CANCELLED, by_us=True))
        self._woken.set()

    def _loop(self) -> None:
        backoff = 0.0
        while not (self._stopped.is_set() or self.end):
            self._woken.clear()
            pause = self._poll_seconds
            try:
                self._step()
                self.trouble, backoff, self._reached_at = "", 0.0, time.monotonic()
            except EngineDeclinedError as error:
                self.trouble = str(error)
                pause = backoff = min(max(pause, 2 * backoff), MAX_BACKOFF_SECONDS)
            except (EngineUnavailableError, EngineError) as error:
                self.trouble = str(error)
            except OSError as error:
                self.trouble = disk.explain(error)
            except Exception as error:
                if not self._stopped.is_set():
                    _logger.exception("A remote job could not be followed")
                self.trouble, pause = UNEXPECTED.format(type(error).__name__), UNEXPECTED_SECONDS
            if self.job.is_unwanted and time.monotonic() - self._reached_at >= self._given_up_seconds:
                self._finish(End(why=LEFT, by_us=True))
            self._woken.wait(min(1.0, pause) if self.job.is_unwanted else pause)

    def _step(self) -> None:
        if not self.job.submission.submitted and not self._submit():
            return
        status = self._cluster.poll(self.job)
        if status is None:
            self._look_for()
            return
        self._nowhere_since = None
        if status.handle != self.job.handle:
            self._note(handle=status.handle)
        self.status = status
        if status.seconds is not None and (status.end or time.time() - self.job.submission.seconds_at > NOTE_SECONDS):
            self._note(seconds=status.seconds, seconds_at=time.time())
        if self.job.is_unwanted and status.end is None and not status.is_ending:
            self._ask_to_end()
        if self._has_all(status):
            by_us = self.job.submission.cancelled and (status.was_cancelled or status.end.lost)
            self._finish(End(why=CANCELLED, by_us=True) if by_us else status.end)

    def _submit(self) -> bool:
        """Ask the cluster for the job, once. Whether it was asked."""
        try:
            if not self._is_prepared:
                self._cluster.prepare(self.job)
                self._is_prepared = True
            with self._lock:
                if self.end or self._stopped.is_set():
                    return False
                self._note(submitted=True, strictly=True)
            handle = self._cluster.submit(self.job)
        except EngineDeclinedError:
            self._note(submitted=False)
            raise
        except EngineError as error:
            self._note(submitted=False)
            self._finish(End(why=str(error), is_final=True))
            return False
        finally:
            self.job.asked_at = time.monotonic()
        self._note(handle=handle)
        return True

    def _look_for(self) -> None:
        """A job that the cluster does not know: it may be listed late."""
        now = time.monotonic()
        self._nowhere_since = self._nowhere_since or now
        if now - self._nowhere_since < self._missing_seconds:
            raise EngineUnavailableError(NOT_KNOWN)
        if self.job.is_unwanted or self.job.submission.cancelled:
            self._finish(End(why=CANCELLED, by_us=True))
        else:
            self._finish(End(lost=True, why=GONE if self.job.handle else NEVER))

    def _ask_to_end(self) -> None:
        if time.monotonic() - self._cancelled_at >= CANCEL_AGAIN_SECONDS:
            self._note(cancelled=True)
            self._cluster.cancel(self.job)
            self._cancelled_at = time.monotonic()

    def _finish(self, end: End) -> None:
        with self._lock:
            self.end = self.end or end
            self._note(end=self.end)

    def _note(self, *, strictly: bool = False, **news: Any) -> None:
        """Write down what is new of the submission. OSError only where `strictly`."""
        with self._lock:
            submission = replace(self.job.submission, **news)
            with contextlib.suppress(*() if strictly else (OSError,)):
                if not self._stopped.is_set():
                    write_submission(self.job.folder, submission)
            self.job.submission = submission

    def _has_all(self, status: Status) -> bool:
        """Copy what is new of the runs, which a job does one after the other. Whether the job has ended, and all of it
        is here or does not come any more."""
        is_final, has_all = status.end is not None, True
        if not (self._cluster.shares_folder or status.waits):
            for attempt in self.job.job.attempts:
                try:
                    has_all = self._mirror(attempt.run_id, final=is_final) and has_all
                except EngineError as error:  # refused, and not only now
                    has_all, self.trouble = False, str(error)
                if not (has_all or is_final):
                    break
        if is_final and not has_all:
            self._looks += 1
        return is_final and (has_all or self._is_last_look(0))

    def _is_last_look(self, more: int) -> bool:
        return self._looks + more >= (1 if self.job.submission.cancelled else LATE_LOOKS)

    def _mirror(self, run_id: str, *, final: bool) -> bool:
        """Copy what is new of a run into the folder here, and its files before the line that ends it. Whether all of
        it is here."""
        journal = bundle.journal(self.job.folder, run_id)
        while run_id not in self._ended:
            offset = self._size(run_id, journal)
            data = self._cluster.read(self.job, f"runs/{run_id}/{journal.name}", offset, READ_BYTES)
            whole = data[: data.rfind(b"\n") + 1] or (data if len(data) >= READ_BYTES else b"")
            head, last = _split(whole, is_final=final)
            self._append(run_id, journal, head)
            if last and run_id not in self._ended:
                if not self._collect(run_id) and not (final and self._is_last_look(1)):
                    return False
                if run_id not in self._ended:
                    self._append(run_id, journal, last)
                    self._ended.add(run_id)
            elif not head or len(data) < READ_BYTES:
                break
        if final:
            self._fetch(f"runs/{run_id}/worker.log", bundle.LOG_BYTES, is_whole=False)
        return run_id in self._ended

    def _size(self, run_id: str, journal: Path) -> int:
        """How much of a journal is here, in whole lines."""
        if run_id not in self._lines:
            data = journal.read_bytes() if journal.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                os.truncate(journal, len(whole))
            self._lines[run_id] = whole.count(b"\n")
            if isinstance(parse_event(whole.rstrip(b"\n").rpartition(b"\n")[2]), LAST):
                self._ended.add(run_id)
        return journal.stat().st_size if journal.exists() else 0

    def _append(self, run_id: str, journal: Path, data: bytes) -> None:
        lines, most = self._lines[run_id] + data.count(b"\n"), self._limits
        if lines > most.journal_lines or self._size(run_id, journal) + len(data) > most.journal_bytes:
            self._fail(run_id, TOO_LONG.format(most.journal_bytes // 10**6, most.journal_lines))
            return
        with self._lock:
            if data and not self._stopped.is_set():
                journal.parent.mkdir(parents=True, exist_ok=True)
                with journal.open("ab") as file:
                    file.write(data)
                self._lines[run_id] = lines

    def _fail(self, run_id: str, why: str) -> None:
        """A run that wrote more than is accepted: nothing more of it is copied."""
        with self._lock:
            if not self._stopped.is_set():
                with bundle.journal(self.job.folder, run_id).open("ab") as file:
                    file.write(line_of(RunFailed(time=time.time(), error=why)))
                self._ended.add(run_id)

    def _collect(self, run_id: str) -> bool:
        """Copy the adapters that a run's journal names. Whether they are here, whole, or never will be."""
        start = f"runs/{run_id}/"
        try:
            files = json.loads(self._cluster.read(self.job, f"{start}{MANIFEST}", 0, READ_BYTES) or b"{}")
            saved = bundle.saved(self.job.folder, run_id)
            files = {path: max(0, int(size)) for path, size in files.items() if _is_in(path, saved)}
        except (ValueError, TypeError, AttributeError, RecursionError):
            files = {}
        total, most = sum(files.values()), min(self._limits.adapter_bytes, self._limits.job_bytes - self._bytes)
        if total > most or len(files) > bundle.MAX_FILES:
            self._fail(run_id, TOO_LARGE.format(len(files), total / 1e6, bundle.MAX_FILES, max(0, most) / 1e6))
            return True
        for path, size in files.items():
            self._fetch(start + path, size)
        return not bundle.missing(self.job.folder, run_id)

    def _fetch(self, path: str, size: int, *, is_whole: bool = True) -> None:
        """Copy a file, unless it is here."""
        target = self.job.folder / path
        if is_whole and target.exists() and target.stat().st_size == size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = aside_of(target)
        try:
            with aside.open("wb") as file:
                while file.tell() < size:
                    data = self._cluster.read(self.job, path, file.tell(), min(CHUNK_BYTES, size - file.tell()))
                    if not data:
                        break
                    file.write(data)
            with self._lock:
                if not self._stopped.is_set() and (aside.stat().st_size or is_whole):
                    self._bytes += aside.stat().st_size if is_whole else 0
                    os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)


def _split(lines: bytes, *, is_final: bool) -> tuple[bytes, bytes]:
    """The lines before the one that ends a run, and that one. Before a job has ended, nothing from a line on that is
    not JSON: its file may be read as it is written."""
    head = b""
    for line in lines.splitlines(keepends=True):
        if isinstance(parse_event(line), LAST):
            return head, line
        if not is_final:
            try:
                json.loads(line)
            except (ValueError, RecursionError):
                break
        head += line
    return head, b""


def _is_in(path: str, folders: Mapping[str, Any]) -> bool:
    """Whether a plain path lies in one of these folders."""
    pure = PurePosixPath(path)
    is_plain = INSIDE.fullmatch(path) and ".." not in pure.parts
    return bool(is_plain) and not folders.keys().isdisjoint(map(str, pure.parents))
