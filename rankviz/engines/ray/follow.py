"""Follows one job, in a thread of its own: sees that it has a slot, and brings back what its worker writes."""

import contextlib
import json
import threading
import time
from pathlib import Path

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, ActorUnschedulableError, RayError, RayTaskError

from rankviz.core.runs.events import GPU_LOST
from rankviz.engines import process
from rankviz.engines.engine import End
from rankviz.engines.ray.cluster import Cluster
from rankviz.engines.ray.mirror import Mirror
from rankviz.engines.ray.placing import DIED, NEW_SECONDS, POLL_SECONDS, SILENT, Place, StoppedError, end_slot
from rankviz.engines.ray.slot import Look
from rankviz.engines.ray.steps import Steps
from rankviz.engines.ray.terms import ENDING, RESULT, JobState, Terms, read_end
from rankviz.errors import redacted
from rankviz.store.durable import replace_durably

CALM_SECONDS, ANSWER_SECONDS = 0.5, 20.0
PAUSED_SECONDS = 10.0
"""A job that was stopped, and of which nobody has asked anything for so long, goes on."""
STARTING = "Ray starts it."
CANCELLED = "The job was cancelled."
GONE = "The folder of the job was removed on {where} while it ran."
GONE_HERE = "A file of the job in ray-jobs was removed while it ran ({name})."


