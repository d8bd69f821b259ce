"""Jobs on machines elsewhere: the common part of all such engines.

`Remote` packs a job into HOME/NAME-jobs/RUN_ID-aN. A `Follower` submits it once, polls it, copies journals and
adapters into that folder, and cancels it. A subclass of `Remote` does this for one kind of cluster.

NAME-jobs/RUN_ID-aN/                 the packed job (bundle.py) and the copied part of its journals
NAME-jobs/RUN_ID-aN/submission.json  state of the job on its cluster
"""

import contextlib
import json
import logging
import math
import os
import shutil
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import LAST, Attempt, RunFailed
from rankviz.errors import EngineDeclinedError, EngineError, EngineUnavailableError
from rankviz.jobs import bundle
from rankviz.jobs.engine import End, Engine, Job, Live
from rankviz.jobs.submission import (
    OWN_LIMITS,
    JobLimits,
    RemoteJob,
    Status,
    Submission,
    in_thread,
    read_submission,
    write_submission,
)
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.durable import aside_of
from rankviz.store.journal import line_of, parse_event

MANIFEST = "files.json"
"""File on the cluster next to an ended run's journal: sizes of the run's files, by path."""
READ_BYTES, CHUNK_BYTES = 2**22, 2**26
"""Bytes per read of a journal, and of any other file."""
LATE_LOOKS = 5
"""Number of polls in which missing files of an ended job are looked for."""
NOTE_SECONDS = 10.0
"""Seconds between two updates of a job's billed time in its submission."""
CANCEL_AGAIN_SECONDS = 60.0
CANCELLED = "The job was cancelled."
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


