"""Supervises one runs folder: starts queued sweeps and probes in turn, and cancels runs with their jobs and processes.

Several may be started on one folder (a second app, a command line): the one that holds HOME/supervisor.lock works, the
others wait to take over. One loop calls `tick`, which polls each engine, ends jobs whose runs were cancelled, settles
the runs of ended jobs and starts new jobs. `cancel_runs` marks runs as cancelled and waits until `tick` has ended their
jobs. All state is read from the journals and the engines, so that a restart loses nothing.
"""

import contextlib
import logging
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import KW_ONLY, dataclass, replace

from filelock import FileLock, Timeout

from rankviz.core.runs.events import (
    DISK_FULL,
    MAX_REASON_CHARACTERS,
    Attempt,
    AttemptPlaced,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunRequeued,
    following,
)
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.core.runs.request import SHORTER
from rankviz.errors import (
    PATH_ERRNOS,
    EngineError,
    EngineUnavailableError,
    RunNotFoundError,
    RunUnreadError,
    UserError,
    WorkerError,
    quoted,
    shortened,
)
from rankviz.jobs.engine import End, Engine, Job, Live
from rankviz.jobs.queue import in_turn, parts, served_at, waiting_jobs
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.journal import Record
from rankviz.store.removal import tidy

BARREN_JOBS = 2
"""Number of a sweep's jobs in a row that complete no run, after which the rest of the sweep fails."""
DONE_SECONDS = 60.0
"""Seconds after the end of its last run until a job counts as hanging and is ended, since it may cost money."""
REASON_SECONDS = 2.0
"""Seconds between the first and the second reason to wait that are written for an attempt; twice as many before the
third, and so on."""
BY_ADMIN = "by the admin"
"""Content of the cancel file where the admin cancels another visitor's run."""
NOT_CANCELLED = "The app that supervises this run is asked to cancel it, and has not done so yet. "
OR_HANGS = "It goes on trying, unless it is stopped or hangs."
ENDING = "The job is asked to end and has not ended yet."
KEPT = "The wish to cancel is kept, and tried again until it is done."
NOT_STARTED = "The worker could not be started: "
BROKEN = "The engine {name} has an error ({error}): the log of the app has it."
ORPHANED = (
    "The app or the machine stopped while this run was going, and its worker with it. What it wrote is kept; start "
    "it again to have it whole."
)
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Watch:
    """State of one running job that the supervisor keeps in memory."""

    ending: str | None = None
    """Reason to end the job: the run that took too long, or empty for any other; None where it goes on."""
    stuck: str = ""
    """Reason why the job could not be ended, as a sentence."""
    done_at: float = 0.0
    """Time at which all runs of the job were first seen to have ended, from time.monotonic; 0 before that."""
    running: tuple[str, float] = ("", 0.0)
    """Id of the run at work, and when it was first seen to run, from time.monotonic."""