class Follower:
    """Of one job."""

    def __init__(self, folder: Path, terms: Terms, cluster: Cluster):
        self.folder, self._terms, self._cluster = folder, terms, cluster
        self.state = JobState(waits=STARTING)
        self.node_id = ""
        """Of the node that has the job, once that is known."""
        self._began: float | None = None
        """When it was first seen there, by the monotonic clock."""
        self._mirror = Mirror(folder)
        self._lock = threading.Lock()
        self._place = Place(folder, terms, cluster, self._wait_for)
        self._steps = Steps("pause", "end", "give_way")
        self._paused_until: float | None = None
        self._rest = POLL_SECONDS
        self._thread = threading.Thread(target=self._follow, name=f"follow-{folder.name}", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop the job where it stands, and bring what its journals say. EngineEndingError: not yet;
        EngineUnavailableError: not now."""
        self._paused_until = time.monotonic() + PAUSED_SECONDS
        self._steps.take("pause", self._pause)

    def resume(self) -> None:
        """Let it go on, as soon as its slot hears of it."""
        self._paused_until = None
        self._steps.forget("pause")
        if self._is_there:
            self._place.slot.resume.remote()

    def give_way(self) -> None:
        """Ask the worker to end before its next run."""
        if self._is_there:
            self._steps.take("give_way", lambda: self._place.get(self._place.slot.give_way.remote()))

    def end(self) -> End:
        """End the job and its slot; what it returns says that no process is left. Otherwise as `pause`."""
        self._paused_until = time.monotonic() + PAUSED_SECONDS
        return self._steps.take("end", self._end)

    def part(self) -> None:
        """The driver ends, and the job goes on."""
        self._place.stopped.set()
        if self._paused_until is not None and self._is_there:
            with contextlib.suppress(RayError):
                ray.get(self._place.slot.resume.remote(), timeout=ANSWER_SECONDS)

    def drop(self) -> None:
        """Nobody reads it any more: its slot ends, and its folder on the node goes."""
        self._place.stopped.set()
        end_slot(self.folder.name, self._terms.namespace)

    @property
    def is_done(self) -> bool:
        """Whether all its runs have ended, and only its slot is left."""
        return self.state.end is None and self._mirror.is_complete()

    @property
    def _is_sought(self) -> bool:
        """Whether the slot that an earlier driver made is still looked for."""
        has_none = self._place.slot is None and self._place.has_job
        return has_none and self.state.end is None and self._thread.is_alive()

    @property
    def _is_there(self) -> bool:
        """Whether a slot has the job."""
        return self._place.slot is not None and self._place.has_job and self.state.end is None

    def _pause(self) -> None:
        self._await_slot()
        with contextlib.suppress(ActorDiedError, ActorUnschedulableError):
            if self._is_there:
                self._place.get(self._place.slot.pause.remote())
                with self._lock:
                    look = self._place.get(self._place.slot.look.remote(self._mirror.sizes()))
                    self._mirror.take(look.journals, self._bring)

    def _end(self) -> End:
        self._await_slot()
        exit_code = None
        with contextlib.suppress(ActorDiedError, ActorUnschedulableError):
            if self._is_there:
                with contextlib.suppress(OSError):  # of a full disk, say
                    (self.folder / ENDING).touch()
                exit_code = self._place.get(self._place.slot.end.remote())
        self._place.stopped.set()
        self._thread.join()
        if self.state.end is None:
            self._finish(End(exit_code, why=CANCELLED, by_us=True))
        return self.state.end

    def _await_slot(self) -> None:
        while self._is_sought and not self._place.stopped.wait(POLL_SECONDS):
            pass

    def _follow(self) -> None:
        end = None
        while not self._place.stopped.is_set():
            try:
                if self._paused_until is not None and time.monotonic() > self._paused_until:
                    self.resume()
                with self._lock:
                    end = end or self._step()
                if end is not None:
                    is_by_us = end.lost and (self.folder / ENDING).exists()
                    self._finish(End(end.exit_code, why=CANCELLED, by_us=True) if is_by_us else end)
                    return
            except StoppedError:
                return
            except (ActorDiedError, ActorUnschedulableError):
                end = End(lost=True, why=DIED)
                continue
            except ActorUnavailableError:
                self._wait_for(SILENT)
            except RayTaskError as error:
                end = End(lost=True, why=redacted(f"The node could not run it: {error.cause!r}.")[:500])
                continue
            except FileNotFoundError as error:
                end = end or End(lost=True, why=GONE_HERE.format(name=Path(error.filename or "").name))
            except RayError as error:
                self._wait_for(f"Ray: {_first_line(error)}")
            except OSError as error:  # of the disk here, say; what is on the node stays there
                self._wait_for(f"What it wrote cannot be kept here: {error}.")
            self._place.stopped.wait(self._rest)

    def _step(self) -> End | None:
        """Look once. How it ended, if it has and all of it is here."""
        if (self.folder / RESULT).exists():
            return read_end(self.folder)
        self._mirror.open()
        look = self._place.look(self._mirror)
        if not isinstance(look, Look):
            return look
        self.node_id, self._began = look.node_id, self._began or time.monotonic()
        self.state = JobState(where=self._place.name_of(look))
        if look.is_gone:
            return End(lost=True, why=GONE.format(where=self.state.where))
        has_news = self._mirror.take(look.journals, self._bring)
        self._rest = POLL_SECONDS if has_news else min(2 * self._rest, CALM_SECONDS)
        if has_news or not look.ended:
            return None
        for run_id in self._mirror.run_ids:
            self._bring(run_id, only="worker.log")
        return self._ended(look)

    def _ended(self, look: Look) -> End:
        """By itself. What its node is to blame for is tried again, elsewhere as far as there is another node."""
        if look.trouble:
            self._cluster.alone.add(look.node_id, look.trouble, self._began)
            return End(lost=True, why=f"{self.state.where}: {look.trouble}")
        why = process.describe_exit(look.exit_code)
        if look.exit_code == GPU_LOST:
            self._cluster.alone.add(look.node_id, why, self._began)
        lost = look.exit_code is None or look.exit_code < 0 or look.exit_code == GPU_LOST
        return End(look.exit_code, lost=lost, why=why, gave_way=look.gave_way)

    def _bring(self, run_id: str, only: str = "") -> None:
        get, slot = self._place.get, self._place.slot
        files = get(slot.files.remote(run_id))
        wanted = {path: size for path, size in files.items() if only in ("", path)}
        self._mirror.bring(run_id, wanted, lambda path, at: get(slot.read.remote(run_id, path, at)))

    def _finish(self, end: End) -> None:
        """It has ended, and what is needed of it is here. Its slot is ended first: once the result is here, nobody may
        be left to do it."""
        seconds = ANSWER_SECONDS if self._place.has_job else NEW_SECONDS
        end_slot(self.folder.name, self._terms.namespace, seconds)
        replace_durably(self.folder / RESULT, json.dumps(end._asdict()))
        self.state = JobState(where=self.state.where, end=end)

    def _wait_for(self, what: str) -> None:
        self.state = self.state._replace(waits=what)


def _first_line(error: Exception) -> str:
    return (redacted(str(error)).strip().splitlines() or [type(error).__name__])[0][:300]
