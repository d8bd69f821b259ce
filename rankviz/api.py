"""Every operation, once: the page, the HTTP endpoints and the command line all call these.

Nothing is computed here. What only some operations need (the run store, the supervisor, the Hub) is imported when it
is first asked for, so that an estimate from the command line loads the core and one model's row.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.catalog import hardware as hardware_catalog
from rankviz.catalog import models as model_catalog
from rankviz.core.adapter import AdapterPlan, resolve
from rankviz.core.comparable import evidence_for
from rankviz.core.estimate import Device, Estimate, RunEstimate, as_json, estimate, estimate_run
from rankviz.core.hardware import Gpu
from rankviz.core.lora import LoraConfig, adapter_dtype, saved_dtype
from rankviz.core.model import ModelSpec
from rankviz.core.question import Question, lora_config
from rankviz.core.stack import Stack
from rankviz.errors import InvalidSettingError, RankVizError, UnknownGpuError, UnknownModelError

if TYPE_CHECKING:
    from rankviz.core.assumptions import Assumptions
    from rankviz.core.calibration import Calibration, Setting
    from rankviz.core.measured import MeasuredRow
    from rankviz.core.probe import ProbeRecord
    from rankviz.core.probe_settings import ProbeQuestion
    from rankviz.core.ranges import Range
    from rankviz.core.run import RunEvent, RunRecord, RunRequest, Sweep, SweepRequest
    from rankviz.dataset import Preview, Sample
    from rankviz.store import RunStore
    from rankviz.supervisor import Supervisor

ASSETS = Path(__file__).parents[1] / "assets"
EMBEDDED = "embedded"
EMBEDDED_MODEL = "HuggingFaceTB/SmolLM2-135M"
"""The catalogue row with the shapes of the embedded base, SmolLM2-135M-Instruct."""


class AdapterDetail(NamedTuple):
    """One adapter looked at closely."""

    plan: AdapterPlan
    r: int
    dtype: str
    """What the framework saves the adapter in: fp32 or bf16."""
    parameters: int
    file_bytes: int
    script: str
    """Ready to run, with the chosen values."""


class ExpectedSweep(NamedTuple):
    """What a sweep will take here."""

    device_name: str
    runs: int
    ranks: Mapping[int, RunEstimate]
    seconds: Range | None
    """Of the whole sweep: loading, training, evaluations."""


class Api:
    """The operations on one runs folder.

    Args:
        home: The runs folder; RANKVIZ_HOME, or ~/.rankviz.
        assets: RankViz's own data.
        shared: Whether strangers use it, as on a Space: then only uploads and the runs folder may be read.
    """

    def __init__(self, home: Path | None = None, assets: Path = ASSETS, shared: bool = "SPACE_ID" in os.environ):
        self.home = Path(home or os.environ.get("RANKVIZ_HOME") or Path.home() / ".rankviz")
        self.assets = assets
        self.shared = shared
        self._looked_up: dict[str, ModelSpec] = {}
        self._previews: dict[str, Preview] = {}

    # Models and hardware

    def models(self) -> Sequence[model_catalog.ModelRow]:
        """The catalogue, a short row a model, sorted by id."""
        return model_catalog.load_index(self.assets)

    def model(self, ref: str) -> ModelSpec:
        """A catalogue id or one of its aliases, a folder, a config.json, or a Hub id.

        The last three are built on the meta device in a worker process, under time and memory limits.
        """
        ref = ref.strip()
        if ref not in self._looked_up:
            self._looked_up[ref] = self._find_model(ref)
        return self._looked_up[ref]

    def _find_model(self, ref: str) -> ModelSpec:
        if ref == EMBEDDED:
            ref = EMBEDDED_MODEL
        self._refuse_private_path(ref)
        try:
            return model_catalog.load_model(self.assets, ref)
        except UnknownModelError as unknown:
            from rankviz import hub

            if (spec := hub.find_model(ref, cache=self.home / "introspected", unknown=unknown)) is None:
                raise
            return spec

    def _refuse_private_path(self, ref: str) -> None:
        """A shared page must not become a window on its server's files."""
        if not self.shared or not (path := Path(ref)).exists():
            return
        uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
        if not any(path.resolve().is_relative_to(folder.resolve()) for folder in (uploads, self.home)):
            raise InvalidSettingError("This page is shared, so it reads no files of its machine: upload yours instead.")

    @cached_property
    def _gpus(self) -> Sequence[Gpu]:
        return hardware_catalog.load_gpus(self.assets)

    @cached_property
    def _assumptions(self):
        return hardware_catalog.load_assumptions(self.assets)

    def gpus(self) -> Sequence[Gpu]:
        """The GPU table with dated prices."""
        return self._gpus

    # The estimate

    def estimate(self, question: Question) -> dict[str, Any]:
        """Exact adapter numbers, and ranges for memory, time and money, for every rank asked."""
        gpu = hardware_catalog.find_gpu(self._gpus, question.gpu) if question.gpu else None
        answer = estimate(self.model(question.model_id), question, gpu, self._assumptions)
        calibration = self._gpu_calibration(answer) if gpu and self._has_probes() else None
        if calibration is not None:
            from rankviz.core.calibrated_estimate import calibrated_estimate

            answer = calibrated_estimate(answer, calibration, self._assumptions)
        found = {"calibration": calibration.as_json() if calibration else None}
        return {**as_json(answer), **found, "rests_on": evidence_for(self.validation(), self._stack(question))}

    def _stack(self, question: Question) -> Stack:
        return Stack(
            framework=question.framework,
            setup=question.training,
            use_dora=question.use_dora,
            assume=self._assumptions,
        )

    def rests_on(self, question: Question, r: int) -> dict[str, Any]:
        """The measured rows that speak for an estimate: how far off they were, and those most alike."""
        from dataclasses import replace

        from rankviz.core.comparable import rests_on

        (rank,) = self.estimate(replace(question, ranks=(r,)))["ranks"]
        gpu = hardware_catalog.find_gpu(self._gpus, question.gpu).name if question.gpu else None
        return rests_on(self.validation(), self._stack(question), rank["memory_bytes"]["allocated"], gpu)

    def decisions(self, question: Question, r: int, prices: Mapping[str, float] | None = None) -> dict[str, Any]:
        """What fits at this rank, what each knob costs, what to change, and which GPUs do it, cheapest first.

        Args:
            question: Its other ranks are left aside.
            r: The rank.
            prices: One's own, in USD an hour by GPU, instead of the table's.
        """
        from rankviz.core import decisions

        gpu = hardware_catalog.find_gpu(self._gpus, question.gpu) if question.gpu else None
        own = self.own_prices(prices or {})
        one = replace(question, ranks=(r,))
        return decisions.as_json(
            decisions.decide(self.model(question.model_id), one, gpu, self._gpus, self._assumptions, own)
        )

    def own_prices(self, prices: Mapping[str, float]) -> dict[str, float]:
        """Prices by GPU id, from prices by GPU as people name it."""
        return {hardware_catalog.find_gpu(self._gpus, name).id: price for name, price in prices.items()}

    def validate(self, file: Path) -> dict[str, Any]:
        """Measured rows of a CSV file beside their predictions, with errors by group."""
        from rankviz.catalog.validation import read_rows

        return self._validation_of(read_rows(Path(file)), self._assumptions)

    def validation(self) -> dict[str, Any]:
        """The validation that ships: the one that bands rest on."""
        from rankviz.catalog.validation import load_validation

        return load_validation(self.assets)

    def validate_shipped(self) -> dict[str, Any]:
        """The same worked out anew. Bands rest on errors, and errors don't rest on bands: first the errors, then the
        rows again with the bands that these give."""
        from rankviz.catalog.validation import measured_widths, shipped_rows

        rows = shipped_rows(self.assets)
        constants = hardware_catalog.load_constants(self.assets)
        widths = measured_widths(self._validation_of(rows, constants))
        return self._validation_of(rows, constants.with_rows(widths))

    def _validation_of(self, rows: Sequence[MeasuredRow], assumptions: Assumptions) -> dict[str, Any]:
        from datetime import date

        from rankviz.core.validation import predict
        from rankviz.core.validation_report import report

        def card(name: str) -> Gpu | None:
            try:
                return hardware_catalog.find_gpu(self._gpus, name)
            except UnknownGpuError:
                return hardware_catalog.gpu_of_device(self._gpus, name)

        return report([predict(row, self.model, card, assumptions) for row in rows], date.today().isoformat())

    def adapter(self, question: Question, r: int) -> AdapterDetail:
        """One rank's adapter: by module and block, what to know about it, and the script that trains it."""
        from rankviz import export

        lora = lora_config(question, r)
        plan = resolve(self.model(question.model_id), lora)
        dtype = adapter_dtype(question.framework, question.training.precision)
        parameters = plan.parameters(r)
        return AdapterDetail(
            plan=plan,
            r=r,
            dtype=dtype,
            parameters=parameters,
            file_bytes=plan.file_bytes(
                r,
                2 if dtype == "bf16" else 4,
                saved_dtype=saved_dtype(question.framework, question.training.precision),
            ),
            script=export.script(
                lora,
                question.training,
                model_id=question.model_id,
                target_modules=plan.target_modules,
                target_parameters=plan.target_parameters,
                modules_to_save=plan.modules_to_save,
                adapter_parameters=parameters,
            ),
        )

    def preset_names(self, model: ModelSpec, preset: str, framework: str) -> Sequence[str]:
        """The modules that a preset reaches in this model; none where PEFT refuses it."""
        try:
            return resolve(model, LoraConfig(target_modules=preset, framework=framework)).target_names
        except InvalidSettingError:
            return ()

    # Runs

    @cached_property
    def store(self) -> RunStore:
        from rankviz.store import RunStore

        return RunStore(self.home)

    @cached_property
    def supervisor(self) -> Supervisor:
        from rankviz.supervisor import Supervisor

        return Supervisor(self.store)

    def work_queue(self) -> None:
        """Go on with what is queued, and settle what an app that stopped has left behind."""
        self.supervisor.start()

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
        resolve(self.model(request.base), LoraConfig(target_modules=request.target_modules, use_dora=request.use_dora))
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

    # Probes

    def start_probe(self, asked: ProbeQuestion) -> str:
        """Queue a probe of a model's memory and step time on this machine, with random weights; returns its id."""
        import json
        import secrets

        from rankviz.core.probe_settings import settle

        model = self.model(asked.model_id)
        lora = LoraConfig(target_modules=asked.target_modules, use_dora=asked.use_dora, framework=asked.framework)
        resolve(model, lora)
        now = time.time()
        request = settle(
            asked,
            model,
            cuda=self.has_cuda(),
            shared=self.shared,
            probe_id=f"probe-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}",
            created_at=now,
        )
        self.store.create_probe(request, json.dumps(self._config(asked.model_id)))
        self.work_queue()
        return request.probe_id

    def has_cuda(self) -> bool:
        """Whether this machine has a GPU to train on."""
        from rankviz import machine

        return machine.here()["device"] == "cuda"

    def _config(self, ref: str) -> dict[str, Any]:
        """A model's config.json."""
        from rankviz.catalog.configs import load_config

        ref = EMBEDDED_MODEL if ref.strip() == EMBEDDED else ref.strip()
        self._refuse_private_path(ref)
        try:
            return load_config(self.assets, ref)
        except UnknownModelError:
            from rankviz import hub

            if (config := hub.find_config(ref)) is None:
                raise
            return config

    def probes(self) -> Sequence[ProbeRecord]:
        """All probes, the newest first."""
        return self.store.probes()[::-1]

    def probe(self, probe_id: str) -> ProbeRecord:
        """One probe."""
        return self.store.probe(probe_id)

    def probe_summary(self, probe_id: str) -> dict[str, Any]:
        """What was asked and measured, the whole model by extrapolation, and the estimate beside it."""
        from rankviz.core.probe_estimate import estimate_probe
        from rankviz.core.probe_summary import as_json

        record = self.probe(probe_id)
        try:
            model = self.model(record.request.model_id)
            estimate = estimate_probe(model, record.request, self._device(record.environment), self._assumptions)
        except RankVizError:
            estimate = None  # an uploaded config.json that has gone since
        return as_json(record, estimate)

    def add_probe_rows(self, probe_id: str, target: Path) -> None:
        """Add a probe's measurement of the whole model to a CSV of validation rows, made where there is none."""
        import csv

        from rankviz.core.probe_rows import COLUMNS, probe_row

        record = self.probe(probe_id)
        if (row := probe_row(record, self.model(record.request.model_id))) is None:
            raise InvalidSettingError("Only a probe that ran all blocks is a row: ask for --full, with enough time.")
        with target.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)

    def follow_probe(self, probe_id: str, every_seconds: float = 0.3) -> Iterator[ProbeRecord]:
        """The probe again and again until it has ended."""
        while True:
            record = self.probe(probe_id)
            yield record
            if record.state.ended:
                return
            self.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(every_seconds)

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
        from rankviz.core.sweep_estimate import sweep_seconds

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
        tokens = request.per_device_train_batch_size * (rows.expected if rows else request.max_length)
        calibration = None
        if self._has_probes():
            from rankviz.core.probe_calibration import setting_of_run

            calibration = self._calibration(model, setting_of_run(model.id, request, device), tokens, environment)
        return estimate_run(model, request, device, self._assumptions, rows, calibration)

    def _gpu_calibration(self, answer: Estimate) -> Calibration | None:
        """What probes say of an estimate for the GPU of this very machine."""
        from rankviz import machine
        from rankviz.core.probe_calibration import setting_of_question

        here = machine.here()
        if here["device"] != "cuda" or hardware_catalog.gpu_of_device(self._gpus, here["device_name"]) != answer.gpu:
            return None
        tokens = answer.question.training.tokens_per_micro_step
        return self._calibration(answer.model, setting_of_question(answer.model.id, answer.question), tokens, here)

    def _has_probes(self) -> bool:
        """Looked up without the store, which an estimate from the command line doesn't load."""
        folder = self.home / "runs"
        return folder.is_dir() and any(entry.name.startswith("probe-") for entry in os.scandir(folder))

    def _calibration(
        self, model: ModelSpec, setting: Setting, tokens: float, environment: Mapping[str, Any]
    ) -> Calibration | None:
        """What the probes of this setting on this device say; None where there are none."""
        from rankviz import machine
        from rankviz.core.probe_calibration import LIBRARIES, applies, calibrate
        from rankviz.core.probe_estimate import estimate_probe

        here = {"versions": machine.versions(LIBRARIES), **environment}
        device, assume = self._device(environment), self._assumptions
        probes = [record for record in self.store.probes() if applies(record, setting, tokens, here, assume)]
        return calibrate([(each, estimate_probe(model, each.request, device, assume)) for each in probes], assume)

    def _device(self, environment: Mapping[str, Any]) -> Device:
        return Device(
            cpu_count=environment.get("cpu_count") or os.cpu_count() or 1,
            cuda=environment.get("device") == "cuda",
            gpu=hardware_catalog.gpu_of_device(self._gpus, environment.get("device_name") or ""),
        )

    def _row_tokens(self, request: RunRequest) -> Range | None:
        """None where the data has gone since."""
        from rankviz.core.run_estimate import row_tokens

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
