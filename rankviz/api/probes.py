"""Probes: memory and step time measured on this machine, and what they say of estimates."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz.api.workspace import EMBEDDED, EMBEDDED_MODEL, Workspace
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError, RankVizError, UnknownModelError

if TYPE_CHECKING:
    from rankviz.core.cost.calibration import Calibration
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.core.lora.config import LoraConfig
    from rankviz.core.probe.record import ProbeRecord
    from rankviz.core.probe.request import ProbeQuestion


class Probes(Workspace):
    """Measured here, without weights."""

    def start_probe(self, asked: ProbeQuestion) -> str:
        """Queue a probe of a model's memory and step time on this machine, with random weights; returns its id."""
        import json
        import secrets

        from rankviz.core.probe.request import settle

        model = self.model(asked.model_id)
        resolve(model, asked.lora, asked.training.framework)
        now = time.time()
        request = settle(
            asked,
            model,
            device=self.here(),
            shared=self.shared,
            probe_id=f"probe-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}",
            created_at=now,
        )
        self.store.create_probe(request, json.dumps(self._config(asked.model_id)))
        self.work_queue()
        return request.probe_id

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
        from rankviz.core.probe.estimate import estimate_probe
        from rankviz.core.probe.summary import as_json

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

        from rankviz.core.probe.rows import COLUMNS, probe_row

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

    def _has_probes(self) -> bool:
        """Looked up without the store, which an estimate from the command line doesn't load."""
        folder = self.home / "runs"
        return folder.is_dir() and any(entry.name.startswith("probe-") for entry in os.scandir(folder))

    def _calibration(
        self, model: ModelSpec, lora: LoraConfig, training: TrainingSetup, tokens: float, environment: Mapping[str, Any]
    ) -> Calibration | None:
        """What the probes of this set-up on this device say; None where there are none."""
        from rankviz import machine
        from rankviz.core.probe.calibrate import LIBRARIES, applies, calibrate
        from rankviz.core.probe.estimate import estimate_probe

        here = {"versions": machine.versions(LIBRARIES), **environment}
        device, assume = self._device(environment), self._assumptions
        probes = [
            record for record in self.store.probes() if applies(record, model.id, lora, training, tokens, here, assume)
        ]
        return calibrate([(each, estimate_probe(model, each.request, device, assume)) for each in probes], assume)
