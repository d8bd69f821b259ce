"""Sums up predictions of measured rows: errors by group, with sources left out, and how wide ranges must be."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rankviz.core.accuracy.predicted import MeasuredRow, PredictedRow
from rankviz.core.accuracy.report import (
    AccuracyByKind,
    AccuracyReport,
    KindAccuracy,
    LeftOut,
    ReportRow,
    Score,
    TimeScore,
    TotalScore,
    UnseenGroup,
    widths,
)
from rankviz.core.cost.assumptions import Assumptions
from rankviz.core.quantity import Range

STUDENT_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""Student's t, two-sided 90 %, for 1 to 10 degrees of freedom."""


def half_width(errors_by_origin: dict[str, Sequence[float]], unmeasured: float = math.inf) -> float:
    """t(95 %, G) · s, from the errors of each source's settings.

    unmeasured: the half-width of a kind that nobody measured. Measurements do not make it wider than that, unless one
    of them was further off.
    """
    worst = max(abs(error) for errors in errors_by_origin.values() for error in errors)
    means = [sum(error * error for error in errors) / len(errors) for errors in errors_by_origin.values()]
    groups = len(means)
    by_spread = STUDENT_95[min(groups, len(STUDENT_95)) - 1] * math.sqrt(sum(means) / groups)
    return min(by_spread, max(unmeasured, worst))


def evidence_of(predictions: Sequence[PredictedRow]) -> AccuracyByKind:
    """What each band rests on."""
    return AccuracyByKind(
        static=static_evidence(predictions),
        memory=memory_evidence(predictions),
        lower=lower_evidence(predictions),
        time=time_evidence(predictions),
    )


def memory_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """Memory errors by kind of setting, over the scored rows."""
    return _memory_evidence(p for p in predictions if p.scored)


def lower_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """Memory errors of rows that are shown and not counted, without bounds. No band rests on them."""
    return _memory_evidence(p for p in predictions if p.predicted and not p.scored and not p.bound)


def _memory_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    return _evidence(
        predictions,
        kind=lambda p: p.stack.kind,
        error=lambda p: (p.row.measured_bytes - p.predicted.expected) / max(1.0, p.working_bytes),
        share=lambda p: p.error,
    )


def time_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """Time errors for transformers' operators and for fused ones."""
    return _evidence(
        [p for p in predictions if p.seconds],
        kind=lambda p: p.stack.time_kind,
        error=lambda p: math.log(p.row.measured_seconds_per_step / p.seconds.expected),
        share=lambda p: p.seconds.expected / p.row.measured_seconds_per_step - 1,
        unmeasured="time-width-unmeasured",
    )


def static_evidence(predictions: Iterable[PredictedRow]) -> tuple[KindAccuracy, ...]:
    """Errors of what is counted (weights, adapter, states), where memory was read before the first step. In bytes: what
    is missing are workspaces and small tensors, as much beside a large base as beside a small one."""
    return _evidence(
        [p for p in predictions if p.scored and p.loaded_bytes and p.row.loaded_bytes and _offered(p)],
        kind=lambda p: "static",
        error=lambda p: p.row.loaded_bytes - p.loaded_bytes,
        share=lambda p: p.loaded_bytes / p.row.loaded_bytes - 1,
        unmeasured="width-static-unmeasured",
    )


def _offered(p: PredictedRow) -> bool:
    """RankViz estimates no base in GPTQ's format, so its errors widen no band."""
    return p.row.precision != "gptq-int4"


def _evidence(
    predictions: Iterable[PredictedRow],
    *,
    kind: Callable[[PredictedRow], str],
    error: Callable[[PredictedRow], float],
    share: Callable[[PredictedRow], float],
    unmeasured: str = "width-unmeasured",
) -> tuple[KindAccuracy, ...]:
    by_kind: dict[str, list[PredictedRow]] = defaultdict(list)
    for prediction in predictions:
        by_kind[kind(prediction)].append(prediction)
    evidence = []
    for name, members in sorted(by_kind.items()):
        errors: dict[str, list[float]] = defaultdict(list)
        for members_of_setting in by_setting(members).values():
            origin = members_of_setting[0].row.origin
            errors[origin].append(math.sqrt(_mean(error(p) ** 2 for p in members_of_setting)))
        evidence.append(
            KindAccuracy(
                kind=name,
                half_width=half_width(errors, members[0].stack.assume.value(unmeasured)),
                groups=tuple(sorted(errors)),
                settings=sum(len(each) for each in errors.values()),
                mean_abs_error=mean_over_settings(members, lambda p: abs(share(p))),
            )
        )
    return tuple(evidence)


def by_setting(predictions: Iterable[PredictedRow]) -> dict[tuple, list[PredictedRow]]:
    """Rows that repeat one setting, together."""
    groups: dict[tuple, list[PredictedRow]] = defaultdict(list)
    for prediction in predictions:
        groups[prediction.row.setting].append(prediction)
    return groups