@dataclass(eq=False)
class Supervisor:
    """Runs the queued runs and probes of a store."""

    store: RunStore
    _: KW_ONLY
    engines: Sequence[Engine]
    """Engines that may be used; the first one runs jobs that ask for no engine."""
    poll_seconds: float = 0.2
    """Seconds between two rounds (`tick`)."""
    run_minutes: float | None = None
    """Longest duration of a run; a longer run is ended, and the rest of its sweep goes on."""
    max_attempts: int = 1
    """Number of attempts lost with their machine after which a run fails."""
    split_runs: int = 3
    """Least number of runs per part where a sweep is divided among free places, since each part loads the base."""

    def __post_init__(self) -> None:
        self.by_name, self.default = {each.name: each for each in self.engines}, self.engines[0].name
        """by_name: engines by name. default: name of the engine for runs that ask for none."""
        self._lock = FileLock(self.store.home / "supervisor.lock", thread_local=False)
        self._mutex = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.away: dict[str, str] = {}
        """Reasons why engines cannot be reached now, by name of the engine."""
        self._jobs: dict[str, list[Live]] = {}
        """Jobs by engine, as last polled. An engine that cannot be reached keeps its earlier list."""
        self._watched: defaultdict[str, Watch] = defaultdict(Watch)
        """State of each running job, by the job's name."""
        self._logged: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._cancelling: set[str] = set()
        """Ids of runs that this process was asked to cancel; other processes ask by a file."""
        self._unwritten: dict[str, RunEvent] = {}
        """Last events of runs, by run id, not written yet because the disk was full."""
        self._settled: set[tuple[str, str]] = set()
        """Settled jobs, which an engine may still list: name, and of workers here the process id."""
        self._placed: dict[Attempt, tuple[tuple[str, ...], int, float]] = {}
        """By attempt: the last written (engine, place, job, reason to wait), the number of written reasons, and the
        time of the last one, from time.monotonic."""
        self._waiting: tuple[object, Mapping[str, Sequence[Job]]] = None, {}
        """Jobs to start by engine, after what they depend on: the store's `turns` and the runs that are not free."""
        self._barren: Counter[str] = Counter()

    def places(self, engine: str) -> int:
        """Return the number of jobs that an engine runs at once; 1 where the engine was not polled yet."""
        return max(1, self._places.get(engine, 1))

    def parts(self, engine: str, runs: int) -> int:
        """Return the number of jobs into which a sweep of `runs` runs is divided on an otherwise unused engine."""
        divides = engine in self.by_name and self.by_name[engine].divides
        return min(self.places(engine), max(1, runs // self.split_runs)) if divides else 1

    @property
    def with_job(self) -> Collection[str] | None:
        """Ids of runs that are in a job; None where another process supervises."""
        return self._run_ids if self._lock.is_locked else None

    @property
    def unwritten(self) -> Mapping[str, RunEvent]:
        """Last events of ended runs, by run id, not written yet because the disk was full."""
        return {run_id: end for run_id, end in self._unwritten.copy().items() if not isinstance(end, RunRequeued)}

    def start(self) -> None:
        """Start the loop in a background thread; it works as soon as no other supervisor does."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._loop, name="rankviz-supervisor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop supervising. A running worker goes on, and the next supervisor finds it."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._release()

    def cancel_runs(self, run_ids: Sequence[str], timeout_seconds: float = 15.0, *, by_admin: bool = False) -> None:
        """Cancel runs, and return once they have ended and their processes are gone. Runs that have ended stay as they
        are. Works from any process: a file in the run's folder asks the process that supervises, which may be this one.
        Needs no disk space: an end that cannot be written yet is in `unwritten`. by_admin: True where the admin cancels
        another visitor's runs. Raise EngineUnavailableError or WorkerError where the runs have not ended in
        `timeout_seconds`; they then end as soon as possible."""
        deadline = time.monotonic() + timeout_seconds
        unended = [run_id for run_id in run_ids if self._is_open(run_id)]
        for run_id in unended:
            with contextlib.suppress(OSError):  # no room; an app that finds the job ended would not know why
                self.store.ask_to_cancel(run_id, BY_ADMIN if by_admin else "")
        with self._mutex:
            was_here = self._lock.is_locked
            self._cancelling.update(unended)
        try:
            while True:
                with self._mutex:
                    self.tick(launches=False)
                    is_here = self._lock.is_locked
                    left = [each for each in unended if self._is_open(each) and self._is_cancelling(each)]
                    jobs = [live.job for _, live in self._live()]
                    watches = [self._watched[job.name] for job in jobs if not {*run_ids}.isdisjoint(job.run_ids)]
                    stuck = next((watch.stuck for watch in watches if watch.stuck), "")
                    is_ending = any(watch.ending is not None for watch in watches)
                if not left and not is_ending:
                    return
                if stuck or (is_here and time.monotonic() > deadline):
                    raise EngineUnavailableError(f"{stuck or ENDING} {KEPT}")
                if time.monotonic() > deadline:
                    waits = filter(None, (self.store.record(run_id).waits for run_id in left))
                    raise WorkerError(NOT_CANCELLED + next(waits, OR_HANGS))
                time.sleep(self.poll_seconds / 4)
        finally:
            with self._mutex:
                if not self._lock.is_locked:  # the one that supervises has their files
                    self._cancelling.difference_update(unended)
                if not was_here and self._thread is None:
                    self._release()

    def tick(self, *, launches: bool = True) -> None:
        """Do one round: poll engines, cancel runs, settle ended jobs, start new jobs where `launches` is True."""
        with self._mutex:
            if not self._acquire():
                return
            for name, engine in self.by_name.items():
                with self._reaching(name):
                    self._jobs[name] = list(engine.live())
                    for live in self._jobs[name]:
                        if live.end is None:
                            self._place(name, live.job.attempts, live.where, live.handle, live.waits)
            for run_id, event in list(self._unwritten.items()):
                del self._unwritten[run_id]
                self._write(run_id, event)
            at_work, unwanted, has_unended = self.store.begun_and_cancelled()
            self._cancelling = {run_id for run_id in self._cancelling if self._is_open(run_id)}
            unwanted = self._cancelling.union(unwanted)
            for run_id in unwanted:
                with self._logging_errors(run_id):
                    is_queued = self.store.record(run_id).state is RunState.QUEUED
                    if run_id in self._unwritten or (is_queued and self._begin(run_id)):
                        self._cancelled(run_id)
            for engine, live in self._live():
                with self._logging_errors(live.job.name):
                    self._handle(engine, live, unwanted)
            self._settle_orphans(at_work)
            if launches and has_unended and not disk.trouble(self.store.home):
                self._launch()

    def _loop(self) -> None:
        trouble = ""
        while not self._stopping.wait(self.poll_seconds):
            try:
                self.tick()
                trouble = ""
            except Exception as error:  # a read-only folder, say: runs wait, and it may be mended
                if trouble != (trouble := repr(error)):
                    if isinstance(error, OSError):
                        _logger.warning("Runs wait. %s", disk.explain(error))
                    else:
                        _logger.exception("The supervisor stumbled and tries again")
                self._stopping.wait(5 * self.poll_seconds)

    def _acquire(self) -> bool:
        """Acquire the folder's lock. Return False where another process holds it."""
        if self._lock.is_locked:
            return True
        try:
            self.store.home.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            tidy(self.store)
        except BaseException:
            self._lock.release()
            raise
        return True

    def _release(self) -> None:
        with self._mutex:
            for known in (self._jobs, self._placed, self._watched):
                known.clear()
            for name, engine in self.by_name.items():
                with self._reaching(name):
                    engine.release()
            self._lock.release()

    # The jobs of engines

    def _live(self) -> list[tuple[Engine, Live]]:
        return [(self.by_name[name], live) for name, jobs in self._jobs.items() for live in jobs]

    @property
    def _run_ids(self) -> set[str]:
        return {run_id for jobs in list(self._jobs.values()) for live in jobs for run_id in live.job.run_ids}

    def _handle(self, engine: Engine, live: Live, unwanted: Set[str]) -> None:
        """Cancel a job that is not needed any more, and settle the runs of a job that has ended."""
        name, end, watch = live.job.name, live.end, self._watched[live.job.name]
        if end is None:
            if run_id := self._takes_too_long(engine, live, watch):
                watch.ending = run_id
            elif watch.ending is None and self._is_needless(engine, live, watch, unwanted):
                watch.ending = ""
            if watch.ending is None:
                return
            try:
                end = engine.cancel(live)
            except Exception as error:
                broken = BROKEN.format(name=engine.name, error=type(error).__name__)
                watch.stuck = str(error) if isinstance(error, EngineUnavailableError) else broken
                raise
            watch.stuck = ""
            if end is None:
                return
            end = end._replace(by_us=True)
        if (job := (name, live.handle if engine.shares_disk else "")) not in self._settled:
            self._settle(engine, live, end, watch)
            self._settled.add(job)
        engine.forget(replace(live, end=end))
        self._jobs[engine.name] = [each for each in self._jobs[engine.name] if each.job.name != name]
        del self._watched[name]
        for attempt in live.job.attempts:
            self._placed.pop(attempt, None)

    def _is_needless(self, engine: Engine, live: Live, watch: Watch, unwanted: Set[str]) -> bool:
        """Return True where a job works on a cancelled run, has nothing to do, or goes on after all runs ended."""
        states, next_run = [], None
        for record in self._records(live):
            if not record.state.ended and record.run_id in unwanted and self._has_begun(record):
                return True
            states.append(record.state)
            if next_run is None and not record.state.ended:
                next_run, was_cancelled = record, RunState.CANCELLED in states
        if next_run:  # a worker elsewhere does not know that a run was cancelled while it waited, and trains it
            is_there = not engine.shares_disk and not live.waits and not self._has_begun(next_run)
            return was_cancelled and is_there
        if RunState.CANCELLED in states or live.waits or len(states) < len(live.job.attempts):
            return True
        watch.done_at = watch.done_at or time.monotonic()
        return time.monotonic() - watch.done_at >= DONE_SECONDS

    def _takes_too_long(self, engine: Engine, live: Live, watch: Watch) -> str:
        """Return the id of a job's run that took too long since this process saw it begin; empty if there is none."""
        if self.run_minutes is None or not engine.is_limited:
            return ""
        running = next((each.run_id for each in self._records(live) if each.state is RunState.RUNNING), "")
        if watch.running[0] != running:
            watch.running = running, time.monotonic()
        return running if time.monotonic() - watch.running[1] >= 60 * self.run_minutes else ""

    def _records(self, live: Live, *left_out: type[Exception]) -> Iterator[Record]:
        """Yield the records of a job's runs. Left out are deleted runs, runs whose current attempt is not in the job,
        and runs whose reading raises one of `left_out`."""
        for attempt in live.job.attempts:
            with contextlib.suppress(RunNotFoundError, *left_out):
                record = self.store.record(attempt.run_id)
                if attempt.number in (0, record.attempt):
                    yield record

    def _place(self, engine: str, attempts: Iterable[Attempt], where: str = "", job: str = "", waits: str = "") -> None:
        """Write the places of attempts into the journals, where they changed."""
        new = engine, where, job, waits
        for attempt in attempts:
            known, reasons, reason_at = self._placed.get(attempt, (None, 0, 0.0))
            if known == new or (waits and reasons and time.monotonic() - reason_at < REASON_SECONDS * reasons):
                continue
            with self._logging_errors(attempt.run_id):
                record = self.store.record(attempt.run_id)
                number, place = attempt.number or record.attempt, record.place
                there = place and (place.engine, place.where, place.job, place.waits)
                if not record.state.ended and (record.attempt < number or there != new):
                    at = {"engine": engine, "where": where, "job": job, "waits": waits}
                    self.store.append(attempt.run_id, AttemptPlaced(time=time.time(), attempt=number, **at))
                self._placed[attempt] = new, reasons + bool(waits), time.monotonic() if waits else reason_at

    # How runs end

    def _settle(self, engine: Engine, live: Live, end: End, watch: Watch) -> None:
        """Settle the runs of an ended job. Runs that had begun are queued again where their machine was lost, else
        they fail or are cancelled; the others stay queued."""
        # A run that cannot be read holds no place of this machine: it is settled as an orphan later.
        left_out = (RunUnreadError,) if engine.shares_disk else ()
        records = list(self._records(live, *left_out))
        queued = [record for record in records if record.state is RunState.QUEUED and not self._has_begun(record)]
        begun = [record for record in records if not record.state.ended and record not in queued]
        is_ours = watch.ending is not None and (end.lost or end.exit_code is None) and not end.is_final
        end = end._replace(by_us=end.by_us or is_ours)
        is_full = end.exit_code not in (0, None) and engine.shares_disk and disk.is_full(self.store.home)
        if is_full or end.exit_code == DISK_FULL:
            end = end._replace(why=disk.FULL_SENTENCE, lost=False)
        if len(queued) == len(records) == len(live.job.attempts) and not (end.by_us or end.is_final):
            begun, queued = queued[:1], queued[1:]  # so that no job is tried for ever
        is_tried_again = end.by_us
        for record in begun:
            if record.run_id == watch.ending:
                too_long = f"This run took more than {self.run_minutes:g} minutes, the most that this server allows."
                self._end_run(record, end._replace(why=f"{too_long} {SHORTER}", by_us=False, lost=False))
            else:
                is_tried_again = self._end_run(record, end) or is_tried_again
        sweep_id = records[0].request.sweep_id if records else ""
        if any(record.state is RunState.COMPLETED for record in records):
            self._barren[sweep_id] = 0
        elif not is_tried_again:
            self._barren[sweep_id] += 1
        if end.is_final:
            self._give_up([record.run_id for record in queued], end)
        elif self._barren[sweep_id] >= BARREN_JOBS:
            why = f"Not started: {BARREN_JOBS} workers in a row completed no run of this sweep. The last: {end.why}"
            self._give_up([record.run_id for record in queued], end._replace(why=why))

    def _end_run(self, record: Record, end: End) -> bool:
        """Write how a begun run ended with its job: cancelled, failed, or queued again, for which return True."""
        run_id = record.run_id
        if self._is_cancelling(run_id):
            self._cancelled(run_id)
        elif end.by_us or (end.lost and record.lost_attempts + 1 < self.max_attempts):
            self.store.clear(run_id)
            lost = "" if end.by_us else shortened(end.why, MAX_REASON_CHARACTERS)
            self._write(run_id, RunRequeued(time=time.time(), lost=lost))
            return True
        else:
            self._fail(run_id, end)
        return False

    def _settle_orphans(self, at_work: Iterable[Record]) -> None:
        """Settle runs that have begun and are in no job. Runs are left alone where their engine cannot be reached or is
        not set up here, since their workers may still be alive."""
        in_jobs, seen = self._run_ids, {"", *self._jobs} - self.away.keys()
        for record in list(at_work):
            run_id = record.run_id
            if run_id in in_jobs or run_id in self._unwritten or record.engine not in seen:
                continue
            with self._logging_errors(run_id):
                record = self.store.record(run_id)
                if not record.state.ended and self._has_begun(record):
                    self._end_run(record, End(lost=True, why=ORPHANED))

    def _has_begun(self, record: Record) -> bool:
        return record.state is RunState.RUNNING or self.store.has_begun(record.run_id)

    def _is_cancelling(self, run_id: str) -> bool:
        return run_id in self._cancelling or self.store.cancel_word(run_id) is not None

    def _is_open(self, run_id: str) -> bool:
        """Return True where a run has not ended, or cannot be read now."""
        try:
            return run_id not in self.unwritten and not self.store.record(run_id).state.ended
        except RunNotFoundError:
            return False
        except RunUnreadError:
            return True

    def _begin(self, run_id: str) -> bool:
        """Mark a queued run as begun, so that no job takes it before it is cancelled. Return True where nothing else
        has begun it, or where the disk is full and no job has the run."""
        try:
            return self.store.begin(run_id)
        except RunUnreadError:
            raise
        except OSError:
            return run_id not in self._run_ids

    def _cancelled(self, run_id: str) -> None:
        word = self.store.cancel_word(run_id)
        self._write(run_id, RunCancelled(time=time.time(), by_admin=word == BY_ADMIN))
        self._cancelling.discard(run_id)

    def _fail(self, run_id: str, end: End, log_of: str = "") -> None:
        tail = self.store.log_tail(log_of or run_id)
        self._write(run_id, RunFailed(time=time.time(), error=end.why, exit_code=end.exit_code, log_tail=tail))

    def _give_up(self, run_ids: Sequence[str], end: End) -> None:
        for run_id in run_ids:
            with self._logging_errors(run_id):
                if self.store.begin(run_id):
                    self._fail(run_id, end, log_of=run_ids[0])

    def _write(self, run_id: str, event: RunEvent) -> None:
        """Append the last event of a run's current attempt, now or once there is room on the disk."""
        record = None
        try:
            record = self.store.record(run_id)
            if not record.state.ended and run_id not in self.unwritten:
                self.store.append(run_id, replace(event, attempt=record.attempt))
        except (RunNotFoundError, FileNotFoundError):  # deleted meanwhile
            pass
        except OSError as error:
            self._unwritten[run_id] = event
            if isinstance(record, RunRecord) and record.adapter_path is None:  # not whole, and may fill the disk
                shutil.rmtree(self.store.run_dir(run_id) / "adapter", ignore_errors=True)
            _logger.warning("How run %s ended is written later. %s", run_id, disk.explain(error))

    # What starts next

    def _launch(self) -> None:
        rooms: dict[str, int] = {}
        for name, engine in self.by_name.items():
            if name not in self.away:
                with self._reaching(name):
                    rooms[name] = engine.room()
        self._places = {name: len(self._jobs.get(name, ())) + room for name, room in rooms.items()}
        if not any(room > 0 for room in rooms.values()):
            return
        not_free = self._run_ids | self._unwritten.keys()
        if self._waiting[0] != (self.store.turns(), not_free):
            groups: dict[str, list[Job]] = {}
            with self.store.publishing():  # so that a sweep is not seen in parts
                turns = self.store.turns()
                unended = self.store.unended()
                begun = {record.run_id for record in self.store.begun_and_cancelled()[0]}
            free = [record for record in unended if record.run_id not in not_free | begun]
            for job in waiting_jobs(free, self.store, self._next_attempt):
                groups.setdefault(job.engine or self.default, []).append(job)
            self._waiting = (turns, not_free), groups
        for name, group in self._waiting[1].items():
            if rooms.get(name, 0) > 0:
                with self._reaching(name):
                    self._fill(self.by_name[name], group, rooms[name])
            elif name not in self.by_name:
                end = End(why=f"There is no engine {quoted(name)} here. Known: {', '.join(self.by_name)}.")
                self._give_up([run_id for job in group for run_id in job.run_ids], end)

    def _fill(self, engine: Engine, waiting: Sequence[Job], room: int) -> None:
        served = served_at(self.store.records(), self.store, now=time.time())
        here = [live.job.run_ids[0] for live in self._jobs.get(engine.name, ()) if live.end is None]
        order = in_turn(waiting, served, Counter(self.store.listed_ownership(run_id).owner for run_id in here))
        for job in parts(order, room, least=self.split_runs) if engine.divides else order:
            if room > 0 and self._start(engine, job):
                room -= 1

    def _start(self, engine: Engine, job: Job) -> bool:
        """Start a job; True where it started. Otherwise write why it waits, or fail its runs."""
        try:
            live = engine.start(job)
        except Exception as error:
            is_of_files = (
                isinstance(error, OSError) and error.errno in PATH_ERRNOS and not disk.trouble(self.store.home)
            )
            if is_of_files or isinstance(error, EngineError | UserError):
                because = "" if isinstance(error, EngineError) else NOT_STARTED
                self._give_up(job.run_ids, End(why=f"{because}{str(error).rstrip('.')}."))
                return False
            is_known = isinstance(error, EngineUnavailableError)
            self._place(engine.name, job.attempts, waits=str(error) if is_known else f"{NOT_STARTED}{error}")
            if is_known or isinstance(error, OSError):
                return False
            raise
        if live is not None:
            self._jobs.setdefault(engine.name, []).append(live)
            self._place(engine.name, live.job.attempts, live.where, live.handle, live.waits)
        return live is not None

    def _next_attempt(self, record: Record) -> Attempt:
        """Return the attempt to start, with a new number where the earlier attempt may still run elsewhere."""
        engine, has_job = self.by_name.get(record.engine), bool(record.place and record.place.job)
        may_live = has_job and (engine is None or not engine.shares_disk)
        return Attempt(record.run_id, following(record.attempt) if may_live else record.attempt)

    # Troubles

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Wrap calls to an engine: after an error the engine counts as away until a call succeeds."""
        with self._logging_errors(name):
            try:
                yield
            except Exception as error:
                is_known = isinstance(error, EngineUnavailableError)
                self.away[name] = str(error) if is_known else BROKEN.format(name=name, error=type(error).__name__)
                raise
            self.away.pop(name, None)

    @contextlib.contextmanager
    def _logging_errors(self, subject: str) -> Iterator[None]:
        """Wrap work on one engine, job or run: log an error once, and let work on others go on."""
        try:
            yield
        except RunNotFoundError:  # deleted meanwhile
            return
        except Exception as error:
            if self._logged.get(subject) != (text := f"{type(error).__name__}: {error}"):
                is_known = isinstance(error, EngineUnavailableError | OSError)
                _logger.warning("Left for later: %s: %s", subject, error, exc_info=None if is_known else error)
            self._logged[subject] = text
