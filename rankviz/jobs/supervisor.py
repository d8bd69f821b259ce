"""One supervisor per runs folder: it gives queued sweeps and probes in turn (queue.py) to engines that have room.

Several may be started on one folder (a second app, a command line): the one that holds HOME/supervisor.lock works, the
others wait to take over. What it knows it reads from the journals and from the engines, so that a restart loses
nothing: a job that still lives is watched on, the runs of one that has gone are tried again or fail, and the queue goes
on. Where the disk is full, how runs ended is kept until it can be written down, and nothing starts before.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence

from filelock import FileLock, Timeout

from rankviz.core.runs.events import RunEvent
from rankviz.errors import EngineEndingError, EngineUnavailableError, RunNotFoundError, RunUnreadError, WorkerError
from rankviz.jobs.ending import BY_ADMIN, Ending, Outcomes
from rankviz.jobs.engine import Engine
from rankviz.jobs.live import LiveJobs
from rankviz.jobs.local import COMMANDS, Local
from rankviz.jobs.queue import Batch, Goal, RunQueue
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.removal import tidy

NOT_CANCELLED = "The app that supervises this run is asked to cancel it, and has not done so yet. "
OR_HANGS = "It goes on trying, unless it is stopped or hangs."
KEPT = "The wish to cancel is kept, and tried again until it is done."
WORKER_COMMAND, PROBE_COMMAND = COMMANDS["finetune"], COMMANDS["probe"]


class Supervisor:
    """Runs what is queued in a store.

    Args:
        engines: Where it may run; the local one, unless given.
        engine: The name of the one that has runs which name none; the first, unless given.
        command, probe_command: Of the local engine, where none is given; tests pass their own.
        run_minutes: A run that takes longer is ended, and the rest of its sweep goes on.
        room_seconds: After a worker has found the disk full, the next one starts no sooner, and only with room.
        max_attempts: A run whose place was lost is tried again until it was lost so often.
        split_runs: A sweep is divided among free places as long as each part has so many runs.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        engines: Sequence[Engine] = (),
        engine: str = "",
        command: Sequence[str] = WORKER_COMMAND,
        probe_command: Sequence[str] = PROBE_COMMAND,
        poll_seconds: float = 0.2,
        grace_seconds: float = 2.0,
        run_minutes: float | None = None,
        room_seconds: float = 30.0,
        max_attempts: int = 1,
        split_runs: int = 3,
    ):
        self.store = store
        if not engines:
            commands = {"finetune": tuple(command), "probe": tuple(probe_command)}
            engines = [Local(store.home, commands=commands, grace_seconds=grace_seconds)]
        self._poll_seconds = poll_seconds
        self._lock = FileLock(store.home / "supervisor.lock", thread_local=False)
        self._mutex = threading.RLock()
        self._jobs, self._outcomes = LiveJobs(store, engines), Outcomes(store, max_attempts)
        parts = store, self._jobs, self._outcomes
        self._queue = RunQueue(*parts, default=engine or engines[0].name, split_runs=split_runs)
        most = math.inf if run_minutes is None else run_minutes
        self._ending = Ending(*parts, run_minutes=most, room_seconds=room_seconds)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def engines(self) -> Sequence[Engine]:
        """Where runs may be."""
        return tuple(self._jobs.engines.values())

    def engine(self, name: str) -> Engine | None:
        """Return the engine of a name; None where it is not among them."""
        return self._jobs.engines.get(name)

    def engine_of(self, batch: Batch) -> str:
        """Return the name of the engine on which a batch is to run."""
        return self._queue.engine_of(batch)

    def place_of(self, run_id: str) -> Goal:
        """Return where a run that waits is to be."""
        return self._queue.goal_of(run_id)

    def places(self, engine: str) -> int:
        """Return how many jobs an engine has at once; 1 where it was not asked yet."""
        return max(1, self._queue.places.get(engine, 1))

    def parts(self, engine: str, runs: int) -> int:
        """Return how many jobs a sweep of so many runs is divided into where it has all places of an engine."""
        divides = engine in self._jobs.engines and self._jobs.engines[engine].divides
        return min(self.places(engine), max(1, runs // self._queue.split_runs)) if divides else 1

    @property
    def with_job(self) -> Collection[str] | None:
        """The runs that some job has; None where another process supervises."""
        return self._jobs.run_ids if self._lock.is_locked else None

    @property
    def away(self) -> Mapping[str, str]:
        """Why engines cannot be reached now, by name."""
        return self._jobs.away.copy()

    @property
    def unwritten(self) -> Mapping[str, RunEvent]:
        """How runs ended, by run, as far as there was no room to write it down."""
        return self._outcomes.ended

    def start(self) -> None:
        """Work in a background thread, now or as soon as no other supervisor does."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._loop, name="rankviz-supervisor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop supervising. A worker that is running goes on and is found again by the next supervisor."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._release()

    def settle(self, timeout_seconds: float = 600.0) -> None:
        """Return once every run has ended and no job is left; TimeoutError if that takes longer."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self._thread is None:
                self.tick()
            with self._mutex:
                busy = bool(self._jobs) or self.store.standing().has_unended
            if not busy:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"Runs are still going after {timeout_seconds:g} s.")
            time.sleep(min(self._poll_seconds, 0.05))

    def cancel(self, run_or_sweep_id: str, timeout_seconds: float = 15.0) -> None:
        """Cancel a run, or all runs of a sweep. Returns when they have ended and no process of theirs is left; a run
        that has ended already stays as it ended. Works from any process: where another one supervises, it is asked by
        a marker in the run's folder. Needs no room on the disk: what cannot be written down yet is in `unwritten`.

        EngineUnavailableError, RunUnreadError, WorkerError where they have not ended in that time; then they end as
        soon as they can.
        """
        self.cancel_runs(self.store.run_ids(run_or_sweep_id), timeout_seconds)

    def cancel_runs(self, run_ids: Sequence[str], timeout_seconds: float = 15.0, *, by_admin: bool = False) -> None:
        """Cancel these runs, as `cancel`. by_admin: where they are another's, who will read it."""
        deadline = time.monotonic() + timeout_seconds
        if by_admin:
            with contextlib.suppress(OSError):
                self._ask_to_cancel(run_ids, BY_ADMIN)
        marked = supervises = False
        attempts = {run_id: self._attempt(run_id) for run_id in run_ids}
        left, trouble = self._unended(run_ids), None
        try:
            while left or isinstance(trouble, EngineEndingError):
                with self._mutex:
                    supervised = self._lock.is_locked
                    trouble = self._cancel_here(left, run_ids)
                    supervises |= self._lock.is_locked and not supervised and self._thread is None
                    if not self._lock.is_locked and not marked:
                        self._ask_to_cancel(left)
                        marked = True
                left = [run_id for run_id in self._unended(left) if not self._is_resumed(run_id, attempts[run_id])]
                if trouble:
                    if not isinstance(trouble, EngineEndingError | WorkerError):
                        is_kept = all(self.store.cancel_word(run_id) is not None for run_id in left)
                        raise EngineUnavailableError(f"{trouble} {KEPT}") if is_kept else trouble
                    if time.monotonic() > deadline:
                        raise trouble
                    time.sleep(self._poll_seconds / 4)
        finally:
            if supervises:
                self._release()

    def tick(self) -> None:
        """Look once: cancel what was asked, copy what is new, settle what ended, end what takes too long, start what
        is next."""
        with self._mutex:
            if not self._acquire():
                return
            self._outcomes.flush()
            self._jobs.look()
            standing = self.store.standing()
            if standing.unwanted:
                with self._jobs.sparing(), contextlib.suppress(EngineUnavailableError):  # it is tried again
                    self._ending.cancel(standing.unwanted)
            for engine, live in self._jobs:
                self._ending.attend(engine, live)
            if standing.has_unended:
                self._ending.settle_orphans(standing.at_work)
                if self._ending.may_start and not disk.trouble(self.store.home):
                    self._queue.launch()

    def _loop(self) -> None:
        complaint = ""
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.tick()
                complaint = ""
            except OSError as error:  # a full disk, say, or a read-only folder: runs wait, and it may be mended
                if complaint != (complaint := disk.explain(error)):
                    logging.getLogger(__name__).warning("Runs wait. %s", complaint)
                self._stopping.wait(5 * self._poll_seconds)
            except Exception as error:
                if complaint != (complaint := repr(error)):
                    logging.getLogger(__name__).exception("The supervisor stumbled and tries again")
                self._stopping.wait(5 * self._poll_seconds)

    def _acquire(self) -> bool:
        """Hold the folder's lock; on taking it over, find the worker that still lives."""
        if self._lock.is_locked:
            return True
        try:
            self.store.home.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            self._jobs.look()
            self._ending.settle_orphans(self.store.standing().at_work)
            tidy(self.store)
        except BaseException:
            self._lock.release()  # or the next look would take a worker that lives for gone
            raise
        return True

    def _release(self) -> None:
        with self._mutex:
            self._jobs.release()
            self._lock.release()

    def _unended(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Without those that were deleted."""
        return self._ending.unended([run_id for run_id in run_ids if self.store.run_dir(run_id).is_dir()])

    def _attempt(self, run_id: str) -> float:
        """The current one; any may be where that cannot be read now, or the run was deleted."""
        with contextlib.suppress(RunNotFoundError, RunUnreadError):
            return self.store.record(run_id).attempt
        return math.inf

    def _is_resumed(self, run_id: str, attempt: float) -> bool:
        """Whether a run that was to be cancelled has ended meanwhile, and somebody wants it again."""
        return attempt < self._attempt(run_id) < math.inf and self.store.cancel_word(run_id) is None

    def _cancel_here(
        self, run_ids: Sequence[str], among: Sequence[str]
    ) -> EngineUnavailableError | RunUnreadError | WorkerError | None:
        """Why that was not possible now. among: as of Ending.cancel."""
        try:
            if not self._acquire():
                waits = filter(None, (self.store.record(run_id).waits for run_id in run_ids))
                return WorkerError(NOT_CANCELLED + next(waits, OR_HANGS))
            self._ending.cancel(run_ids, among)
        except (EngineUnavailableError, RunUnreadError) as error:
            return error
        return None

    def _ask_to_cancel(self, run_ids: Sequence[str], word: str = "") -> None:
        for run_id in run_ids:
            self.store.ask_to_cancel(run_id, word)
