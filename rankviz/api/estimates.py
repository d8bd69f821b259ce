"""Estimates: cost of each rank, settings that fit a GPU, and errors of the estimates against measured runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankviz import units
from rankviz.api.workspace import Cache, Operations, Part
from rankviz.catalog import hardware
from rankviz.catalog.measurements import load_range_evidence, load_validation
from rankviz.core.accuracy.report import AccuracyReport, Basis, basis_of, basis_of_grpo
from rankviz.core.cost.estimate import (
    FIT_WORDS,
    CalibrationJSON,
    Estimate,
    EstimateJSON,
    RankEstimate,
    estimate,
    estimate_as_json,
)
from rankviz.core.cost.notes import Published, as_stored, by_name, card_notes
from rankviz.core.cost.question import Question, plan_on
from rankviz.core.cost.setup import Gpu, card
from rankviz.core.cost.stack import stack_on
from rankviz.core.from_json import shape
from rankviz.core.lora.notes import experts_at
from rankviz.core.model.spec import WHOLE
from rankviz.core.quantity import Assumptions, Caution
from rankviz.errors import UnknownGpuError

if TYPE_CHECKING:
    from pandas import DataFrame

    from rankviz.api import Api
    from rankviz.api.measured import MeasuredRuns
    from rankviz.core.accuracy.predicted import MeasuredRow, PredictedRow
    from rankviz.core.cost.pace import Calibration
    from rankviz.core.fit import FitAnswer
    from rankviz.core.serving import ServingJSON

MOST_ANSWERS = 32
"""Number of questions whose answers are cached, about 0.4 MB each. Every page opens with the same question."""
MANY_RANKS = 32
"""Least number of ranks for which an estimate is cached; an estimate of a few ranks takes 1 ms."""
SHOWN_RANKS = 16
"""Most ranks in the repr of an answer."""
MEMORY = ("Memory (nvidia-smi)", "Memory (GPU)")
"""Heading of the memory of a GPU, and of a Mac."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimateAnswer:
    """An estimate with the measurements that support it. Its repr is a table that fits a screen."""

    estimate: Estimate
    calibration: Calibration | None
    """Correction by runs and probes on this machine; None without any."""
    basis: Basis

    def rank(self, r: int) -> RankEstimate:
        """Return the estimate of one rank of the question."""
        return next(rank for rank in self.estimate.ranks if rank.r == r)

    def texts(self, rank: RankEstimate) -> dict[str, str]:
        """Return the figures of a rank as texts, by their headings; empty where there is none."""
        memory, gpu = rank.memory, self.estimate.gpu
        return {
            "r": str(rank.r),
            "alpha": f"{rank.lora_alpha:g}",
            "Trainable": f"{rank.adapter_parameters:,}",
            "Share": f"{100 * rank.adapter_parameters / self.estimate.model.total_parameters:.3f} %",
            "File": units.file_size(rank.adapter_bytes),
            MEMORY[gpu is not None and gpu.is_mac]: units.memory_span(memory),
            "Time": units.time_span(rank.duration and rank.duration.total),
            "Cost": units.money_span(rank.usd),
            "Generation per step": units.time_span(rank.rollout["generation_seconds"]) if rank.rollout else "",
            "Fit": FIT_WORDS[rank.fit] if rank.fit else "no GPU chosen",
            "Experts": experts_at(self.estimate.plan, rank.r) or "",
            "While loading": units.memory_span(memory.loading_band) if memory.fuller_while_loading else "",
        }

    @property
    def title(self) -> str:
        """The model with its size, and the GPU."""
        model, gpu, number = self.estimate.model, self.estimate.gpu, self.estimate.question.training.gpus
        on = f", on {f'{number} x ' if number > 1 else ''}{gpu.name}" if gpu else ""
        return f"{model.id}: {model.total_parameters:,} parameters{on}"

    def __repr__(self) -> str:
        ranks, notes = self.estimate.ranks, self.estimate.notes
        rows = [self.texts(rank) for rank in ranks[:SHOWN_RANKS]]
        rows = [{name: name for name in rows[0] if any(row[name] for row in rows)}, *rows]
        columns = [[row[name].rjust(max(len(each[name]) for each in rows)) for row in rows] for name in rows[0]]
        more = [f"and {len(ranks) - SHOWN_RANKS:,} more ranks"] if len(ranks) > SHOWN_RANKS else []
        about = f"{units.counted(len(notes), 'note')} in .estimate.notes; all numbers in .to_frame()"
        return "\n".join([self.title, *map("  ".join, zip(*columns, strict=True)), *more, about])

    def to_frame(self) -> DataFrame:
        """Return a pandas DataFrame with one row per rank: parameters, bytes, seconds, USD and the settings. What the
        numbers rest on is in its `attrs`."""
        import pandas as pd

        from rankviz.exports.tables import ranks_table

        table = ranks_table(self.estimate, self.basis)
        frame = pd.DataFrame([*table.rows]).drop(columns=[*table.sources])
        frame.attrs.update(table.sources)
        return frame


