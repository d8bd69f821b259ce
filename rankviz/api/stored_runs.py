"""Runs and sweeps as they are stored: listed, read, exported and imported; and the sample data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.api.workspace import Workspace
from rankviz.errors import RunNotFoundError

if TYPE_CHECKING:
    from rankviz.core.runs.events import RunEvent
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.dataset import Preview, Sample
    from rankviz.store import RunStore


class StoredRuns:
    """The runs of one folder, and those that RankViz ships."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def samples(self) -> Sequence[Sample]:
        """The sample data that RankViz ships."""
        from rankviz import dataset

        return dataset.samples(self._workspace.assets)

    def preview(self, data: str) -> Preview:
        """The first rows of a sample or a file, with counts; BadDataError names a bad row."""
        from rankviz import dataset

        self._workspace.refuse_private_path(data)
        return dataset.preview(data, assets=self._workspace.assets)

    def sweeps(self) -> Sequence[Sweep]:
        """All sweeps, the newest first."""
        return self._workspace.store.sweeps()[::-1]

    def unreadable(self) -> Mapping[str, str]:
        """Folders in the place of runs that cannot be read, by name, with the reason of each."""
        return self._workspace.store.unreadable()

    def sweep(self, sweep_id: str) -> Sweep:
        """One sweep, recorded ones among them."""
        for sweep in self.recorded():
            if sweep.sweep_id == sweep_id:
                return sweep
        return self._workspace.store.sweep(sweep_id)

    def is_sweep(self, run_or_sweep_id: str) -> bool:
        """Whether this is a sweep's id; RunNotFoundError where it is neither a sweep's nor a run's."""
        try:
            self.sweep(run_or_sweep_id)
        except RunNotFoundError:
            self.get(run_or_sweep_id)
            return False
        return True

    def get(self, run_id: str) -> RunRecord:
        """One run, recorded ones among them."""
        store = self._recorded_store if self._is_recorded(run_id) else self._workspace.store
        return store.get(run_id)

    def folder(self, run_id: str) -> Path | None:
        """The folder of a run on this machine; None on a shared page, and of a run that RankViz ships."""
        if self._workspace.shared or self._is_recorded(run_id):
            return None
        return self._workspace.store.run_dir(run_id)

    def recorded(self) -> Sequence[Sweep]:
        """The sweeps that RankViz ships."""
        return self._recorded

    @cached_property
    def _recorded(self) -> Sequence[Sweep]:
        from rankviz import store

        return store.recorded(self._workspace.assets)

    @cached_property
    def _recorded_store(self) -> RunStore:
        from rankviz.store import RunStore

        return RunStore(self._workspace.assets / "recorded")

    def _is_recorded(self, run_id: str) -> bool:
        return any(record.run_id == run_id for sweep in self._recorded for record in sweep.runs)

    def events(self, run_id: str) -> Sequence[RunEvent]:
        """All that happened in a run, in order."""
        if self._is_recorded(run_id):
            return self._recorded_store.events(run_id)
        return self._workspace.store.events(run_id)

    def fast_curves(self, sweep_id: str) -> Sequence[FastCurve]:
        """The fast curves of a sweep, the best first; none of an ordinary sweep."""
        from rankviz.core.runs.fast_curve import fast_curves

        return fast_curves(self.sweep(sweep_id).runs)

    def export(self, ids: Sequence[str], target: Path) -> Path:
        """Write the journals of runs and sweeps, recorded ones among them, and a CSV summary into one zip."""
        from rankviz import store

        return store.export_runs([self._recorded_store, self._workspace.store], ids, Path(target))

    def import_(self, source: Path) -> Sequence[str]:
        """Read a zip that export_runs wrote; returns the ids of its runs, without those that RankViz ships."""
        from rankviz import store

        return store.import_runs(self._workspace.store, Path(source), self._recorded)
