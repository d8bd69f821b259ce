"""Follows one job, in a thread of its own: makes its slot, sends the job, and brings back what its worker writes."""

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    GetTimeoutError,
    RayError,
    RayTaskError,
)

from rankviz import __version__
from rankviz.core.runs.events import GPU_LOST
from rankviz.engines import process
from rankviz.engines.engine import End
from rankviz.engines.ray.cluster import Cluster
from rankviz.engines.ray.mirror import Mirror
from rankviz.engines.ray.slot import Look, Slot
from rankviz.engines.ray.terms import RESULT, SEEN, JobState, Terms, read_end
from rankviz.errors import EngineUnavailableError

POLL_SECONDS, CALM_SECONDS = 0.1, 0.5
SILENT_SECONDS, ANSWER_SECONDS, NEW_SECONDS = 10.0, 20.0, 3.0
QUEUED = "Ray starts it as soon as it has a free place."
STARTING = "Ray starts it."
SILENT = "Its node does not answer. If Ray finds that the node has gone, the run is tried again elsewhere."
BUSY = "The files of a run that has just ended are being brought."
DIED = "Its place in the Ray cluster was lost: the node has gone, or its memory ran out."
NOT_THERE = "Its place in the Ray cluster is no longer there: the cluster was started anew, or its node was lost."


class StoppedError(Exception):
    """The driver ends, or nobody wants the job any more."""


