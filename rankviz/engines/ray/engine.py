"""The engine: each job is a folder in HOME/ray-jobs, which its driver sends to a slot and keeps up to date.

ray-jobs/RUN_ID-aN/    the packed job, its journals as far as they have come, seen, ending and result.json (terms)
ray-jobs/driver.log
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rankviz.core.runs.events import RAY, Attempt
from rankviz.engines import bundle, listing
from rankviz.engines.engine import End, Engine, Job, Live, Nodes
from rankviz.engines.ray.alone import FIRST_SECONDS
from rankviz.engines.ray.line import Line
from rankviz.engines.ray.sight import Sight
from rankviz.engines.ray.terms import RESULT, JobState, State, Terms, read_end
from rankviz.errors import EngineEndingError, EngineError, EngineUnavailableError
from rankviz.installed import has_ray
from rankviz.paths import bytes_in
from rankviz.settings import RAY_RESOURCES
from rankviz.store import RunStore
from rankviz.store.durable import aside_of, replace_durably

MOST_BYTES = 2**30
SENT = "It is sent to Ray."
GIVEN_UP_SECONDS = 120.0
ENDING_SECONDS = 1.0
HOME_FILE = "ray.id"
NO_LABELS: Mapping[str, str] = MappingProxyType({})
NOT_INSTALLED = (
    "Ray is not installed here. For RANKVIZ_RAY_ADDRESS, run pip install '.[ray]' in the RankViz folder, or pip "
    "install ray."
)
NO_ADDRESS = (
    "No Ray cluster is set up here. Set RANKVIZ_RAY_ADDRESS to the address of one, such as 10.0.0.1:6379, also for the "
    "page that works on this runs folder, and start it again."
)
LEFT = (
    "The job was given up: its Ray cluster could not be reached. What still runs there ends when it is reached again."
)


class Ray(Engine):
    """Slots of an existing cluster.

    Args:
        address: Of its head; empty: none is set up.
        resources: Of one slot, by Ray's names.
        labels: That a node must have.
        node_folder: Of the jobs on each node; empty: one among temporary files.
        sees_folders: Whether nodes see the folders of this machine under the same paths.
        given_up_seconds: A cancelled job of a cluster that could not be reached for so long is left to it.
        alone_seconds: A node that has failed gets no job for so long at first.
        worker: Instead of the true one.
        enter: Stands before the driver's command line.
    """

    name = RAY
    shares_disk = False
    divides = True

    def __init__(
        self,
        store: RunStore,
        *,
        address: str = "",
        resources: Mapping[str, float] = RAY_RESOURCES,
        labels: Mapping[str, str] = NO_LABELS,
        node_folder: str = "",
        sees_folders: bool = False,
        given_up_seconds: float = GIVEN_UP_SECONDS,
        alone_seconds: float = FIRST_SECONDS,
        worker: Sequence[str] = (),
        enter: Sequence[str] = (),
    ):
        self._store, self.sees_folders = store, sees_folders
        self._place = store.home / "ray-jobs"
        self._address, self._resources, self._labels = address, dict(resources), dict(labels)
        self._node_folder, self._worker, self._enter = node_folder, tuple(worker), tuple(enter)
        self._given_up_seconds, self._alone_seconds = given_up_seconds, alone_seconds
        self._away_since: float | None = None
        """Since when the cluster could not be asked."""
        self._unwanted: dict[str, Callable[[], bool]] = {}
        """Jobs that are to end, by their folders, and what says that one need not."""
        self._ending: set[str] = set()
        """Those of them that end for certain."""
        self._line: Line | None = None
        self._sight = Sight(address, resources, labels, enter)

    @property
    def title(self) -> str:
        return f"Ray cluster {self._address}".strip()

    @property
    def about(self) -> str:
        each = ", ".join(f"{name} {amount:g}" for name, amount in self._resources.items())
        labels = "".join(f", on a node with {name}={value}" for name, value in self._labels.items())
        sent = "" if self.sees_folders else " The base must be the embedded one or come from the Hub."
        return f"The runs are sent to nodes of this cluster ({each} per worker{labels}), with their data.{sent}"

    def why_not(self) -> str:
        if not self._address:
            return NO_ADDRESS
        return "" if has_ray() else NOT_INSTALLED

    def nodes(self) -> Nodes:
        return Nodes(trouble=self.why_not()) if self.why_not() else self._sight.nodes()

    def room(self) -> int:
        jobs = sum(not os.path.exists(folder / RESULT) for folder in listing.folders_in(self._place))
        try:
            slots = self._state().slots
        except EngineUnavailableError:
            slots = 0
        return slots - jobs if slots or jobs else 1  # one is tried where there is none: `start` then says why it waits

    def start(self, job: Job) -> Live | None:
        folder = bundle.folder_of(job, self._place)
        if not folder.exists():
            state = self._state()
            if not state.slots:
                raise EngineUnavailableError(state.why_none)
            self._pack(job, folder)
        return self._live(folder, self._known())

    def live(self) -> Sequence[Live]:
        folders = listing.folders_in(self._place)
        known = self._known() if folders else None
        jobs = listing.each(folders, lambda folder: self._live(folder, known))
        for live in jobs:  # also where nobody asks any more, since all runs have ended
            name = self._name(live)
            if live.end is None and name in self._unwanted:
                with contextlib.suppress(EngineUnavailableError):
                    self._end(live, self._unwanted[name])
        return jobs

    def cancel(self, live: Live, unless: Callable[[], bool] = lambda: False) -> End | None:
        """Most jobs end in the second that this waits when it is asked first."""
        until = time.monotonic() + (0.0 if self._name(live) in self._unwanted else ENDING_SECONDS)
        while True:
            try:
                return self._end(live, unless)
            except EngineEndingError:
                if time.monotonic() >= until:
                    raise
            time.sleep(0.02)

    def _end(self, live: Live, unless: Callable[[], bool]) -> End | None:
        """The next step of ending a job: it is stopped, and what is new of it is read; then it is ended."""
        name = self._name(live)
        self._unwanted.pop(name, None)
        try:
            if name not in self._ending:
                self._ask("pause", name)
                if unless():
                    self._ask("resume", name)
                    return None
                self._ending.add(name)
            return self._ask("end", name)
        except EngineUnavailableError:
            if self._is_given_up() and not unless():
                return End(why=LEFT)
            self._unwanted[name] = unless
            raise

    def events(self, live: Live, attempt: Attempt, offset: int) -> bytes:
        return bundle.since(bundle.folder_of(live.job, self._place), attempt.run_id, offset)

    def collect(self, live: Live, attempt: Attempt, folder: Path) -> None:
        bundle.collect(bundle.folder_of(live.job, self._place), attempt.run_id, folder)

    def give_way(self, live: Live) -> None:
        with contextlib.suppress(EngineUnavailableError):
            self._ask("give_way", self._name(live))

    def forget(self, live: Live) -> None:
        """The driver, as soon as there is one, ends the slot of a job whose folder has gone."""
        folder = bundle.folder_of(live.job, self._place)
        self._ending.discard(folder.name)
        self._unwanted.pop(folder.name, None)
        os.replace(folder, aside_of(folder))
        for gone in self._place.glob(".*"):  # also what an app that was killed has left
            shutil.rmtree(gone, ignore_errors=True)

    def release(self) -> None:
        self._away_since = None
        self._ending.clear()
        self._unwanted.clear()
        if self._line is not None:
            self._line.close()

    def _pack(self, job: Job, folder: Path) -> None:
        aside = aside_of(folder)
        try:
            bundle.pack(self._store, job, aside, engine=self.name, sees_folders=self.sees_folders)
            size = bytes_in(aside)
            if size > MOST_BYTES:
                raise EngineError(
                    f"This job has {size / 1e6:,.0f} MB, and {MOST_BYTES / 1e6:,.0f} MB are sent at most."
                )
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _live(self, folder: Path, known: Mapping[str, JobState] | str) -> Live:
        """known: of all jobs, or why nothing is known."""
        try:
            live = Live(job=bundle.read_job(folder), handle=folder.name)
        except EngineError as error:
            return listing.unreadable(folder, str(error))
        if (folder / RESULT).exists():
            state = JobState(end=read_end(folder))
        elif isinstance(known, str):
            state = JobState(waits=known)
        else:
            state = known.get(folder.name, JobState(waits=SENT))
        return replace(live, where=state.where, waits=state.waits, end=state.end)

    def _name(self, live: Live) -> str:
        return bundle.folder_of(live.job, self._place).name

    def _known(self) -> Mapping[str, JobState] | str:
        try:
            return self._state().jobs
        except EngineUnavailableError as error:
            return str(error)

    def _state(self) -> State:
        try:
            state = self._ask("state")
        except EngineUnavailableError:
            self._away_since = self._away_since or time.monotonic()
            raise
        self._away_since = None
        return state

    def _ask(self, what: str, *given: str) -> Any:
        if self._line is None:
            if why_not := self.why_not():
                raise EngineUnavailableError(why_not)
            terms = Terms(
                address=self._address,
                namespace=f"rankviz-{self._home_id()}",
                jobs=self._place,
                resources=self._resources,
                labels=self._labels,
                node_folder=self._node_folder,
                alone_seconds=self._alone_seconds,
                worker=self._worker,
            )
            self._line = Line(terms, self._place / "driver.log", self._enter)
        return self._line.ask(what, *given)

    def _is_given_up(self) -> bool:
        return self._away_since is not None and time.monotonic() - self._away_since >= self._given_up_seconds

    def _home_id(self) -> str:
        """Of this runs folder, and of no copy of it: the slots of several on one cluster are told apart by it."""
        file = self._store.home / HOME_FILE
        if not file.exists():
            replace_durably(file, secrets.token_hex(8))
        return hashlib.sha256(f"{self._place.absolute()} ".encode() + file.read_bytes()).hexdigest()[:12]
