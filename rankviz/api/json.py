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
from rankviz.core.accuracy.report import Basis
from rankviz.core.advice.json import AdviceJSON, as_json
from rankviz.core.advice.words import at_recommended, forecast_sentence
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


class AdvisedRankForecastJSON(shape(RankForecast)):
    """How far the recommended rank falls short of the reference rank in published studies, in `unit`."""

    unit: str
    reference_rank: int
    validated: bool
    in_words: str


class AdviceAnswerJSON(AdviceJSON):
    """An advice for one model. `fit` is null without a GPU or without the model's layers, `forecast` where there is
    none for the use case."""

    model_id: str
    gpu: str | None
    fit: Fit | None
    fit_in_words: str
    forecast: AdvisedRankForecastJSON | None
    notes: list[str]


def advice_json(answer: AdviceAnswer) -> AdviceAnswerJSON:
    """As `rankviz advise --json` prints it."""
    forecast, row = answer.forecast, at_recommended(answer.advice, answer.forecast)
    return {
        "model_id": answer.model_id,
        **as_json(answer.advice, answer.target_modules, answer.target_names),
        "gpu": answer.gpu,
        "fit": answer.fit,
        "fit_in_words": fit_in_words(answer.setting) if answer.setting else "",
        "forecast": row
        and {
            "unit": forecast.unit,
            "reference_rank": forecast.reference_rank,
            "validated": forecast.validated,
            **asdict(row),
            "in_words": forecast_sentence(answer.advice, forecast),
        },
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
