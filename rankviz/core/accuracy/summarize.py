"""Predictions of measured rows, summed up: errors by group, and what bands rest on."""

from collections.abc import Sequence
from dataclasses import replace

from rankviz.core.accuracy import bands
from rankviz.core.accuracy.evidence import AccuracyByKind, KindAccuracy
from rankviz.core.accuracy.predicted import PredictedRow
from rankviz.core.accuracy.report import (
    AccuracyReport,
    LeftOut,
    ReportRow,
    Score,
    TimeScore,
    TotalScore,
    UnseenGroup,
)


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
    evidence = bands.evidence_of(predictions)
    left_out = _left_out(unseen) if unseen and on_cards else None
    return AccuracyReport(
        made=made,
        rows=tuple(_row(p, u) for p, u in zip(predictions, unseen or [None] * len(predictions), strict=True)),
        groups=bands.scores(scored, _table),
        overall=_overall(on_cards, scored),
        settings=_by_kind(scored),
        not_scored=bands.scores(shown, _table),
        totals=_totals(scored),
        time=_time([p for p in predictions if p.seconds]),
        evidence=_with_left_out(evidence, unseen) if unseen else evidence,
        bounds=bands.scores(bounds, _table),
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
        origins=bands.scores(scored, _origin),
        overall=bands.score("all counted rows on GPUs", on_cards),
        without_own_kind=tuple(sorted(alone)),
        time=_time([p for p in unseen if p.seconds]),
    )


def _with_left_out(evidence: AccuracyByKind, unseen: Sequence[PredictedRow]) -> AccuracyByKind:
    """The same with how far off each kind was without its sources."""

    def memory(each: KindAccuracy) -> KindAccuracy:
        members = [p for p in unseen if p.scored and p.stack.kind == each.kind]
        return replace(
            each,
            left_out_error=bands.mean_over_settings(members, lambda p: abs(p.error)),
            left_out_inside=bands.mean_over_settings(members, lambda p: p.inside),
        )

    def time(each: KindAccuracy) -> KindAccuracy:
        members = [p for p in unseen if p.seconds and p.stack.time_kind == each.kind]
        return replace(
            each,
            left_out_error=bands.mean_over_settings(members, _time_off),
            left_out_inside=bands.mean_over_settings(members, _time_inside),
        )

    return replace(evidence, memory=tuple(map(memory, evidence.memory)), time=tuple(map(time, evidence.time)))


def _overall(on_cards: Sequence[PredictedRow], scored: Sequence[PredictedRow]) -> Score | None:
    """Of rows that a GPU's own counters measured. A process's resident memory is something else and stands apart."""
    if on_cards:
        return bands.score("all counted rows on GPUs", on_cards)
    return bands.score("all counted rows", scored) if scored else None


def _row(p: PredictedRow, unseen: PredictedRow | None) -> ReportRow:
    row = p.row
    memory, seconds = (unseen.predicted, unseen.seconds) if unseen else (None, None)
    return ReportRow(
        row_id=row.row_id,
        group=row.group,
        origin=row.origin,
        tier=row.tier,
        scored=p.scored,
        bound=p.bound,
        reason=p.reason or None,
        model_id=row.model_id,
        kind=p.stack.kind if p.stack else None,
        quantized=p.stack.setup.quantized if p.stack else None,
        gpu=row.gpu,
        setting=_setting(p),
        measured_kind=row.measured_kind,
        measured_bytes=row.measured_bytes if row.use_peak else None,
        predicted_bytes=round(p.predicted.expected) if p.predicted else None,
        low=round(p.predicted.low) if p.predicted else None,
        high=round(p.predicted.high) if p.predicted else None,
        two_depth_bytes=row.two_depth_bytes,
        measured_seconds_per_step=row.measured_seconds_per_step if row.use_time else None,
        seconds_low=p.seconds.low if p.seconds else None,
        seconds_expected=p.seconds.expected if p.seconds else None,
        seconds_high=p.seconds.high if p.seconds else None,
        two_depth_seconds=row.two_depth_seconds,
        source=row.source,
        left_out_bytes=round(memory.expected) if memory else None,
        left_out_low=round(memory.low) if memory else None,
        left_out_high=round(memory.high) if memory else None,
        left_out_seconds_low=seconds.low if seconds else None,
        left_out_seconds_expected=seconds.expected if seconds else None,
        left_out_seconds_high=seconds.high if seconds else None,
    )


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

    return tuple(sorted(bands.scores(predictions, name), key=lambda score: score.group))


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
                    mean_abs_error=bands.mean_over_settings(
                        rows, lambda p, a=of_memory, b=of_row: abs(a(p).expected / b(p) - 1)
                    ),
                    inside_band=bands.mean_over_settings(rows, lambda p, a=of_memory, b=of_row: a(p).holds(b(p))),
                    mean_half_width=bands.mean_over_settings(
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
        mean_abs_error=bands.mean_over_settings(timed, _time_off),
        inside_range=bands.mean_over_settings(timed, _time_inside),
        widest_high_over_low=max(p.seconds.high / p.seconds.low for p in timed),
    )


def _time_off(p: PredictedRow) -> float:
    return abs(p.seconds.expected / p.row.measured_seconds_per_step - 1)


def _time_inside(p: PredictedRow) -> bool:
    return p.seconds.low <= p.row.measured_seconds_per_step <= p.seconds.high
