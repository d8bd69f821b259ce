"""Answers composed from several rooms, as the command line and the HTTP endpoints give them.

Keys may be added, none renamed. The answers of one room of the core have their function there: core.fit.json,
core.probe.summary and others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TypedDict

from rankviz import verdict
from rankviz.api.advice import AdviceAnswer
from rankviz.api.estimates import EstimateAnswer
from rankviz.api.runs.stored import RunSummary
from rankviz.api.runs.verdicts import SweepVerdict
from rankviz.core.accuracy.evidence import Basis
from rankviz.core.advice import words
from rankviz.core.advice.advice import Alternative, Capacity, Step
from rankviz.core.advice.use_case import Data, Goal
from rankviz.core.bounds import name_alone
from rankviz.core.cost.estimate import CalibrationJSON, EstimateJSON, Fit, estimate_as_json
from rankviz.core.fit.decide import fit_in_words
from rankviz.core.forecast.bands import RankForecast
from rankviz.core.from_json import shape
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.fast_curve import CurvePoint, FastCurve
from rankviz.core.runs.record import HeldOutAnswer
from rankviz.store.archive import SummaryRow, summary_row
from rankviz.verdict import VerdictJSON

GoalJSON = shape(Goal)
DataJSON = shape(Data)
StepJSON = shape(Step)
ReasonJSON = shape(words.Reason)
RegretJSON = shape(Alternative)


class LearningRatesJSON(TypedDict):
    """The best of the learning rates that studies tried at these ranks, of one base model or of all."""

    low: float
    high: float
    ranks: list[int]
    of: str


class CapacityJSON(shape(Capacity)):
    """The adapter against the data. `filled` is the share of its capacity that they take. `holds_from` is always null:
    capacity does not move the rank."""

    enough: bool | None
    filled: float | None
    holds_from: int | None


class NearStudyJSON(TypedDict):
    """A published study; `why` says what makes it near. Where it adapts experts in another way, `equal_ranks` has for
    each of its ranks the one of as many parameters here."""

    study_id: str
    base_model: str
    why: list[str]
    learning_rate: str
    source: str | None
    caveat: str
    equal_ranks: dict[str, float] | None


class AdvisedRankForecastJSON(shape(RankForecast)):
    """How far the recommended rank falls short of the reference rank in published studies, in `unit`."""

    unit: str
    reference_rank: int
    validated: bool
    in_words: str


class AdviceAnswerJSON(TypedDict):
    """The recommended settings for one model, in figures and in sentences, and what they rest on. Where `r_range` is
    given, studies disagree and it is recommended instead of `r`. `confidence`, `lead`, `general` and `rank_enough` are
    always null: nothing tells the rank of one model, no study leads, and how many models a rank was enough for did not
    hold for publications that were left out. `regret` has how good such advice was. `capacity` is null where the
    model's layers are not known, `fit` also without a GPU, and `forecast` where there is none for the use case."""

    use_case: str
    goal: GoalJSON
    r: int
    r_range: list[int] | None
    lora_alpha: int
    learning_rate: float
    learning_rate_best: LearningRatesJSON | None
    learning_rates_to_try: list[float]
    target_modules: str
    target_names: list[str]
    take: str
    because: str
    sentence: str
    then: list[str]
    general: None
    lead: None
    reasons: list[ReasonJSON]
    confidence: str | None
    confidence_in_words: str
    regret: list[RegretJSON]
    would_change: list[str]
    steps: list[StepJSON]
    capacity: CapacityJSON | None
    data: DataJSON
    rank_enough: None
    nearest: list[NearStudyJSON]
    model_id: str
    gpu: str | None
    fit: Fit | None
    fit_in_words: str
    forecast: AdvisedRankForecastJSON | None
    notes: list[str]


