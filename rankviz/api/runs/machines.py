"""What is known of the machine that a run will be on, by the engine that will have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rankviz.catalog import hardware
from rankviz.core.cost.setup import Device, card
from rankviz.core.runs.events import LOCAL, queued_at
from rankviz.engines import Engine, Nodes
from rankviz.engines.known import require
from rankviz.store.ownership import Destination, read_destination

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import Sweep

NOT_HERE = "This page cannot use that engine now."
"""For visitors, who cannot set it up."""


class Machines:
    """This one, and those of other engines."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def engine(self, name: str) -> Engine:
        """Of this name; empty: the one of runs that name none. InvalidSettingError where there is none."""
        known = {engine.name: engine for engine in self._workspace.supervisor.engines}
        return known[require(name or self._workspace.settings.engine, known)]

    def why_not(self, name: str) -> str:
        """Why the engine of this name cannot be used, as whoever asks may read it; empty where it can be."""
        why_not = self.engine(name).why_not()
        return why_not if self._workspace.visitor.admin else why_not and NOT_HERE

    def is_here(self, destination: Destination) -> bool:
        """Whether runs with it are on this machine."""
        return (destination.engine or self._workspace.settings.engine) == LOCAL

    def destination(self, sweep: Sweep) -> Destination:
        """Where a sweep goes on: where the run was to be that somebody asked for last. When a sweep moves, what has
        completed stays where it was."""
        last = max(sweep.runs, key=queued_at)
        return read_destination(self._workspace.store.run_dir(last.run_id))

    def environment(self, name: str, *, look: bool = True) -> Mapping[str, Any] | None:
        """What a run on an engine will find there: as the newest run that has completed there, or as its engine sees
        its nodes. A GPU that is not known by its row has no speed; None is not known at all.

        look: Whether the engine may look at its nodes, which may take seconds.
        """
        if self.is_here(Destination(name)):
            from rankviz import machine

            return machine.here()
        engine = self.engine(name)
        nodes, last = engine.nodes() if look else Nodes(), self._last_on(engine.name)
        rows = [gpu for model in nodes.gpus for gpu in hardware.gpus_of_model(self._workspace.gpus, model)]
        if last and (not rows or self._workspace.gpu_of(last) in rows):
            return last
        if len(rows) == 1 and len(nodes.gpus) == 1:
            return hardware.environment_of(rows[0])
        return {"device": "cuda", "device_name": " or ".join(nodes.gpus) or "a GPU"} if nodes.has_gpu else None

    def device(self, name: str) -> Device:
        """The same as a device. What is not known at all is taken for a GPU, which trains whatever a CPU does."""
        environment = self.environment(name)
        return card(None) if environment is None else self._workspace.device(environment)

    def _last_on(self, name: str) -> Mapping[str, Any] | None:
        """The environment of the newest completed run that was sent there from here: one that was imported may say
        anything of itself."""
        store = self._workspace.store
        completed = [
            record
            for record in store.records()
            if record.engine == name and record.environment.get("device_name") and record.state == "completed"
        ]
        for record in sorted(completed, key=lambda record: record.ended_at or 0.0, reverse=True):
            if read_destination(store.run_dir(record.run_id)).engine == name:
                return record.environment
        return None
