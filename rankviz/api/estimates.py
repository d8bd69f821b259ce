"""Estimates: cost of each rank, settings that fit a GPU, and errors of the estimates against measured runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rankviz.api.workspace import Operations
from rankviz.catalog import hardware
from rankviz.catalog.measurements import load_range_evidence
from rankviz.core.accuracy.report import Basis, basis_of
from rankviz.core.cost.estimate import CalibrationJSON, Estimate, EstimateJSON, RankEstimate, estimate, estimate_as_json
from rankviz.core.cost.notes import as_stored, by_name, card_notes
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import Gpu, card
from rankviz.core.cost.stack import Stack, stack_on
from rankviz.core.from_json import shape
from rankviz.core.quantity import Caution
from rankviz.errors import UnknownGpuError

if TYPE_CHECKING:
    from rankviz.core.accuracy.predicted import MeasuredRow, PredictedRow
    from rankviz.core.accuracy.report import AccuracyReport
    from rankviz.core.cost.assumptions import Assumptions
    from rankviz.core.cost.pace import Calibration
    from rankviz.core.fit import FitAnswer
    from rankviz.core.model.spec import ModelSpec

MOST_ANSWERS = 32
"""Number of questions whose answers are cached, about 0.4 MB each. Every page opens with the same question."""
MANY_RANKS = 32
"""Number of ranks from which an estimate is cached. An estimate of a few ranks takes 1 ms."""


class Accuracy(Operations):
    """Errors of the estimates against measured runs."""

    def of_file(self, file: Path) -> AccuracyReport:
        """Return the measured rows of a CSV file with predictions, and errors by group."""
        from rankviz.catalog.measurements import read_rows

        return self._report(read_rows(Path(file)), self._workspace.assumptions)

    def shipped(self) -> AccuracyReport:
        """Return the report that RankViz ships. The width of the ranges in estimates comes from its errors."""
        from rankviz.catalog.measurements import load_validation

        return load_validation(self._workspace.assets)

    def remake(self) -> AccuracyReport:
        """Compute the shipped report again, in three passes: first the errors, then all rows with ranges as wide as
        these errors, then each row predicted without its source."""
        from rankviz.catalog.measurements import shipped_rows
        from rankviz.core.accuracy.predicted import left_out_predictions
        from rankviz.core.accuracy.report import widths

        rows = shipped_rows(self._workspace.assets)
        constants = hardware.load_constants(self._workspace.assets)
        report = self._report(rows, constants)
        measured = constants.with_rows(widths(report.evidence, report.made))
        return self._report(rows, measured, left_out_predictions(rows, self._predict, constants, report.made))

    def _report(
        self, rows: Sequence[MeasuredRow], assume: Assumptions, left_out: Sequence[PredictedRow] | None = None
    ) -> AccuracyReport:
        from datetime import date

        from rankviz.core.accuracy.predicted import summarize

        return summarize([self._predict(row, assume) for row in rows], date.today().isoformat(), left_out)

    def _predict(self, row: MeasuredRow, assumptions: Assumptions) -> PredictedRow:
        from rankviz.core.accuracy.predicted import predict_row

        return predict_row(row, self._api.models.get, self._card, assumptions)

    def _card(self, name: str) -> Gpu | None:
        try:
            return hardware.find_gpu(self._workspace.gpus, name)
        except UnknownGpuError:
            return hardware.gpu_of_device(self._workspace.gpus, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimateAnswer:
    """An estimate with the measurements that support it."""

    estimate: Estimate
    calibration: Calibration | None
    """Correction by runs and probes on this machine; None without any."""
    basis: Basis

    def rank(self, r: int) -> RankEstimate:
        """Return the estimate of one rank of the question."""
        return next(rank for rank in self.estimate.ranks if rank.r == r)

    def share(self, rank: RankEstimate) -> float:
        """Return the trainable parameters as a fraction of the base model's parameters."""
        return rank.adapter_parameters / self.estimate.model.total_parameters


