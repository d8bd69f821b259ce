"""Summaries of predictions for measured rows: errors by group, with sources left out, and the widths of bands."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from rankviz.core.accuracy import report
from rankviz.core.accuracy.predicted import MeasuredRow, PredictedRow
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.quantity import Range

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
    """Functions of a predicted row: kind of setting, error in the unit of its band, and error as a share."""

    kind: Callable[[PredictedRow], str]
    error: Figure
    share: Figure
    unmeasured: str = "width-unmeasured"


MEMORY = BandEvidence(
    kind=lambda p: p.stack.kind,
    error=lambda p: (p.row.measured_bytes - p.predicted.expected) / max(1.0, p.working_bytes),
    share=lambda p: p.error,
)
TIME = BandEvidence(
    kind=lambda p: p.stack.time_kind,
    error=lambda p: math.log(p.row.measured_seconds_per_step / p.seconds.expected),
    share=lambda p: p.seconds.expected / p.row.measured_seconds_per_step - 1,
    unmeasured="time-width-unmeasured",
)
STATIC = BandEvidence(
    kind=lambda p: "static",
    error=lambda p: p.row.loaded_bytes - p.loaded_bytes,
    share=lambda p: p.loaded_bytes / p.row.loaded_bytes - 1,
    unmeasured="width-static-unmeasured",
)
"""Errors of the counted parts (weights, adapter, states), where memory was read before the first step. In bytes,
because the missing part (workspaces and small tensors) does not grow with the base."""


def evidence_of(predictions: Sequence[PredictedRow]) -> report.AccuracyByKind:
    """Return the evidence for each band; `static` excludes GPTQ, a format that RankViz does not estimate."""
    scored = [p for p in predictions if p.scored]
    loaded = [p for p in scored if p.loaded_bytes and p.row.loaded_bytes and p.row.precision != "gptq-int4"]
    return report.AccuracyByKind(
        static=by_kind(STATIC, loaded),
        memory=by_kind(MEMORY, scored),
        lower=by_kind(MEMORY, _not_counted(predictions)),
        time=by_kind(TIME, [p for p in predictions if p.seconds]),
    )


def _not_counted(predictions: Iterable[PredictedRow]) -> list[PredictedRow]:
    return [p for p in predictions if p.predicted and not p.scored and not p.bound]


def by_kind(evidence: BandEvidence, predictions: Iterable[PredictedRow]) -> tuple[report.KindAccuracy, ...]:
    """Return errors by kind of setting; repeats of one setting count as one error, their root mean square."""
    accuracies = []
    for name, members in sorted(_grouped(predictions, evidence.kind).items()):
        errors: dict[str, list[float]] = defaultdict(list)
        for repeats in by_setting(members).values():
            errors[repeats[0].row.origin].append(math.sqrt(_mean(evidence.error(p) ** 2 for p in repeats)))
        accuracies.append(
            report.KindAccuracy(
                kind=name,
                half_width=half_width(errors, members[0].stack.assume.value(evidence.unmeasured)),
                groups=tuple(sorted(errors)),
                settings=sum(len(each) for each in errors.values()),
                mean_abs_error=mean_over_settings(members, lambda p: abs(evidence.share(p))),
            )
        )
    return tuple(accuracies)


def _grouped(predictions: Iterable[PredictedRow], key: Callable) -> dict:
    groups = defaultdict(list)
    for prediction in predictions:
        groups[key(prediction)].append(prediction)
    return groups


def by_setting(predictions: Iterable[PredictedRow]) -> dict[tuple, list[PredictedRow]]:
    """Group rows that repeat one setting, by the setting's key."""
    return _grouped(predictions, lambda p: p.row.setting)


def mean_over_settings(predictions: Iterable[PredictedRow], figure: Figure) -> float:
    """Return the mean over settings, each weighing the same however often it was repeated."""
    return _mean(_mean(figure(p) for p in members) for members in by_setting(predictions).values())


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def scores(predictions: Iterable[PredictedRow], name_of: Callable[[PredictedRow], str]) -> tuple[report.Score, ...]:
    """Return scores of predicted rows grouped by name, the largest group first."""
    groups = sorted(_grouped(predictions, name_of).items(), key=lambda item: -len(item[1]))
    return tuple(interval_score(name, members) for name, members in groups)


def interval_score(name: str, members: Sequence[PredictedRow]) -> report.Score:
    """Return the score of a group of predicted rows."""
    return report.Score(
        group=name,
        rows=len(members),
        settings=len(by_setting(members)),
        mean_abs_error=mean_over_settings(members, lambda p: abs(p.error)),
        worst_error=max((p.error for p in members), key=abs),
        inside_band=mean_over_settings(members, lambda p: p.inside),
        mean_half_width=mean_over_settings(members, lambda p: _half(p.predicted)),
    )


def _half(band: Range) -> float:
    return (band.high - band.low) / 2 / band.expected


