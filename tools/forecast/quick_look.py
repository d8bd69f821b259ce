"""The quick look held against published lines: section "quick_look" of assets/forecast.json.

Of each line with four ranks or more, its values at r = 4 and r = 64 stand for the two runs (its lowest or highest rank
where it lacks one). A repeat of the lower one is drawn DRAWS times from the noise of the line, and the ranks between
are compared with what the quick look says of them. No setting of the quick look is chosen here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rankviz.core.forecast.bands import GRID, points_scale, share_error
from rankviz.core.forecast.quick_look import SAFE_RANK, MeasuredRank, between, noise_of, pick_of, score_pick
from rankviz.core.runs.request import QUICK_RANKS
from rankviz.core.studies.lines import Evidence
from tools.forecast.lines import BROKEN, items_of_test
from tools.forecast.published import grouped

LEAST_RANKS = 4
DRAWS = 100
WITHIN_PERCENT, WITHIN_POINTS = 0.5, 1.0
LANGUAGE, CLASSIFIER, SCORE = "language model loss", "classifier loss", "score"


@dataclass(frozen=True)
class PublishedLine:
    """One published line. values: loss, or points of a score; noise: standard deviation of one value."""

    kind: str
    group: str
    values: dict[int, float]
    noise: float

    @property
    def ends(self) -> tuple[int, int]:
        low, high = QUICK_RANKS
        return (low if low in self.values else min(self.values)), (high if high in self.values else max(self.values))

    @property
    def between(self) -> dict[int, float]:
        """The values from the lower to the higher run."""
        low, high = self.ends
        return {r: value for r, value in self.values.items() if low <= r <= high}


class Look(NamedTuple):
    """One quick look of a line. regret: to the best rank from the lower to the higher run; % of a loss, or points."""

    line: PublishedLine
    pick: int
    regret: float
    regret_of_all: float
    """To the best of all ranks of the line."""
    inside: tuple[bool, ...] = ()
    width: float | None = None
    """Mean width of the 80 % bands between, in ranges of the line; None where all its values are equal."""


def quick_look_check(evidence: Evidence) -> dict[str, Any]:
    """Records of losses and scores, by kind and by study."""
    rng = Random(0)
    looks = [
        (look_at_score if line.kind == SCORE else look_at_loss)(line, rng.gauss(0, math.sqrt(2) * line.noise))
        for line in published_lines(evidence)
        for _ in range(DRAWS)
    ]
    kinds = {kind: summary([look for look in looks if look.line.kind == kind]) for kind in (LANGUAGE, CLASSIFIER)}
    groups = grouped(((look.line.kind, look.line.group), look) for look in looks)
    return {
        "draws": DRAWS,
        "loss": summary([look for look in looks if look.line.kind != SCORE]),
        "score": summary([look for look in looks if look.line.kind == SCORE]),
        "loss_by_kind": kinds,
        "groups": [{"kind": kind, "group": group} | summary(of) for (kind, group), of in groups.items()],
    }


def published_lines(evidence: Evidence) -> Iterable[PublishedLine]:
    """Lines of plain LoRA with LEAST_RANKS ranks, the lowest at most 4; also at the one rate that a study gives beside
    the best one of each rank. Noise: the mean standard error as published, or that of a score's test items, or else
    the scatter of the line."""
    for line in evidence.published:
        points = {point.rank: point for point in reversed(line.points) if point.rank <= GRID[-1]}
        first, name = line.first, line.study.study_id
        if len(points) < LEAST_RANKS or min(points) > QUICK_RANKS[0] or first.method != "lora" or name in BROKEN:
            continue
        if first.role not in ("main", "detail") or first.metric.startswith(("average", "train_loss")):
            continue
        is_loss = "loss" in first.metric or first.is_loss
        kind = LANGUAGE if first.is_loss else CLASSIFIER if is_loss else SCORE
        scale = 1.0 if is_loss else points_scale(first.metric, [point.value for point in points.values()])
        values = {r: scale * points[r].value for r in sorted(points)}
        errors = [scale * point.standard_error for point in points.values() if point.standard_error]
        items = None if is_loss else items_of_test(f"{first.task} {first.metric}")
        of_items = share_error(scale * first.value, items) if items else None
        yield PublishedLine(kind, name, values, fmean(errors) if errors else of_items or _scatter(values))
        one_rate = {r: points[r].value_at_reference_rate for r in sorted(points)}
        if None not in one_rate.values():
            yield PublishedLine(kind, f"{name}, one learning rate", one_rate, _scatter(one_rate))


def _scatter(values: dict[int, float]) -> float:
    """Noise of one value from how far each lies from the straight line between its neighbours in log r (Gasser, Sroka
    and Jennen-Steinmetz 1986)."""
    ranks = sorted(values)
    squares = []
    for low, (middle, high) in zip(ranks, pairwise(ranks[1:]), strict=False):
        w = math.log(high / middle) / math.log(high / low)
        off = values[middle] - w * values[low] - (1 - w) * values[high]
        squares.append(off * off / (1 + w * w + (1 - w) ** 2))
    return math.sqrt(fmean(squares))


def look_at_loss(line: PublishedLine, repeat_minus_run: float) -> Look:
    """A quick look by loss."""
    low, high = line.ends
    repeated = line.values[low], line.values[low] + repeat_minus_run
    runs = [MeasuredRank(low, fmean(repeated), stdev(repeated), 2), MeasuredRank(high, line.values[high])]
    ranks = [rank for rank in between(runs, noise_of([repeated])) if rank.r in line.between]
    open_ranks, pick = ranks[1:-1], pick_of(ranks)
    spread = max(line.values.values()) - min(line.values.values())
    return Look(
        line,
        pick,
        *(100 * (line.values[pick] / min(best.values()) - 1) for best in (line.between, line.values)),
        tuple(rank.low_80 <= line.values[rank.r] <= rank.high_80 for rank in open_ranks),
        fmean(rank.high_80 - rank.low_80 for rank in open_ranks) / spread if spread and open_ranks else None,
    )


def look_at_score(line: PublishedLine, repeat_minus_run: float) -> Look:
    """A quick look by a score: no interpolation."""
    low, high = line.ends
    lower = line.values[low] + repeat_minus_run / 2
    pick = _nearest(score_pick((low, lower), (high, line.values[high]), abs(repeat_minus_run) / math.sqrt(2)), line)
    taken = line.values[pick]
    return Look(line, pick, max(line.between.values()) - taken, max(line.values.values()) - taken)


def _nearest(r: int, line: PublishedLine) -> int:
    return min(line.between, key=lambda rank: (abs(math.log2(rank / r)), rank))


def summary(looks: Sequence[Look]) -> dict[str, Any]:
    """Shares over lines and repeats; of bands over the runs between."""
    score = looks[0].line.kind == SCORE
    limit = (WITHIN_POINTS if score else WITHIN_PERCENT) + 1e-9
    lines = list({id(look.line): look.line for look in looks}.values())
    by_group = grouped((look.line.group, look.regret <= limit) for look in looks)
    value = {
        "lines": len(lines),
        "groups": len(by_group),
        "within": _share(look.regret <= limit for look in looks),
        "within_by_group": _share(map(fmean, by_group.values())),
        "within_of_all_ranks": _share(look.regret_of_all <= limit for look in looks),
        "mean_regret": round(fmean(look.regret for look in looks), 3),
        "worst_regret": round(max(look.regret for look in looks), 2),
        "mean_rank": round(2 ** fmean(math.log2(look.pick) for look in looks), 1),
    }
    if score:
        always = [max(line.between.values()) - line.values[_nearest(SAFE_RANK, line)] for line in lines]
        return value | {"within_always_16": _share(regret <= limit for regret in always)}
    inside = [each for look in looks for each in look.inside]
    return value | {
        "runs_between": len(inside) // DRAWS,
        "inside_80": _share(inside),
        "width_in_ranges": round(fmean(look.width for look in looks if look.width is not None), 2),
    }


def _share(values: Iterable[float]) -> float:
    return round(fmean(values), 3)
