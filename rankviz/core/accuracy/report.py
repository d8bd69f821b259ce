"""The validation as one JSON object: every row beside its prediction, errors by group, and what bands rest on."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rankviz.core.accuracy import bands
from rankviz.core.accuracy.bands import Evidence, Score
from rankviz.core.accuracy.predicted import Prediction
from rankviz.core.quantity import Range


def report(predictions: Sequence[Prediction], made: str) -> dict[str, Any]:
    """As `rankviz validate --json` prints it. Errors are shares of the measured figure, each setting weighed once.

    made: the day.
    """
    scored = [p for p in predictions if p.scored]
    on_cards = [p for p in scored if not p.stack.habits.on_cpu]
    shown = [p for p in predictions if p.predicted and not p.scored]
    timed = [p for p in predictions if p.seconds]
    return {
        "made": made,
        "rows": [_row(p) for p in predictions],
        "groups": [_score(s) for s in bands.scores(predictions)],
        "overall": _overall(on_cards, scored),
        "settings": [_score(s) for s in _by_kind(scored)],
        "not_scored": [_score(s) for s in _by_group(shown)],
        "totals": _totals(scored),
        "time": _time(timed),
        "evidence": {
            "static": [asdict(e) for e in bands.static_evidence(predictions)],
            "memory": [asdict(e) for e in bands.memory_evidence(predictions)],
            "lower": [asdict(e) for e in bands.lower_evidence(predictions)],
            "time": [asdict(e) for e in bands.time_evidence(predictions)],
        },
        "unseen_groups": _unseen(scored),
    }


def _overall(on_cards: Sequence[Prediction], scored: Sequence[Prediction]) -> dict[str, Any] | None:
    """Of rows that a GPU's own counters measured; a process's resident memory is another thing, and is on its own."""
    if on_cards:
        return _score(bands.score("all scored rows on GPUs", on_cards))
    return _score(bands.score("all scored rows", scored)) if scored else None


def _row(p: Prediction) -> dict[str, Any]:
    row = p.row
    return {
        "row_id": row.row_id,
        "group": row.group,
        "tier": row.tier,
        "scored": p.scored,
        "reason": p.reason or None,
        "model_id": row.model_id,
        "kind": p.stack.kind if p.stack else None,
        "quantized": p.stack.setup.quantized if p.stack else None,
        "gpu": row.gpu,
        "setting": _setting(p),
        "measured_kind": row.measured_kind,
        "measured_bytes": row.measured_bytes if row.use_peak else None,
        "predicted_bytes": round(p.predicted.expected) if p.predicted else None,
        "low": round(p.predicted.low) if p.predicted else None,
        "high": round(p.predicted.high) if p.predicted else None,
        "two_depth_bytes": row.two_depth_bytes,
        "measured_seconds_per_step": row.measured_seconds_per_step if row.use_time else None,
        "seconds_low": p.seconds.low if p.seconds else None,
        "seconds_expected": p.seconds.expected if p.seconds else None,
        "seconds_high": p.seconds.high if p.seconds else None,
        "two_depth_seconds": row.two_depth_seconds,
        "source": row.source,
    }


def _setting(p: Prediction) -> str:
    """In words, as the page shows it."""
    row = p.row
    loss = f", {row.loss_path} loss" if row.loss_path != "unknown" else ""
    return (
        f"{row.framework}, {row.precision}, r {row.r}, {len(row.targets)} targets, {row.batch} × {row.seq_len:,} "
        f"tokens, checkpointing {row.checkpointing}, {row.attn} attention{loss}, {row.gpu}"
    )


def _score(score: Score) -> dict[str, Any]:
    return asdict(score)


def _by_group(predictions: Sequence[Prediction]) -> list[Score]:
    names = sorted({p.row.group for p in predictions})
    return [bands.score(name, [p for p in predictions if p.row.group == name]) for name in names]


def _by_kind(predictions: Sequence[Prediction]) -> list[Score]:
    """Finer than groups: a group, its precision family, attention, checkpointing and loss path."""

    def name(p: Prediction) -> str:
        row, bits = p.row, "4-bit" if p.stack.setup.quantized else "16-bit"
        how = f"{row.attn}, checkpointing {row.checkpointing}, loss {row.loss_path}"
        return f"{row.group}: {row.framework}, {bits}, {how}"

    names = sorted({name(p) for p in predictions})
    return [bands.score(each, [p for p in predictions if name(p) == each]) for each in names]


def _totals(scored: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Torch's reserved and nvidia-smi's figure, where a scored row has them beside what was allocated."""
    totals = []
    for name, of_row, of_memory in (
        ("reserved", lambda p: p.row.reserved_bytes, lambda p: p.memory.reserved_band),
        ("device", lambda p: p.row.device_bytes, lambda p: p.memory.device_band),
    ):
        rows = [p for p in scored if of_row(p)]
        if rows:
            totals.append(
                {
                    "total": name,
                    "rows": len(rows),
                    "mean_abs_error": bands.mean_over_settings(
                        rows, lambda p, a=of_memory, b=of_row: abs(a(p).expected / b(p) - 1)
                    ),
                    "inside_band": bands.mean_over_settings(rows, lambda p, a=of_memory, b=of_row: a(p).holds(b(p))),
                    "mean_half_width": bands.mean_over_settings(
                        rows, lambda p, a=of_memory: (a(p).high - a(p).low) / 2 / a(p).expected
                    ),
                }
            )
    return totals


def _time(timed: Sequence[Prediction]) -> dict[str, Any] | None:
    if not timed:
        return None

    def inside(p: Prediction) -> bool:
        return p.seconds.low <= p.row.measured_seconds_per_step <= p.seconds.high

    return {
        "rows": len(timed),
        "mean_abs_error": bands.mean_over_settings(
            timed, lambda p: abs(p.seconds.expected / p.row.measured_seconds_per_step - 1)
        ),
        "inside_range": bands.mean_over_settings(timed, inside),
        "widest_high_over_low": max(p.seconds.high / p.seconds.low for p in timed),
    }


def _unseen(scored: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Each group against widths that the other groups alone give: how a source that has never been seen would fare.
    Only groups whose kind of setting some other group has too."""
    groups = []
    for name in sorted({p.row.group for p in scored}):
        others = {e.kind: e for e in bands.memory_evidence(p for p in scored if p.row.group != name)}
        members = [p for p in scored if p.row.group == name and p.stack.kind in others]
        if members:
            share = bands.mean_over_settings(members, lambda p, known=others: _inside(p, known[p.stack.kind]))
            groups.append({"group": name, "rows": len(members), "inside_band": share})
    return groups


def _inside(p: Prediction, known: Evidence) -> bool:
    static = p.predicted.expected - p.working_bytes
    off = p.stack.assume.first("width-static", "width-unmeasured") * static + known.half_width * p.working_bytes
    return Range(p.predicted.expected - off, p.predicted.expected, p.predicted.expected + off).holds(
        p.row.measured_bytes
    )
