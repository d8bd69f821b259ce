"""The slot of one job: made on a node that can begin the job, given it once, and found again by a later driver."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnschedulableError, RayError

from rankviz import __version__
from rankviz.engines import bundle
from rankviz.engines.engine import End
from rankviz.engines.ray.cluster import Cluster
from rankviz.engines.ray.mirror import Mirror
from rankviz.engines.ray.slot import Look, Slot
from rankviz.engines.ray.terms import SEEN, Terms
from rankviz.errors import redacted

SILENT_SECONDS, NEW_SECONDS, POLL_SECONDS = 10.0, 3.0, 0.1
MOST_PLACES = 5
"""So many in a row may be unable to begin a job; then it is lost."""
NODE_LABEL = "ray.io/node-id"
QUEUED = "Ray starts it as soon as it has a free place."
ELSEWHERE = "It was lost before, so it waits for another node than {}."
SENDING = "It is sent to its node."
SILENT = "Its node does not answer. If Ray finds that the node has gone, the run is tried again elsewhere."
DIED = "Its place in the Ray cluster was lost: the node has gone, or its memory ran out."
NOT_THERE = "Its place in the Ray cluster is no longer there: the cluster was started anew, or its node was lost."
REFUSED = (
    "Ray takes no job with the resources and labels that are set here. It does not take RANKVIZ_RAY_RESOURCES or "
    "RANKVIZ_RAY_LABELS as they are: {}"
)
IN_CREATION = "creation task"
"""Of Ray's message where a slot could not be made, and not where one was lost."""


class StoppedError(Exception):
    """The driver ends, or nobody wants the job any more."""


