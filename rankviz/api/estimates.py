"""The estimate, and what follows from it: decisions, the adapter in detail, the rows it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from rankviz.api.accuracy import Accuracy
from rankviz.api.models import Models
from rankviz.api.probes import Probes
from rankviz.api.workspace import Workspace
from rankviz.catalog import hardware
from rankviz.core.accuracy.similar import Basis, SimilarRows, basis_of, rests_on
from rankviz.core.cost.estimate import Estimate, estimate
from rankviz.core.cost.question import Question, lora_config
from rankviz.core.cost.stack import Stack
from rankviz.core.lora.config import adapter_dtype, saved_dtype
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve

if TYPE_CHECKING:
    from rankviz.core.cost.calibration import Calibration
    from rankviz.core.fit.decide import Decisions


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimateAnswer:
    """An estimate, and what it rests on."""

    estimate: Estimate
    calibration: Calibration | None
    """What probes on this machine say of it; None where there are none."""
    evidence: Basis


class AdapterDetail(NamedTuple):
    """One adapter looked at closely."""

    plan: AdapterPlan
    r: int
    dtype: str
    """What the framework saves the adapter in: fp32 or bf16."""
    parameters: int
    file_bytes: int


class Estimates:
    """What a rank costs."""

    def __init__(self, workspace: Workspace, models: Models, probes: Probes, accuracy: Accuracy):
        self._workspace = workspace
        self._models = models
        self._probes = probes
        self._accuracy = accuracy

    def estimate(self, question: Question) -> EstimateAnswer:
        """Exact adapter numbers, and ranges for memory, time and money, for every rank asked."""
        gpu = hardware.find_gpu(self._workspace.gpus, question.gpu) if question.gpu else None
        answer = estimate(self._models.get(question.model_id), question, gpu, self._workspace.assumptions)
        calibration = self._gpu_calibration(answer) if gpu and self._probes.any() else None
        if calibration is not None:
            from rankviz.core.cost.calibrated import calibrated_estimate

            answer = calibrated_estimate(answer, calibration, self._workspace.assumptions)
        evidence = basis_of(self._accuracy.shipped(), self._stack(question))
        return EstimateAnswer(estimate=answer, calibration=calibration, evidence=evidence)

    def _stack(self, question: Question) -> Stack:
        return Stack(
            framework=question.framework,
            setup=question.training,
            use_dora=question.use_dora,
            assume=self._workspace.assumptions,
        )

    def rests_on(self, question: Question, r: int) -> SimilarRows:
        """The measured rows that an estimate rests on: how far off they were, and the most similar ones."""
        answer = self.estimate(replace(question, ranks=(r,))).estimate
        (rank,) = answer.ranks
        gpu = answer.gpu.name if answer.gpu else None
        return rests_on(self._accuracy.shipped(), self._stack(question), rank.memory.allocated, gpu)

    def fit(self, question: Question, r: int, prices: Mapping[str, float] | None = None) -> Decisions:
        """What fits at this rank, what each knob costs, what to change, and which GPUs do it, cheapest first.

        Args:
            question: Its other ranks are left aside.
            r: The rank.
            prices: One's own, in USD an hour by GPU, instead of the table's.
        """
        from rankviz.core.fit.decide import decide

        gpu = hardware.find_gpu(self._workspace.gpus, question.gpu) if question.gpu else None
        own = self.own_prices(prices or {})
        one = replace(question, ranks=(r,))
        return decide(
            self._models.get(question.model_id), one, gpu, self._workspace.gpus, self._workspace.assumptions, own
        )

    def own_prices(self, prices: Mapping[str, float]) -> dict[str, float]:
        """Prices by GPU id, from prices by GPU as people name it."""
        return {hardware.find_gpu(self._workspace.gpus, name).id: price for name, price in prices.items()}

    def _gpu_calibration(self, answer: Estimate) -> Calibration | None:
        """What probes say of an estimate for the GPU of this very machine."""
        from rankviz import machine
        from rankviz.core.probe.calibrate import setting_of_question

        here = machine.here()
        if here["device"] != "cuda" or hardware.gpu_of_device(self._workspace.gpus, here["device_name"]) != answer.gpu:
            return None
        tokens = answer.question.training.tokens_per_micro_step
        return self._probes.calibration(
            answer.model, setting_of_question(answer.model.id, answer.question), tokens, here
        )

    def adapter(self, question: Question, r: int) -> AdapterDetail:
        """One rank's adapter: by module and block, its size, and what to know about it."""
        lora = lora_config(question, r)
        plan = resolve(self._models.get(question.model_id), lora)
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
        )
