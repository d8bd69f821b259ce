"""Estimates: what a rank costs, what fits, and how far off the estimates have been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rankviz.api.models import Models
from rankviz.api.runs.measured import MeasuredRuns
from rankviz.api.workspace import Workspace
from rankviz.catalog import hardware
from rankviz.catalog.measurements import load_range_evidence
from rankviz.core.accuracy.report import Basis, basis_of
from rankviz.core.cost.estimate import CalibrationJSON, Estimate, EstimateJSON, RankEstimate, estimate, estimate_as_json
from rankviz.core.cost.notes import as_stored, by_name, card_notes
from rankviz.core.cost.question import Question, dtype_on, file_bytes_on, plan_on
from rankviz.core.cost.setup import Gpu, card
from rankviz.core.cost.stack import Stack, stack_on
from rankviz.core.from_json import shape
from rankviz.core.lora.plan import AdapterPlan
from rankviz.core.quantity import Caution
from rankviz.errors import UnknownGpuError

if TYPE_CHECKING:
    from rankviz.core.accuracy.predicted import MeasuredRow, PredictedRow
    from rankviz.core.accuracy.report import AccuracyByKind, AccuracyReport
    from rankviz.core.cost.assumptions import Assumptions
    from rankviz.core.runs.fast_curve import Fidelity


class Accuracy:
    """Errors of the estimates against measured runs."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace = workspace
        self._models = models

    def of_file(self, file: Path) -> AccuracyReport:
        """Measured rows of a CSV file beside their predictions, with errors by group."""
        from rankviz.catalog.measurements import read_rows

        return self._report(read_rows(Path(file)), self._workspace.assumptions)

    def shipped(self) -> AccuracyReport:
        """The report that RankViz ships: the one that ranges rest on."""
        from rankviz.catalog.measurements import load_validation

        return load_validation(self._workspace.assets)

    def by_kind(self) -> AccuracyByKind:
        """Return the errors of that report by kind of setting, on which the ranges of estimates rest."""
        return load_range_evidence(self._workspace.assets).by_kind

    def remake(self) -> AccuracyReport:
        """The shipped report, computed again. Ranges rest on errors, and errors do not rest on ranges: first the
        errors, then the rows again with the ranges that these give, and each once more without its source."""
        from rankviz.catalog.measurements import shipped_rows
        from rankviz.core.accuracy.report import widths
        from rankviz.core.accuracy.summarize import left_out_predictions

        rows, made = shipped_rows(self._workspace.assets), _today()
        constants = hardware.load_constants(self._workspace.assets)
        report = self._report(rows, constants)
        measured = constants.with_rows(widths(report.evidence, report.made))
        unseen = left_out_predictions(rows, self._predict, constants, made)
        return self._report(rows, measured, unseen)

    def fidelity(self) -> Fidelity | None:
        """Return how near fast curves were to independent runs, by `make fidelity`; None before it has run."""
        import json

        from rankviz.core.runs.fast_curve import from_json

        file = self._workspace.assets / "fidelity.json"
        return from_json(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def _report(
        self, rows: Sequence[MeasuredRow], assumptions: Assumptions, unseen: Sequence[PredictedRow] | None = None
    ) -> AccuracyReport:
        from rankviz.core.accuracy.summarize import summarize

        predictions = [self._predict(row, assumptions) for row in rows]
        return summarize(predictions, _today(), unseen)

    def _predict(self, row: MeasuredRow, assumptions: Assumptions) -> PredictedRow:
        from rankviz.core.accuracy.predicted import predict_row

        return predict_row(row, self._models.get, self._card, assumptions)

    def _card(self, name: str) -> Gpu | None:
        try:
            return hardware.find_gpu(self._workspace.gpus, name)
        except UnknownGpuError:
            return hardware.gpu_of_device(self._workspace.gpus, name)


def _today() -> str:
    from datetime import date

    return date.today().isoformat()


if TYPE_CHECKING:
    from rankviz.core.accuracy.report import SimilarRows
    from rankviz.core.cost.assumptions import Assumptions
    from rankviz.core.cost.pace import Calibration
    from rankviz.core.cost.setup import Gpu
    from rankviz.core.fit.decide import FitAnswer
    from rankviz.core.model.spec import ModelSpec


KEPT = 32
"""Questions whose answers are kept, of about 0.4 MB each. Every page opens with the same one."""
MANY_RANKS = 32
"""An estimate of so many is kept. One of a few ranks takes 1 ms to make."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimateAnswer:
    """An estimate, and what it rests on."""

    estimate: Estimate
    calibration: Calibration | None
    """What runs and probes on this machine say of it; None where there are none."""
    basis: Basis

    def rank(self, r: int) -> RankEstimate:
        """One rank of the question."""
        return next(rank for rank in self.estimate.ranks if rank.r == r)

    def share(self, rank: RankEstimate) -> float:
        """Trainable parameters as a share of the base model's."""
        return rank.adapter_parameters / self.estimate.model.total_parameters


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

    def __init__(self, workspace: Workspace, models: Models, measured: MeasuredRuns, accuracy: Accuracy):
        self._workspace = workspace
        self._models = models
        self._measured = measured
        self._accuracy = accuracy

    def estimate(self, question: Question) -> EstimateAnswer:
        """Exact adapter numbers, and ranges for memory, time and cost, for every rank of the question."""
        gpu = hardware.find_gpu(self._workspace.gpus, question.gpu) if question.gpu else None
        estimated = _estimate_once if len(question.ranks) >= MANY_RANKS else estimate
        answer = estimated(self._models.get(question.model_id), question, gpu, self._workspace.assumptions)
        answer = replace(answer, notes=(*self._about_cards(answer), *answer.notes))
        calibration = self._gpu_calibration(answer) if gpu and self._measured.any() else None
        if calibration is not None:
            from rankviz.core.cost.pace import calibrated_estimate

            answer = calibrated_estimate(answer, calibration, self._workspace.assumptions)
        basis = basis_of(self._accuracy.by_kind(), self._stack(answer))
        return EstimateAnswer(estimate=answer, calibration=calibration, basis=basis)

    def _about_cards(self, answer: Estimate) -> tuple[str, ...]:
        """What the card is too old for, and what a checkpoint that was published quantized means for training."""
        question = answer.question
        setup = question.training
        # Unsloth fetches its own copies of such checkpoints.
        stored = None if setup.framework == "unsloth" else by_name(question.model_id)
        return (
            *map(Caution, as_stored(answer.model, question.model_id, stored, setup)),
            *card_notes(answer.model, question, answer.gpu),
        )

    def _stack(self, answer: Estimate) -> Stack:
        """By which measured rows are chosen: those of eager attention where a kernel holds the attention matrix."""
        training, lora = answer.question.training, answer.question.lora
        if answer.attention_kernel in ("eager", "math"):
            training = replace(training, attn_implementation="eager")
        return stack_on(card(None), training, lora.use_dora, self._workspace.assumptions)

    def rests_on(self, question: Question, r: int) -> SimilarRows:
        """The measured rows that an estimate rests on: how far off they were, and the most similar ones."""
        from rankviz.core.accuracy.report import rests_on

        answer = self.estimate(replace(question, ranks=(r,))).estimate
        (rank,) = answer.ranks
        gpu = answer.gpu.name if answer.gpu else None
        return rests_on(self._accuracy.shipped(), self._stack(answer), rank.memory.allocated, gpu)

    def fit(self, question: Question, r: int, prices: Mapping[str, float] | None = None) -> FitAnswer:
        """What fits at this rank, the effect of each change, what to change, and which GPUs fit, cheapest first.

        Args:
            question: Its other ranks are ignored.
            r: The rank.
            prices: Your own, in USD per hour by GPU, instead of the table's.
        """
        gpu = hardware.find_gpu(self._workspace.gpus, question.gpu) if question.gpu else None
        own = self.own_prices(prices or {})
        one = replace(question, ranks=(r,))
        return _decide_once(
            self._models.get(question.model_id),
            one,
            gpu,
            self._workspace.gpus,
            self._workspace.assumptions,
            tuple(own.items()),
        )

    def own_prices(self, prices: Mapping[str, float]) -> dict[str, float]:
        """Prices by GPU id, from prices by GPU as people name it."""
        return {hardware.find_gpu(self._workspace.gpus, name).id: price for name, price in prices.items()}

    def _gpu_calibration(self, answer: Estimate) -> Calibration | None:
        """What was measured says of an estimate for the GPU of this very machine."""
        from rankviz import machine

        here = machine.here()
        if here["device"] != "cuda" or self._workspace.gpu_of(here) != answer.gpu:
            return None
        return self._measured.of_question(answer.model, answer.question.lora, answer.question.training, here)

    def adapter(self, question: Question, r: int) -> AdapterDetail:
        """One rank's adapter: by module and block, its size, and what to know about it."""
        replace(question, ranks=(r,)).validate()
        device = card(hardware.find_gpu(self._workspace.gpus, question.gpu) if question.gpu else None)
        training = question.training.without_auto(device)
        plan = plan_on(self._models.get(question.model_id), question.lora_at(r), training, device)
        parameters = plan.parameters(r)
        return AdapterDetail(
            plan=plan,
            r=r,
            dtype=dtype_on(plan.model, training, device),
            parameters=parameters,
            file_bytes=file_bytes_on(plan, r, training, device),
        )


_estimate_once = lru_cache(KEPT)(estimate)


@lru_cache(KEPT)
def _decide_once(
    model: ModelSpec,
    question: Question,
    gpu: Gpu | None,
    gpus: tuple[Gpu, ...],
    assumptions: Assumptions,
    prices: tuple[tuple[str, float], ...],
) -> FitAnswer:
    from rankviz.core.fit.decide import decide

    return decide(model, question, gpu, gpus, assumptions, dict(prices))


BasisJSON = shape(Basis)


class EstimateAnswerJSON(EstimateJSON):
    """An estimate; how far off settings of its kind were (`rests_on`), and what probes and runs on this machine say of
    it (`calibration`)."""

    calibration: CalibrationJSON | None
    rests_on: BasisJSON


def estimate_json(answer: EstimateAnswer) -> EstimateAnswerJSON:
    """As `rankviz estimate --json` prints it."""
    return {
        **estimate_as_json(answer.estimate),
        "calibration": answer.calibration.as_json() if answer.calibration else None,
        "rests_on": asdict(answer.basis),
    }