def mean_over_settings(predictions: Iterable[PredictedRow], figure: Callable[[PredictedRow], float]) -> float:
    """Each setting weighs the same, however often it was repeated."""
    return _mean(_mean(figure(p) for p in members) for members in by_setting(predictions).values())


def scores(predictions: Iterable[PredictedRow], name_of: Callable[[PredictedRow], str]) -> tuple[Score, ...]:
    """Scores of predicted rows, grouped by a name; the largest group first."""
    groups: dict[str, list[PredictedRow]] = defaultdict(list)
    for prediction in predictions:
        groups[name_of(prediction)].append(prediction)
    return tuple(
        interval_score(name, members) for name, members in sorted(groups.items(), key=lambda item: -len(item[1]))
    )


def interval_score(name: str, members: Sequence[PredictedRow]) -> Score:
    """The score of predicted rows."""
    return Score(
        group=name,
        rows=len(members),
        settings=len(by_setting(members)),
        mean_abs_error=mean_over_settings(members, lambda p: abs(p.error)),
        worst_error=max((p.error for p in members), key=abs),
        inside_band=mean_over_settings(members, lambda p: p.inside),
        mean_half_width=mean_over_settings(
            members, lambda p: (p.predicted.high - p.predicted.low) / 2 / p.predicted.expected
        ),
    )


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def summarize(
    predictions: Sequence[PredictedRow], made: str, unseen: Sequence[PredictedRow] | None = None
) -> AccuracyReport:
    """The report of these predictions. Errors are shares of the measured figure; each setting counts once.

    made: the day, ISO. unseen: the same rows, each predicted without its source; None leaves that out.
    """
    scored = [p for p in predictions if p.scored]
    on_cards = [p for p in scored if not p.stack.habits.on_cpu]
    bounds = [p for p in predictions if p.bound]
    shown = [p for p in predictions if p.predicted and not p.scored and not p.bound]
    evidence = evidence_of(predictions)
    left_out = _left_out(unseen) if unseen and on_cards else None
    return AccuracyReport(
        made=made,
        rows=tuple(_row(p, u) for p, u in zip(predictions, unseen or [None] * len(predictions), strict=True)),
        groups=scores(scored, _table),
        overall=_overall(on_cards, scored),
        settings=_by_kind(scored),
        not_scored=scores(shown, _table),
        totals=_totals(scored),
        time=_time([p for p in predictions if p.seconds]),
        evidence=_with_left_out(evidence, unseen) if unseen else evidence,
        bounds=scores(bounds, _table),
        left_out=left_out,
        unseen_groups=tuple(
            UnseenGroup(group=score.group, rows=score.rows, inside_band=score.inside_band)
            for score in (left_out.origins if left_out else ())
        ),
    )


def _table(p: PredictedRow) -> str:
    return p.row.group


def _origin(p: PredictedRow) -> str:
    return p.row.origin


def _left_out(unseen: Sequence[PredictedRow]) -> LeftOut:
    scored = [p for p in unseen if p.scored]
    on_cards = [p for p in scored if not p.stack.habits.on_cpu]
    measured_by: dict[str, set[str]] = {}
    for p in scored:
        measured_by.setdefault(p.stack.kind, set()).add(p.row.origin)
    alone = {origin for origins in measured_by.values() if len(origins) == 1 for origin in origins}
    return LeftOut(
        origins=scores(scored, _origin),
        overall=interval_score("all counted rows on GPUs", on_cards),
        without_own_kind=tuple(sorted(alone)),
        time=_time([p for p in unseen if p.seconds]),
    )


def _with_left_out(evidence: AccuracyByKind, unseen: Sequence[PredictedRow]) -> AccuracyByKind:
    """The same with how far off each kind was without its sources."""

    def left_out(each: KindAccuracy, members: list[PredictedRow], error: Callable, inside: Callable) -> KindAccuracy:
        return replace(
            each,
            left_out_error=mean_over_settings(members, error),
            left_out_inside=mean_over_settings(members, inside),
        )

    scored, timed = [p for p in unseen if p.scored], [p for p in unseen if p.seconds]
    return replace(
        evidence,
        memory=tuple(
            left_out(each, [p for p in scored if p.stack.kind == each.kind], lambda p: abs(p.error), lambda p: p.inside)
            for each in evidence.memory
        ),
        time=tuple(
            left_out(each, [p for p in timed if p.stack.time_kind == each.kind], _time_off, _time_inside)
            for each in evidence.time
        ),
    )


def _overall(on_cards: Sequence[PredictedRow], scored: Sequence[PredictedRow]) -> Score | None:
    """Of rows that a GPU's own counters measured. A process's resident memory is something else and stands apart."""
    if on_cards:
        return interval_score("all counted rows on GPUs", on_cards)
    return interval_score("all counted rows", scored) if scored else None


SHARED = ("row_id", "group", "origin", "tier", "model_id", "gpu", "measured_kind", "two_depth_bytes")
SHARED += ("two_depth_seconds", "source")
"""Fields that a row of the report has of the measured one."""
SECONDS = ("seconds_low", "seconds_expected", "seconds_high")


