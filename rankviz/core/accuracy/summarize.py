"""Predictions of measured rows, summed up: errors by group, and what bands rest on."""

from collections.abc import Sequence

from rankviz.core.accuracy import bands
from rankviz.core.accuracy.predicted import Prediction
from rankviz.core.accuracy.report import (
    AccuracyReport,
    Evidence,
    EvidenceByKind,
    ReportRow,
    Score,
    TimeScore,
    TotalScore,
    UnseenGroup,
)
from rankviz.core.quantity import Range


def summarize(predictions: Sequence[Prediction], made: str) -> AccuracyReport:
    """The report of these predictions. Errors are shares of the measured figure; each setting counts once.

    made: the day, ISO.
    """
    scored = [p for p in predictions if p.scored]
    on_cards = [p for p in scored if not p.stack.habits.on_cpu]
    shown = [p for p in predictions if p.predicted and not p.scored]
    timed = [p for p in predictions if p.seconds]
    return AccuracyReport(
        made=made,
        rows=tuple(_row(p) for p in predictions),
        groups=bands.scores(predictions),
        overall=_overall(on_cards, scored),
        settings=_by_kind(scored),
        not_scored=_by_group(shown),
        totals=_totals(scored),
        time=_time(timed),
        evidence=EvidenceByKind(
            static=bands.static_evidence(predictions),
            memory=bands.memory_evidence(predictions),
            lower=bands.lower_evidence(predictions),
            time=bands.time_evidence(predictions),
        ),
        unseen_groups=_unseen(scored),
    )


def _overall(on_cards: Sequence[Prediction], scored: Sequence[Prediction]) -> Score | None:
    """Of rows that a GPU's own counters measured. A process's resident memory is something else and stands apart."""
    if on_cards:
        return bands.score("all counted rows on GPUs", on_cards)
    return bands.score("all counted rows", scored) if scored else None


def _row(p: Prediction) -> ReportRow:
    row = p.row
    return ReportRow(
        row_id=row.row_id,
        group=row.group,
        tier=row.tier,
        scored=p.scored,
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
    )


def _setting(p: Prediction) -> str:
    """In words, as the page shows it."""
    row = p.row
    loss = f", {row.loss_path} loss" if row.loss_path != "unknown" else ""
    return (
        f"{row.framework}, {row.precision}, r {row.r}, {len(row.targets)} targets, {row.batch} × {row.seq_len:,} "
        f"tokens, checkpointing {row.checkpointing}, {row.attn} attention{loss}, {row.gpu}"
    )


def _by_group(predictions: Sequence[Prediction]) -> tuple[Score, ...]:
    names = sorted({p.row.group for p in predictions})
    return tuple(bands.score(name, [p for p in predictions if p.row.group == name]) for name in names)


def _by_kind(predictions: Sequence[Prediction]) -> tuple[Score, ...]:
    """Finer than groups: a group, its precision family, attention, checkpointing and loss path."""

    def name(p: Prediction) -> str:
        row, bits = p.row, "4-bit" if p.stack.setup.quantized else "16-bit"
        how = f"{row.attn}, checkpointing {row.checkpointing}, loss {row.loss_path}"
        return f"{row.group}: {row.framework}, {bits}, {how}"

    names = sorted({name(p) for p in predictions})
    return tuple(bands.score(each, [p for p in predictions if name(p) == each]) for each in names)


def _totals(scored: Sequence[Prediction]) -> tuple[TotalScore, ...]:
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


def _time(timed: Sequence[Prediction]) -> TimeScore | None:
    if not timed:
        return None

    def inside(p: Prediction) -> bool:
        return p.seconds.low <= p.row.measured_seconds_per_step <= p.seconds.high

    return TimeScore(
        rows=len(timed),
        mean_abs_error=bands.mean_over_settings(
            timed, lambda p: abs(p.seconds.expected / p.row.measured_seconds_per_step - 1)
        ),
        inside_range=bands.mean_over_settings(timed, inside),
        widest_high_over_low=max(p.seconds.high / p.seconds.low for p in timed),
    )


def _unseen(scored: Sequence[Prediction]) -> tuple[UnseenGroup, ...]:
    """Each group against the widths that the other groups alone give: what to expect of a new source. Only groups
    whose kind of setting another group has too."""
    unseen = []
    for name in sorted({p.row.group for p in scored}):
        others = {e.kind: e for e in bands.memory_evidence(p for p in scored if p.row.group != name)}
        members = [p for p in scored if p.row.group == name and p.stack.kind in others]
        if members:
            share = bands.mean_over_settings(members, lambda p, known=others: _inside(p, known[p.stack.kind]))
            unseen.append(UnseenGroup(group=name, rows=len(members), inside_band=share))
    return tuple(unseen)


def _inside(p: Prediction, known: Evidence) -> bool:
    static = p.predicted.expected - p.working_bytes
    off = p.stack.assume.first("width-static", "width-unmeasured") * static + known.half_width * p.working_bytes
    return Range(p.predicted.expected - off, p.predicted.expected, p.predicted.expected + off).holds(
        p.row.measured_bytes
    )
