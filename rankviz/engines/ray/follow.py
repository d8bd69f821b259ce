"""Follows one job, in a thread of its own: makes its slot, sends the job, and brings back what its worker writes.

A job's folder here is the packed one, so a journal here has the same bytes as the one on the node, as far as it has
been brought: its size is the offset from which on it is asked for. The line that ends a run is written here only once
the files that the run left are here.
"""

import contextlib
import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path, PurePosixPath
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
from rankviz.core.bounds import INSIDE
from rankviz.core.runs.events import GPU_LOST, ProbeCompleted, RunCompleted, RunFailed
from rankviz.engines import bundle, process
from rankviz.engines.engine import End
from rankviz.engines.ray.cluster import Cluster
from rankviz.engines.ray.slot import Look, Slot
from rankviz.engines.ray.terms import RESULT, SEEN, JobState, Terms, read_end
from rankviz.errors import EngineUnavailableError
from rankviz.store.journal import parse_event

POLL_SECONDS = 0.1
SILENT_SECONDS, ANSWER_SECONDS = 10.0, 15.0
LAST = (RunCompleted, RunFailed, ProbeCompleted)
KEPT = ("request.json", "config.json", "events.jsonl", "begun", "cancel")
"""Files of a run that are not brought: they are here, or nobody's business."""
QUEUED = "All places of the Ray cluster are taken: Ray starts it as soon as one is free."
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
        self._run_ids = [attempt.run_id for attempt in bundle.read_job(folder).attempts]
        self._brought: dict[str, int] = {}
        self._lock = threading.Lock()
        self._slot: Any = None
        self._thread = threading.Thread(target=self._follow, name=f"follow-{folder.name}", daemon=True)
        for run_id in self._run_ids:
            _cut_stump(bundle.journal(folder, run_id))
        self._thread.start()

    def pause(self) -> None:
        """Stop the job where it stands, and bring what its journals say. EngineUnavailableError: not now."""
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
        """End the job and its slot; returns once no process is left."""
        self.stopped.set()
        self._thread.join()
        if self.state.end is None:
            exit_code = _answer(self._slot.end.remote()) if self._is_there else None
            self._finish(End(exit_code, why="The job was cancelled."))
        return self.state.end

    def drop(self) -> None:
        """Nobody reads it any more: its slot ends, and its folder on the node goes."""
        self.stopped.set()
        end_slot(self.folder.name, self._terms.namespace)

    @property
    def _is_there(self) -> bool:
        """Whether a slot has the job."""
        return self._slot is not None and (self.folder / SEEN).exists() and self.state.end is None

    def _follow(self) -> None:
        while not self.stopped.is_set():
            try:
                with self._lock:
                    if self._step():
                        return
            except StoppedError:
                return
            except (ActorDiedError, ActorUnschedulableError) as error:
                self._finish(_end_of_slot(error))
                return
            except ActorUnavailableError:
                self.state = self.state._replace(waits=SILENT)
            except RayTaskError as error:
                self._finish(End(lost=True, why=f"The node could not run it: {error.cause!r}."))
                return
            except RayError as error:
                self.state = self.state._replace(waits=f"Ray: {_first_line(error)}")
            except OSError as error:  # of the disk here, say; what is on the node stays there
                self.state = self.state._replace(waits=f"What it wrote cannot be kept here: {error}.")
            self.stopped.wait(POLL_SECONDS)

    def _step(self) -> bool:
        """Look once. Whether it has ended."""
        if (self.folder / RESULT).exists():
            self.state = JobState(end=read_end(self.folder))
            return True
        if self._slot is None:
            try:
                self._slot = self._find() if (self.folder / SEEN).exists() else self._make()
            except ValueError:
                self._finish(End(lost=True, why=NOT_THERE))
                return True
        look = self._get(self._look())
        if look.version != __version__:
            why = f"{look.where} has RankViz {look.version}, and this page has {__version__}: install the same version."
            self._finish(End(why=why))
            return True
        if not look.has_job:
            self._get(self._slot.start.remote(packed(self.folder), list(self._terms.worker)))
            return False
        if not (self.folder / SEEN).exists():
            (self.folder / SEEN).touch()
        self.state = JobState(where=self._where(look))
        if self._take(look) or not look.ended:
            return False
        for run_id in self._run_ids:
            self._bring(run_id, only="worker.log")
        lost = look.exit_code is None or look.exit_code < 0 or look.exit_code == GPU_LOST
        why = process.describe_exit(look.exit_code)
        self._finish(End(look.exit_code, lost=lost, why=why, gave_way=look.gave_way))
        return True

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
        sizes = {run_id: bundle.journal(self.folder, run_id).stat().st_size for run_id in self._run_ids}
        return self._slot.look.remote(sizes)

    def _get(self, reference: Any) -> Any:
        """The answer, however long it takes; meanwhile the state says what it waits for."""
        since = time.monotonic()
        while not self.stopped.is_set():
            if ray.wait([reference], timeout=0.2)[0]:
                return ray.get(reference)
            if (self.folder / SEEN).exists():
                if time.monotonic() - since > SILENT_SECONDS:
                    self.state = self.state._replace(waits=SILENT)
            elif time.monotonic() - since > 2.0:
                self.state = JobState(waits=self._cluster.why_none or QUEUED)
        raise StoppedError

    def _take(self, look: Look) -> bool:
        """Write down what is new; before the end of a run, its files. Whether there was something."""
        for run_id, data in look.journals.items():
            for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
                if isinstance(parse_event(line), LAST):
                    self._bring(run_id)
                with bundle.journal(self.folder, run_id).open("ab") as journal:
                    journal.write(line)
        return any(b"\n" in data for data in look.journals.values())

    def _bring(self, run_id: str, only: str = "") -> None:
        """Copy the files of a run from the node, in pieces."""
        folder = self.folder / "runs" / run_id
        for path, size in self._get(self._slot.files.remote(run_id)).items():
            target = folder / path
            if path in KEPT or (only and path != only) or not _is_plain(path):
                continue
            if self._brought.get(f"{run_id}/{path}") == size:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.part")
            with aside.open("wb") as file:
                while piece := self._get(self._slot.read.remote(run_id, path, file.tell())):
                    file.write(piece)
            os.replace(aside, target)
            self._brought[f"{run_id}/{path}"] = size

    def _finish(self, end: End) -> None:
        """It has ended, and what is needed of it is here. Its slot is ended first: once the result is here, nobody may
        be left to do it."""
        end_slot(self.folder.name, self._terms.namespace)
        aside = self.folder / f".{RESULT}"
        aside.write_text(json.dumps(end._asdict()))
        os.replace(aside, self.folder / RESULT)
        self.state = JobState(where=self.state.where, end=end)

    def _where(self, look: Look) -> str:
        return ", ".join(filter(None, [self._cluster.name_of(look.node_id), look.where]))


def packed(folder: Path) -> bytes:
    """What is sent of a folder here."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("job.json", "runs", "data"):
            if (folder / name).exists():
                archive.add(folder / name, name)
    return content.getvalue()


def end_slot(name: str, namespace: str) -> None:
    """End what a slot runs, remove its folder on the node, and end it; where there is such a slot."""
    with contextlib.suppress(RayError, ValueError):
        slot = ray.get_actor(name, namespace=namespace)
        with contextlib.suppress(RayError):
            ray.get(slot.close.remote(), timeout=ANSWER_SECONDS)
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


def _cut_stump(journal: Path) -> None:
    """A line that was being written when an earlier driver ended is read again."""
    data = journal.read_bytes()
    os.truncate(journal, data.rfind(b"\n") + 1)


def _is_plain(path: str) -> bool:
    return bool(INSIDE.fullmatch(path)) and ".." not in PurePosixPath(path).parts
