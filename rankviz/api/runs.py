"""Runs and sweeps: asked for, followed, cancelled, exported, and what they should come to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.api.probes import Probes
from rankviz.core.lora.resolve import resolve
from rankviz.core.runs.estimate import RunEstimate, estimate_run
from rankviz.errors import InvalidSettingError, RankVizError

if TYPE_CHECKING:
    from rankviz.core.quantity import Range
    from rankviz.core.runs.events import RunEvent
    from rankviz.core.runs.record import RunRecord, Sweep
    from rankviz.core.runs.request import RunRequest, SweepRequest
    from rankviz.dataset import Preview, Sample
    from rankviz.store import RunStore


class ExpectedSweep(NamedTuple):
    """What a sweep will take here."""

    device_name: str
    runs: int
    ranks: Mapping[int, RunEstimate]
    seconds: Range | None
    """Of the whole sweep: loading, training, evaluations."""
    warning: str = ""
    """What on this device will cost more than it need."""


class Runs(Probes):
    """What a rank buys, trained here."""

    def samples(self) -> Sequence[Sample]:
        """The sample data that RankViz ships."""
        from rankviz import dataset

        return dataset.samples(self.assets)

    def preview(self, data: str) -> Preview:
        """The first rows of a sample or a file, with counts; BadDataError names a bad row."""
        from rankviz import dataset

        self._refuse_private_path(data)
        return dataset.preview(data, assets=self.assets)

    def start_sweep(self, request: SweepRequest) -> str:
        """Queue a sweep and see that someone works the queue; returns its id.

        Data and settings are checked here, before anything is queued. A file is copied into the runs folder, since an
        upload may not outlive the page.
        """
        from rankviz import dataset

        request.validate()
        self.preview(request.data)
        if not dataset.is_sample(request.data, assets=self.assets):
            request = replace(request, data=str(self.store.keep(Path(request.data))))
        resolve(self.model(request.base), request.lora, request.training.framework)
        sweep_id = self.store.create(request)
        self.work_queue()
        return sweep_id

    def sweeps(self) -> Sequence[Sweep]:
        """All sweeps, the newest first."""
        return self.store.sweeps()[::-1]

    def sweep(self, sweep_id: str) -> Sweep:
        """One sweep, recorded ones among them."""
        for sweep in self.recorded():
            if sweep.sweep_id == sweep_id:
                return sweep
        return self.store.sweep(sweep_id)

    def run(self, run_id: str) -> RunRecord:
        """One run, recorded ones among them."""
        store = self._recorded_store if self._is_recorded(run_id) else self.store
        return store.get(run_id)

    def recorded(self) -> Sequence[Sweep]:
        """The sweeps that RankViz made itself and ships."""
        return self._recorded

    @cached_property
    def _recorded(self) -> Sequence[Sweep]:
        from rankviz import store

        return store.recorded(self.assets)

    @cached_property
    def _recorded_store(self) -> RunStore:
        from rankviz.store import RunStore

        return RunStore(self.assets / "recorded")

    def _is_recorded(self, run_id: str) -> bool:
        return any(record.run_id == run_id for sweep in self._recorded for record in sweep.runs)

    def follow(self, sweep_id: str, every_seconds: float = 0.3) -> Iterator[Sweep]:
        """The sweep again and again until all its runs have ended."""
        while True:
            sweep = self.sweep(sweep_id)
            yield sweep
            if sweep.ended:
                return
            self.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(every_seconds)

    def events(self, run_id: str) -> Sequence[RunEvent]:
        """All that happened in a run, in order."""
        if self._is_recorded(run_id):
            return self._recorded_store.events(run_id)
        return self.store.events(run_id)

    def cancel(self, run_or_sweep_id: str) -> Sequence[str]:
        """Stop a run or a whole sweep; returns, once its process has gone, the runs that are cancelled."""
        run_ids = self.store.run_ids(run_or_sweep_id)
        self.supervisor.cancel(run_or_sweep_id)
        return [run_id for run_id in run_ids if self.store.record(run_id).state == "cancelled"]

    def cuts(self, sweep_id: str) -> Sequence[dict[str, Any]]:
        """The points of a sweep's fast curves, lowest rank first; none of an ordinary sweep."""
        from rankviz.core.runs.fast_curve import fast_curves

        curves = fast_curves(self.sweep(sweep_id).runs)
        return [{"run_id": found.run_id, **point._asdict()} for found in curves for point in found.points]

    def fidelity(self) -> dict[str, Any] | None:
        """How near fast curves have been to independent runs, as `make fidelity` measured it; None before it has."""
        import json

        file = self.assets / "fidelity.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def resume(self, sweep_id: str) -> Sequence[str]:
        """Ask again for the runs of a sweep that failed or were cancelled; those that are done stay. Returns their
        ids."""
        runs = self.store.sweep(sweep_id).runs
        again = [run.run_id for run in runs if run.state in ("failed", "cancelled")]
        if not again:
            raise InvalidSettingError("Nothing to resume: no run of this sweep has failed or was cancelled.")
        for run_id in again:
            self.store.requeue(run_id)
        self.work_queue()
        return again

    def export_runs(self, ids: Sequence[str], target: Path) -> Path:
        """Write the journals of runs and sweeps, and a CSV summary, into one zip."""
        from rankviz import store

        return store.export_runs(self.store, ids, Path(target))

    def import_runs(self, source: Path) -> Sequence[str]:
        """Read a zip that export_runs wrote; returns the ids of its runs."""
        from rankviz import store

        return store.import_runs(self.store, Path(source))

    def run_summary(self, run_id: str) -> dict[str, Any]:
        """What was asked and measured, flat, with the estimate beside it."""
        from rankviz.store.archive import summary_row

        record = self.run(run_id)
        return {**summary_row(record), "error": record.error or None, "estimate": self.expected_run(record)}

    def expected(self, request: SweepRequest) -> ExpectedSweep:
        """What a sweep will take on this machine, before it is asked for."""
        from rankviz import machine
        from rankviz.core.runs.estimate import precision_warning, sweep_seconds

        runs = request.runs(sweep_id="expected", created_at=0.0)
        here = machine.here()
        by_rank = {run.r: self._estimate_run(run, here) for run in runs}
        return ExpectedSweep(
            device_name=here["device_name"],
            runs=len(runs),
            ranks=by_rank,
            seconds=sweep_seconds(
                self.model(request.base), runs, [by_rank[run.r].seconds for run in runs], self._assumptions
            ),
            warning=precision_warning(runs[0], self._device(here), self._assumptions),
        )

    def expected_run(self, record: RunRecord) -> dict[str, Any] | None:
        """The estimate that belongs beside a run's measurements, recomputed; None where its base isn't to be had.

        memory_bytes is of what the run measures: a process's resident set on a CPU, what is allocated on a GPU.
        seconds is training alone.
        """
        from dataclasses import asdict

        try:
            return asdict(self._estimate_run(record.request, record.environment))
        except RankVizError:
            return None

    def _estimate_run(self, request: RunRequest, environment: Mapping[str, Any]) -> RunEstimate:
        model, device, rows = self.model(request.base), self._device(environment), self._row_tokens(request)
        training = request.training.without_auto(device)
        tokens = training.per_device_train_batch_size * (rows.expected if rows else training.max_length)
        calibration = None
        if self._has_probes():
            calibration = self._calibration(model, request.lora, training, tokens, environment)
        return estimate_run(model, request, device, self._assumptions, rows, calibration)

    def _row_tokens(self, request: RunRequest) -> Range | None:
        """None where the data has gone since."""
        from rankviz.core.runs.estimate import row_tokens

        try:
            preview = self._previewed(request.data)
        except RankVizError:
            return None
        return row_tokens(preview.mean_characters, preview.longest_characters, self._assumptions)

    def _previewed(self, data: str) -> Preview:
        """A run's data never changes (samples are shipped, files are kept by their content), so it is read once."""
        if data not in self._previews:
            self._previews[data] = self.preview(data)
        return self._previews[data]
