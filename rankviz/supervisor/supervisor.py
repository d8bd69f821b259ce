"""One supervisor per runs folder: it takes up queued sweeps and probes in turn (turns.py), one worker at a time.

Several may be started on one folder (a second app, a command line): the one that holds HOME/supervisor.lock works, the
others wait to take over. What it knows it reads from the disk, so that a restart loses nothing: a worker that still
lives is watched on, one that has gone leaves its begun run failed, and the queue goes on. Where the disk is full, how
runs ended is kept until it can be written down, and nothing starts before.
"""

import logging
import math
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from rankviz.core.probe.record import ProbeRecord
from rankviz.core.runs.events import DISK_FULL, RunCancelled, RunFailed
from rankviz.core.runs.record import RunRecord, RunState
from rankviz.engines import process
from rankviz.errors import WorkerError
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.removal import tidy
from rankviz.supervisor import turns
from rankviz.supervisor.ends import Ends
from rankviz.supervisor.stopwatch import Stopwatch

WORKER_COMMAND = (sys.executable, "-m", "rankviz.worker", "finetune")
PROBE_COMMAND = (sys.executable, "-m", "rankviz.worker", "probe")
BARREN_WORKERS = 2
"""So many workers of a sweep in a row that complete no run, and the rest of the sweep is given up."""
CANCEL_MARKER = "cancel"
ORPHANED = (
    "The app or the machine stopped while this run was going, and its worker with it. What it wrote is kept; start it "
    "again to have it whole."
)