def summarize(
    predictions: Sequence[PredictedRow], made: str, unseen: Sequence[PredictedRow] | None = None
) -> report.AccuracyReport:
    """Return the report on these predictions. Errors are shares of the measured figure; each setting weighs the same.
    made: ISO date. unseen: the same rows, each predicted with its source left out; None omits this part."""
    scored, evidence, left_out = [p for p in predictions if p.scored], evidence_of(predictions), None
    # A GPU's own counters measured these; a process's resident memory is something else.
    on_cards = [p for p in scored if not p.stack.habits.on_cpu]
    if unseen:
        evidence = _with_left_out(evidence, unseen)
        left_out = _left_out(unseen) if on_cards else None
    every = "all counted rows on GPUs" if on_cards else "all counted rows"

    def fine(p: PredictedRow) -> str:
        row, bits = p.row, "4-bit" if p.stack.setup.quantized else "16-bit"
        how = f"{row.attn}, checkpointing {row.checkpointing}, loss {row.loss_path}"
        return f"{row.group}: {row.framework}, {bits}, {how}"

    return report.AccuracyReport(
        made=made,
        rows=tuple(_row(p, u) for p, u in zip(predictions, unseen or [None] * len(predictions), strict=True)),
        groups=scores(scored, _table),
        overall=interval_score(every, on_cards or scored) if scored else None,
        settings=tuple(sorted(scores(scored, fine), key=lambda score: score.group)),
        not_scored=scores(_not_counted(predictions), _table),
        totals=tuple(filter(None, (_total(name, scored) for name in ("reserved", "device")))),
        time=_time(predictions),
        evidence=evidence,
        bounds=scores([p for p in predictions if p.bound], _table),
        left_out=left_out,
        unseen_groups=left_out.origins if left_out else (),
    )


def _table(p: PredictedRow) -> str:
    return p.row.group


def _left_out(unseen: Sequence[PredictedRow]) -> report.LeftOut:
    scored = [p for p in unseen if p.scored]
    measured_by = [{p.row.origin for p in each} for each in _grouped(scored, MEMORY.kind).values()]
    return report.LeftOut(
        origins=scores(scored, lambda p: p.row.origin),
        overall=interval_score("all counted rows on GPUs", [p for p in scored if not p.stack.habits.on_cpu]),
        without_own_kind=tuple(sorted({origin for origins in measured_by if len(origins) == 1 for origin in origins})),
        time=_time(unseen),
    )


def _with_left_out(evidence: report.AccuracyByKind, unseen: Sequence[PredictedRow]) -> report.AccuracyByKind:

    def left_out(
        part: BandEvidence, each: report.KindAccuracy, rows: list[PredictedRow], inside: Figure
    ) -> report.KindAccuracy:
        members = [p for p in rows if part.kind(p) == each.kind]
        error = mean_over_settings(members, lambda p: abs(part.share(p)))
        return replace(each, left_out_error=error, left_out_inside=mean_over_settings(members, inside))

    scored, timed = [p for p in unseen if p.scored], [p for p in unseen if p.seconds]
    return replace(
        evidence,
        memory=tuple(left_out(MEMORY, each, scored, lambda p: p.inside) for each in evidence.memory),
        time=tuple(left_out(TIME, each, timed, _time_inside) for each in evidence.time),
    )


SHARED = ("row_id", "group", "origin", "tier", "model_id", "gpu", "measured_kind", "two_depth_bytes")
SHARED += ("two_depth_seconds", "source")


def _row(p: PredictedRow, unseen: PredictedRow | None) -> report.ReportRow:
    row, stack = p.row, p.stack
    ends: dict[str, float | None] = {}
    for prefix, each in (("", p), ("left_out_", unseen)):
        band, seconds = each and each.predicted, each and each.seconds
        ends[f"{prefix or 'predicted_'}bytes"] = band and round(band.expected)
        for end in ("low", "high"):
            ends[f"{prefix}{end}"] = band and round(getattr(band, end))
        for end in ("low", "expected", "high"):
            ends[f"{prefix}seconds_{end}"] = seconds and getattr(seconds, end)
    loss = f", {row.loss_path} loss" if row.loss_path != "unknown" else ""
    return report.ReportRow(
        **{name: getattr(row, name) for name in SHARED},
        scored=p.scored,
        bound=p.bound,
        reason=p.reason or None,
        kind=stack and stack.kind,
        quantized=stack and stack.setup.quantized,
        setting=f"{row.framework}, {row.precision}, r {row.r}, {len(row.targets)} targets, {row.batch} × "
        f"{row.seq_len:,} tokens, checkpointing {row.checkpointing}, {row.attn} attention{loss}, {row.gpu}",
        measured_bytes=row.measured_bytes if row.use_peak else None,
        measured_seconds_per_step=row.measured_seconds_per_step if row.use_time else None,
        **ends,
    )


def _total(name: str, scored: Sequence[PredictedRow]) -> report.TotalScore | None:
    """Return the score of torch's reserved memory or nvidia-smi's figure; None if no scored row has it."""
    rows = [p for p in scored if getattr(p.row, f"{name}_bytes")]

    def mean(figure: Callable[[float, Range], float]) -> float:
        of = (f"{name}_bytes", f"{name}_band")
        return mean_over_settings(rows, lambda p: figure(getattr(p.row, of[0]), getattr(p.memory, of[1])))

    if not rows:
        return None
    return report.TotalScore(
        total=name,
        rows=len(rows),
        mean_abs_error=mean(lambda measured, band: abs(band.expected / measured - 1)),
        inside_band=mean(lambda measured, band: band.holds(measured)),
        mean_half_width=mean(lambda _, band: _half(band)),
    )


def _time(predictions: Sequence[PredictedRow]) -> report.TimeScore | None:
    timed = [p for p in predictions if p.seconds]
    if not timed:
        return None
    return report.TimeScore(
        rows=len(timed),
        mean_abs_error=mean_over_settings(timed, lambda p: abs(TIME.share(p))),
        inside_range=mean_over_settings(timed, _time_inside),
        widest_high_over_low=max(p.seconds.high / p.seconds.low for p in timed),
    )


def _time_inside(p: PredictedRow) -> bool:
    return p.seconds.holds(p.row.measured_seconds_per_step)


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
