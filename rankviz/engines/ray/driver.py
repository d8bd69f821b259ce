"""The driver: `python -m rankviz.engines.ray.driver DESCRIPTOR`, a child of the page that holds the connection to Ray.

Ray ends a driver whose head does not come back, and may keep it waiting for minutes: neither must happen to the page.
DESCRIPTOR is a pipe to it, and its end is the driver's. Slots whose runs have not ended go on.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import ray

from rankviz import logs
from rankviz.engines.bundle import JOB_FILE
from rankviz.engines.engine import End
from rankviz.engines.ray.cluster import Cluster, explain
from rankviz.engines.ray.follow import Follower
from rankviz.engines.ray.placing import end_slot
from rankviz.engines.ray.terms import State, Terms
from rankviz.errors import EngineError, EngineUnavailableError, redacted

SCAN_SECONDS, NODES_SECONDS, PART_SECONDS = 0.1, 2.0, 60.0
ENDED_UNREAD = "The job was cancelled while its files could not be read."


class Unread:
    """A job that cannot be followed, as its files cannot be read now: it can only be ended.

    Args:
        end_slot: Ends its slot, where it has one.
    """

    def __init__(self, end_slot: Callable[[], None]):
        self._end_slot = end_slot

    def pause(self) -> None:
        """As of a Follower; nothing is stopped, and nothing is brought."""

    def resume(self) -> None:
        """It was not stopped."""

    def give_way(self) -> None:
        """It goes on."""

    def end(self) -> End:
        """What it wrote meanwhile is lost."""
        self._end_slot()
        return End(why=ENDED_UNREAD, by_us=True)


class Driver:
    """Answers the engine."""

    def __init__(self, terms: Terms):
        self._terms, self._cluster = terms, Cluster(terms)
        self._followers: dict[str, Follower] = {}
        self._unreadable: set[str] = set()
        """Damaged jobs, of which the engine says so, and whose slots have been ended."""
        self._lock = threading.Lock()
        self._end_strangers()
        self._scan()
        for loop in (self._scan_always, self._refresh_always):
            threading.Thread(target=loop, daemon=True).start()

    def state(self) -> State:
        """What is known now, at once."""
        if self._cluster.silence:
            raise EngineUnavailableError(self._cluster.silence)
        jobs, alone = self._followers.copy(), self._cluster.alone.now()
        elsewhere = sum(job.node_id in alone and job.state.end is None for job in jobs.values())
        states = {name: follower.state for name, follower in jobs.items()}
        return State(self._cluster.slots + elsewhere, self._cluster.why_none, states)

    def part(self) -> None:
        """The page has gone. Slots whose runs have ended are ended still: it may be long until somebody else looks."""
        with self._lock:  # and nothing new is followed
            for follower in self._followers.values():
                if not follower.is_done:
                    follower.part()
            deadline = time.monotonic() + PART_SECONDS
            while any(follower.is_done for follower in self._followers.values()) and time.monotonic() < deadline:
                time.sleep(SCAN_SECONDS)

    def of(self, name: str) -> Follower | Unread:
        """Of a job, which may have been packed just now."""
        self._scan()
        return self._followers.get(name) or Unread(lambda: self._end_slot(name))

    def _scan_always(self) -> None:
        tick = threading.Event()
        while not tick.wait(SCAN_SECONDS):
            with contextlib.suppress(OSError):  # of the folder of all jobs
                self._scan()

    def _refresh_always(self) -> None:
        tick = threading.Event()
        while not tick.wait(NODES_SECONDS):
            try:
                self._cluster.refresh()
            except Exception:  # whatever Ray raises there: state() says how long that has been so
                logging.getLogger(__name__).exception("Ray's head does not answer")

    def _scan(self) -> None:
        """Follow new jobs, and drop those whose folder has gone."""
        with self._lock:
            there = {}
            with contextlib.suppress(FileNotFoundError):
                folders = [self._terms.jobs / name for name in os.listdir(self._terms.jobs) if name[0] != "."]
                there = {folder.name: folder for folder in folders if (folder / JOB_FILE).exists()}
            for name in self._followers.keys() - there.keys():
                threading.Thread(target=self._followers.pop(name).drop, daemon=True).start()
            for name in there.keys() - self._followers.keys() - self._unreadable:
                try:
                    self._followers[name] = Follower(there[name], self._terms, self._cluster)
                except EngineError:
                    self._unreadable.add(name)
                    self._end_slot(name)
                except OSError:  # looked at again at the next scan
                    continue

    def _end_strangers(self) -> None:
        """Slots of jobs that were given up while the cluster could not be reached."""
        for name in ray.util.list_named_actors():
            if not (self._terms.jobs / name).exists():
                self._end_slot(name)

    def _end_slot(self, name: str) -> None:
        threading.Thread(target=end_slot, args=(name, self._terms.namespace), daemon=True).start()


def main(argv: Sequence[str]) -> int:
    logs.keep_tokens_out()
    pipe = Connection(int(argv[0]))
    terms: Terms = pipe.recv()
    try:
        driver = Driver(terms)
    except Exception as error:
        logging.getLogger(__name__).exception("Ray cannot be reached")
        pipe.send(explain(error, terms.address))
        return 1
    pipe.send("")
    while True:
        try:
            what, given = pipe.recv()
        except EOFError:
            driver.part()
            os._exit(0)  # Ray's own farewell may wait for a head that has gone
        pipe.send(_answered(driver, what, given))


def _answered(driver: Driver, what: str, given: Sequence[Any]) -> Any:
    try:
        return driver.state() if what == "state" else getattr(driver.of(*given), what)()
    except EngineUnavailableError as error:
        return error
    except Exception as error:
        logging.getLogger(__name__).exception("%s", what)
        return EngineUnavailableError(f"Ray: {type(error).__name__}: {redacted(str(error))[:300]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
