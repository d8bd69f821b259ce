"""Summaries of predictions for measured rows: errors by group, with sources left out, and the widths of bands."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from rankviz.core.accuracy import report
from rankviz.core.accuracy.predicted import SETTING, MeasuredRow, PredictedRow
from rankviz.core.cost.assumptions import Assumptions

STUDENT_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""Student's t, two-sided 90 %, for 1 to 10 degrees of freedom."""
Figure = Callable[[PredictedRow], float]


def half_width(errors_by_origin: dict[str, Sequence[float]], unmeasured: float = math.inf) -> float:
    """Return t(95 %, G) · s from the errors of each of G sources. unmeasured: half-width of a kind without
    measurements; it is the limit, unless a measurement was further off."""
    worst = max(abs(error) for errors in errors_by_origin.values() for error in errors)
    means = [sum(error * error for error in errors) / len(errors) for errors in errors_by_origin.values()]
    by_spread = STUDENT_95[min(len(means), len(STUDENT_95)) - 1] * math.sqrt(sum(means) / len(means))
    return min(by_spread, max(unmeasured, worst))


class BandEvidence(NamedTuple):
    """Functions of a predicted row: kind of setting, error in the unit of its band, error as a share, and
    whether the measured figure is inside the band."""

    kind: Callable[[PredictedRow], str]
    error: Figure
    share: Figure
    inside: Figure
    unmeasured: str = "width-unmeasured"


MEMORY = BandEvidence(
    kind=lambda p: p.stack.kind,
    error=lambda p: (p.row.measured_bytes - p.predicted.expected) / max(1.0, p.working_bytes),
    share=lambda p: p.error,
    inside=lambda p: p.inside,
)
TIME = BandEvidence(
    kind=lambda p: p.stack.time_kind,
    error=lambda p: math.log(p.row.measured_seconds_per_step / p.seconds.expected),
    share=lambda p: p.seconds.expected / p.row.measured_seconds_per_step - 1,
    inside=lambda p: p.seconds.holds(p.row.measured_seconds_per_step),
    unmeasured="time-width-unmeasured",
)
STATIC = BandEvidence(
    kind=lambda p: "static",
    error=lambda p: p.row.loaded_bytes - p.loaded_bytes,
    share=lambda p: p.loaded_bytes / p.row.loaded_bytes - 1,
    inside=lambda p: True,
    unmeasured="width-static-unmeasured",
)
"""Errors of the counted parts (weights, adapter, states), where memory was read before the first step. In bytes,
because the missing part (workspaces and small tensors) does not grow with the base."""


def evidence_of(
    predictions: Sequence[PredictedRow], unseen: Sequence[PredictedRow] | None = None
) -> report.AccuracyByKind:
    """Return the evidence for each band; `static` excludes GPTQ, a format that RankViz does not estimate. unseen: the
    same rows, each predicted with its source left out."""
    scored = [p for p in predictions if p.scored]
    loaded = [p for p in scored if p.loaded_bytes and p.row.loaded_bytes and p.row.precision != "gptq-int4"]
    others = unseen or ()
    return report.AccuracyByKind(
        static=by_kind(STATIC, loaded),
        memory=by_kind(MEMORY, scored, [p for p in others if p.scored]),
        time=by_kind(TIME, [p for p in predictions if p.seconds], [p for p in others if p.seconds]),
    )


def by_kind(
    evidence: BandEvidence, predictions: Iterable[PredictedRow], unseen: Iterable[PredictedRow] = ()
) -> tuple[report.KindAccuracy, ...]:
    """Return errors by kind of setting; repeats of one setting count as one error, their root mean square."""
    accuracies, left_out = [], _grouped(unseen, evidence.kind)
    for name, members in sorted(_grouped(predictions, evidence.kind).items()):
        errors: dict[str, list[float]] = defaultdict(list)
        for repeats in _by_setting(members):
            errors[repeats[0].row.origin].append(math.sqrt(fmean(evidence.error(p) ** 2 for p in repeats)))
        others = left_out.get(name)
        accuracies.append(
            report.KindAccuracy(
                kind=name,
                half_width=half_width(errors, members[0].stack.assume.value(evidence.unmeasured)),
                groups=tuple(sorted(errors)),
                settings=sum(len(each) for each in errors.values()),
                mean_abs_error=mean_over_settings(members, lambda p: abs(evidence.share(p))),
                left_out_error=others and mean_over_settings(others, lambda p: abs(evidence.share(p))),
                left_out_inside=others and mean_over_settings(others, evidence.inside),
            )
        )
    return tuple(accuracies)


def _grouped(predictions: Iterable[PredictedRow], key: Callable) -> dict:
    groups = defaultdict(list)
    for prediction in predictions:
        groups[key(prediction)].append(prediction)
    return groups


def _by_setting(predictions: Iterable[PredictedRow]) -> Iterable[list[PredictedRow]]:
    """Return groups of rows that repeat one setting."""
    return _grouped(predictions, lambda p: SETTING(p.row)).values()


