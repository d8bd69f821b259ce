"""The machines that runs will be on, and where runs are, are to be, or were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankviz.catalog import hardware
from rankviz.core.cost.setup import Device, card
from rankviz.core.runs.events import LOCAL, queued_at
from rankviz.core.runs.run_time import DeviceTime, times_by_engine
from rankviz.core.runs.words import Place, all_in_words, with_attempt
from rankviz.jobs import Engine, Nodes
from rankviz.jobs.known import require
from rankviz.store.ownership import ANYWHERE, WantedEngine, read_destination
from rankviz.store.runs import IMPORTED

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import RunRecord, Sweep

NOT_HERE = "This page cannot use that engine now."
"""For visitors, who cannot set it up."""
MOST_CHOSEN = 10_000
"""Runs whose destinations are kept in memory: a page asks for those that wait each second."""


class Machines:
    """This machine, and those of other engines."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def engine(self, name: str) -> Engine:
        """Return the engine of a name; empty: the one of runs that name none. InvalidSettingError."""
        known = {engine.name: engine for engine in self._workspace.supervisor.engines}
        return known[require(name or self._workspace.settings.engine, known)]

    def why_not(self, name: str) -> str:
        """Return why an engine cannot be used, as whoever asks may read it; empty where it can be."""
        why_not = self.engine(name).why_not()
        return why_not if self._workspace.visitor.admin else why_not and NOT_HERE

    def is_here(self, destination: WantedEngine) -> bool:
        """Return whether runs with it are on this machine."""
        return (destination.engine or self._workspace.settings.engine) == LOCAL

    def destination(self, sweep: Sweep) -> WantedEngine:
        """Return where a sweep goes on: where the run was to be that somebody asked for last."""
        last = max(sweep.runs, key=queued_at)
        return read_destination(self._workspace.store.run_dir(last.run_id))

    def environment(self, name: str, *, look: bool = True) -> Mapping[str, Any] | None:
        """Return what a run on an engine will find there: as the newest run that completed there, or as its engine
        sees its nodes. A GPU that is not known by its row has no speed; None is not known at all.

        Args:
            look: Whether the engine may look at its nodes, which may take seconds.
        """
        if self.is_here(WantedEngine(name)):
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
        """Return the same as a device. What is not known at all is taken for a GPU, which trains whatever a CPU
        does."""
        environment = self.environment(name)
        return card(None) if environment is None else self._workspace.device(environment)

    def _last_on(self, name: str) -> Mapping[str, Any] | None:
        """The environment of the newest completed run that was sent there from here: an imported one may say anything
        of itself."""
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


class Locations:
    """Where runs of one runs folder, and those that ship, are or were. "This machine" in an imported journal is another
    one, which is not known here."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._chosen: dict[str, tuple[int, WantedEngine]] = {}

    def of(self, run: RunRecord) -> Place:
        """Return where a run is or was; of one that no engine has had, where it is or was to be."""
        place = Place(run.engine, run.where)
        if run.state.ended and run.begun_attempts:
            return Place() if self._is_of_another_machine(run, place.engine) else place
        if place.where or run.state == "running":
            return place
        attempt, there = self._chosen.get(run.run_id, (0, ANYWHERE))
        if attempt != run.attempt:  # another is chosen for another attempt only
            there = read_destination(self._workspace.store.run_dir(run.run_id))
            if len(self._chosen) >= MOST_CHOSEN:
                self._chosen.clear()
            self._chosen[run.run_id] = run.attempt, there
        chosen = there.engine or ("" if run.state.ended else self._workspace.settings.engine)
        has_options = place.engine in ("", chosen)
        return Place(place.engine or chosen, there.options.get("flavor", "") if has_options else "")

    def in_words(self, run: RunRecord) -> str:
        """Return "Ray cluster, node-0, attempt 2"; empty where nothing is known."""
        return with_attempt(self.of(run), run)

    def of_sweep(self, sweep: Sweep) -> str:
        """Return "Ray cluster, node-0; this machine": while some of its runs run, where these are; empty
        where nothing is known, and of a recorded sweep."""
        return all_in_words(self._of_each(sweep))

    def engine_of_sweep(self, sweep: Sweep) -> str:
        """Return the name of the only engine that `of_sweep` names; empty where it names several or none."""
        engines = {place.engine for place in self._of_each(sweep)}
        return engines.pop() if len(engines) == 1 else ""

    def _of_each(self, sweep: Sweep) -> Sequence[Place]:
        if sweep.recorded:
            return ()
        running = [run for run in sweep.runs if run.state == "running"]
        waiting = [run for run in sweep.runs if not run.state.ended]
        return [self.of(run) for run in running or waiting or sweep.runs]

    def times(self, run: RunRecord, now: float) -> Mapping[str, DeviceTime]:
        """Return the time of all attempts of a run until now, unix seconds, by engine; "" where that is not known."""
        return {
            "" if self._is_of_another_machine(run, engine) else engine: spent
            for engine, spent in times_by_engine(run, now).items()
        }

    def _is_of_another_machine(self, run: RunRecord, engine: str) -> bool:
        is_ended_here = engine == LOCAL and run.state.ended
        return is_ended_here and (self._workspace.store.run_dir(run.run_id) / IMPORTED).exists()