def advice_json(answer: AdviceAnswer) -> AdviceAnswerJSON:
    """As `rankviz advise --json` prints it."""
    advice, forecast = answer.advice, answer.forecast
    row, cap, rates = words.at_recommended(advice, forecast), advice.capacity, advice.rates
    of_forecast = {name: getattr(forecast, name) for name in ("unit", "reference_rank", "validated")}
    return {
        "model_id": answer.model_id,
        "use_case": advice.case.name,
        "goal": asdict(advice.goal),
        "r": advice.r,
        "r_range": advice.case.r_range and list(advice.case.r_range),
        "lora_alpha": advice.lora_alpha,
        "learning_rate": advice.learning_rate,
        "learning_rate_best": rates
        and {"low": rates.low, "high": rates.high, "ranks": list(rates.ranks), "of": advice.rates_of},
        "learning_rates_to_try": list(advice.learning_rates),
        "target_modules": answer.target_modules,
        "target_names": list(answer.target_names),
        "take": words.take(advice),
        "because": words.because(advice),
        "sentence": f"{words.take(advice)}. Reason: {words.because(advice)}.",
        "then": list(words.main_sentences(advice)[1:]),
        "general": None,
        "lead": None,
        "reasons": [reason._asdict() for reason in words.reasons(advice)],
        "confidence": None,
        "confidence_in_words": words.confidence_in_words(advice),
        "regret": [
            {**each._asdict(), "score": each.score._asdict(), "loss": each.loss._asdict()}
            for each in advice.record.alternatives
        ],
        "would_change": list(words.would_change(advice)),
        "steps": [step._asdict() for step in advice.steps],
        "capacity": cap and {**cap._asdict(), "enough": cap.enough, "filled": cap.filled, "holds_from": None},
        "data": advice.data._asdict(),
        "rank_enough": None,
        "nearest": [
            {
                "study_id": near.line.study.study_id,
                "base_model": near.line.model.base_model,
                "why": list(near.why),
                "learning_rate": near.line.study.learning_rate_label,
                "source": near.line.study.source,
                "caveat": near.line.study.caveat,
                "equal_ranks": {str(r): x for r, x in advice.equal_ranks.get(near.line.study.study_id, {}).items()}
                or None,
            }
            for near in advice.shown
        ],
        "gpu": answer.gpu,
        "fit": answer.fit,
        "fit_in_words": fit_in_words(answer.setting) if answer.setting else "",
        "forecast": row and {**of_forecast, **asdict(row), "in_words": words.forecast_sentence(advice, forecast)},
        "notes": list(answer.notes),
    }


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


RunEstimateJSON = shape(RunEstimate)


class AnswerJSON(TypedDict):
    """One held-out prompt; before and after training are null where it was not answered."""

    example: int
    prompt: str
    reference: str
    before: str | None
    after: str | None


class ListedRunJSON(SummaryRow):
    """One run: what was asked of it and what was measured, flat, with the estimate beside it. Losses are nats a token,
    null is not known. Folders are those of an own machine."""

    error: str | None
    engine: str | None
    where: str | None
    attempt: int
    waits: str | None
    device_seconds: float
    device_seconds_is_whole: bool
    folder: str | None
    adapter_folder: str | None
    estimate: RunEstimateJSON | None


class RunJSON(ListedRunJSON):
    """The same with the answers to prompts."""

    answers: list[AnswerJSON]


class CurvePointJSON(shape(CurvePoint)):
    """One rank of a fast curve."""

    run_id: str


def run_json(summary: RunSummary) -> RunJSON:
    """What was requested and measured, flat, with the estimate and the answers beside it."""
    return {**listed_run_json(summary), "answers": [_answer_json(each) for each in summary.record.answers]}


def listed_run_json(summary: RunSummary) -> ListedRunJSON:
    """The same without the answers, which are long and stand in the journals."""
    row = summary_row(summary.record)
    if summary.folder is None:  # no path of this machine is for who reads this
        row |= {"base": name_alone(row["base"]), "data": name_alone(row["data"])}
    return {
        **row,
        "error": summary.record.error or None,
        "engine": summary.place.engine or None,
        "where": summary.place.where or None,
        "attempt": summary.record.shown_attempt,
        "waits": summary.record.waits or None,
        "device_seconds": summary.device_time.seconds,
        "device_seconds_is_whole": summary.device_time.is_whole,
        "folder": summary.folder and str(summary.folder),
        "adapter_folder": summary.adapter_folder and str(summary.adapter_folder),
        "estimate": asdict(summary.estimate) if summary.estimate else None,
    }


def _answer_json(answer: HeldOutAnswer) -> AnswerJSON:
    return {
        "example": answer.place,
        "prompt": answer.prompt,
        "reference": answer.reference,
        "before": answer.before and answer.before.text,
        "after": answer.after and answer.after.text,
    }


def curve_points_json(curves: Iterable[FastCurve]) -> Sequence[CurvePointJSON]:
    """The points of fast curves, the lowest rank of each first."""
    return [{"run_id": curve.run_id, **point._asdict()} for curve in curves for point in curve.points]


class SweepVerdictJSON(VerdictJSON):
    """Which ranks of a sweep differ. Differences, `within` and the noise are in `unit`."""

    sweep_id: str


def verdict_json(answer: SweepVerdict, *, would_tell: bool = True) -> SweepVerdictJSON:
    """The verdict on a sweep, as rankviz.verdict has it; that on a table is its own."""
    said = verdict.verdict_json(answer.verdict, answer.borrowed, would_tell=would_tell)
    return {"sweep_id": answer.sweep_id, **said}
