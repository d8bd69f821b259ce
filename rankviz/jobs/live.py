"""The jobs that engines have, as the supervisor last saw them, and what they wrote elsewhere."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rankviz.core.runs.events import LAST, Attempt, AttemptPlaced, RunEvent, RunFailed, RunRequeued
from rankviz.core.runs.record import RunState
from rankviz.errors import (
    OF_NAMES,
    EngineEndingError,
    EngineError,
    EngineUnavailableError,
    RunNotFoundError,
    RunUnreadError,
)
from rankviz.jobs.engine import Engine, Job, Live
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.journal import Record, parse_event

NEWS_SECONDS = 60.0
"""The same trouble is logged again after so long."""
MOST_REASON_SECONDS = 256.0
"""Between two reasons why an attempt waits that are written down: 0, 1, 3, 7, ... up to this."""
NOT_STARTED = "The worker could not be started: "
BROKEN = "The engine {name} has an error ({error}): the log of the app has it."


class LiveJobs:
    """The jobs of all engines. What an engine that cannot be reached has stays as it was."""

    def __init__(self, store: RunStore, engines: Sequence[Engine]):
        self._store = store
        self.engines = {engine.name: engine for engine in engines}
        self.away: dict[str, str] = {}
        """Why engines cannot be reached now, by name."""
        self._live: dict[str, list[Live]] = {}
        self._placed: dict[Attempt, tuple[tuple[str, ...], int, float]] = {}
        """Engine, place, job and why it waits, as they were written down last; how many reasons before; when."""
        self._declined: set[Attempt] = set()
        self._logged: dict[tuple[str, str], float] = {}
        """When engines last had troubles that are in the log."""

    def __iter__(self) -> Iterator[tuple[Engine, Live]]:
        return iter([(self.engines[name], live) for name, jobs in self._live.items() for live in jobs])

    def __bool__(self) -> bool:
        return any(self._live.values())

    @property
    def run_ids(self) -> set[str]:
        """The runs that some job has."""
        return {attempt.run_id for _, live in self for attempt in live.job.attempts}

    @property
    def seen(self) -> set[str]:
        """The names of engines of which it is known what they have now."""
        return self._live.keys() - self.away.keys()

    def look(self) -> None:
        """Ask every engine what it has, and write down where that is."""
        for name, engine in self.engines.items():
            with self.reaching(name):
                self._live[name] = list(engine.live())
                for live in self._live[name]:
                    if live.end is None:
                        self._note(engine, live.job.attempts, live.where, live.handle, live.waits)

    def start(self, engine: Engine, job: Job) -> Live | None:
        """Start a job; None where it has to wait, and why is written down where the engine says it. OSError,
        EngineError: it is not started."""
        if not engine.shares_disk and not self._declined.issuperset(job.attempts):
            for attempt in job.attempts:
                self._write(engine.name, attempt)
        try:
            live = engine.start(job)
        except (EngineUnavailableError, OSError) as error:
            if isinstance(error, OSError) and (error.errno in (None, *OF_NAMES) or self._is_of_all(error)):
                raise
            self._declined.update(job.attempts)
            why = f"{NOT_STARTED}{error}" if isinstance(error, OSError) else str(error)
            self._note(engine, job.attempts, waits=why)
            return None
        self._declined.difference_update(job.attempts)
        if live is not None:
            self._live.setdefault(engine.name, []).append(live)
            self._note(engine, live.job.attempts, live.where, live.handle, live.waits)
        return live

    def was_declined(self, attempt: Attempt) -> bool:
        """Whether an engine has said that it did not start an attempt, and that it has to wait."""
        return attempt in self._declined

    def forget(self, engine: Engine, live: Live) -> None:
        """Forget a job that has ended, and whose runs are settled."""
        for attempt in live.job.attempts:
            self._placed.pop(attempt, None)
        with self.reaching(engine.name):
            engine.forget(live)
        self._live[engine.name] = [each for each in self._live[engine.name] if each.job.name != live.job.name]

    def release(self) -> None:
        """Know nothing any more."""
        for known in (self._live, self._placed, self._declined):
            known.clear()
        for name, engine in self.engines.items():
            with self.reaching(name):
                engine.release()

    def records(self, live: Live, *, spare: bool = False) -> Iterator[Record]:
        """Return the runs of a job whose current attempt it has, without those that were deleted, and with `spare`
        without those that cannot be read now. RunUnreadError."""
        left_out = (RunNotFoundError, RunUnreadError) if spare else (RunNotFoundError,)
        for attempt in live.job.attempts:
            with contextlib.suppress(*left_out):
                record = self._store.record(attempt.run_id)
                if attempt.number in (0, record.attempt):
                    yield record

    def running(self, live: Live) -> str:
        """Return the run that a job is at; empty where it is at none."""
        return next((record.run_id for record in self.records(live) if record.state is RunState.RUNNING), "")

    def _note(
        self, engine: Engine, attempts: Sequence[Attempt], where: str = "", job: str = "", waits: str = ""
    ) -> None:
        """Write down where attempts are, where that is news: these are only words."""
        for attempt in attempts:
            with self.sparing():
                self._write(engine.name, attempt, where, job, waits)

    def _write(self, engine: str, attempt: Attempt, where: str = "", job: str = "", waits: str = "") -> None:
        new = engine, where, job, waits
        known, reasons, at = self._placed.get(attempt, ((), 0, -math.inf))
        pause = min(2.0**reasons - 1, MOST_REASON_SECONDS) if waits and new[:-1] == known[:-1] else 0.0
        if new == known or time.monotonic() - at < pause:
            return
        with contextlib.suppress(RunNotFoundError, FileNotFoundError):
            record = self._store.record(attempt.run_id)
            place = record.place
            there = place and (place.engine, place.where, place.job, place.waits)
            if not record.state.ended and (record.attempt < attempt.number or there != new):
                number = attempt.number or record.attempt
                placed = AttemptPlaced(
                    time=time.time(), attempt=number, engine=engine, where=where, job=job, waits=waits
                )
                self._store.append(attempt.run_id, placed)
        self._placed[attempt] = new, min(reasons + bool(waits), 9), time.monotonic()

    @contextlib.contextmanager
    def sparing(self) -> Iterator[None]:
        """Around what is of one run or job: where a file of it fails, that is left for later, and all else goes on.
        OSError: the disk is full or read-only, which all share."""
        try:
            yield
        except OSError as error:
            if self._is_of_all(error):
                raise
            if self._is_news("", str(error)):
                logging.getLogger(__name__).warning("Left for later: %s", error)

    @contextlib.contextmanager
    def reaching(self, name: str) -> Iterator[None]:
        """Around what asks an engine: where it cannot be reached, that is remembered. As `sparing`."""
        try:
            with self.sparing(), self.asking(name):
                yield
        except EngineUnavailableError as error:
            self.away[name] = str(error)
        else:
            self.away.pop(name, None)

    @contextlib.contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Around what asks an engine: an error in its code counts as EngineUnavailableError, and keeps no other
        engine's jobs waiting. Each trouble is logged once."""
        try:
            yield
        except (EngineEndingError, RunUnreadError):
            raise
        except EngineUnavailableError as error:
            if self._is_news(name, str(error)):
                logging.getLogger(__name__).warning("Engine %s cannot be reached. %s", name, error)
            raise
        except Exception as error:
            if isinstance(error, OSError) and self._is_of_all(error):
                raise
            reason = BROKEN.format(name=name, error=type(error).__name__)
            if self._is_news(name, reason):
                logging.getLogger(__name__).exception("Engine %s stumbled", name)
            raise EngineUnavailableError(reason) from error

    def _is_of_all(self, error: OSError) -> bool:
        return disk.is_of_all(error, self._store.home)

    def _is_news(self, name: str, trouble: str) -> bool:
        now = time.monotonic()
        self._logged = {known: at for known, at in self._logged.items() if now - at < NEWS_SECONDS}
        is_news = (name, trouble) not in self._logged
        self._logged[name, trouble] = now
        return is_news


