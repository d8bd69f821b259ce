"""What does hold over published lines: counted by publication, each publication also foretold by the others."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median

from rankviz.core.forecast.bands import ENOUGH_PUBLICATIONS, LOSS
from rankviz.core.forecast.lines import RankLine
from rankviz.core.studies.lines import Evidence

LOW, HIGH = 16, 64
NOISE = 2.0
"""Standard deviations of the difference of two values, 2.8 of one value, that count as noise."""
POINT, SHARE_OF_LOSS = 1.0, 0.5
"""A difference that matters: points of a score, % of a loss."""
TOO_LOW = 3.0
"""A learning rate that is too low by this factor is compared with a quarter of the rank."""
SOME = 2.0
"""Rates that lie nearer to the best one than this factor do not count."""


def counted(lines: Sequence[RankLine]) -> dict[str, list[dict]]:
    """Each sentence with a row over all scores, a row for each kind with enough publications, and one of losses."""
    scores = [line for line in lines if line.metric == "score"]
    losses = [line for line in lines if line.metric == LOSS]
    typical = {kind: _typical_error([line for line in scores if line.kind == kind]) for kind in _kinds(scores)}

    def within_noise(line: RankLine) -> bool | None:
        errors = [error or typical[line.kind] for error in line.standard_errors]
        if LOW not in line.ranks or not all(errors):
            return None
        here, best = line.ranks.index(LOW), line.values.index(max(line.values))
        return line.values[best] - line.values[here] <= NOISE * math.hypot(errors[best], errors[here])

    def worse(line: RankLine) -> bool | None:
        at = dict(zip(line.ranks, line.values, strict=True))
        if LOW not in at or HIGH not in at:
            return None
        return at[LOW] - at[HIGH] > (SHARE_OF_LOSS if line.metric == LOSS else POINT)

    return {
        "low_within_noise": _by_kind(scores, within_noise),
        "high_worse": _by_kind(scores, worse),
        "high_worse_loss": [_row(LOSS, losses, worse)],
    }


def _kinds(lines: Iterable[RankLine]) -> list[str]:
    return sorted({line.kind for line in lines})


def _by_kind(lines: Sequence[RankLine], holds: Callable[[RankLine], bool | None]) -> list[dict]:
    rows = [_row(kind, [line for line in lines if line.kind == kind], holds) for kind in _kinds(lines)]
    return [_row("any", lines, holds), *(row for row in rows if row["publications"] >= ENOUGH_PUBLICATIONS)]


def _row(kind: str, lines: Sequence[RankLine], holds: Callable[[RankLine], bool | None]) -> dict:
    """left_out_error: how far the share of a publication is from that of all others, on average."""
    by_publication: dict[str, list[bool]] = {}
    for line in lines:
        if (held := holds(line)) is not None:
            by_publication.setdefault(line.publication, []).append(held)
    shares = [fmean(each) for each in by_publication.values()]
    every = [held for each in by_publication.values() for held in each]
    apart = [
        abs(share - fmean([*shares[:place], *shares[place + 1 :]]))
        for place, share in enumerate(shares)
        if len(shares) > 1
    ]
    return {
        "kind": kind,
        "publications": len(shares),
        "lines": len(every),
        "share": round(fmean(shares), 3) if shares else None,
        "share_of_lines": round(fmean(every), 3) if every else None,
        "left_out_error": round(fmean(apart), 3) if apart else None,
    }


def rate_and_rank(evidence: Evidence) -> dict | None:
    """What a rate that was too low cost beside a quarter of the rank, in lines that have losses at another rate too.

    Each model counts once, with the mean over its ranks. None where there is no such line.
    """
    by_model: dict[str, list[tuple[float, float, float]]] = {}
    for line in evidence.published:
        at = {point.rank: point for point in line.points}
        for r, point in at.items():
            quarter, low = at.get(r / 4), point.reference_learning_rate
            if not point.is_loss or quarter is None or not low or not point.value_at_reference_rate:
                continue
            if (times := point.learning_rate / low) >= SOME:
                rate_cost = 100 * math.log(point.value_at_reference_rate / point.value)
                rank_cost = 100 * math.log(quarter.value / point.value)
                by_model.setdefault(line.model.base_model, []).append((times, rate_cost, rank_cost))
    if not by_model:
        return None

    def worse(power: float) -> int:
        """Models in which the rate cost more, if loss rises with this power of the distance in log rate; 0: as seen."""
        near = lambda times: min(1.0, math.log(TOO_LOW) / math.log(times)) ** power  # noqa: E731
        return sum(fmean(near(times) * rate - rank for times, rate, rank in rows) > 0 for rows in by_model.values())

    every = [times for rows in by_model.values() for times, _, _ in rows]
    return {
        "models": len(by_model),
        "worse": worse(0),
        "times": [round(min(every), 1), round(max(every), 1)],
        "rate_cost": round(median(fmean(rate for _, rate, _ in rows) for rows in by_model.values()), 2),
        "rank_cost": round(median(fmean(rank for _, _, rank in rows) for rows in by_model.values()), 2),
        "worse_at_3": [worse(2), worse(1)],
    }


def _typical_error(lines: Sequence[RankLine]) -> float | None:
    """Median standard error of the values whose test set is known, every publication weighing the same."""
    by_publication: dict[str, list[float]] = {}
    for line in lines:
        by_publication.setdefault(line.publication, []).extend(error for error in line.standard_errors if error)
    medians = [median(errors) for errors in by_publication.values() if errors]
    return median(medians) if medians else None
