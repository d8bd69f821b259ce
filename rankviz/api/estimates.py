"""The estimate, and what follows from it: decisions, the adapter in detail, the rows it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rankviz.api.accuracy import Validation
from rankviz.api.probes import Probes
from rankviz.catalog import hardware
from rankviz.core.accuracy.similar import evidence_for
from rankviz.core.cost.device import card
from rankviz.core.cost.estimate import Estimate, as_json, estimate
from rankviz.core.cost.question import Question
from rankviz.core.cost.stack import Stack, stack_on
from rankviz.core.lora.config import LoraConfig, adapter_dtype, saved_dtype
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import ModelSpec
from rankviz.errors import InvalidSettingError

if TYPE_CHECKING:
    from rankviz.core.cost.calibration import Calibration


class AdapterDetail(NamedTuple):
    """One adapter looked at closely."""

    plan: AdapterPlan
    r: int
    dtype: str
    """What the framework saves the adapter in: fp32 or bf16."""
    parameters: int
    file_bytes: int


class Estimates(Validation, Probes):
    """What a rank costs."""

    def estimate(self, question: Question) -> dict[str, Any]:
        """Exact adapter numbers, and ranges for memory, time and money, for every rank asked."""
        gpu = hardware.find_gpu(self._gpus, question.gpu) if question.gpu else None
        answer = estimate(self.model(question.model_id), question, gpu, self._assumptions)
        calibration = self._gpu_calibration(answer) if gpu and self._has_probes() else None
        if calibration is not None:
            from rankviz.core.cost.calibration import calibrated_estimate

            answer = calibrated_estimate(answer, calibration, self._assumptions)
        found = {"calibration": calibration.as_json() if calibration else None}
        return {**as_json(answer), **found, "rests_on": evidence_for(self.validation(), self._stack(question))}

    def _stack(self, question: Question) -> Stack:
        return stack_on(card(None), question.training, question.lora.use_dora, self._assumptions)

    def rests_on(self, question: Question, r: int) -> dict[str, Any]:
        """The measured rows that speak for an estimate: how far off they were, and those most alike."""
        from rankviz.core.accuracy.similar import rests_on

        (rank,) = self.estimate(replace(question, ranks=(r,)))["ranks"]
        gpu = hardware.find_gpu(self._gpus, question.gpu).name if question.gpu else None
        return rests_on(self.validation(), self._stack(question), rank["memory_bytes"]["allocated"], gpu)

    def decisions(self, question: Question, r: int, prices: Mapping[str, float] | None = None) -> dict[str, Any]:
        """What fits at this rank, what each knob costs, what to change, and which GPUs do it, cheapest first.

        Args:
            question: Its other ranks are left aside.
            r: The rank.
            prices: One's own, in USD an hour by GPU, instead of the table's.
        """
        from rankviz.core.fit.decide import decide
        from rankviz.core.fit.json import as_json as fit_json

        gpu = hardware.find_gpu(self._gpus, question.gpu) if question.gpu else None
        own = self.own_prices(prices or {})
        one = replace(question, ranks=(r,))
        return fit_json(decide(self.model(question.model_id), one, gpu, self._gpus, self._assumptions, own))

    def own_prices(self, prices: Mapping[str, float]) -> dict[str, float]:
        """Prices by GPU id, from prices by GPU as people name it."""
        return {hardware.find_gpu(self._gpus, name).id: price for name, price in prices.items()}

    def _gpu_calibration(self, answer: Estimate) -> Calibration | None:
        """What probes say of an estimate for the GPU of this very machine."""
        from rankviz import machine

        here = machine.here()
        if here["device"] != "cuda" or hardware.gpu_of_device(self._gpus, here["device_name"]) != answer.gpu:
            return None
        lora, training = answer.question.lora, answer.question.training
        return self._calibration(answer.model, lora, training, training.tokens_per_micro_step, here)

    def adapter(self, question: Question, r: int) -> AdapterDetail:
        """One rank's adapter: by module and block, its size, and what to know about it."""
        training = question.training.without_auto(card(None))
        plan = resolve(self.model(question.model_id), question.lora_at(r), training.framework)
        dtype = adapter_dtype(training.framework, training.precision)
        parameters = plan.parameters(r)
        return AdapterDetail(
            plan=plan,
            r=r,
            dtype=dtype,
            parameters=parameters,
            file_bytes=plan.file_bytes(
                r,
                2 if dtype == "bf16" else 4,
                saved_dtype=saved_dtype(training.framework, training.precision),
            ),
        )

    def preset_names(self, model: ModelSpec, preset: str, framework: str) -> Sequence[str]:
        """The modules that a preset reaches in this model; none where PEFT refuses it."""
        try:
            return resolve(model, LoraConfig(target_modules=preset), framework).target_names
        except InvalidSettingError:
            return ()
