"""Whether this machine can train as asked, before anything is queued; and `rankviz doctor`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.api.workspace import EMBEDDED, Workspace
from rankviz.core.preflight.checks import checks, problems, uses_gpu, warnings
from rankviz.core.preflight.facts import HUB_DISK, Disk, Facts, TrialStep, Wanted
from rankviz.core.preflight.gpu import Check
from rankviz.errors import InvalidSettingError, LimitError

if TYPE_CHECKING:
    from rankviz.api.models import Models
    from rankviz.core.cost.device import Device
    from rankviz.core.cost.setup import TrainingSetup
    from rankviz.core.model.spec import ModelSpec

BYTES_PER_PARAMETER = 2
"""Of a checkpoint as published: bf16."""
FOUR_BIT = ("auto", "nf4", "nf4-dq")
"""Precisions with a 4-bit base on a GPU."""


class Diagnosis(NamedTuple):
    facts: Facts
    checks: tuple[Check, ...]


class Preflight:
    """Looks at this machine: cheaply before a start, in full for the doctor."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models

    def before(self, training: TrainingSetup, base: str = "") -> Sequence[Check]:
        """The checks for one training here; takes milliseconds, and up to 6 s where the base comes from the Hub and the
        network is slow. base: what a sweep trains; empty for a probe, which fetches nothing."""
        from rankviz.hub import reach

        facts = self.facts()
        model = self._from_the_hub(base)
        repository = _repository(base, model, training, on_gpu=uses_gpu(facts)) if model else ""
        if model is None or reach.has_weights(repository or base):
            return checks(facts, _wanted(training, has_experts=model is None or model.has_experts))
        facts = replace(facts, hub=self._workspace.hub.reached())
        known = self._weight_bytes(repository, patient=False) if repository and facts.hub.reached else None
        download = BYTES_PER_PARAMETER * (model.whole or model).total_parameters if known is None else known
        certain = known is not None
        return checks(
            facts,
            _wanted(training, has_experts=model.has_experts, download_bytes=download, download_is_certain=certain),
        )

    def require(self, training: TrainingSetup, base: str = "") -> None:
        """InvalidSettingError where a check says that this training cannot run here."""
        if found := problems(self.before(training, base)):
            raise InvalidSettingError(" ".join(check.sentence for check in found))

    def weight_bytes(self, training: TrainingSetup, base: str, device: Device | None = None) -> int | None:
        """Bytes that a training fetches of a base from the Hub, 0 of any other; None where that is not known, as where
        the Hub does not answer. Of the catalogue's models something is known always. LimitError where too many others
        ask the Hub. device: where it trains, if not here."""
        from rankviz.hub import reach

        if (model := self._from_the_hub(base)) is None:
            return 0
        on_gpu = device.cuda if device else uses_gpu(self.facts())
        repository = _repository(base, model, training, on_gpu=on_gpu) or base
        if reach.has_weights(repository):
            return 0
        known = self._weight_bytes(repository, patient=True)
        is_ours = self._workspace.references.model(base).kind == "name"
        return BYTES_PER_PARAMETER * model.total_parameters if known is None and is_ours else known

    def warnings(self, training: TrainingSetup, base: str = "") -> Sequence[str]:
        """What is worth knowing before this training starts, as sentences."""
        return [check.sentence for check in warnings(self.before(training, base))]

    def diagnose(self, *, trial: bool = True) -> Diagnosis:
        """Everything, the Hub and the trial among it; up to some minutes. Without the trainer there is no trial."""
        from rankviz.machine import software
        from rankviz.machine import software as trials

        steps = trials.run() if trial and not software.read().missing else ()
        facts = self.facts(ask_hub=True, trial=steps)
        return Diagnosis(facts, checks(facts))

    def facts(self, *, ask_hub: bool = False, trial: tuple[TrialStep, ...] = ()) -> Facts:
        """What is known of this machine, cheaply."""
        import psutil

        from rankviz.hub.reach import cache_folder
        from rankviz.machine import cards, cpu_bf16, cpu_name, software

        driver = cards.read_driver()
        memory = psutil.virtual_memory()
        return Facts(
            driver=driver,
            card=cards.chosen(driver),
            software=software.read(),
            cpu_name=cpu_name(),
            cpu_count=os.cpu_count() or 1,
            cpu_bf16=cpu_bf16(),
            memory_bytes=memory.total,
            available_bytes=memory.available,
            disks=(
                self._disk("runs", self._workspace.home),
                self._disk(HUB_DISK, cache_folder()),
            ),
            hub=self._workspace.hub.reached() if ask_hub else None,
            trial=trial,
        )

    def _from_the_hub(self, base: str) -> ModelSpec | None:
        """None of a base that is on this machine."""
        if not base or base == EMBEDDED or self._workspace.references.model(base).path:
            return None
        return self._models.get(base)

    def _weight_bytes(self, repository: str, *, patient: bool) -> int | None:
        try:
            return self._workspace.hub.weight_bytes(repository, patient=patient)
        except LimitError:
            if patient:
                raise
            return None

    def _disk(self, what: str, folder: Path) -> Disk:
        """The folder may not be there yet; its disk is that of the nearest one above."""
        there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
        path = str(folder) if self._workspace.visitor.admin else ""
        return Disk(what=what, path=path, free_bytes=shutil.disk_usage(there).free)


def _wanted(training: TrainingSetup, **base: Any) -> Wanted:
    return Wanted(precision=training.precision, optim=training.optim, framework=training.framework, **base)


def _repository(base: str, model: ModelSpec, training: TrainingSetup, *, on_gpu: bool) -> str:
    """The repository whose weights are fetched: Unsloth takes a 4-bit copy of many bases on a GPU. Empty where it is
    not known which one, since the model is not one of the catalogue."""
    if not on_gpu or training.framework != "unsloth" or training.precision not in FOUR_BIT:
        return base
    return model.unsloth_checkpoint.repository if model.unsloth_checkpoint else ""