def mean_over_settings(predictions: Iterable[PredictedRow], figure: Figure) -> float:
    """Return the mean over settings, each weighing the same however often it was repeated."""
    return fmean(fmean(figure(p) for p in members) for members in _by_setting(predictions))


def scores(predictions: Iterable[PredictedRow], name_of: Callable[[PredictedRow], str]) -> tuple[report.Score, ...]:
    """Return scores of predicted rows grouped by name, the largest group first."""
    groups = sorted(_grouped(predictions, name_of).items(), key=lambda item: -len(item[1]))
    return tuple(interval_score(name, members) for name, members in groups)


def interval_score(name: str, members: Sequence[PredictedRow]) -> report.Score:
    """Return the score of a group of predicted rows."""
    return report.Score(
        group=name,
        rows=len(members),
        settings=len(_by_setting(members)),
        mean_abs_error=mean_over_settings(members, lambda p: abs(p.error)),
        worst_error=max((p.error for p in members), key=abs),
        inside_band=mean_over_settings(members, lambda p: p.inside),
        mean_half_width=mean_over_settings(
            members, lambda p: (p.predicted.high - p.predicted.low) / 2 / p.predicted.expected
        ),
    )


def summarize(
    predictions: Sequence[PredictedRow], made: str, unseen: Sequence[PredictedRow] | None = None
) -> report.AccuracyReport:
    """Return the report on these predictions. Errors are shares of the measured figure; each setting weighs the same.
    made: ISO date. unseen: the same rows, each predicted with its source left out; None omits this part."""
    scored = [p for p in predictions if p.scored]
    aside = [p for p in predictions if p.predicted and not p.scored]
    # A GPU's own counters measured these; a process's resident memory is something else.
    on_cards = [p for p in scored if not p.stack.habits.on_cpu]
    every, left_out = "all counted rows on GPUs" if on_cards else "all counted rows", None
    if unseen and on_cards:
        others = [p for p in unseen if p.scored]
        left_out = report.LeftOut(
            origins=scores(others, lambda p: p.row.origin),
            overall=interval_score(every, [p for p in others if not p.stack.habits.on_cpu]),
            time=_time(unseen),
        )
    return report.AccuracyReport(
        made=made,
        rows=tuple(map(_row, unseen or predictions)),
        groups=scores(scored, _table),
        overall=interval_score(every, on_cards or scored) if scored else None,
        not_scored=scores([p for p in aside if not p.bound], _table),
        bounds=scores([p for p in aside if p.bound], _table),
        time=_time(predictions),
        evidence=evidence_of(predictions, unseen),
        left_out=left_out,
    )


def _table(p: PredictedRow) -> str:
    return p.row.group


SHARED = ("row_id", "group", "origin", "model_id", "gpu", "measured_kind", "two_depth_bytes", "two_depth_seconds")


def _row(p: PredictedRow) -> report.ReportRow:
    row, stack, band = p.row, p.stack, p.predicted
    loss = f", {row.loss_path} loss" if row.loss_path != "unknown" else ""
    return report.ReportRow(
        **{name: getattr(row, name) for name in SHARED},
        source=row.source,
        scored=p.scored,
        bound=p.bound,
        reason=p.reason or None,
        kind=stack and stack.kind,
        quantized=stack and stack.setup.quantized,
        setting=f"{row.framework}, {row.precision}, r {row.r}, {len(row.targets)} targets, {row.batch} × "
        f"{row.seq_len:,} tokens, checkpointing {row.checkpointing}, {row.attn} attention{loss}, {row.gpu}",
        measured_bytes=row.measured_bytes if row.use_peak else None,
        predicted_bytes=band and round(band.expected),
        low=band and round(band.low),
        high=band and round(band.high),
        measured_seconds_per_step=row.measured_seconds_per_step if row.use_time else None,
        predicted_seconds_per_step=p.seconds and p.seconds.expected,
    )


def _time(predictions: Sequence[PredictedRow]) -> report.TimeScore | None:
    timed = [p for p in predictions if p.seconds]
    if not timed:
        return None
    return report.TimeScore(
        rows=len(timed),
        mean_abs_error=mean_over_settings(timed, lambda p: abs(TIME.share(p))),
        inside_range=mean_over_settings(timed, TIME.inside),
        widest_high_over_low=max(p.seconds.high / p.seconds.low for p in timed),
    )


def left_out_predictions(
    rows: Sequence[MeasuredRow],
    predict: Callable[[MeasuredRow, Assumptions], PredictedRow],
    constants: Assumptions,
    made: str,
) -> tuple[PredictedRow, ...]:
    """Predict each row with constants and widths that its source did not contribute to; rows keep their order.
    constants: assumptions without widths from measurements. made: ISO date."""
    unseen = {}
    for origin in {row.origin for row in rows}:
        own = constants.without(origin)
        others = [predict(row, own) for row in rows if row.origin != origin]
        unseen[origin] = own.with_rows(report.widths(evidence_of(others), made))
    return tuple(predict(row, unseen[row.origin]) for row in rows)
