"""The jobs that engines have, as this supervisor last saw them."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rankviz.core.runs.events import Attempt, AttemptPlaced
from rankviz.core.runs.record import RunState
from rankviz.engines import Engine, Job, Live
from rankviz.errors import OF_NAMES, EngineEndingError, EngineUnavailableError, RunNotFoundError, RunUnreadError
from rankviz.machine import disk
from rankviz.store import RunStore
from rankviz.store.journal import Record
from rankviz.supervisor.copying import Copying

NEWS_SECONDS = 60.0
FREE_REASONS = 8
"""So many reasons why an attempt waits are written down as they come. Then 1, 2, 4, ... 256 seconds are between two."""
NOT_STARTED = "The worker could not be started: "
UNREADABLE = "Its job has ended, but the files of run {!r} here cannot be read: mend them, or delete that run."
BROKEN = "The engine {name} has an error ({error}): the log of the app has it."


class _Placed(NamedTuple):
    """Where an attempt is, as it was written down last."""

    known: tuple[str, ...] = ()
    """Engine, place, job, and why it waits."""
    reasons: int = 0
    """Why it waited, so far."""
    at: float = -math.inf

    def is_due(self, known: tuple[str, ...]) -> bool:
        """Whether something else is written down now. Why it waits may be in other words at each look."""
        later = self.reasons - FREE_REASONS
        is_only_that = bool(known[-1]) and known[:-1] == self.known[:-1]
        return not is_only_that or later < 0 or time.monotonic() - self.at >= 2.0 ** min(later, 8)

    def after(self, known: tuple[str, ...]) -> "_Placed":
        return _Placed(known, self.reasons + bool(known[-1]), time.monotonic())


class Jobs:
    """Of all engines. What an engine that cannot be reached has stays as it was."""

    def __init__(self, store: RunStore, engines: Sequence[Engine]):
        self._store = store
        self.engines = {engine.name: engine for engine in engines}
        self.copying = Copying(store)
        self._live: dict[str, list[Live]] = {}
        self.away: dict[str, str] = {}
        """Why engines cannot be reached now, by name."""
        self._placed: dict[Attempt, _Placed] = {}
        self._refused: set[Attempt] = set()
        self._settled: set[str] = set()
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
                        self.place(engine, live)

    def copy(self, engine: Engine, live: Live) -> bool:
        """Bring what is new of a job. Whether its engine could be reached."""
        with self.reaching(engine.name):
            self.copying.copy(engine, live)
            return True
        return False

    def start(self, engine: Engine, job: Job) -> Live | None:
        """None where it has to wait; why is written down where the engine says it, or where a file fails for a moment:
        whether it has started is seen later. OSError, EngineError: it is not started."""
        if not engine.shares_disk and not self._refused.issuperset(job.attempts):
            try:
                self._write_places(engine.name, job.attempts)
            except OSError:  # those of which it is written down keep their number
                self._refused.update(self._placed.keys() & set(job.attempts))
                raise
        try:
            live = engine.start(job)
        except (EngineUnavailableError, OSError) as error:
            if isinstance(error, OSError) and (error.errno in (None, *OF_NAMES) or self._is_of_all(error)):
                raise
            self._refused.update(job.attempts)
            self.wait(engine, job.attempts, f"{NOT_STARTED}{error}" if isinstance(error, OSError) else str(error))
            return None
        self._refused.difference_update(job.attempts)
        if live is not None:
            self._live.setdefault(engine.name, []).append(live)
            self.place(engine, live)
        return live

    def wait(self, engine: Engine, attempts: Sequence[Attempt], why: str) -> None:
        """Write down why attempts wait that no job has."""
        self._write_each(engine.name, attempts, waits=why)

    def was_refused(self, attempt: Attempt) -> bool:
        """Whether an engine has said that it did not start it, and that it has to wait."""
        return attempt in self._refused

    def place(self, engine: Engine, live: Live) -> None:
        """Write down where a job is, where that is news."""
        self._write_each(engine.name, live.job.attempts, live.where, live.handle, live.waits)

    def forget(self, engine: Engine, live: Live) -> None:
        """It has ended, and what becomes of its runs is settled."""
        self.copying.forget(live)
        for attempt in live.job.attempts:
            self._placed.pop(attempt, None)
        self._settled.add(live.job.name)
        with self.reaching(engine.name):
            engine.forget(live)
            self._settled.remove(live.job.name)
        self._live[engine.name] = [each for each in self._live[engine.name] if each.job.name != live.job.name]

    def is_settled(self, live: Live) -> bool:
        """Whether it was to be forgotten, and its engine could not do that yet."""
        return live.job.name in self._settled

    def release(self) -> None:
        """Know nothing any more."""
        self._live.clear()
        self._settled.clear()
        self._placed.clear()
        self._refused.clear()
        for name, engine in self.engines.items():
            with self.reaching(name):
                engine.release()

    def records(self, live: Live) -> list[Record]:
        """The runs of a job whose current attempt it has, without those that were deleted. RunUnreadError where one
        cannot be read now."""
        return list(self.each_record(live))

    def each_record(self, live: Live) -> Iterator[Record]:
        """The same, one after the other: of thousands the first may be enough."""
        return (record for attempt in live.job.attempts if (record := self._current(attempt)) is not None)

    def ids(self, live: Live) -> set[str]:
        """Of the same, and of those that may be among them and cannot be read now."""
        return {run_id for run_id, _ in self._each_run(live)}

    def running(self, live: Live) -> str:
        """The run that a job is at, or may be at as it cannot be read now; empty where it is at none."""
        runs = list(self._each_run(live))
        going = [run_id for run_id, record in runs if record is not None and record.state is RunState.RUNNING]
        unread = [run_id for run_id, record in runs if record is None]
        return (going + unread or [""])[0]

    def _each_run(self, live: Live) -> Iterator[tuple[str, Record | None]]:
        for attempt in live.job.attempts:
            try:
                record = self._current(attempt)
            except RunUnreadError:
                yield attempt.run_id, None
            else:
                if record is not None:
                    yield attempt.run_id, record

    def unreadable(self, live: Live) -> str:
        """A run of a job that is here and will not be read: nothing is known of it. Empty where there is none, as a
        folder without a request.json is someone else's. OSError: it is not known now."""
        for attempt in live.job.attempts:
            try:
                self._store.record(attempt.run_id)
            except RunNotFoundError:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    (self._store.run_dir(attempt.run_id) / "request.json").stat()
                    return attempt.run_id
        return ""

    def _current(self, attempt: Attempt) -> Record | None:
        with contextlib.suppress(RunNotFoundError):
            record = self._store.record(attempt.run_id)
            if attempt.number in (0, record.attempt):
                return record
        return None

    def _write_each(
        self, engine: str, attempts: Sequence[Attempt], where: str = "", job: str = "", waits: str = ""
    ) -> None:
        """The same of each by itself: these are only words."""
        for attempt in attempts:
            with self.sparing():
                self._write_places(engine, [attempt], where, job, waits)

    def _write_places(
        self, engine: str, attempts: Sequence[Attempt], where: str = "", job: str = "", waits: str = ""
    ) -> None:
        for attempt in attempts:
            known = engine, where, job, waits
            before = self._placed.get(attempt, _Placed())
            if known == before.known or not before.is_due(known):
                continue
            with contextlib.suppress(RunNotFoundError, FileNotFoundError):
                record = self._store.record(attempt.run_id)
                place = record.place
                there = place and (place.engine, place.where, place.job, place.waits)
                if not record.state.ended and (record.attempt < attempt.number or there != known):
                    event = AttemptPlaced(
                        time=time.time(),
                        attempt=attempt.number or record.attempt,
                        engine=engine,
                        where=where,
                        job=job,
                        waits=waits,
                    )
                    self._store.append(attempt.run_id, event)
            self._placed[attempt] = before.after(known)

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
        """Around what asks an engine: where it cannot be reached, that is remembered. What is of a run that cannot be
        read now is left for later. OSError: the disk is full or read-only, which all share."""
        try:
            with self.sparing(), self.asking(name):
                yield
        except EngineUnavailableError as error:
            self.away[name] = str(error)
        else:
            self.away.pop(name, None)

    @contextlib.contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """The same, and EngineUnavailableError and RunUnreadError go on. An error in an engine's code is one too: it
        keeps its own runs waiting and no others. Each is logged once, as long as it comes again and again."""
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
        """Whether that engine has not had that trouble for a while."""
        now = time.monotonic()
        self._logged = {known: at for known, at in self._logged.items() if now - at < NEWS_SECONDS}
        is_news = (name, trouble) not in self._logged
        self._logged[name, trouble] = now
        return is_news