def _row(p: PredictedRow, unseen: PredictedRow | None) -> ReportRow:
    row = p.row
    left = unseen or PredictedRow(row=row, reason="")
    (low, predicted, high), (left_low, left_predicted, left_high) = map(_ends, (p.predicted, left.predicted))
    return ReportRow(
        **{name: getattr(row, name) for name in SHARED},
        scored=p.scored,
        bound=p.bound,
        reason=p.reason or None,
        kind=p.stack.kind if p.stack else None,
        quantized=p.stack.setup.quantized if p.stack else None,
        setting=_setting(p),
        measured_bytes=row.measured_bytes if row.use_peak else None,
        predicted_bytes=_whole(predicted),
        low=_whole(low),
        high=_whole(high),
        measured_seconds_per_step=row.measured_seconds_per_step if row.use_time else None,
        **dict(zip(SECONDS, _ends(p.seconds), strict=True)),
        left_out_bytes=_whole(left_predicted),
        left_out_low=_whole(left_low),
        left_out_high=_whole(left_high),
        **{f"left_out_{name}": value for name, value in zip(SECONDS, _ends(left.seconds), strict=True)},
    )


def _ends(values: Range | None) -> tuple[float | None, ...]:
    return (values.low, values.expected, values.high) if values else (None,) * 3


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _setting(p: PredictedRow) -> str:
    """In words, as the page shows it."""
    row = p.row
    loss = f", {row.loss_path} loss" if row.loss_path != "unknown" else ""
    return (
        f"{row.framework}, {row.precision}, r {row.r}, {len(row.targets)} targets, {row.batch} × {row.seq_len:,} "
        f"tokens, checkpointing {row.checkpointing}, {row.attn} attention{loss}, {row.gpu}"
    )


def _by_kind(predictions: Sequence[PredictedRow]) -> tuple[Score, ...]:
    """Finer than groups: a group, its precision family, attention, checkpointing and loss path."""

    def name(p: PredictedRow) -> str:
        row, bits = p.row, "4-bit" if p.stack.setup.quantized else "16-bit"
        how = f"{row.attn}, checkpointing {row.checkpointing}, loss {row.loss_path}"
        return f"{row.group}: {row.framework}, {bits}, {how}"

    return tuple(sorted(scores(predictions, name), key=lambda score: score.group))


def _totals(scored: Sequence[PredictedRow]) -> tuple[TotalScore, ...]:
    """Torch's reserved and nvidia-smi's figure, where a scored row has them beside what was allocated."""
    totals = []
    for name, of_row, of_memory in (
        ("reserved", lambda p: p.row.reserved_bytes, lambda p: p.memory.reserved_band),
        ("device", lambda p: p.row.device_bytes, lambda p: p.memory.device_band),
    ):
        rows = [p for p in scored if of_row(p)]
        if rows:
            totals.append(
                TotalScore(
                    total=name,
                    rows=len(rows),
                    mean_abs_error=mean_over_settings(
                        rows, lambda p, a=of_memory, b=of_row: abs(a(p).expected / b(p) - 1)
                    ),
                    inside_band=mean_over_settings(rows, lambda p, a=of_memory, b=of_row: a(p).holds(b(p))),
                    mean_half_width=mean_over_settings(
                        rows, lambda p, a=of_memory: (a(p).high - a(p).low) / 2 / a(p).expected
                    ),
                )
            )
    return tuple(totals)


def _time(timed: Sequence[PredictedRow]) -> TimeScore | None:
    if not timed:
        return None
    return TimeScore(
        rows=len(timed),
        mean_abs_error=mean_over_settings(timed, _time_off),
        inside_range=mean_over_settings(timed, _time_inside),
        widest_high_over_low=max(p.seconds.high / p.seconds.low for p in timed),
    )


def _time_off(p: PredictedRow) -> float:
    return abs(p.seconds.expected / p.row.measured_seconds_per_step - 1)


def _time_inside(p: PredictedRow) -> bool:
    return p.seconds.low <= p.row.measured_seconds_per_step <= p.seconds.high


Predict = Callable[[MeasuredRow, Assumptions], PredictedRow]


def left_out_predictions(
    rows: Sequence[MeasuredRow], predict: Predict, constants: Assumptions, made: str
) -> tuple[PredictedRow, ...]:
    """The rows in their order, each predicted without its own source.

    constants: without widths that come from measurements. made: the day, ISO.
    """
    by_origin = {origin: _unseen(origin, rows, predict, constants, made) for origin in {row.origin for row in rows}}
    return tuple(predict(row, by_origin[row.origin]) for row in rows)


def _unseen(
    origin: str, rows: Sequence[MeasuredRow], predict: Predict, constants: Assumptions, made: str
) -> Assumptions:
    """Constants and widths of someone who has not seen this source."""
    own = constants.without(origin)
    others = [predict(row, own) for row in rows if row.origin != origin]
    return own.with_rows(widths(evidence_of(others), made))
