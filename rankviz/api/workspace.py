"""The workspace that all operations share: runs folder, shipped data, supervisor, this machine, and waiting lines."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property, wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rankviz import paths, visitor
from rankviz.catalog import hardware
from rankviz.core.cost.setup import Device, Gpu
from rankviz.core.quantity import Assumptions
from rankviz.errors import StorageError
from rankviz.paths import ASSETS
from rankviz.references import EMBEDDED, References
from rankviz.visitor import HOST, NOBODY, Visitor, home_of

if TYPE_CHECKING:
    from rankviz.api import Api
    from rankviz.children import Bounds, Children, FairLine
    from rankviz.hub.door import HubDoor
    from rankviz.jobs.supervisor import Supervisor
    from rankviz.settings import Limits, Settings
    from rankviz.shared.quota import Room
    from rankviz.shared.rights import Rights
    from rankviz.store import RunStore
    from rankviz.store.temp import TempHome

__all__ = ["ASSETS", "EMBEDDED", "Workspace"]

READING_WAITING, LAYOUTS_WAITING = 6, 2
"""Most waiting requests in the lines for file reading (up to a minute each) and model layouts (seconds each). Each
blocks a thread of the page, so their sum must stay below the number of threads."""
OPERATIONS, OPERATIONS_WAITING, OPERATION_SECONDS = 5, 4, 60.0
"""Limits of `start_line` and of `change_line`: operations at once, operations that wait, longest wait in seconds."""

AT_ONCE, ATTEMPTS = 2, 2
"""AT_ONCE: number of look-ups on the Hub, and of publications, at the same time. ATTEMPTS: number of attempts of a run
that may be lost with their machine."""

Method = TypeVar("Method", bound=Callable[..., Any])
Value = TypeVar("Value")


class Part:
    """Descriptor of a part of an object, imported and made at its first use, so that an estimate imports only its own
    modules.

    Args:
        path: Module below rankviz, and class or function, which makes the part.
        of: Attribute of the object that is passed to it; empty for the object itself.
    """

    def __init__(self, path: str, of: str = ""):
        self._path, self._of = path, of

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, whole: Any, owner: type) -> Any:
        if whole is None:
            return self
        module, _, maker = self._path.rpartition(".")
        made = getattr(import_module(f"rankviz.{module}"), maker)(getattr(whole, self._of) if self._of else whole)
        return whole.__dict__.setdefault(self._name, made)


class Cache(Generic[Value]):
    """Cache of the latest results, by key. Where `turn` lets in one thread at a time, each result is made only once.

    Args:
        most: Number of results that are cached.
    """

    def __init__(self, most: int):
        self._most, self._known = most, OrderedDict[Hashable, Value]()

    def get(
        self, key: Hashable, make: Callable[[], Value], turn: Callable[[], AbstractContextManager] = nullcontext
    ) -> Value:
        """Return the result of `make`, cached by this key. turn: Makes a context in which the caller may wait."""
        if (known := self._known.get(key, self)) is not self:
            return known
        with turn():
            if (known := self._known.get(key, self)) is self:  # nobody made it meanwhile
                known = self._known[key] = make()
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
        return known

    def __contains__(self, key: Hashable) -> bool:
        return key in self._known


class Operations:
    """Base class of the parts of an Api: Runs, Starts, Models and so on."""

    def __init__(self, api: Api):
        self._api, self._workspace = api, api.workspace


def writes(line: str = "") -> Callable[[Method], Method]:
    """Return a decorator for operations that write into the runs folder: failures become StorageError. line: name of
    the Workspace line in which visitors wait for the operation; empty for none."""

    def decorate(method: Method) -> Method:
        @wraps(method)
        def call(self, *args: Any, **kwargs: Any) -> Any:
            with getattr(self._workspace, line).turn() if line else nullcontext(), self._workspace.writing():
                return method(self, *args, **kwargs)

        return call

    return decorate


class Workspace:
    """One runs folder, with the models, GPUs and constants that RankViz ships.

    Args:
        home: The runs folder; None for RANKVIZ_HOME, or ~/.rankviz.
        assets: Folder of the data that RankViz ships.
        shared: True where strangers use the page; None to read this from the settings.
    """

    rights: Rights = Part("shared.rights.Rights")
    room: Room = Part("shared.quota.Room")
    temp: TempHome = Part("store.temp.TempHome", "home")
    store: RunStore = Part("store.RunStore", "home")
    gpus: tuple[Gpu, ...] = Part("catalog.hardware.load_gpus", "assets")
    assumptions: Assumptions = Part("catalog.hardware.load_assumptions", "assets")

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool | None = None):
        self.home = paths.resolved(home) if home else paths.home()
        self.assets = assets
        self._given = {"home": self.home} | ({} if shared is None else {"shared": shared})

    @cached_property
    def settings(self) -> Settings:
        """Settings of this server, read at first use, since an estimate needs none."""
        from rankviz.settings import read

        return read(**self._given)

    @property
    def shared(self) -> bool:
        """True where strangers use the page."""
        return self.settings.shared

    @property
    def has_runs(self) -> bool:
        """True where the runs folder has a run or probe; the store is not loaded for that."""
        with suppress(OSError), os.scandir(self.home / "runs") as entries:
            return any(not entry.name.startswith(".") for entry in entries)
        return False

    @property
    def limits(self) -> Limits:
        """Limits for one visitor and for all visitors together."""
        return self.settings.limits

    @property
    def visitor(self) -> Visitor:
        """Current visitor: the sender of the request; NOBODY without one, or the host on a page that is not shared."""
        asking = visitor.current()
        if asking and asking.admin:
            return asking  # on every server; the settings need not be read for that
        return asking or NOBODY if self.shared else HOST

    @cached_property
    def references(self) -> References:
        """Resolver of names and paths of models, data and adapters that the current visitor gives."""
        return References(
            self.home,
            self.assets,
            stranger=lambda: None if (asks := self.visitor).is_host or not self.shared else asks,
            own_upload=lambda path, visitor: self.temp.owns(path, visitor),
        )

    @property
    def own_homes(self) -> Sequence[Path]:
        """Folders with the current visitor's files, except runs. New files go into the first folder. For an admin it is
        the runs folder itself; a visitor who cannot be told from others has no folder."""
        visitor = self.visitor
        return (self.home,) if visitor.admin else tuple(home_of(self.home, owner) for owner in visitor.ids)

    @cached_property
    def children(self) -> Children:
        """Child processes that read adapters, data files and imports. Large verdicts wait in the same line."""
        return self._children("children", self.limits.child_seconds, self.limits.readers, READING_WAITING)

    @cached_property
    def layouts(self) -> Children:
        """Child processes that lay out models outside the catalogue, with a line of their own."""
        return self._children("layouts", self.limits.child_seconds, self.limits.readers, LAYOUTS_WAITING)

    @cached_property
    def senders(self) -> Children:
        """Child processes that publish runs."""
        from rankviz.children import MAX_WAITING

        return self._children("senders", self.limits.send_seconds, AT_ONCE, MAX_WAITING)

    @cached_property
    def answerers(self) -> Children:
        """Child processes in which a base model and its adapter answer a prompt, one at a time."""
        memory = {} if self.shared else {"memory_bytes": 10**15}  # what a GPU's driver reserves counts too
        return self._children("answerers", self.limits.answer_seconds, 1, 0, processors=os.cpu_count() or 1, **memory)

    def _children(self, name: str, seconds: float, at_once: int, waiting: int, **bounds: Any) -> Children:
        from rankviz.children import WORK, Children

        work = WORK[name]
        line = self._line(at_once, work.is_busy(at_once), seconds, waiting)
        return Children(self._bounds(seconds, **bounds), self.work, work=work, line=line)

    def _bounds(self, seconds: float, **others: Any) -> Bounds:
        from rankviz.children import Bounds

        return Bounds(**{"seconds": seconds, "memory_bytes": self.limits.child_memory_mb * 10**6} | others)

    def _line(self, at_once: int, busy: str, seconds: float, waiting: int | None) -> FairLine:
        """Return a line in which each visitor of a shared page has one place; on other pages any number."""
        from rankviz.children import MAX_OF_A_VISITOR, FairLine

        each, mine = (1, MAX_OF_A_VISITOR) if self.shared else (None, None)
        return FairLine(at_once, busy=busy, seconds=seconds, each=each, waiting=waiting, of_a_visitor=mine)

    @cached_property
    def hub(self) -> HubDoor:
        """Access to models and adapters on the Hub. A shared page stores, counts and removes adapters like uploads."""
        from rankviz.children import HUB_VARIABLES, Children, ChildWork
        from rankviz.hub import door

        def children(bounds: Bounds, at_once: int) -> Children:
            line = self._line(at_once, door.BUSY.format(at_once), bounds.seconds, door.MAX_WAITING)
            work = ChildWork(variables=HUB_VARIABLES)
            return Children(bounds, self.work, work=work, line=line, failed_seconds=door.FAILED_SECONDS)

        limits = self.limits
        bounds = self._bounds(limits.download_seconds, written_file_bytes=limits.adapter_mb * 10**6)
        lookups, downloads = children(door.LOOKUP_BOUNDS, AT_ONCE), children(bounds, 1)
        return door.HubDoor(lookups, downloads, self.temp if self.shared else None, limits.temp_mb)

    @cached_property
    def start_line(self) -> FairLine:
        """Line for queueing checked runs, so that a slow model or Hub request blocks no other visitor's start."""
        return self._operations("starts at most {} sweeps and probes at once")

    @cached_property
    def change_line(self) -> FairLine:
        """Line for cancelling, deleting and sharing runs, separate from the line for starting runs."""
        return self._operations("ends, deletes and shares at most {} sweeps at once")

    def _operations(self, does: str) -> FairLine:
        busy = f"This server {does.format(OPERATIONS)}, and one for each visitor. Try again in a moment."
        return self._line(OPERATIONS, busy, OPERATION_SECONDS, OPERATIONS_WAITING if self.shared else None)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """Context with a folder for temporary files; StorageError where it cannot be written."""
        with self.writing(), self.temp.work() as folder:
            yield folder

    def download(self, name: str, write: Callable[[Path], object]) -> Path:
        """Write a file for the visitor to download, with `write`, and return its path; older downloads make room.
        LimitError where the server has no room, StorageError where writing fails."""
        limits = self.limits
        self.temp.require_room(limits.temp_mb)
        with self.work() as folder:
            write(written := folder / name)
            self.temp.require_room(limits.temp_mb, written.stat().st_size)
            most_mb = limits.files_mb_per_visitor
            return self.temp.keep_download(written, self.visitor, math.inf if most_mb is None else most_mb * 10**6)

    @cached_property
    def supervisor(self) -> Supervisor:
        from rankviz.jobs.engine import engines
        from rankviz.jobs.supervisor import Supervisor

        limits = self.limits
        return Supervisor(
            self.store,
            engines=engines(self.store, self.settings),
            run_minutes=limits.run_minutes,
            max_attempts=ATTEMPTS,
        )

    def work_queue(self) -> None:
        """Start working on queued runs, and end runs that a stopped app has left behind."""
        self.supervisor.start()

    def why_not_train(self) -> str:
        """Return why this machine cannot train and what to do; empty if it can (all engines: `why_none`)."""
        from rankviz import installed

        return installed.why_not_train(shared=self.shared) or self.why_not_write()

    def why_not_write(self) -> str:
        """Return why the runs folder cannot be written and what to do; empty if it can."""
        from rankviz.machine import disk

        return self.of_disk(disk.trouble(self.home))

    def of_disk(self, sentence: str) -> str:
        """Return the message of a disk error for the current visitor: only the admin can act on the original."""
        from rankviz.machine import disk

        return sentence if self.visitor.admin else disk.FOR_VISITORS.get(sentence, sentence)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Context for writing runs, uploads and downloads: errors of the disk become StorageError."""
        try:
            yield
        except (StorageError, OSError) as error:
            from rankviz.machine import disk

            if not any(disk.is_of_writing(error, folder) for folder in (self.home, self.temp.page)):
                raise
            raise StorageError(self.of_disk(disk.explain(error))) from error

    def here(self) -> Device:
        """Return the device on which a training on this machine runs."""
        from rankviz import machine

        return self.device(machine.here())

    def gpu_of(self, environment: Mapping[str, Any]) -> Gpu | None:
        """Return the GPU table's row for a run's environment; None if no row has its name and memory."""
        name, size = environment.get("device_name") or "", environment.get("device_memory_bytes")
        return hardware.gpu_of_device(self.gpus, name, size)

    def device(self, environment: Mapping[str, Any]) -> Device:
        """Return the device for an estimate from the environment of a run: its GPU, memory and CPUs."""
        return Device(
            cpu_count=environment.get("cpu_count") or os.cpu_count() or 1,
            cpu_bf16=environment.get("cpu_bf16"),
            cuda=environment.get("device") == "cuda",
            gpu=self.gpu_of(environment),
            memory_bytes=environment.get("device_memory_bytes"),
        )