class Estimates(Operations):
    """Estimates of memory, time and cost, what fits a GPU, and errors of the estimates against measured runs."""

    measured: MeasuredRuns = Part("api.measured.MeasuredRuns", "_api")
    """Finished runs and probes that correct the estimates."""

    def __init__(self, api: Api):
        super().__init__(api)
        self._fits = Cache["FitAnswer"](MOST_ANSWERS)

    def estimate(self, question: Question) -> EstimateAnswer:
        """Return exact adapter sizes, and ranges for memory, time and cost, for every rank of the question."""
        gpu, assume, model = self.gpu_of(question), self._workspace.assumptions, self._api.models.get(question.model_id)
        reference = self._workspace.references.model(question.model_id)
        answer = (_estimate_once if len(question.ranks) >= MANY_RANKS else estimate)(model, question, gpu, assume)
        training, lora = answer.question.training, answer.question.lora
        # Unsloth and MLX LM fetch other copies of checkpoints that were published quantized.
        stored = None if training.framework in ("unsloth", "mlx") else by_name(reference.text)
        cautions = map(Caution, as_stored(answer.model, reference.text, stored, question.training))
        assumed = filter(None, [reference.note])
        notes = (*assumed, *cautions, *card_notes(answer.model, answer.question, answer.gpu), *answer.notes)
        if training.grpo:
            from rankviz.core.forecast.bands import NO_FORECAST_OF_RL

            notes = (*notes, f"{NO_FORECAST_OF_RL} The command advise with the use case rl lists them.")
        answer = replace(answer, notes=notes)
        calibration = None
        if gpu and training.gpus == 1 and not training.grpo and self._workspace.has_runs:
            from rankviz import machine
            from rankviz.core.cost.pace import calibrated_estimate

            here = machine.here()
            if here["device"] == "cuda" and self._workspace.gpu_of(here) == answer.gpu:
                calibration = self.measured.of_question(answer.model, lora, training, here)
            answer = calibrated_estimate(answer, calibration, assume) if calibration else answer
        if answer.attention_kernel in ("eager", "math"):  # measured rows with eager attention store its matrix too
            training = replace(training, attn_implementation="eager")
        stack = stack_on(card(None), training, lora.use_dora, assume)
        basis = basis_of(load_range_evidence(self._workspace.assets)[0], stack)
        basis = basis_of_grpo(load_validation(self._workspace.assets).grpo) if training.grpo else basis
        return EstimateAnswer(estimate=answer, calibration=calibration, basis=basis)

    def fit(self, question: Question, r: int, prices: Mapping[str, float] | None = None) -> FitAnswer:
        """Return the largest rank, batch and length that fit, the effect of each change, the smallest change that makes
        this setting fit, and the GPUs, cheapest first.

        Args:
            question: The settings; its ranks are ignored.
            r: The rank.
            prices: Prices in USD per hour by GPU name, instead of the table's.
        """
        from rankviz.core.fit import decide

        model, gpu = self._api.models.get(question.model_id), self.gpu_of(question)
        asked = replace(question, ranks=(r,))
        gpus, assume = self._workspace.gpus, self._workspace.assumptions
        own = {hardware.find_gpu(gpus, name).id: price for name, price in (prices or {}).items()}
        key = model, asked, gpu, *own.items()
        return self._fits.get(key, lambda: decide(model, asked, gpu, gpus, assume, own))

    def serving(self, question: Question, r: int, **load: Any) -> ServingJSON:
        """Return what serving the adapter costs: vLLM's slots and refusals, how many fit on the question's GPU, the
        merged model, llama.cpp's adapter file, and published slow-downs.

        Args:
            question: The settings; its ranks are ignored.
            r: The rank.
            load: Of `core.serving.serve`: base_bits (16, 8 or 4), context and sequences (None for an assumed range).
        """
        from rankviz.core.serving import serve
        from rankviz.exports.recipe import loadable, published

        gpu, asked = self.gpu_of(question), replace(question, ranks=(r,))
        asked.validate()
        model = self._api.models.get(question.model_id)
        typed = question.model_id.strip().removesuffix(WHOLE)
        typed = str(Path(typed).parent) if Path(typed).name == "config.json" else typed
        model_id = typed if by_name(typed) else loadable(model, typed)  # served in the format of its name
        is_nf4 = "bnb-4bit" in model_id.lower()
        plan = plan_on(model, asked.lora, asked.training, card(None))
        facts, assume = hardware.load_serving(self._workspace.assets), self._workspace.assumptions
        weights = {"model_id": model_id, "gpus": asked.training.gpus}
        weights["stored"] = Published("NF4", "") if is_nf4 else published(model_id)
        served = serve(plan, asked.lora_at(r), facts, gpu, assume, **load, **weights)
        assumed = filter(None, [self._workspace.references.model(question.model_id).note])
        return {**served, "notes": [*assumed, *served["notes"]]}

    def gpu_of(self, question: Question) -> Gpu | None:
        """Return the row of the question's GPU; None for a question without one."""
        return hardware.find_gpu(self._workspace.gpus, question.gpu) if question.gpu else None

    def accuracy(self) -> AccuracyReport:
        """Return the errors against measured runs that RankViz ships; the width of the ranges comes from them."""
        return load_validation(self._workspace.assets)

    def validate(self, file: Path | None = None) -> AccuracyReport:
        """Return the measured rows of a CSV file with predictions, and errors by group. Without a file, compute the
        shipped report again, in three passes: first the errors, then all rows with ranges as wide as these errors,
        then each row predicted without its source; GRPO runs by themselves, since they taught no constant."""
        from datetime import date

        from rankviz.catalog.measurements import GRPO_FILE, read_rows, shipped_rows
        from rankviz.core.accuracy.predicted import left_out_predictions, predict_row, summarize
        from rankviz.core.accuracy.report import widths

        def card_of(name: str) -> Gpu | None:
            try:
                return hardware.find_gpu(self._workspace.gpus, name)
            except UnknownGpuError:
                return hardware.gpu_of_device(self._workspace.gpus, name)

        def predict(row: MeasuredRow, assume: Assumptions) -> PredictedRow:
            return predict_row(row, self._api.models.get, card_of, assume)

        today = date.today().isoformat()
        if file:
            return summarize([predict(row, self._workspace.assumptions) for row in read_rows(Path(file))], today)
        rows, constants = shipped_rows(self._workspace.assets), hardware.load_constants(self._workspace.assets)
        errors = summarize([predict(row, constants) for row in rows], today)
        measured = constants.with_rows(widths(errors.evidence, errors.made))
        unseen = left_out_predictions(rows, predict, constants, errors.made)
        report = summarize([predict(row, measured) for row in rows], today, unseen)
        grpo = summarize([predict(row, measured) for row in read_rows(self._workspace.assets / GRPO_FILE)], today)
        return replace(report, grpo=grpo.groups, grpo_rows=grpo.rows)


_estimate_once = lru_cache(MOST_ANSWERS)(estimate)


BasisJSON = shape(Basis)
GpuRowJSON = shape(
    Gpu,
    *("id", "name", "memory_bytes", "usable_bytes", "usable_source", "bf16_flops_per_second", "flops_source"),
    *("bandwidth_bytes_per_second", "supports_bf16", "compute_capability", "prices"),
)
"""One GPU in lists. The first price is the one that estimates use."""


class EstimateAnswerJSON(EstimateJSON):
    """An estimate, with the errors of estimates for similar settings (`rests_on`), and the correction by probes and
    runs on this machine (`calibration`)."""

    calibration: CalibrationJSON | None
    rests_on: BasisJSON


def estimate_json(answer: EstimateAnswer, assumed: str = "") -> EstimateAnswerJSON:
    """Return the answer as the JSON of `rankviz estimate --json`. assumed: A further note, on the assumed length."""
    result = estimate_as_json(answer.estimate)
    return {
        **result,
        "notes": [*filter(None, [assumed]), *result["notes"]],
        "calibration": answer.calibration.as_json() if answer.calibration else None,
        "rests_on": asdict(answer.basis),
    }