class Place:
    """Of one job.

    Args:
        folder: Of the job here.
        say: Is given what the job waits for, as a sentence.
    """

    def __init__(self, folder: Path, terms: Terms, cluster: Cluster, say: Callable[[str], None]):
        self._folder, self._terms, self._cluster, self._say = folder, terms, cluster, say
        self.stopped = threading.Event()
        self.slot: Any = None
        self._without: Set[str] = frozenset()
        """Nodes that were avoided when the slot was made."""
        self._was_lost = bundle.was_lost(folder)
        self._refusals = 0

    @property
    def has_job(self) -> bool:
        """Whether the slot was given the job, by this driver or an earlier one."""
        return (self._folder / SEEN).exists()

    @property
    def _avoided(self) -> Set[str]:
        return self._cluster.avoided(was_lost=self._was_lost)

    def look(self, mirror: Mirror) -> Look | End | None:
        """What the slot says of the job. None while no worker has it; how it ended, if that is so for good."""
        if self.slot is None and self.has_job:
            try:
                self.slot = self._find()
            except ValueError:
                return End(lost=True, why=NOT_THERE)
        if self.slot is None:
            try:
                self.slot = self._make()
            except ValueError as error:
                return End(why=redacted(REFUSED.format(error))[:500], is_final=True)
        if not self.has_job:
            return self._give(mirror)
        look = self.get(self.slot.look.remote(mirror.sizes()))
        return look if look.has_job else self._send(look, mirror)  # an earlier driver ended before it had sent it

    def get(self, reference: Any, slow: str = SILENT) -> Any:
        """The answer of a slot, however long it takes. slow: is said where that is long."""
        since = time.monotonic()
        while not self.stopped.is_set():
            if ray.wait([reference], timeout=0.2)[0]:
                return ray.get(reference)
            if time.monotonic() - since > SILENT_SECONDS:
                self._say(slow)
        raise StoppedError

    def name_of(self, look: Look) -> str:
        """Of the node and its GPUs, for people."""
        return ", ".join(filter(None, [self._cluster.name_of(look.node_id), look.gpus]))

    def _find(self) -> Any:
        """The slot that an earlier driver made. ValueError where it is not there."""
        slot = ray.get_actor(self._folder.name, namespace=self._terms.namespace)
        self.get(slot.resume.remote())  # who paused it may have died since
        return slot

    def _make(self) -> Any:
        needs, self._without = dict(self._terms.resources), self._avoided
        elsewhere = {NODE_LABEL: f"!in({','.join(self._without)})"} if self._without else {}
        return (
            ray.remote(Slot)
            .options(
                name=self._folder.name,
                namespace=self._terms.namespace,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=8,
                num_cpus=needs.pop("CPU", 0),
                num_gpus=needs.pop("GPU", 0),
                memory=needs.pop("memory", None),
                resources=needs or None,
                label_selector={**elsewhere, **self._terms.labels} or None,
            )
            .remote(self._terms.node_folder, f"{self._terms.namespace}-{self._folder.name}")
        )

    def _give(self, mirror: Mirror) -> End | None:
        """Give the slot its job, as soon as it has a place."""
        try:
            look = self._first_look(mirror)
        except (ActorDiedError, ActorUnschedulableError) as error:
            return self._refused(*self._why_not_made(str(error)))
        if look is None:
            return self._unmake()
        if look.version == __version__:
            (self._folder / SEEN).touch()
            return self._send(look, mirror)
        why = f"It has RankViz {look.version}, and this page has {__version__}: install the same version there."
        return self._refused([look.node_id], why)

    def _first_look(self, mirror: Mirror) -> Look | None:
        """None where the slot has no place yet and is to be made anew: by now other nodes are avoided."""
        reference, since = self.slot.look.remote(mirror.sizes()), time.monotonic()
        while not self.stopped.is_set():
            if ray.wait([reference], timeout=0.2)[0]:
                return ray.get(reference)
            if self._without != self._avoided:
                return None
            if time.monotonic() - since > 2.0:
                self._say_what_it_waits_for()
        raise StoppedError

    def _send(self, look: Look, mirror: Mirror) -> End | None:
        trouble = self.get(self.slot.start.remote(mirror.packed(), list(self._terms.worker)), slow=SENDING)
        return self._refused([look.node_id], trouble) if trouble else None

    def _refused(self, node_ids: Sequence[str], why: str) -> End | None:
        """These nodes could not begin the job. No attempt is lost by that, as long as there may be others."""
        for node_id in node_ids:
            self._cluster.alone.add(node_id, why)
        self._refusals += 1
        if self._refusals >= MOST_PLACES:
            return End(lost=True, why=f"{', '.join(map(self._cluster.name_of, node_ids))}: {why}".removeprefix(": "))
        self._say_what_it_waits_for()
        return self._unmake()

    def _why_not_made(self, error: str) -> tuple[Sequence[str], str]:
        """On which nodes, as far as that is known."""
        if IN_CREATION not in error:
            return [], DIED
        cause = redacted(([line.strip() for line in error.splitlines() if line.strip()] or [""])[-1])[:300]
        if "ModuleNotFoundError" in error or "ImportError" in error:
            cause = f"It cannot import RankViz: install the same version there. {cause}"
        return self._cluster.at(error), cause

    def _say_what_it_waits_for(self) -> None:
        others = sorted(map(self._cluster.name_of, self._avoided - self._cluster.alone.now().keys()))
        elsewhere = ELSEWHERE.format(", ".join(others)) if others else ""
        words = filter(None, [QUEUED, self._cluster.why_alone, elsewhere])
        self._say(self._cluster.why_none or " ".join(words))

    def _unmake(self) -> None:
        """End a slot that has begun nothing; returns once another may have its name."""
        end_slot(self._folder.name, self._terms.namespace, seconds=0.0)
        (self._folder / SEEN).unlink(missing_ok=True)
        self.slot = None
        with contextlib.suppress(ValueError):
            while not self.stopped.wait(POLL_SECONDS):
                ray.get_actor(self._folder.name, namespace=self._terms.namespace)


def end_slot(name: str, namespace: str, seconds: float = NEW_SECONDS) -> None:
    """End what a slot runs, remove its folder on the node, and end it; where there is such a slot.

    seconds: It is ended in any case after so long without an answer, as one that never had a place.
    """
    with contextlib.suppress(RayError, ValueError):
        slot = ray.get_actor(name, namespace=namespace)
        with contextlib.suppress(RayError):
            ray.get(slot.close.remote(), timeout=seconds)
        ray.kill(slot)