class Follower:
    """Of one job."""

    def __init__(self, folder: Path, terms: Terms, cluster: Cluster):
        self.folder, self._terms, self._cluster = folder, terms, cluster
        self.state = JobState(waits=STARTING)
        self.stopped = threading.Event()
        self._mirror = Mirror(folder)
        self._lock = threading.Lock()
        self._slot: Any = None
        self._rest = POLL_SECONDS
        self._thread = threading.Thread(target=self._follow, name=f"follow-{folder.name}", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop the job where it stands, and bring what its journals say. EngineUnavailableError: not now."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._is_sought:
            if time.monotonic() > deadline:
                raise EngineUnavailableError(SILENT)
            time.sleep(POLL_SECONDS)
        if not self._is_there:
            return
        try:
            _answer(self._slot.pause.remote())
            if not self._lock.acquire(timeout=ANSWER_SECONDS):
                raise EngineUnavailableError(BUSY)
            try:
                if look := _answer(self._look()):
                    self._take(look)
            finally:
                self._lock.release()
        except EngineUnavailableError:
            self._slot.resume.remote()
            raise

    def resume(self) -> None:
        """Let it go on."""
        if self._is_there:
            _answer(self._slot.resume.remote())

    def give_way(self) -> None:
        """Ask the worker to end before its next run."""
        if self._is_there:
            _answer(self._slot.give_way.remote())

    def end(self) -> End:
        """End the job and its slot; returns once no process is left. EngineUnavailableError: not now."""
        exit_code = _answer(self._slot.end.remote()) if self._is_there else None
        self.stopped.set()
        self._thread.join()
        if self.state.end is None:
            self._finish(End(exit_code, why="The job was cancelled."))
        return self.state.end

    def drop(self) -> None:
        """Nobody reads it any more: its slot ends, and its folder on the node goes."""
        self.stopped.set()
        end_slot(self.folder.name, self._terms.namespace)

    @property
    def is_done(self) -> bool:
        """Whether all its runs have ended, and only its slot is left."""
        return self.state.end is None and self._mirror.is_complete()

    @property
    def _has_answered(self) -> bool:
        """Whether its slot has, to this driver or an earlier one."""
        return (self.folder / SEEN).exists()

    @property
    def _is_sought(self) -> bool:
        """Whether the slot that an earlier driver made is still looked for."""
        return self._slot is None and self._has_answered and self.state.end is None and self._thread.is_alive()

    @property
    def _is_there(self) -> bool:
        """Whether a slot has the job."""
        return self._slot is not None and self._has_answered and self.state.end is None

    def _follow(self) -> None:
        end = None
        while not self.stopped.is_set():
            try:
                with self._lock:
                    end = end or self._step()
                if end is not None:
                    self._finish(end)
                    return
            except StoppedError:
                return
            except (ActorDiedError, ActorUnschedulableError) as error:
                end = _end_of_slot(error)
                continue
            except ActorUnavailableError:
                self.state = self.state._replace(waits=SILENT)
            except RayTaskError as error:
                end = End(lost=True, why=f"The node could not run it: {error.cause!r}."[:500])
                continue
            except RayError as error:
                self.state = self.state._replace(waits=f"Ray: {_first_line(error)}")
            except OSError as error:  # of the disk here, say; what is on the node stays there
                self.state = self.state._replace(waits=f"What it wrote cannot be kept here: {error}.")
            self.stopped.wait(self._rest)

    def _step(self) -> End | None:
        """Look once. How it ended, if it has and all of it is here."""
        if (self.folder / RESULT).exists():
            return read_end(self.folder)
        if self._slot is None:
            try:
                self._slot = self._find() if self._has_answered else self._make()
            except ValueError:
                return End(lost=True, why=NOT_THERE)
        look = self._get(self._look())
        where = ", ".join(filter(None, [self._cluster.name_of(look.node_id), look.gpus]))
        if look.version != __version__:
            why = (
                f"{where} has RankViz {look.version}, and this page has {__version__}: install the same version there."
            )
            return End(why=why)
        if not look.has_job:
            self._get(self._slot.start.remote(self._mirror.packed(), list(self._terms.worker)))
            return None
        (self.folder / SEEN).touch()
        self.state = JobState(where=where)
        has_news = self._take(look)
        self._rest = POLL_SECONDS if has_news else min(2 * self._rest, CALM_SECONDS)
        if has_news or not look.ended:
            return None
        for run_id in self._mirror.run_ids:
            self._bring(run_id, only="worker.log")
        lost = look.exit_code is None or look.exit_code < 0 or look.exit_code == GPU_LOST
        return End(look.exit_code, lost=lost, why=process.describe_exit(look.exit_code), gave_way=look.gave_way)

    def _find(self) -> Any:
        """The slot that an earlier driver made. ValueError where it is not there."""
        slot = ray.get_actor(self.folder.name, namespace=self._terms.namespace)
        self._get(slot.resume.remote())  # who paused it may have died since
        return slot

    def _make(self) -> Any:
        needs = dict(self._terms.resources)
        return (
            ray.remote(Slot)
            .options(
                name=self.folder.name,
                namespace=self._terms.namespace,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=8,
                num_cpus=needs.pop("CPU", 0),
                num_gpus=needs.pop("GPU", 0),
                resources=needs or None,
                label_selector=dict(self._terms.labels) or None,
            )
            .remote(self._terms.node_folder, self.folder.name)
        )

    def _look(self) -> Any:
        return self._slot.look.remote(self._mirror.sizes())

    def _get(self, reference: Any) -> Any:
        """The answer, however long it takes; meanwhile the state says what it waits for."""
        since = time.monotonic()
        while not self.stopped.is_set():
            if ray.wait([reference], timeout=0.2)[0]:
                return ray.get(reference)
            if self._has_answered:
                if time.monotonic() - since > SILENT_SECONDS:
                    self.state = self.state._replace(waits=SILENT)
            elif time.monotonic() - since > 2.0:
                self.state = JobState(waits=self._cluster.why_none or QUEUED)
        raise StoppedError

    def _take(self, look: Look) -> bool:
        """Keep what is new; before the end of a run, its files. Whether there was something."""
        return self._mirror.take(look.journals, self._bring)

    def _bring(self, run_id: str, only: str = "") -> None:
        files = self._get(self._slot.files.remote(run_id))
        wanted = {path: size for path, size in files.items() if only in ("", path)}
        self._mirror.bring(run_id, wanted, lambda path, at: self._get(self._slot.read.remote(run_id, path, at)))

    def _finish(self, end: End) -> None:
        """It has ended, and what is needed of it is here. Its slot is ended first: once the result is here, nobody may
        be left to do it."""
        end_slot(self.folder.name, self._terms.namespace, ANSWER_SECONDS if self._has_answered else NEW_SECONDS)
        aside = self.folder / f".{RESULT}"
        aside.write_text(json.dumps(end._asdict()))
        os.replace(aside, self.folder / RESULT)
        self.state = JobState(where=self.state.where, end=end)


def end_slot(name: str, namespace: str, seconds: float = NEW_SECONDS) -> None:
    """End what a slot runs, remove its folder on the node, and end it; where there is such a slot.

    seconds: It is ended in any case after so long without an answer, as one that never had a place.
    """
    with contextlib.suppress(RayError, ValueError):
        slot = ray.get_actor(name, namespace=namespace)
        with contextlib.suppress(RayError):
            ray.get(slot.close.remote(), timeout=seconds)
        ray.kill(slot)


def _answer(reference: Any) -> Any:
    """Of a slot that is there. EngineUnavailableError where it does not come; None where the slot has gone."""
    try:
        return ray.get(reference, timeout=ANSWER_SECONDS)
    except (GetTimeoutError, ActorUnavailableError):
        raise EngineUnavailableError(SILENT) from None
    except (ActorDiedError, ActorUnschedulableError):
        return None


def _end_of_slot(error: RayError) -> End:
    text = str(error)
    if "ModuleNotFoundError" in text or "ImportError" in text:
        return End(why=f"The node cannot import RankViz: install the same version there. {_cause(text)}")
    if "PermissionError" in text or "creation task" in text:
        return End(why=f"The node could not make a place for it. {_cause(text)}")
    return End(lost=True, why=DIED)


def _cause(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or [""])[-1][:300]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
