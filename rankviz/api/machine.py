"""Checks that this machine can train, and probes that measure memory and step time on it."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from rankviz import installed
from rankviz.api.workspace import EMBEDDED, Operations, writes
from rankviz.catalog import read_json
from rankviz.catalog.hardware import find_gpu
from rankviz.catalog.measurements import TRUTH_FILE
from rankviz.children import Bounds, Children, ChildWork
from rankviz.core import preflight, probe
from rankviz.core.cost.predict import predict
from rankviz.core.cost.question import plan_on
from rankviz.core.cost.setup import Device, TrainingSetup, card
from rankviz.core.cost.stack import stack_on
from rankviz.core.model.spec import ModelSpec
from rankviz.core.preflight import HUB_DISK, Check, Disk, Facts, problems, uses_gpu
from rankviz.core.probe import ProbeEstimate, ProbeQuestion, ProbeRecord, Simulated, SimulatedProbe, settle
from rankviz.core.runs.request import check_setting_limits
from rankviz.errors import InvalidSettingError, RankVizError, RunNotFoundError
from rankviz.hub import reach
from rankviz.hub.reach import cache_folder
from rankviz.machine import cards, cpu_bf16, cpu_name, software

BYTES_PER_PARAMETER = 2
"""Bytes per parameter of a published checkpoint (bf16)."""
FOUR_BIT = ("auto", "nf4", "nf4-dq")
"""Precisions that load a 4-bit base on a GPU."""


SIMULATION_BOUNDS = {"seconds": 1800, "memory_bytes": 24 * 2**30}
"""Limits of one simulation. For most models it takes half a minute."""


class Machine(Operations):
    """Checks that this machine can train, and probes, which measure memory and step time here with random weights."""

    def checks(self, training: TrainingSetup, base: str = "") -> Sequence[Check]:
        """Return the quick checks for one training here. Takes milliseconds; up to 6 s if the base comes from the Hub
        and the network is slow. base: the base model of a sweep; empty for a probe, which downloads nothing."""
        facts, model = self.facts(), self._from_the_hub(base)
        has_experts, download = model is None or model.has_experts, 0
        repository = _repository(base, model, training, on_gpu=uses_gpu(facts)) if model else ""
        if model is not None and not reach.has_weights(repository or base):
            facts = replace(facts, hub=self._workspace.hub.reached())
            download = BYTES_PER_PARAMETER * (model.whole or model).total_parameters
        return preflight.checks(facts, training, has_experts=has_experts, download_bytes=download)

    def require(self, training: TrainingSetup, base: str = "") -> None:
        """Raise InvalidSettingError where a quick check finds that this training cannot run on this machine."""
        if found := problems(self.checks(training, base)):
            raise InvalidSettingError(" ".join(check.sentence for check in found))

    def weight_bytes(self, training: TrainingSetup, base: str, device: Device | None = None) -> int | None:
        """Return the bytes of weights that a training would download; 0 if none, None where the Hub does not tell.
        LimitError if too many query the Hub. device: for training; None for this machine's."""
        if (model := self._from_the_hub(base)) is None:
            return 0
        on_gpu = device.cuda if device else uses_gpu(self.facts())
        repository = _repository(base, model, training, on_gpu=on_gpu) or base
        if reach.has_weights(repository):
            return 0
        known = self._workspace.hub.weight_bytes(repository, patient=True)
        is_ours = self._workspace.references.model(base).kind == "name"
        return BYTES_PER_PARAMETER * model.total_parameters if known is None and is_ours else known

    def warnings(self, training: TrainingSetup, base: str = "") -> Sequence[str]:
        """Return sentences to read before this training starts."""
        return [check.sentence for check in problems(self.checks(training, base), "warning")]

    def diagnose(self, *, trial: bool = True) -> tuple[Facts, Sequence[Check]]:
        """Run all checks, with a request to the Hub and, with the trainer, a trial training; up to minutes."""
        tried = software.run() if trial and not software.read().missing else None
        facts = self.facts(ask_hub=True, trial=tried)
        return facts, preflight.checks(facts)

    def facts(self, *, ask_hub: bool = False, trial: Check | None = None) -> Facts:
        """Return the facts about this machine that are read quickly. ask_hub: also ask the Hub."""
        import psutil

        driver = cards.read_driver()
        return Facts(
            driver=driver,
            card=cards.chosen(driver),
            software=software.read(),
            cpu_name=cpu_name(),
            cpu_count=os.cpu_count() or 1,
            cpu_bf16=cpu_bf16(),
            memory_bytes=psutil.virtual_memory().total,
            disks=(self._disk("runs", self._workspace.home), self._disk(HUB_DISK, cache_folder())),
            hub=self._workspace.hub.reached() if ask_hub else None,
            trial=trial,
        )

    def _from_the_hub(self, base: str) -> ModelSpec | None:
        """Return the model of a base on the Hub; None for a base on this machine."""
        if not base or base == EMBEDDED or self._workspace.references.model(base).path:
            return None
        return self._api.models.get(base)

    def _disk(self, what: str, folder: Path) -> Disk:
        """Return the free space on the disk of a folder, which need not exist yet."""
        there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
        path = str(folder) if self._workspace.visitor.admin else ""
        return Disk(what=what, path=path, free_bytes=shutil.disk_usage(there).free)

    @writes()
    def start_probe(self, question: ProbeQuestion) -> str:
        """Queue a probe of a model's memory and step time on this machine, with random weights; return its id."""
        installed.require("the trainer", "A probe")
        owner = self._workspace.rights.somebody()
        question.validate()
        check_setting_limits(
            self._workspace.limits, rank=question.lora.r, tokens_per_batch=question.training.tokens_per_micro_step
        )
        self._api.runs.quota.check_base_size(question.model_id)
        model = replace(self._api.models.get(question.model_id), whole=None)  # a probe has the text tower alone
        plan_on(model, question.lora, question.training, self._workspace.here())
        self.require(question.training)
        now = time.time()
        request = settle(
            question,
            model,
            device=self._workspace.here(),
            shared=self._workspace.shared,
            probe_id=f"probe-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}",
            created_at=now,
        )
        config = json.dumps(self._api.models.config(question.model_id))
        with self._workspace.start_line.turn(), self._api.runs.quota.check_visitor_limits(new=1):
            self._workspace.store.create_probe(request, config, owner.id)
        self._workspace.work_queue()
        return request.probe_id

    def simulate(self, question: ProbeQuestion, gpu_name: str, *, full: bool = False) -> SimulatedProbe:
        """Return the memory of training steps on a simulated GPU, counted in a child process.

        full: True for all blocks; else two depths, extrapolated.
        """
        installed.require("the trainer", "A simulation")
        question.validate()
        if question.training.framework == "unsloth":
            raise InvalidSettingError("Unsloth's step is not simulated here. Choose the framework trl or peft.")
        model = replace(self._api.models.get(question.model_id), whole=None)  # the text tower alone is simulated
        gpu, lora = find_gpu(self._workspace.gpus, gpu_name), question.lora
        device = card(gpu)
        training = question.training.settle(device)
        stack = stack_on(device, training, lora.use_dora, self._workspace.assumptions)
        estimate = predict(model, lora, stack, device, usable_bytes=device.usable_bytes).memory_at(lora.r)
        request = {
            "config": self._api.models.config(question.model_id),
            "gpu": gpu.id,
            "lora": asdict(lora),
            "training": asdict(training),
            "full": full,
        }
        work = ChildWork("simulates", "Simulating", advice="choose a smaller model, or fewer tokens")
        children = Children(Bounds(**SIMULATION_BOUNDS), work=work)
        truth = read_json(self._workspace.assets / TRUTH_FILE, "run make truth")
        return SimulatedProbe(
            question=replace(question, model_id=model.id, training=training),
            gpu=gpu.name,
            run=Simulated(**children.ask("simulate", request, about=model.id, error=InvalidSettingError)),
            estimate=estimate.allocated_band,
            mean_error=truth["mean_error"],
            worst_error=truth["worst_error"],
        )

    def probes(self) -> Sequence[ProbeRecord]:
        """Return all probes of the current visitor, newest first."""
        return self._workspace.rights.own(self._workspace.store.probes())[::-1]

    def newest_probe(self, model: str) -> ProbeRecord | None:
        """Return the newest probe of a model; None without one."""
        model_id = self._api.models.get(model).id
        return next((record for record in self.probes() if record.request.model_id == model_id), None)

    def probe(self, probe_id: str) -> ProbeRecord:
        """Return one probe by its id."""
        record = self._workspace.store.record(probe_id)
        if not isinstance(record, ProbeRecord):
            raise RunNotFoundError(probe_id)
        self._workspace.rights.require_sight(probe_id)
        return record

    def estimate_probe(self, record: ProbeRecord) -> ProbeEstimate | None:
        """Return the estimate by the formulas of what a probe measures; None where its model has gone since."""
        request, here = record.request, self._workspace.device(record.environment)
        with suppress(RankVizError):
            model = self._api.models.get(request.model_id)
            return probe.estimate_probe(model, request, here, self._workspace.assumptions)
        return None

    def follow_probe(self, probe_id: str, every_seconds: float = 0.3) -> Iterator[ProbeRecord]:
        """Yield the probe's current record repeatedly until it has ended."""
        while True:
            record = self.probe(probe_id)
            yield record
            if record.state.ended:
                return
            self._workspace.work_queue()  # whoever held the queue may have gone meanwhile
            time.sleep(every_seconds)


def _repository(base: str, model: ModelSpec, training: TrainingSetup, *, on_gpu: bool) -> str:
    """Return the repository whose weights are downloaded. On a GPU, Unsloth loads a 4-bit copy of many bases; empty
    where no such copy is known: for bases whose own files Unsloth quantizes, and for models outside the catalogue."""
    if not on_gpu or training.framework != "unsloth" or training.precision not in FOUR_BIT:
        return base
    return model.unsloth_checkpoint.repository if model.unsloth_checkpoint else ""