class Copying:
    """Copies what attempts wrote elsewhere into the runs' journals here, each line once.

    A copied line has the number of its attempt and its offset in that attempt's own journal, so that a supervisor that
    takes over knows where to go on. What such a journal says of attempts is left out: only the supervisor gives them.
    """

    def __init__(self, store: RunStore):
        self._store = store
        self._read: dict[Attempt, int] = {}
        """How far journals elsewhere were read; lines that are no event leave no offset in the journal here."""
        self._unwanted: dict[Attempt, tuple[int, bool]] = {}
        """How far journals of runs that nobody wants were read, and whether these are in the middle."""

    def copy(self, engine: Engine, live: Live) -> None:
        """Copy what is new of a job's attempts. They run in order, so those after the first that goes on are looked at
        once the job has ended. EngineUnavailableError, OSError: later."""
        for attempt in () if engine.shares_disk else live.job.attempts:
            if self._is_wanted(attempt) and not self._copy(engine, live, attempt) and live.end is None:
                return

    def is_at_unwanted(self, engine: Engine, live: Live) -> bool:
        """Whether a job is at a run that was cancelled as it waited, of which the job knows nothing, and the next one
        that is wanted has not begun."""
        is_at_one = False
        for attempt in () if engine.shares_disk else live.job.attempts:
            if self._is_wanted(attempt):
                return is_at_one and self._store.record(attempt.run_id).state is RunState.QUEUED
            if not self._is_unwanted(attempt):
                is_at_one = False
                continue
            offset, is_at = self._unwanted.get(attempt, (0, False))
            data = engine.events(live, attempt, offset)
            for event in stamped(data, attempt, offset):
                is_at = not isinstance(event, LAST)
            self._unwanted[attempt] = offset + data.rfind(b"\n") + 1, is_at
            is_at_one = is_at or is_at_one
        return False

    def forget(self, live: Live) -> None:
        for attempt in live.job.attempts:
            self._read.pop(attempt, None)
            self._unwanted.pop(attempt, None)

    def _is_wanted(self, attempt: Attempt) -> bool:
        with contextlib.suppress(RunNotFoundError):
            record = self._store.record(attempt.run_id)
            return record.attempt == attempt.number and not record.state.ended
        return False

    def _is_unwanted(self, attempt: Attempt) -> bool:
        with contextlib.suppress(RunNotFoundError):
            record = self._store.record(attempt.run_id)
            return record.attempt != attempt.number or record.state is RunState.CANCELLED
        return True

    def _copy(self, engine: Engine, live: Live, attempt: Attempt) -> bool:
        """Whether that ends it."""
        offset = max(self._read.get(attempt, 0), self._store.record(attempt.run_id).copied_bytes)
        data = engine.events(live, attempt, offset)
        events = list(stamped(data, attempt, offset))
        last = next((place for place, event in enumerate(events) if isinstance(event, LAST)), None)
        self._store.append_copied(attempt.run_id, events[:last])
        if last is not None:
            self._read[attempt] = events[last - 1].offset if last else offset
            self._store.append(attempt.run_id, self._with_files(engine, live, attempt, events[last]))
        self._read[attempt] = offset + data.rfind(b"\n") + 1
        return last is not None

    def _with_files(self, engine: Engine, live: Live, attempt: Attempt, last: RunEvent) -> RunEvent:
        """How an attempt ended, once what it left is here: a run whose adapter is not here has failed."""
        try:
            engine.collect(live, attempt, self._store.run_dir(attempt.run_id))
        except EngineError as error:
            if isinstance(last, RunFailed):
                return last
            failed = RunFailed(time=time.time(), error=f"The run completed, but its adapter is not here. {error}")
            return replace(failed, attempt=last.attempt, offset=last.offset)
        return last


def stamped(data: bytes, attempt: Attempt, offset: int) -> Iterator[RunEvent]:
    """Return the events of whole lines that begin at an offset of an attempt's own journal."""
    for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]:
        offset += len(line) + 1
        event = parse_event(line)
        if event is not None and not isinstance(event, AttemptPlaced | RunRequeued):
            yield replace(event, attempt=attempt.number, offset=offset)
