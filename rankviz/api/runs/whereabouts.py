"""Where runs are, are to be, or were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rankviz.core.runs.events import LOCAL
from rankviz.core.runs.run_time import DeviceTime, times_by_engine
from rankviz.core.runs.words import Place, all_in_words, place_of, with_attempt
from rankviz.store.ownership import ANYWHERE, Destination, read_destination
from rankviz.store.runs import IMPORTED

if TYPE_CHECKING:
    from rankviz.api.workspace import Workspace
    from rankviz.core.runs.record import RunRecord, Sweep

NOWHERE = Place()
MOST_CHOSEN = 10_000
"""Runs whose destinations are kept in memory: a page asks for those that wait each second."""


class Whereabouts:
    """Of runs in one runs folder and of those that ship. "This machine" in an imported journal is another one, which is
    not known here."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._chosen: dict[str, tuple[int, Destination]] = {}

    def of(self, run: RunRecord) -> Place:
        """Of a run that no engine has or had yet: where it is or was to be."""
        place = place_of(run)
        if run.state.ended and run.begun_attempts:
            return NOWHERE if self._is_of_another_machine(run, place.engine) else place
        return place if place.where or run.state == "running" else self._destination(run, place.engine)

    def _destination(self, run: RunRecord, engine: str) -> Place:
        """engine: the one that has it; empty where none has."""
        attempt, there = self._chosen.get(run.run_id, (0, ANYWHERE))
        if attempt != run.attempt:  # another is chosen for another attempt only
            there = read_destination(self._workspace.store.run_dir(run.run_id))
            if len(self._chosen) >= MOST_CHOSEN:
                self._chosen.clear()
            self._chosen[run.run_id] = run.attempt, there
        chosen = there.engine or ("" if run.state.ended else self._workspace.settings.engine)
        return Place(engine or chosen, there.options.get("flavor", "") if engine in ("", chosen) else "")

    def in_words(self, run: RunRecord) -> str:
        """ "Ray cluster, node-0, attempt 2"; empty where nothing is known."""
        return with_attempt(self.of(run), run)

    def of_sweep(self, sweep: Sweep) -> str:
        """ "Ray cluster (node-0 and node-1) and this machine": while some of its runs run, where these are; empty where
        nothing is known, and of a recorded sweep."""
        return all_in_words(self._of_each(sweep))

    def engine_of_sweep(self, sweep: Sweep) -> str:
        """The name of the only engine that `of_sweep` names; empty where it names several or none."""
        engines = {place.engine for place in self._of_each(sweep)}
        return engines.pop() if len(engines) == 1 else ""

    def _of_each(self, sweep: Sweep) -> Sequence[Place]:
        if sweep.recorded:
            return ()
        running = [run for run in sweep.runs if run.state == "running"]
        waiting = [run for run in sweep.runs if not run.state.ended]
        return [self.of(run) for run in running or waiting or sweep.runs]

    def times(self, run: RunRecord, now: float) -> Mapping[str, DeviceTime]:
        """Of all attempts of a run until now, unix seconds, by the name of the engine; empty where it is not known."""
        return {
            "" if self._is_of_another_machine(run, engine) else engine: spent
            for engine, spent in times_by_engine(run, now).items()
        }

    def _is_of_another_machine(self, run: RunRecord, engine: str) -> bool:
        is_ended_here = engine == LOCAL and run.state.ended
        return is_ended_here and (self._workspace.store.run_dir(run.run_id) / IMPORTED).exists()