class Supervisor:
    """Runs what is queued in a store. Both commands are given HOME and ids; tests pass their own.

    Args:
        run_minutes: A run that takes longer is ended, and the rest of its sweep goes on.
        turn_minutes: A worker that is longer at a sweep ends between two runs where another visitor waits.
        room_seconds: After a worker has found the disk full, the next one starts no sooner, and only with room.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        command: Sequence[str] = WORKER_COMMAND,
        probe_command: Sequence[str] = PROBE_COMMAND,
        poll_seconds: float = 0.2,
        grace_seconds: float = 2.0,
        run_minutes: float | None = None,
        turn_minutes: float = math.inf,
        room_seconds: float = 30.0,
    ):
        self.store = store
        self._command = tuple(command)
        self._probe_command = tuple(probe_command)
        self._poll_seconds = poll_seconds
        self._grace_seconds = grace_seconds
        self._run_minutes = math.inf if run_minutes is None else run_minutes
        self._turn_minutes = turn_minutes
        self._lock = FileLock(store.home / "supervisor.lock", thread_local=False)
        self._mutex = threading.RLock()
        self._worker: process.Worker | None = None
        self._room_seconds, self._not_before = room_seconds, -math.inf
        self._turn, self._run = Stopwatch(), Stopwatch()
        self._served: dict[str, float] = {}
        self._ends = Ends(store)
        self._barren: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

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
        """Return once every run has ended and no worker is left; TimeoutError if that takes longer."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self._thread is None:
                self.tick()
            with self._mutex:
                busy = self._worker is not None or any(not record.state.ended for record in self.store.records())
            if not busy:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"Runs are still going after {timeout_seconds:g} s.")
            time.sleep(min(self._poll_seconds, 0.05))

    def cancel(self, run_or_sweep_id: str, timeout_seconds: float = 15.0) -> None:
        """Cancel a run, or all runs of a sweep. Returns when they have ended and no process of theirs is left; a run
        that has ended already stays as it ended. Works from any process: where another one supervises, it is asked by
        a marker in the run's folder. OSError where that could not be written down."""
        self.cancel_runs(self.store.run_ids(run_or_sweep_id), timeout_seconds)

    def cancel_runs(self, run_ids: Sequence[str], timeout_seconds: float = 15.0) -> None:
        """The same of these runs."""
        deadline = time.monotonic() + timeout_seconds
        marked = False
        while waiting := [run_id for run_id in run_ids if not self.store.record(run_id).state.ended]:
            with self._mutex:
                supervised_before = self._lock.is_locked
                if self._acquire():
                    self._cancel(waiting)
                    self._ends.require(waiting)
                    if not supervised_before and self._thread is None:
                        self._release()
                    continue
            if not marked:
                for run_id in waiting:
                    (self.store.run_dir(run_id) / CANCEL_MARKER).touch()
                marked = True
            if time.monotonic() > deadline:
                raise WorkerError("The app that supervises this run has not cancelled it: is it stopped or hanging?")
            time.sleep(self._poll_seconds / 4)

    def tick(self) -> None:
        """Look once: cancel what was asked, bury what died, end what takes too long, launch what is next."""
        with self._mutex:
            if not self._acquire():
                return
            self._ends.write()
            unended = [record for record in self.store.records() if not record.state.ended]
            if marked := [r.run_id for r in unended if (self.store.run_dir(r.run_id) / CANCEL_MARKER).exists()]:
                self._cancel(marked)
            if self._worker is not None and not self._worker.alive():
                self._worker_ended()
            if self._worker is not None:
                self._bound(unended)
            if self._worker is None and unended:
                self._fail_begun([r.run_id for r in unended], RunFailed(time=time.time(), error=ORPHANED))
                if time.monotonic() >= self._not_before and not disk.trouble(self.store.home):
                    self._launch_next()

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
            self._worker = process.find(self.store.home)
            if self._worker is None:
                orphaned = RunFailed(time=time.time(), error=ORPHANED)
                self._fail_begun([record.run_id for record in self.store.records()], orphaned)
            tidy(self.store)
        except BaseException:
            self._lock.release()  # or the next look would take a worker that lives for gone
            raise
        return True

    def _release(self) -> None:
        with self._mutex:
            self._worker = None
            self._lock.release()

    def _cancel(self, run_ids: Sequence[str]) -> None:
        """Whoever begins a run owns its journal: a queued run is begun here and cancelled, one that a worker has begun
        is cancelled once that worker is gone."""
        begun = []
        for run_id in run_ids:
            if self.store.record(run_id).state is RunState.QUEUED and self.store.begin(run_id):
                self._ends.of(run_id, RunCancelled(time=time.time()))
            else:
                begun.append(run_id)
        if self._worker is not None and set(begun) & set(self._worker.run_ids):
            self._worker.pause()
            if all(self.store.record(run_id).state.ended for run_id in begun):
                self._worker.resume()
                return
            self._worker.end(self._grace_seconds)
            self._worker = None
        for run_id in begun:
            if not self.store.record(run_id).state.ended:
                self._ends.of(run_id, RunCancelled(time=time.time()))

    def _bound(self, unended: Sequence[RunRecord | ProbeRecord]) -> None:
        """End the run that takes longer than it may, and ask the worker to end after this run where its turn is over
        and another visitor waits. Counted from when this supervisor saw it begin, by a clock that nobody sets."""
        worker = self._worker
        running = next((r for r in unended if r.run_id in worker.run_ids and r.state is RunState.RUNNING), None)
        if running is not None and self._run.minutes(running.run_id) >= self._run_minutes:
            self._end_run(running.run_id)
        elif self._turn.minutes(worker.run_ids) >= self._turn_minutes:
            owner = self._owner_of(worker.run_ids[0])
            waiting = turns.batches(unended, self._owner_of)
            if any(batch.owner != owner for batch in waiting):
                process.yield_file(self.store.home).touch()

    def _end_run(self, run_id: str) -> None:
        self._worker.pause()
        if self.store.record(run_id).state.ended:
            self._worker.resume()
            return
        error = (
            f"This run took more than {self._run_minutes:g} minutes, the most that this server allows. Use fewer "
            "steps, fewer held-out examples, a smaller batch or a smaller base."
        )
        self._worker_ended(error)

    def _worker_ended(self, why: str = "") -> None:
        """why: where this supervisor ends it."""
        worker, self._worker = self._worker, None
        exit_code = worker.end(self._grace_seconds)
        full = exit_code == DISK_FULL or (not why and exit_code != 0 and disk.is_full(self.store.home))
        error = why or (disk.FULL_SENTENCE if full else process.describe_exit(exit_code))
        self._fail_begun(worker.run_ids, RunFailed(time=time.time(), error=error, exit_code=exit_code))
        gave_way = exit_code == 0 and process.yield_file(self.store.home).exists()
        records = [self.store.record(run_id) for run_id in worker.run_ids]
        left = [r for r in records if r.state is RunState.QUEUED and r.run_id not in self._ends.unwritten]
        if full:
            self._not_before = time.monotonic() + self._room_seconds
        if not left or gave_way or full:
            return
        sweep_id = left[0].request.sweep_id
        completed = any(record.state is RunState.COMPLETED for record in records)
        self._barren[sweep_id] = 0 if completed else self._barren.get(sweep_id, 0) + 1
        if self._barren[sweep_id] >= BARREN_WORKERS:
            reason = f"Not started: {BARREN_WORKERS} workers in a row completed no run of this sweep. The last: {error}"
            self._give_up(left, RunFailed(time=time.time(), error=reason, exit_code=exit_code))

    def _launch_next(self) -> None:
        with self.store.publishing():
            records = self.store.records()
            waiting = turns.batches((r for r in records if not self.store.has_begun(r.run_id)), self._owner_of)
        if not waiting:
            return
        owners = {batch.owner for batch in waiting}
        served = turns.served_at(records, owners, self._owner_of, now=time.time()) if len(owners) > 1 else {}
        batch = turns.in_turn(waiting, {**served, **self._served})[0]
        log: Path = self.store.run_dir(batch.run_ids[0]) / "worker.log"
        command = self._probe_command if isinstance(batch.records[0], ProbeRecord) else self._command
        process.yield_file(self.store.home).unlink(missing_ok=True)
        try:
            self._worker = process.launch(command, home=self.store.home, run_ids=batch.run_ids, log=log)
        except OSError as error:
            if error.errno in disk.FULL:
                raise
            self._give_up(
                batch.records, RunFailed(time=time.time(), error=f"The worker could not be started: {error}.")
            )
        if self._worker is not None:
            self._served[batch.owner] = time.time()

    def _owner_of(self, run_id: str) -> str:
        return self.store.ownership(run_id).owner

    def _fail_begun(self, run_ids: Sequence[str], failed: RunFailed) -> None:
        """Nobody is left to end these runs, so this does, for those that somebody had begun."""
        for run_id in run_ids:
            state = self.store.record(run_id).state
            if state is RunState.RUNNING or (state is RunState.QUEUED and self.store.has_begun(run_id)):
                self._ends.failed(run_id, failed, log_of=run_id)

    def _give_up(self, records: Sequence[RunRecord | ProbeRecord], failed: RunFailed) -> None:
        for record in records:
            if self.store.begin(record.run_id):
                self._ends.failed(record.run_id, failed, log_of=records[0].run_id)