class Remote(Engine):
    """An engine that runs jobs on a cluster.

    A subclass has `submit`, `poll`, `read` and `end`, and maybe `send` and `unsend`. Each may take minutes, is called
    from several threads, and may raise EngineUnavailableError: then it is called again later.

    Args:
        at_once: Number of jobs on the cluster at most, waiting jobs included.
        poll_seconds: Seconds between two polls of a job.
        missing_seconds: Seconds after which a job unknown to the cluster counts as gone.
        given_up_seconds: Seconds without an answer of the cluster after which a cancelled job is left to it.
    """

    shares_disk = False
    shares_folder = False
    """True where jobs run in their folder here, which the nodes can access. Then `read` is not called."""

    def __init__(
        self,
        store: RunStore,
        *,
        at_once: int,
        poll_seconds: float,
        missing_seconds: float = 60.0,
        given_up_seconds: float = math.inf,
        limits: JobLimits = OWN_LIMITS,
    ):
        self.limits = limits
        self.place = store.home.absolute() / f"{self.name.removesuffix('-jobs')}-jobs"
        self._store, self._at_once, self._poll_seconds = store, at_once, poll_seconds
        seconds = {"missing_seconds": missing_seconds, "given_up_seconds": given_up_seconds}
        self._follower_of = partial(Follower, self, limits=limits, poll_seconds=poll_seconds, **seconds)
        self._followers: dict[str, Follower] = {}
        """Followers by the name of the job's folder."""

    def send(self, job: RemoteJob) -> None:
        """Send the job's files, before it is submitted; raise EngineError where the job can never be submitted."""

    @abstractmethod
    def submit(self, job: RemoteJob) -> str:
        """Submit a job and return its handle. Raise EngineDeclinedError where nothing was submitted, EngineError where
        the job can never start, and another EngineUnavailableError where the answer was lost, so that `poll` has to
        find out."""

    @abstractmethod
    def poll(self, job: RemoteJob) -> Status | None:
        """Return a job's status, found by its handle or else its name; None where the cluster does not know it."""

    def read(self, job: RemoteJob, path: str, offset: int, most: int) -> bytes:
        """Return up to `most` bytes of a file that the job wrote, from an offset on; empty for a missing file."""
        return b""

    @abstractmethod
    def end(self, job: RemoteJob) -> None:
        """Ask the cluster to end a job, found by its handle, or by its name without one."""

    def unsend(self, job: RemoteJob) -> None:
        """Remove the sent files of a job that nobody reads any more."""

    def terms(self, job: Job) -> Mapping[str, Any]:
        """Return the terms of a new job, such as machine and price; raise as `start` where the job must wait."""
        return {}

    def room(self) -> int:
        return self._at_once - sum(self.is_live(folder) for folder in bundle.folders_in(self.place))

    def is_live(self, folder: Path) -> bool:
        """Return True unless the job of a folder is known to have ended."""
        follower = self._followers.get(folder.name)
        return follower is None or follower.end is None

    def start(self, job: Job) -> Live | None:
        folder = bundle.folder_of(job, self.place)
        if not folder.exists():
            if why_not := self.why_not():
                raise EngineUnavailableError(why_not)
            terms, aside = self.terms(job), aside_of(folder)
            try:
                bundle.pack(self._store, job, aside, engine=self.name, sees_folders=self.sees_folders)
                write_submission(aside, Submission(terms=terms))
                os.replace(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return self._live(folder)

    def live(self) -> Sequence[Live]:
        return [self._live_or_damaged(folder) for folder in bundle.folders_in(self.place)]

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(bundle.folder_of(live.job, self.place), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(bundle.folder_of(live.job, self.place), attempt.run_id, folder)

    def cancel(self, live: Live) -> End | None:
        follower = self._follower(bundle.folder_of(live.job, self.place))
        follower.cancel()
        if follower.end is None and follower.trouble:
            raise EngineUnavailableError(follower.trouble)
        return follower.end and End(follower.end.exit_code, why=CANCELLED)

    def forget(self, live: Live) -> None:
        """Remove a job's folder, and cancel the job where it may run. A job that starts later finds nothing to run."""
        folder = bundle.folder_of(live.job, self.place)
        follower = self._followers.pop(folder.name, None)
        job = follower.job if follower else RemoteJob(folder, live.job, read_submission(folder))
        may_run = job.submission.submitted and not (follower and follower.status and follower.status.end)
        if follower:
            follower.stop()

        def clean() -> None:
            with contextlib.suppress(Exception):  # what fails is left: the job finds no folder
                if may_run:
                    self.end(job)
            with contextlib.suppress(Exception):
                self.unsend(job)

        in_thread(clean, "rankviz-forget")
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, aside_of(folder))
        for gone in self.place.glob(".*"):  # also what a network disk could not remove before
            shutil.rmtree(gone, ignore_errors=True)

    def release(self) -> None:
        for follower in self._followers.values():
            follower.stop()
        self._followers.clear()

    def _live_or_damaged(self, folder: Path) -> Live:
        """Return the job of a folder; one whose files cannot be read keeps its runs waiting, and no others."""
        try:
            return self._live(folder)
        except EngineUnavailableError as error:
            return Live(job=bundle.job_by_names(folder), handle="", waits=str(error))

    def _live(self, folder: Path) -> Live:
        follower = self._follower(folder)
        status = follower.status
        return Live(
            job=follower.job.job,
            handle=follower.job.handle,
            where=status.where if status else "",
            waits="" if follower.end else follower.trouble or follower.waits,
            end=follower.end,
        )

    def _follower(self, folder: Path) -> "Follower":
        """Return the follower of a folder's job. Raise EngineUnavailableError where the folder cannot be read: the job
        may still run, and submitting it again could cost twice."""
        if folder.name not in self._followers:
            try:
                job = RemoteJob(folder, bundle.read_job(folder), read_submission(folder))
            except (OSError, EngineError) as error:
                raise EngineUnavailableError(
                    f"The files of a job cannot be read ({folder}: {error}). Its runs wait, since it may go on. Mend "
                    "that folder, or end the job where it runs and remove the folder."
                ) from error
            self._followers[folder.name] = self._follower_of(job).started()
        return self._followers[folder.name]


class _StoppedError(Exception):
    """Raised once a follower is stopped, since another supervisor may follow its job by now."""


class Follower:
    """Submits one job and polls it to its end, in a thread, since any call may take minutes.

    The local journal grows with the job's own; the line that ends a run is added once all files named in the run's
    journal are here. Files of a job are not trusted: sizes are limited, and paths must lie in the job's folder.
    """

    def __init__(
        self,
        engine: Remote,
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
        self._engine, self._limits = engine, limits
        self._poll_seconds, self._missing_seconds = poll_seconds, missing_seconds
        self._given_up_seconds, self._reached_at = given_up_seconds, time.monotonic()
        self._cancelled_at, self._missing_since = -math.inf, math.inf
        self._is_prepared = False
        self._bytes = self._looks = 0
        self._lines: dict[str, int] = {}
        """Number of lines of each local journal, by run id."""
        self._ended: set[str] = set()
        """Ids of runs whose local journal has its last line."""
        self._lock = threading.RLock()
        self._stopped, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"rankviz-{job.name}", daemon=True)

    def started(self) -> "Follower":
        """Start the thread unless the job has ended, and return self."""
        if self.end is None:
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop writing, so that another supervisor may follow the job."""
        with self._lock:
            self._stopped.set()
            self._woken.set()

    @property
    def waits(self) -> str:
        """Reason why the job does not run, as far as known; empty while it runs."""
        if self.status:
            return self.status.waits
        return POLLING if self.job.handle else SUBMITTING

    def cancel(self) -> None:
        """Cancel the job. A job that was not submitted yet ends at once."""
        with self._lock:
            if not self.job.is_unwanted:
                self.job.is_unwanted, self.job.asked_at = True, time.monotonic()
                self._woken.set()
            if not self.job.submission.submitted and self.end is None:
                self._finish(End(why=CANCELLED, by_us=True))

    def _loop(self) -> None:
        with contextlib.suppress(_StoppedError):
            while not (self._stopped.is_set() or self.end):
                self._woken.clear()
                self._look()
                self._woken.wait(min(1.0, self._poll_seconds) if self.job.is_unwanted else self._poll_seconds)

    def _look(self) -> None:
        try:
            self._step()
            self.trouble, self._reached_at = "", time.monotonic()
        except _StoppedError:
            raise
        except (EngineUnavailableError, EngineError) as error:
            self.trouble = str(error)
        except OSError as error:
            self.trouble = disk.explain(error)
        except Exception as error:
            if self.trouble != (trouble := UNEXPECTED.format(type(error).__name__)):
                _logger.exception("A remote job could not be followed")
            self.trouble = trouble
        if self.job.is_unwanted and time.monotonic() - self._reached_at >= self._given_up_seconds:
            self._finish(End(why=LEFT, by_us=True))

    def _step(self) -> None:
        if not self.job.submission.submitted and not self._submit():
            return
        status = self._engine.poll(self.job)
        if status is None:
            self._look_for()
            return
        self._missing_since = math.inf
        if status.handle != self.job.handle:
            self._note(handle=status.handle)
        self.status = status
        if status.seconds is not None and (status.end or time.time() - self.job.submission.seconds_at > NOTE_SECONDS):
            self._note(seconds=status.seconds, seconds_at=time.time())
        is_due = time.monotonic() - self._cancelled_at >= CANCEL_AGAIN_SECONDS
        if self.job.is_unwanted and is_due and status.end is None and not status.is_ending:
            self._note(cancelled=True)
            self._engine.end(self.job)
            self._cancelled_at = time.monotonic()
        if self._has_all(status):
            by_us = self.job.submission.cancelled and (status.was_cancelled or status.end.lost)
            self._finish(End(why=CANCELLED, by_us=True) if by_us else status.end)

    def _submit(self) -> bool:
        """Submit the job, once. Return True where the cluster accepted it."""
        try:
            if not self._is_prepared:
                self._engine.send(self.job)
                self._is_prepared = True
            with self._writing():
                if self.end:
                    return False
                write_submission(self.job.folder, replace(self.job.submission, submitted=True))
                self._note(submitted=True)
            handle = self._engine.submit(self.job)
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
        """Wait for a submitted job that the cluster does not list; count it as ended after `missing_seconds`."""
        self._missing_since = min(self._missing_since, time.monotonic())
        if time.monotonic() - self._missing_since < self._missing_seconds:
            raise EngineUnavailableError(NOT_KNOWN)
        if self.job.is_unwanted or self.job.submission.cancelled:
            self._finish(End(why=CANCELLED, by_us=True))
        else:
            self._finish(End(lost=True, why=GONE if self.job.handle else NEVER))

    def _finish(self, end: End) -> None:
        with self._lock:
            self.end = self.end or end
            self._note(end=self.end)

    def _note(self, **news: Any) -> None:
        """Update the submission file; a full disk is ignored."""
        with self._writing(), contextlib.suppress(OSError):
            self.job.submission = replace(self.job.submission, **news)
            write_submission(self.job.folder, self.job.submission)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._stopped.is_set():
                raise _StoppedError
            yield

    def _has_all(self, status: Status) -> bool:
        """Copy new content of the job's runs, which run one after the other. Return True where the job has ended and
        its files are all here, or the missing ones are given up."""
        is_final, has_all = status.end is not None, True
        if not (self._engine.shares_folder or status.waits):
            for attempt in self.job.job.attempts:
                try:
                    has_all = self._mirror(attempt.run_id, final=is_final) and has_all
                except EngineError:  # refused, and not only now
                    has_all = False
                if not (has_all or is_final):
                    break
        self._looks += is_final and not has_all
        return is_final and (has_all or self._is_last_look(0))

    def _is_last_look(self, more: int) -> bool:
        return self._looks + more >= (1 if self.job.submission.cancelled else LATE_LOOKS)

    def _mirror(self, run_id: str, *, final: bool) -> bool:
        """Copy a run's new content; its files come before the line that ends it. Return True where all is here."""
        journal = bundle.journal(self.job.folder, run_id)
        if run_id not in self._lines:
            known = journal.read_bytes() if journal.exists() else b""
            whole = known[: known.rfind(b"\n") + 1]
            if whole != known:
                os.truncate(journal, len(whole))
            self._lines[run_id] = whole.count(b"\n")
            if isinstance(parse_event(whole.rstrip(b"\n").rpartition(b"\n")[2]), LAST):
                self._ended.add(run_id)
        while run_id not in self._ended:
            offset = journal.stat().st_size if journal.exists() else 0
            data = self._engine.read(self.job, f"runs/{run_id}/{journal.name}", offset, READ_BYTES)
            head, last = _split(data[: data.rfind(b"\n") + 1], is_final=final)
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

    def _append(self, run_id: str, journal: Path, data: bytes) -> None:
        """Append lines to a run's local journal. Above the limits the run fails, and copying stops."""
        if not data:
            return
        with self._writing():
            journal.parent.mkdir(parents=True, exist_ok=True)
            with journal.open("ab") as file:
                self._lines[run_id] += data.count(b"\n")
                most = self._limits
                if self._lines[run_id] <= most.journal_lines and file.tell() + len(data) <= most.journal_bytes:
                    file.write(data)
                    return
        self._fail(run_id, TOO_LONG.format(most.journal_bytes // 10**6, most.journal_lines))

    def _fail(self, run_id: str, why: str) -> None:
        with self._writing(), bundle.journal(self.job.folder, run_id).open("ab") as file:
            file.write(line_of(RunFailed(time=time.time(), error=why)))
            self._ended.add(run_id)

    def _collect(self, run_id: str) -> bool:
        """Copy the adapters of a run's journal. Return True where they are complete, or too large to be accepted."""
        start = f"runs/{run_id}/"
        try:
            files = json.loads(self._engine.read(self.job, f"{start}{MANIFEST}", 0, READ_BYTES) or b"{}")
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
        target = self.job.folder / path
        if is_whole and target.exists() and target.stat().st_size == size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = aside_of(target)
        try:
            with aside.open("wb") as file:
                while file.tell() < size:
                    data = self._engine.read(self.job, path, file.tell(), min(CHUNK_BYTES, size - file.tell()))
                    if not data:
                        break
                    file.write(data)
            with self._writing():
                if aside.stat().st_size or is_whole:
                    self._bytes += aside.stat().st_size if is_whole else 0
                    os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)


def _split(lines: bytes, *, is_final: bool) -> tuple[bytes, bytes]:
    """Split journal lines into those before the line that ends a run, and this last line. Until the job has ended,
    lines from the first invalid JSON on are left out: the file may have been read while it was written."""
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
    """Return True where a path without ".." or unusual characters lies in one of these folders."""
    pure = PurePosixPath(path)
    is_plain = INSIDE.fullmatch(path) and ".." not in pure.parts
    return bool(is_plain) and not folders.keys().isdisjoint(map(str, pure.parents))
