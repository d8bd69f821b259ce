"""Runs, points of fast curves and verdicts, as the command line and the HTTP endpoints give them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TypedDict

from rankviz.api.runs.stored import RunSummary
from rankviz.core.bounds import name_alone
from rankviz.core.from_json import shape
from rankviz.core.runs.estimate import RunEstimate
from rankviz.core.runs.fast_curve import CurvePoint, FastCurve
from rankviz.core.runs.record import HeldOutAnswer
from rankviz.store.archive import SummaryRow, summary_row

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
