"""Jobs on machines elsewhere: the common part of all such engines.

`Remote` packs a job into HOME/NAME-jobs/RUN_ID-aN (bundle.py). Its `RemoteJob` submits it once, polls it, copies
journals and adapters into the run folders, and cancels it. A subclass of `Remote` does this for one kind of cluster.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import secrets
import shutil
import threading
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rankviz import units
from rankviz.core.runs.events import (
    LAST,
    AdapterCut,
    AdapterSaved,
    Attempt,
    AttemptPlaced,
    RunEvent,
    RunFailed,
    RunRequeued,
)
from rankviz.errors import (
    EngineDeclinedError,
    EngineError,
    EngineUnavailableError,
    LimitError,
    RunNotFoundError,
    RunUnreadError,
    quoted,
)
from rankviz.jobs import bundle
from rankviz.jobs.bundle import JobTerms, Submission, read_job, write_job
from rankviz.jobs.engine import End, Engine, Job, Live
from rankviz.machine import disk
from rankviz.settings import OWN_LIMITS, Limits
from rankviz.store import RunStore
from rankviz.store.durable import aside_of
from rankviz.store.journal import parse_event

EVENT_BYTES = 500
"""Expected bytes per event, for the size limit of a journal with many events."""
READ_BYTES, CHUNK_BYTES, LOG_BYTES = 2**22, 2**26, 2**20
"""Bytes per read of a journal, bytes per read of any other file, and the most bytes copied of a log or a config."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ADAPTER = re.compile(r"adapter|cuts/[A-Za-z0-9_-]+")
"""Relative paths where a worker saves adapters. All other names in a run's folder are reserved for RankViz."""
MAX_ADAPTERS = 2000
"""Number of adapters that a run may have, truncated ones included."""
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
TOO_LARGE = (
    "Its adapters have more than the {:,.0f} MB that this server still accepts from its job, or the run has more than "
    "{:,} of them."
)

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Remote(Engine):
    """An engine that runs jobs on a cluster.

    A subclass has `submit`, `poll`, `read` and `cancel_job`, and maybe `send` and `unsend`. Each may take minutes,
    is called from several threads, and may raise EngineUnavailableError: then it is called again later.
    """

    store: RunStore
    _: KW_ONLY
    limits: Limits = OWN_LIMITS
    """Limits of the server. Each file of a job has one, since the job's owner controls its files."""
    worker: Sequence[str] = ()
    """Command that replaces the real worker in tests."""
    at_once: int = 8
    """Number of jobs on the cluster at most, waiting jobs included."""
    poll_seconds: float = 2.0
    """Seconds between two polls of a job."""
    missing_seconds: float = 60.0
    """Seconds after which a job unknown to the cluster counts as gone."""
    given_up_seconds: float = math.inf
    """Seconds without an answer of the cluster after which a cancelled job is left to it."""

    shares_disk = False
    late_looks = 5
    """Number of polls in which missing files of an ended job are looked for."""

    def __post_init__(self) -> None:
        self.place = self.store.home.absolute() / f"{self.name.removesuffix('-jobs')}-jobs"
        self.journal_lines, self.adapter_bytes = self.limits.events_per_run, 10 * self.limits.adapter_mb * 10**6
        """Accepted lines of a run's journal, and bytes of all adapters of a job, with their truncated copies."""
        self.journal_bytes = max(self.limits.import_mb * 10**6, self.journal_lines * EVENT_BYTES)
        self._followed: dict[str, RemoteJob] = {}
        """Jobs by the name of their folder."""

    def require_room(self, adapter_bytes: int) -> None:
        """Raise LimitError where the adapters of all runs together, in bytes, are larger than accepted from a job."""
        if adapter_bytes > self.adapter_bytes:
            raise LimitError(
                f"The adapters of this sweep take {units.file_size(adapter_bytes)}, and this server takes at most "
                f"{units.file_size(self.adapter_bytes)} from a job. Choose lower ranks, fewer target modules or fewer "
                "runs."
            )

    def send(self, job: "RemoteJob") -> None:
        """Send the job's files, before it is submitted; raise EngineError where the job can never be submitted."""

    @abstractmethod
    def submit(self, job: "RemoteJob") -> str:
        """Submit a job and return its handle. EngineDeclinedError: nothing was submitted; EngineError: it can never
        start; another EngineUnavailableError: the answer was lost, and `poll` has to find out."""

    @abstractmethod
    def poll(self, job: "RemoteJob") -> Live | None:
        """Return a job as it is, found by its handle or else its name; None where the cluster does not know it."""

    @abstractmethod
    def read(self, job: "RemoteJob", path: str, offset: int, most: int) -> bytes:
        """Return up to `most` bytes of a file that the job wrote, from an offset on; empty for a missing file."""

    @abstractmethod
    def cancel_job(self, job: "RemoteJob") -> None:
        """Ask the cluster to cancel a job, which is found by its handle, or else by its name."""

    def unsend(self, job: "RemoteJob") -> None:
        """Remove the sent files of a job that nobody reads any more."""

    def terms(self, job: Job) -> JobTerms | None:
        """Return machine and price of a new job; None where jobs cost nothing. Raise EngineUnavailableError where the
        job must wait, and EngineError where it can never start."""
        return None

    @cached_property
    def home_id(self) -> str:
        """Id of the runs folder, which differs from the id of any copy of the folder at another place."""
        file = self.store.home / f"{self.name}.id"
        with contextlib.suppress(FileExistsError), file.open("x") as new:
            new.write(secrets.token_hex(8))
        return hashlib.sha256(f"{self.place} {file.read_text()}".encode()).hexdigest()[:12]

    def room(self) -> int:
        ended = [name for name, job in self._followed.items() if job.submission.end]
        return self.at_once - sum(folder.name not in ended for folder in bundle.folders_in(self.place))

    def start(self, job: Job) -> Live | None:
        folder = self.place / job.name
        if not folder.exists():
            if why_not := self.why_not():
                raise EngineUnavailableError(why_not)
            submission, aside = Submission(terms=self.terms(job)), aside_of(folder)
            try:
                bundle.pack(self.store, job, aside, engine=self.name, sees_folders=self.sees_folders)
                write_job(aside, job, submission)
                os.replace(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return self._live(folder)

    def live(self) -> Sequence[Live]:
        return [self._live(folder) for folder in bundle.folders_in(self.place)]

    def cancel(self, live: Live) -> End | None:
        job = self._follow(self.place / live.job.name)
        job.cancel()
        if (end := job.submission.end) is None and job.trouble:
            raise EngineUnavailableError(job.trouble)
        return end and End(end.exit_code, why=CANCELLED)

    def forget(self, live: Live) -> None:
        """Remove a job's folder, and cancel the job where it may run. Started later, it finds no files."""
        folder = self.place / live.job.name
        job = self._followed.pop(folder.name, None) or RemoteJob(self, folder, *read_job(folder))
        job.stop()

        def clean() -> None:
            with contextlib.suppress(Exception):  # what fails is left: the job finds no folder
                if job.submission.submitted and not (job.live and job.live.end):
                    self.cancel_job(job)
            with contextlib.suppress(Exception):
                self.unsend(job)

        threading.Thread(target=clean, name="rankviz-forget", daemon=True).start()
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, aside := aside_of(folder))
            shutil.rmtree(aside, ignore_errors=True)

    def release(self) -> None:
        for job in self._followed.values():
            job.stop()
        self._followed.clear()

    def _live(self, folder: Path) -> Live:
        """Return the state of a folder's job. Where its files cannot be read, its runs wait, and other jobs go on."""
        try:
            job = self._follow(folder)
        except EngineUnavailableError as error:
            return Live(job=bundle.job_by_names(folder), waits=str(error))
        end, waits = job.submission.end, POLLING if job.handle else SUBMITTING
        live = job.live or Live(job=job.job, handle=job.handle, waits=waits)
        waits = "" if end else job.trouble or live.waits
        return replace(live, waits=waits, end=end)

    def _follow(self, folder: Path) -> "RemoteJob":
        """Return the job of a folder, followed by a thread until it ends; EngineUnavailableError if unreadable."""
        if folder.name not in self._followed:
            job = RemoteJob(self, folder, *read_job(folder))
            self._followed[folder.name] = job
            if job.submission.end is None:
                threading.Thread(target=job.follow, name=f"rankviz-{job.name}", daemon=True).start()
        return self._followed[folder.name]


