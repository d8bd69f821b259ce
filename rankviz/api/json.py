"""Answers composed from several rooms, as the command line and the HTTP endpoints give them.

Keys may be added, none renamed. The answers of one room of the core have their function there: core.fit.json,
core.probe.summary and others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankviz.api.advice import AdviceAnswer
    from rankviz.api.estimates import EstimateAnswer
    from rankviz.api.runs.summary import RunSummary
    from rankviz.api.runs.verdicts import SweepVerdict
    from rankviz.core.runs.fast_curve import FastCurve
    from rankviz.core.runs.held_out_answers import HeldOutAnswer


def estimate_json(answer: EstimateAnswer) -> dict[str, Any]:
    """As `rankviz estimate --json` prints it."""
    from rankviz.core.cost.estimate import as_json

    return {
        **as_json(answer.estimate),
        "calibration": answer.calibration.as_json() if answer.calibration else None,
        "rests_on": asdict(answer.basis),
    }


def advice_json(answer: AdviceAnswer) -> dict[str, Any]:
    """As `rankviz advise --json` prints it."""
    from rankviz.core.advice.forecast_words import at_recommended, forecast_sentence
    from rankviz.core.advice.json import as_json
    from rankviz.core.advice.words import fit_in_words

    return {
        "model_id": answer.model_id,
        **as_json(answer.advice, answer.target_modules, answer.target_names),
        "gpu": answer.gpu,
        "fit": answer.fit,
        "fit_in_words": fit_in_words(answer.estimate, answer.gpu),
        "forecast": {
            "unit": answer.forecast.unit,
            "reference_rank": answer.forecast.reference_rank,
            "validated": answer.forecast.validated,
            **asdict(at_recommended(answer.advice, answer.forecast)),
            "in_words": forecast_sentence(answer.advice, answer.forecast),
        },
    }


def verdict_json(answer: SweepVerdict, *, would_tell: bool = True) -> dict[str, Any]:
    """The verdict on a sweep, as rankviz.verdict has it; that on a table is its own."""
    from rankviz import verdict

    said = verdict.verdict_json(answer.verdict, answer.borrowed, would_tell=would_tell)
    return {"sweep_id": answer.sweep_id, **said}


def run_json(summary: RunSummary) -> dict[str, Any]:
    """What was requested and measured, flat, with the estimate and the answers beside it."""
    return {**listed_run_json(summary), "answers": [_answer_json(each) for each in summary.record.answers]}


def listed_run_json(summary: RunSummary) -> dict[str, Any]:
    """The same without the answers, which are long and stand in the journals."""
    from rankviz.store.archive import summary_row

    row = summary_row(summary.record)
    if summary.folder is None:  # no path of this machine is for who reads this
        row |= {name: Path(row[name]).name for name in ("base", "data") if Path(row[name]).is_absolute()}
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


def _answer_json(answer: HeldOutAnswer) -> dict[str, Any]:
    """before and after are None where the prompt was not answered."""
    return {
        "example": answer.place,
        "prompt": answer.prompt,
        "reference": answer.reference,
        "before": answer.before and answer.before.text,
        "after": answer.after and answer.after.text,
    }


def curve_points_json(curves: Iterable[FastCurve]) -> Sequence[dict[str, Any]]:
    """The points of fast curves, the lowest rank of each first."""
    return [{"run_id": curve.run_id, **point._asdict()} for curve in curves for point in curve.points]
