"""One supervisor per runs folder: it gives queued sweeps and probes in turn (turns.py) to engines that have room.

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
from collections.abc import Callable, Iterable, Mapping, Sequence

from filelock import FileLock, Timeout

from rankviz.core.runs.events import DISK_FULL, RunEvent
from rankviz.core.runs.record import RunState
from rankviz.engines import End, Engine, Live
from rankviz.engines.local import COMMANDS, Local
from rankviz.errors import EngineUnavailableError, WorkerError
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.removal import tidy
from rankviz.supervisor import marker
from rankviz.supervisor.bounds import Bounds
from rankviz.supervisor.ends import Ends
from rankviz.supervisor.jobs import Jobs
from rankviz.supervisor.launching import Launching
from rankviz.supervisor.outcomes import ORPHANED, Outcomes, Record, given_up
from rankviz.supervisor.turns import Batch

WORKER_COMMAND, PROBE_COMMAND = COMMANDS["finetune"], COMMANDS["probe"]


class Supervisor:
    """Runs what is queued in a store.

    Args:
        engines: Where it may run; the local one, unless given.
        engine: The name of the one that has runs which name none; the first, unless given.
        command, probe_command: Of the local engine, where none is given; tests pass their own.
        run_minutes: A run that takes longer is ended, and the rest of its sweep goes on.
        turn_minutes: A job that is longer at a sweep ends between two runs where another visitor waits.
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
        turn_minutes: float = math.inf,
        room_seconds: float = 30.0,
        max_attempts: int = 1,
        split_runs: int = 3,
    ):
        self.store = store
        if not engines:
            commands = {"finetune": tuple(command), "probe": tuple(probe_command)}
            engines = [Local(store.home, commands=commands, grace_seconds=grace_seconds)]
        self._poll_seconds = poll_seconds
        self._run_minutes = math.inf if run_minutes is None else run_minutes
        self._lock = FileLock(store.home / "supervisor.lock", thread_local=False)
        self._mutex = threading.RLock()
        self._room_seconds, self._not_before = room_seconds, -math.inf
        self._ends = Ends(store)
        self._jobs = Jobs(store, engines)
        self._outcomes = Outcomes(store, self._ends, max_attempts)
        self._launching = Launching(
            store,
            self._jobs,
            self._outcomes,
            default=engine or engines[0].name,
            split_runs=split_runs,
            unwritten=self._ends.unwritten,
        )
        minutes = {"run_minutes": self._run_minutes, "turn_minutes": turn_minutes}
        self._bounds = Bounds(self._jobs, self._launching, **minutes, end_run=self._end_run)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def engines(self) -> Sequence[Engine]:
        """Where it may run."""
        return tuple(self._jobs.engines.values())

    def engine_of(self, batch: Batch) -> str:
        """The name of the engine on which this is to run."""
        return self._launching.engine_of(batch)

    def places(self, engine: str) -> int:
        """How many jobs an engine has at once; 1 where it was not asked yet."""
        return max(1, self._launching.places.get(engine, 1))

    @property
    def unwritten(self) -> Mapping[str, RunEvent]:
        """How runs ended, by run, as far as there was no room to write it down."""
        return {run_id: event for run_id, event in self._ends.unwritten.copy().items() if self._ends.has(run_id)}

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

    def settle(self, timeout_seconds: float = 60.0) -> None:
        """Return once every run has ended and no job is left; TimeoutError if that takes longer."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self._thread is None:
                self.tick()
            with self._mutex:
                busy = bool(self._jobs) or any(not record.state.ended for record in self.store.records())
            if not busy:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"Runs are still going after {timeout_seconds:g} s.")
            time.sleep(min(self._poll_seconds, 0.05))

    def cancel(self, run_or_sweep_id: str, timeout_seconds: float = 15.0) -> None:
        """Cancel a run, or all runs of a sweep. Returns when they have ended and no process of theirs is left; a run
        that has ended already stays as it ended. Works from any process: where another one supervises, it is asked by
        a marker in the run's folder. Needs no room on the disk: what cannot be written down yet is in `unwritten`."""
        self.cancel_runs(self.store.run_ids(run_or_sweep_id), timeout_seconds)

    def cancel_runs(self, run_ids: Sequence[str], timeout_seconds: float = 15.0, *, by_admin: bool = False) -> None:
        """The same of these runs. by_admin: where they are another's, who will read it."""
        deadline = time.monotonic() + timeout_seconds
        marked = False
        if by_admin:
            with contextlib.suppress(OSError):  # without room nobody reads who it was, but the run ends
                for run_id in run_ids:
                    marker.ask(self.store.run_dir(run_id), by_admin=True)
        while waiting := [run_id for run_id in self._unended(run_ids) if not self._ends.has(run_id)]:
            with self._mutex:
                supervised_before = self._lock.is_locked
                if self._acquire():
                    self._cancel(waiting)
                    if not supervised_before and self._thread is None:
                        self._release()
                    continue
            if not marked:
                for run_id in waiting:
                    marker.ask(self.store.run_dir(run_id))
                marked = True
            if time.monotonic() > deadline:
                raise WorkerError("The app that supervises this run has not cancelled it: is it stopped or hanging?")
            time.sleep(self._poll_seconds / 4)

    def tick(self) -> None:
        """Look once: cancel what was asked, bring what is new, settle what ended, end what takes too long, start what
        is next."""
        with self._mutex:
            if not self._acquire():
                return
            self._ends.write()
            self._jobs.look()
            unended = [record for record in self.store.records() if not record.state.ended]
            if marked := [r.run_id for r in unended if marker.is_asked(self.store.run_dir(r.run_id))]:
                self._cancel_where_reached(marked)
            for engine, live in self._jobs:
                if live.end is None and self._jobs.is_stale(live):
                    self._end(engine, live)
                elif self._jobs.copy(engine, live) and live.end is not None:
                    self._ended(engine, live, live.end)
            self._bounds.check()
            if unended:
                self._settle_orphans(unended)
                if time.monotonic() >= self._not_before and not disk.trouble(self.store.home):
                    self._launching.launch()

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
            self._settle_orphans(self.store.records())
            tidy(self.store)
        except BaseException:
            self._lock.release()  # or the next look would take a worker that lives for gone
            raise
        return True

    def _release(self) -> None:
        with self._mutex:
            self._jobs.release()
            self._bounds.forget()
            self._lock.release()

    def _cancel_where_reached(self, run_ids: Sequence[str]) -> None:
        try:
            self._cancel(run_ids)
        except EngineUnavailableError as error:
            logging.getLogger(__name__).warning("Cancelling waits. %s", error)

    def _cancel(self, run_ids: Sequence[str]) -> None:
        """Whoever begins a run owns its journal: a queued run is begun here and cancelled, one that a worker has begun
        is cancelled once that worker is gone. A job of which nothing is left is ended too."""
        begun = set()
        for run_id in run_ids:
            if self.store.record(run_id).state is RunState.QUEUED and self._begin(run_id):
                self._ends.of(run_id, marker.cancelled(self.store.run_dir(run_id)))
            else:
                begun.add(run_id)
        for engine, live in self._jobs:
            ids = {record.run_id for record in self._jobs.records(live)}
            if ending := begun & ids:
                self._end(engine, live, unless=lambda ids=ending: not self._unended(ids))
            elif ids & set(run_ids) and not self._unended(ids):
                self._end(engine, live)
        taken = self._jobs.run_ids
        for run_id in begun:
            if run_id not in taken and self._unended([run_id]):
                self._ends.of(run_id, marker.cancelled(self.store.run_dir(run_id)))

    def _begin(self, run_id: str) -> bool:
        """Where there is no room for the mark, a run that no job has is nobody else's."""
        try:
            return self.store.begin(run_id)
        except OSError:
            if run_id in self._jobs.run_ids:
                raise
            return True

    def _unended(self, run_ids: Iterable[str]) -> list[str]:
        return [run_id for run_id in run_ids if not self.store.record(run_id).state.ended]

    def _end(self, engine: Engine, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        """End a job, unless what is new of it says that this is not needed. Its runs are for the caller to settle."""

        def is_needless() -> bool:
            self._jobs.copying.copy(engine, live)
            return unless()

        end = live.end or engine.cancel(live, is_needless)
        if end is not None:
            self._jobs.forget(engine, live)
        return end

    def _end_run(self, engine: Engine, live: Live, run_id: str) -> None:
        end = self._end(engine, live, unless=lambda: not self._unended([run_id]))
        if end is not None:
            error = (
                f"This run took more than {self._run_minutes:g} minutes, the most that this server allows. Use fewer "
                "steps, fewer held-out examples, a smaller batch or a smaller base."
            )
            self._settle(engine, live, end._replace(why=error, lost=False))

    def _ended(self, engine: Engine, live: Live, end: End) -> None:
        """By itself."""
        is_full = end.exit_code != 0 and engine.shares_disk and disk.is_full(self.store.home)
        if end.exit_code == DISK_FULL or is_full:
            self._not_before = time.monotonic() + self._room_seconds
            end = end._replace(why=disk.FULL_SENTENCE, lost=False)
        self._settle(engine, live, end)
        self._jobs.forget(engine, live)

    def _settle(self, engine: Engine, live: Live, end: End) -> None:
        """What becomes of the runs of a job that has ended."""
        run_ids = [record.run_id for record in self._jobs.records(live)]
        for run_id in self._unended(run_ids):
            self._jobs.copying.collect_log(engine, live, run_id)
        again = self._outcomes.settle(run_ids, end)
        records = [self.store.record(run_id) for run_id in run_ids]
        left = [r for r in records if r.state is RunState.QUEUED and r.run_id not in self._ends.unwritten]
        if not left or end.gave_way or end.why == disk.FULL_SENTENCE:
            return
        completed = again or any(record.state is RunState.COMPLETED for record in records)
        if self._outcomes.count(left[0].request.sweep_id, completed=completed):
            self._outcomes.give_up(left, given_up(end))

    def _settle_orphans(self, records: Iterable[Record]) -> None:
        """Runs that somebody began and no job has. Those of an engine that cannot be reached, or is not set up here,
        may still live. A queued run is looked at while no job is there: one that was taken up and wrote nothing."""
        taken, reached = self._jobs.run_ids, {"", *self._jobs.engines} - self._jobs.away.keys()
        orphans = (
            record.run_id
            for record in records
            if record.run_id not in taken
            and record.state in ((RunState.RUNNING,) if taken else (RunState.RUNNING, RunState.QUEUED))
            and record.engine in reached
        )
        self._outcomes.settle(orphans, ORPHANED)