class RemoteJob:
    """A job of a cluster, submitted once and polled to its end in a thread, since any call may take minutes.

    New events are copied from the job's journals to the journals here; the event that ends a run is copied after the
    run's files. Files of a job are not trusted: sizes are limited, no link is followed, and paths must lie in an
    adapter of the run.
    """

    def __init__(self, engine: Remote, folder: Path, job: Job, submission: Submission):
        self.folder, self.job, self.submission = folder, job, submission
        self.name = folder.name
        """Name that finds the job on its cluster while its handle is not known."""
        self.live: Live | None = None
        """The job as its cluster last reported it; None until then."""
        self.trouble = ""
        self.is_cancelling = False
        """True once a cancel of the job was requested."""
        self.asked_at = -math.inf
        """Time of the latest submission or cancellation, from time.monotonic: answers to earlier polls do not count."""
        self._engine, self._store = engine, engine.store
        self._reached_at, self._cancelled_at, self._missing_since = time.monotonic(), -math.inf, math.inf
        self._is_sent = self._is_stopped = False
        self._looks = 0
        self._lines: Counter[str] = Counter()
        """Number of copied journal lines, by run id."""
        self._bytes_left = engine.adapter_bytes
        """Bytes of adapters, their configs included, that are still accepted."""
        self._adapters: set[tuple[str, str]] = set()
        """Run id and relative path of the adapters that have been copied."""
        self._lock, self._woken = threading.RLock(), threading.Event()

    @property
    def handle(self) -> str:
        """Id of the job on its cluster; empty until known."""
        return self.submission.handle

    def stop(self) -> None:
        """Stop following the job and writing its state, so that another supervisor may follow it."""
        with self._lock:
            self._is_stopped = True
        self._woken.set()

    def cancel(self) -> None:
        """Request a cancel, which `follow` carries out. A job that was not submitted yet ends at once."""
        with self._lock:
            if not self.is_cancelling:
                self.is_cancelling, self.asked_at = True, time.monotonic()
                self._woken.set()
            if not self.submission.submitted:
                self._finish(End(why=CANCELLED, by_us=True))

    def follow(self) -> None:
        """Submit the job and poll it, until it ends or `stop` is called."""
        seconds = self._engine.poll_seconds
        with contextlib.suppress(EngineUnavailableError):  # stopped here
            while not (self._is_stopped or self.submission.end):
                self._woken.clear()
                self._look()
                self._woken.wait(min(1.0, seconds) if self.is_cancelling else seconds)

    def _look(self) -> None:
        try:
            self._step()
            self.trouble, self._reached_at = "", time.monotonic()
        except (EngineUnavailableError, EngineError) as error:
            self.trouble = str(error)
        except OSError as error:
            self.trouble = disk.explain(error)
        except Exception as error:
            if self.trouble != (trouble := UNEXPECTED.format(type(error).__name__)):
                _logger.exception("A remote job could not be followed")
            self.trouble = trouble
        if self.is_cancelling and time.monotonic() - self._reached_at >= self._engine.given_up_seconds:
            self._finish(End(why=LEFT, by_us=True))

    def _step(self) -> None:
        if not self.submission.submitted and not self._submit():
            return
        live = self._engine.poll(self)
        if live is None:
            self._missing_since = min(self._missing_since, time.monotonic())
            if time.monotonic() - self._missing_since < self._engine.missing_seconds:
                raise EngineUnavailableError(NOT_KNOWN)
            by_us = self.is_cancelling or self.submission.cancelled
            self._finish(End(why=CANCELLED if by_us else GONE if self.handle else NEVER, lost=not by_us, by_us=by_us))
            return
        self._missing_since = math.inf
        if live.handle != self.handle:
            self._note(handle=live.handle)
        self.live, end = live, live.end
        if live.seconds is not None and (end or time.time() - self.submission.seconds_at > NOTE_SECONDS):
            self._note(seconds=live.seconds, seconds_at=time.time())
        if self.is_cancelling and not end and time.monotonic() - self._cancelled_at >= CANCEL_AGAIN_SECONDS:
            self._note(cancelled=True)
            self._engine.cancel_job(self)
            self._cancelled_at = time.monotonic()
        self._looks += end is not None
        is_last = self._looks >= (1 if self.submission.cancelled else self._engine.late_looks)
        has_all = bool(live.waits) or self._copy(is_final=bool(end), is_last=is_last)
        if end and (has_all or is_last):
            by_us = self.submission.cancelled and end.exit_code != 0
            self._finish(End(why=CANCELLED, by_us=True) if by_us else end)

    def _submit(self) -> bool:
        """Submit the job, once. Return True where the cluster accepted it."""
        try:
            if not self._is_sent:
                self._engine.send(self)
                self._is_sent = True
            with self._writing():
                if self.submission.end:
                    return False
                self._note(must=True, submitted=True)
            handle = self._engine.submit(self)
        except EngineDeclinedError:
            self._note(submitted=False)
            raise
        except EngineError as error:
            self._note(submitted=False)
            self._finish(End(why=str(error), is_final=True))
            return False
        finally:
            self.asked_at = time.monotonic()
        self._note(handle=handle)
        return True

    def _finish(self, end: End) -> None:
        with self._lock:
            self._note(end=self.submission.end or end)

    def _note(self, *, must: bool = False, **news: Any) -> None:
        """Update the submission and its file. A full disk is ignored, unless the file `must` be written."""
        with self._writing():
            submission = replace(self.submission, **news)
            try:
                write_job(self.folder, self.job, submission)
            except OSError:
                if must:
                    raise
            self.submission = submission

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._is_stopped:
                raise EngineUnavailableError("Another supervisor may follow the job by now.")
            yield

    def _copy(self, *, is_final: bool, is_last: bool) -> bool:
        """Copy new events and files of the job's runs, one after the other. Return True once all are copied."""
        has_all = True
        for attempt in self.job.attempts:
            try:
                has_all = self._copy_run(attempt, is_last) and has_all
                if is_final and self._store.record(attempt.run_id).attempt == attempt.number:
                    self._fetch(attempt, "worker.log", LOG_BYTES)
            except (RunNotFoundError, FileNotFoundError):  # deleted here
                continue
            except EngineError:  # refused, and not only now
                has_all = False
            except (OSError, RunUnreadError):
                if not self.is_cancelling:  # it ends also where the disk is full
                    raise
                has_all = False
            if not (has_all or is_final):
                break
        return has_all

    def _copy_run(self, attempt: Attempt, is_last: bool) -> bool:
        """Copy new events of an attempt; its files come before the event that ends it. Each copied event has the
        attempt, and the byte offset behind its line. Return True once all have been copied."""
        path = f"runs/{attempt.run_id}/events.jsonl"
        while True:
            record = self._store.record(attempt.run_id)
            if record.attempt != attempt.number:
                return record.attempt > attempt.number
            if record.state.ended:
                return True
            data = self._engine.read(self, path, record.copied_bytes, READ_BYTES)
            events = list(stamped(data, attempt, record.copied_bytes))
            end = next((at for at, event in enumerate(events) if isinstance(event, LAST)), None)
            self._lines[attempt.run_id] += data.count(b"\n")
            lines, bytes_ = self._engine.journal_lines, self._engine.journal_bytes
            if self._lines[attempt.run_id] > lines or record.copied_bytes + len(data) > bytes_:
                why = TOO_LONG.format(bytes_ // 10**6, lines)
                self._append(attempt, [RunFailed(time=time.time(), error=why, attempt=attempt.number)])
                return True
            self._append(attempt, events[:end])
            if end is not None:
                last = self._with_files(attempt, events[end], is_last)
                self._append(attempt, [last] if last else [])
                return last is not None
            if len(data) < READ_BYTES or not events:
                return False

    def _append(self, attempt: Attempt, events: Sequence[RunEvent]) -> None:
        with self._writing():
            self._store.append(attempt.run_id, *events)

    def _with_files(self, attempt: Attempt, last: RunEvent, is_last: bool) -> RunEvent | None:
        """Copy the files of an ended run. Return the event that ends its journal: `last`, or a RunFailed where the run
        completed and its adapter is not accepted; None while files are missing."""
        run_id, folder, problem = attempt.run_id, self._store.run_dir(attempt.run_id), ""
        saved = {
            each.path: each.file_bytes
            for each in self._store.events(run_id)
            if isinstance(each, AdapterSaved | AdapterCut) and each.path and each.attempt == attempt.number
        }
        self._fetch(attempt, "worker.log", LOG_BYTES)
        new = {path: size for path, size in saved.items() if (run_id, path) not in self._adapters}
        is_too_large = len(saved) > MAX_ADAPTERS or sum(size or 0 for size in new.values()) > self._bytes_left
        for relative, size in () if is_too_large else new.items():
            if not ADAPTER.fullmatch(relative):
                problem = f"The adapter path {quoted(relative)} in the journal is not valid."
                continue
            aside = aside_of(self.folder / "adapter")
            aside.mkdir()
            try:
                most = self._bytes_left + 1 if size is None else size
                files = (WEIGHTS, most), (CONFIG, LOG_BYTES)
                bytes_ = sum(self._fetch(attempt, f"{relative}/{name}", each, aside / name) for name, each in files)
                if is_too_large := bytes_ > self._bytes_left:
                    break
                if trouble := incomplete(aside, size):
                    problem = f"{relative}/{trouble} did not arrive whole."
                    continue
                with self._writing():
                    shutil.rmtree(folder / relative, ignore_errors=True)
                    if (parent := (folder / relative).parent) != folder:
                        parent.mkdir(exist_ok=True)
                    os.replace(aside, folder / relative)
                self._bytes_left -= bytes_
                self._adapters.add((run_id, relative))
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        if is_too_large:
            problem = TOO_LARGE.format(self._bytes_left / 1e6, MAX_ADAPTERS)
        elif problem and not is_last:
            return None
        elif not problem or isinstance(last, RunFailed):
            return last
        else:
            problem = f"The run completed, but its adapter is not here. {problem}"
        return RunFailed(time=time.time(), error=problem, attempt=attempt.number, offset=last.offset)

    def _fetch(self, attempt: Attempt, path: str, size: int, target: Path | None = None) -> int:
        """Copy up to `size` bytes of a file in a run's folder to `target`, or to the run's folder here. Return the
        number of bytes, 0 where the file does not exist. A run's folder that was deleted here is not made again."""
        aside = aside_of(self.folder / "file")
        try:
            with aside.open("wb") as file:
                while (left := size - file.tell()) > 0:
                    there = f"runs/{attempt.run_id}/{path}"
                    data = self._engine.read(self, there, file.tell(), min(CHUNK_BYTES, left))
                    if not data:
                        break
                    file.write(data)
                bytes_ = file.tell()
            with self._writing():
                if bytes_:
                    os.replace(aside, target or self._store.run_dir(attempt.run_id) / path)
            return bytes_
        finally:
            aside.unlink(missing_ok=True)


def stamped(data: bytes, attempt: Attempt, offset: int) -> Iterator[RunEvent]:
    """Yield the events of whole lines from an attempt's own journal, each with the attempt and its byte offset; `data`
    begins at `offset`. Events that only the supervisor may write are left out."""
    for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]:
        offset += len(line) + 1
        event = parse_event(line)
        if event is not None and not isinstance(event, AttemptPlaced | RunRequeued):
            yield replace(event, attempt=attempt.number, offset=offset)


def incomplete(adapter: Path, size: int | None) -> str:
    """Return the name of an adapter's file that is missing or damaged, or "". size: Bytes of the weights."""
    weights, config = adapter / WEIGHTS, adapter / CONFIG
    if not weights.is_file() or (size is not None and weights.stat().st_size != size):
        return weights.name
    try:
        if config.is_file():
            json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        return config.name
    return ""
