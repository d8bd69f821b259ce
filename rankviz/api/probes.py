"""Probes: memory and step time measured on this machine, without weights."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.api.models import Models
from rankviz.api.preflight import Preflight
from rankviz.api.visitors.quota import Quota
from rankviz.api.workspace import Workspace, writes
from rankviz.core.cost.question import plan_on
from rankviz.core.runs.request import check_step
from rankviz.errors import InvalidSettingError, RankVizError

if TYPE_CHECKING:
    from rankviz.core.probe.record import ProbeRecord
    from rankviz.core.probe.request import ProbeQuestion
    from rankviz.core.probe.simulated import SimulatedProbe
    from rankviz.core.probe.summary import ProbeSummary

SIMULATION_BOUNDS = {"seconds": 1800, "memory_bytes": 24 * 2**30}
"""Limits of one simulation, which takes half a minute for most models."""


class Probes:
    """Measured here, without weights."""

    def __init__(self, workspace: Workspace, models: Models, preflight: Preflight, quota: Quota):
        self._workspace = workspace
        self._models = models
        self._preflight = preflight
        self._quota = quota

    @writes
    def start(self, question: ProbeQuestion) -> str:
        """Queue a probe of a model's memory and step time on this machine, with random weights; returns its id."""
        import secrets

        from rankviz import installed
        from rankviz.core.probe.request import settle

        installed.require_trainer("A probe")
        owner = self._workspace.rights.somebody()
        question.validate()
        check_step(question.lora.r, question.training, self._workspace.limits)
        self._quota.check_base(question.model_id)
        model = replace(self._models.get(question.model_id), whole=None)  # a probe has the text tower alone
        plan_on(model, question.lora, question.training, self._workspace.here())
        self._preflight.require(question.training)
        now = time.time()
        request = settle(
            question,
            model,
            device=self._workspace.here(),
            shared=self._workspace.shared,
            probe_id=f"probe-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}",
            created_at=now,
        )
        config = json.dumps(self._models.config(question.model_id))
        with self._workspace.starts.turn(), self._quota.admitting(new=1):
            self._workspace.store.create_probe(request, config, owner.id)
        self._workspace.work_queue()
        return request.probe_id

    def simulate(
        self, question: ProbeQuestion, gpu_name: str, *, padded: bool = False, full: bool = False
    ) -> SimulatedProbe:
        """Memory of training steps on a simulated card, in a child process. The settings are checked as for a card.

        padded: the batch has a mask. full: all blocks, instead of two depths and a line.
        """
        import dataclasses
        import tempfile

        from rankviz import installed
        from rankviz.catalog.hardware import find_gpu
        from rankviz.catalog.measurements import load_truth
        from rankviz.children import Bounds, Children
        from rankviz.core.cost.data import TrainingData
        from rankviz.core.cost.device import card
        from rankviz.core.cost.predict import predict
        from rankviz.core.cost.stack import stack_on
        from rankviz.core.probe.simulated import Simulated, SimulatedProbe

        installed.require_trainer("A simulation")
        question.validate()
        if padded and question.training.per_device_train_batch_size == 1:
            raise InvalidSettingError("A batch of one example has no padding. Choose a batch of 2 or more.")
        model, gpu = self._models.get(question.model_id), find_gpu(self._workspace.gpus, gpu_name)
        device, lora = card(gpu), question.lora
        training = question.training.settle(device)
        mixed = TrainingData(examples=2, mean_tokens=1, longest_tokens=training.max_length)
        asked = dataclasses.replace(training, data=mixed) if padded else training
        stack = stack_on(device, asked, lora.use_dora, self._workspace.assumptions)
        estimate = predict(model, lora, stack, device, usable_bytes=device.usable_bytes).memory_at(lora.r)
        with tempfile.TemporaryDirectory(prefix="rankviz-") as folder:
            config = Path(folder, "config.json")
            config.write_text(json.dumps(self._models.config(question.model_id)), encoding="utf-8")
            answer = Children(Bounds(**SIMULATION_BOUNDS)).ask(
                "simulate",
                {
                    "config": str(config),
                    "gpu": gpu.id,
                    "lora": dataclasses.asdict(lora),
                    "training": dataclasses.asdict(training),
                    "padded": padded,
                    "full": full,
                },
                about=model.id,
                error=InvalidSettingError,
            )
        return SimulatedProbe(
            model_id=model.id,
            gpu=gpu.name,
            lora=lora,
            training=training,
            padded=padded,
            run=Simulated(**answer),
            estimate=estimate.allocated_band,
            **load_truth(self._workspace.assets),
        )

    def for_here(self, question: ProbeQuestion) -> tuple[ProbeQuestion, str]:
        """The question with what this machine cannot train set to "auto", and a sentence that names it."""
        from rankviz.core.probe.request import for_here

        return for_here(question, self._workspace.here())

    def all(self) -> Sequence[ProbeRecord]:
        """All probes of whoever asks, the newest first."""
        return self._workspace.rights.own(self._workspace.store.probes())[::-1]

    def newest(self, model: str) -> ProbeRecord | None:
        """The newest probe of a model; None where it has none."""
        model_id = self._models.get(model).id
        return next((record for record in self.all() if record.request.model_id == model_id), None)

    def get(self, probe_id: str) -> ProbeRecord:
        """One probe."""
        record = self._workspace.store.probe(probe_id)
        self._workspace.rights.require_sight(probe_id)
        return record

    def summary(self, probe_id: str) -> ProbeSummary:
        """One probe: its measurements, the whole model by extrapolation, and the estimate beside it."""
        from rankviz.core.probe.summary import ProbeSummary, estimate_probe

        record = self.get(probe_id)
        try:
            model = self._models.get(record.request.model_id)
            estimate = estimate_probe(
                model, record.request, self._workspace.device(record.environment), self._workspace.assumptions
            )
        except RankVizError:
            estimate = None  # an uploaded config.json that has gone since
        return ProbeSummary(record=record, estimate=estimate)

    def add_rows(self, probe_id: str, target: Path) -> None:
        """Add a probe's measurement of the whole model to a CSV of validation rows, made where there is none."""
        from rankviz.core.cells import csv_text
        from rankviz.core.probe.record import COLUMNS, probe_row

        record = self.get(probe_id)
        device = self._workspace.device(record.environment)
        if (row := probe_row(record, self._models.get(record.request.model_id), device)) is None:
            raise InvalidSettingError("Only a probe that ran all blocks makes a row: use --full and enough time.")
        with target.open("a", newline="", encoding="utf-8") as file:
            file.write(csv_text([row], COLUMNS, header=not file.tell()))

    def follow(self, probe_id: str, every_seconds: float = 0.3) -> Iterator[ProbeRecord]:
        """The probe again and again until it has ended."""
        while True:
            record = self.get(probe_id)
            yield record
            if record.state.ended:
                return
            self._workspace.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(every_seconds)