class Estimates(Operations):
    """Estimates of memory, time and cost."""

    def estimate(self, question: Question) -> EstimateAnswer:
        """Return exact adapter sizes, and ranges for memory, time and cost, for every rank of the question."""
        gpu, assume = self._gpu(question), self._workspace.assumptions
        estimated = _estimate_once if len(question.ranks) >= MANY_RANKS else estimate
        answer = estimated(self._api.models.get(question.model_id), question, gpu, assume)
        answer = replace(answer, notes=(*self._about_cards(answer), *answer.notes))
        calibration = self._calibration(answer) if gpu and self._api.measured.any() else None
        if calibration is not None:
            from rankviz.core.cost.pace import calibrated_estimate

            answer = calibrated_estimate(answer, calibration, assume)
        basis = basis_of(load_range_evidence(self._workspace.assets)[0], self._stack(answer))
        return EstimateAnswer(estimate=answer, calibration=calibration, basis=basis)

    def _gpu(self, question: Question) -> Gpu | None:
        return hardware.find_gpu(self._workspace.gpus, question.gpu) if question.gpu else None

    def _about_cards(self, answer: Estimate) -> tuple[str, ...]:
        """Return notes on limits of old GPUs, and on training a checkpoint that was published quantized."""
        question = answer.question
        setup = question.training
        # Unsloth fetches its own copies of such checkpoints.
        stored = None if setup.framework == "unsloth" else by_name(question.model_id)
        return (
            *map(Caution, as_stored(answer.model, question.model_id, stored, setup)),
            *card_notes(answer.model, question, answer.gpu),
        )

    def _stack(self, answer: Estimate) -> Stack:
        """Return the setup that selects measured rows: eager attention where a kernel stores the attention matrix."""
        training, lora = answer.question.training, answer.question.lora
        if answer.attention_kernel in ("eager", "math"):
            training = replace(training, attn_implementation="eager")
        return stack_on(card(None), training, lora.use_dora, self._workspace.assumptions)

    def fit(self, question: Question, r: int, prices: Mapping[str, float] | None = None) -> FitAnswer:
        """Return what fits at this rank, the effect of each change, what to change, and which GPUs fit, cheapest
        first.

        Args:
            question: The settings; its ranks are ignored.
            r: The rank.
            prices: Prices in USD per hour by GPU name, instead of the table's.
        """
        return _decide_once(
            self._api.models.get(question.model_id),
            replace(question, ranks=(r,)),
            self._gpu(question),
            self._workspace.gpus,
            self._workspace.assumptions,
            tuple((hardware.find_gpu(self._workspace.gpus, name).id, price) for name, price in (prices or {}).items()),
        )

    def _calibration(self, answer: Estimate) -> Calibration | None:
        """Return the correction by measurements here; None unless the estimate is for this machine's GPU."""
        from rankviz import machine

        here = machine.here()
        if here["device"] != "cuda" or self._workspace.gpu_of(here) != answer.gpu:
            return None
        return self._api.measured.of_question(answer.model, answer.question.lora, answer.question.training, here)


_estimate_once = lru_cache(MOST_ANSWERS)(estimate)


@lru_cache(MOST_ANSWERS)
def _decide_once(
    model: ModelSpec,
    question: Question,
    gpu: Gpu | None,
    gpus: tuple[Gpu, ...],
    assumptions: Assumptions,
    prices: tuple[tuple[str, float], ...],
) -> FitAnswer:
    from rankviz.core.fit import decide

    return decide(model, question, gpu, gpus, assumptions, dict(prices))


BasisJSON = shape(Basis)


class EstimateAnswerJSON(EstimateJSON):
    """An estimate, with the errors of estimates for similar settings (`rests_on`), and the correction by probes and
    runs on this machine (`calibration`)."""

    calibration: CalibrationJSON | None
    rests_on: BasisJSON


def estimate_json(answer: EstimateAnswer) -> EstimateAnswerJSON:
    """Return the answer as the JSON of `rankviz estimate --json`."""
    return {
        **estimate_as_json(answer.estimate),
        "calibration": answer.calibration.as_json() if answer.calibration else None,
        "rests_on": asdict(answer.basis),
    }
