"""How well two own runs, the lowest and the highest rank, say what runs between them come to: the cases of
assets/fidelity.json and the recorded sweeps.

Beside the bent band stand the straight line in log r between the two runs, and the fast curve (the highest run
truncated). Cases at fixed alpha, each with independent runs of r = 4, the highest rank and ranks in between.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, median
from typing import Any

from rankviz.core.forecast.mixture import SHAPE, MeasuredRank, Shape, conditioned
from rankviz.core.forecast.own_runs import has_loss
from rankviz.core.runs.fidelity import Case
from rankviz.core.runs.record import Sweep

LOW = 4
MISS = 2 / 0.2
"""What a nat outside an 80 % band costs, in nats of its width."""
SHAPES = tuple(
    Shape(
        bends=((-4 * bend / 5, 0.25), (0.01, 0.5), (bend, 0.25)),
        gain_spread=spread,
        noise_factors=noise,
        misfit=misfit,
    )
    for bend, spread, misfit, noise in product(
        (0.1, 0.2, 0.4, 0.8, 1.5),
        (1.0, 4.0, 16.0),
        (0.0, 0.05, 0.1),
        (
            ((1.0, 1.0),),
            ((1.0, 0.6), (2.0, 0.4)),
            ((1.0, 0.5), (2.0, 0.3), (4.0, 0.2)),
            ((1.0, 0.4), (2.0, 0.3), (4.0, 0.2), (8.0, 0.1)),
        ),
    )
)
"""What the shape could have been; the shipped one is among them."""


@dataclass(frozen=True)
class BentPoint:
    """One independent run between the two, and what was said of it, nats."""

    case: str
    setting: str
    rank: int
    loss: float
    bent: float
    low_80: float
    high_80: float
    line: float
    truncated: float | None
    """None where no truncated adapter was measured."""

    @property
    def inside(self) -> bool:
        return self.low_80 <= self.loss <= self.high_80

    @property
    def interval_score(self) -> float:
        """Width of the band and how far the run is outside, nats (Gneiting and Raftery 2007, section 6.2)."""
        outside = max(self.low_80 - self.loss, self.loss - self.high_80, 0.0)
        return self.high_80 - self.low_80 + MISS * outside


def bent_points(
    cases: Sequence[Case], gain_percent: float, noise_nats: float, *more: int, shape: Shape = SHAPE
) -> list[BentPoint]:
    """Every run between r = 4 and the highest rank of each case at fixed alpha. more: other ranks that are measured."""
    points = []
    for case in cases:
        runs, highest = case.independent, max(case.independent)
        if why_not_forecast(case):
            continue
        known = [MeasuredRank(r, runs[r]) for r in (LOW, *more, highest)]
        gain = gain_percent / 100 * min(run.loss for run in known)
        open_ranks = [r for r in runs if LOW < r < highest and r not in more]
        for rank in conditioned(known, gain_nats=gain, noise_nats=noise_nats, ranks=open_ranks, shape=shape):
            points.append(
                BentPoint(
                    case=case.name,
                    setting=case.name.rsplit("-", 1)[0],
                    rank=rank.r,
                    loss=runs[rank.r],
                    bent=rank.median,
                    low_80=rank.low_80,
                    high_80=rank.high_80,
                    line=_line(known, rank.r),
                    truncated=runs[rank.r] + case.differences[rank.r],
                )
            )
    return points


def why_not_forecast(case: Case) -> str | None:
    """Why a case is no check of the band; None of one that is."""
    if case.alpha != "fixed":
        return "alpha = r and the learning rate tuned at each rank"
    return None if LOW in case.independent else f"no run at r = {LOW}"


def recorded_points(sweep: Sweep, gain_percent: float, noise_nats: float) -> Iterator[BentPoint]:
    """Every run between the lowest and the highest rank of a sweep, forecast from each pair of one run of the lowest
    and one of the highest rank, at each learning rate alone."""
    for rate in sorted({run.request.learning_rate for run in sweep.runs}):
        losses: dict[int, list[float]] = {}
        for run in sweep.runs:
            if run.request.learning_rate == rate and has_loss(run):
                losses.setdefault(run.request.r, []).append(run.loss_after.loss)
        if len(losses) < 3:
            continue
        low, high = min(losses), max(losses)
        between = sorted(losses.keys() - {low, high})
        for ends in product(losses[low], losses[high]):
            known = [MeasuredRank(low, ends[0]), MeasuredRank(high, ends[1])]
            gain = gain_percent / 100 * min(ends)
            for rank in conditioned(known, gain_nats=gain, noise_nats=noise_nats, ranks=between):
                for loss in losses[rank.r]:
                    yield BentPoint(
                        case=sweep.sweep_id,
                        setting=f"{rate:g}",
                        rank=rank.r,
                        loss=loss,
                        bent=rank.median,
                        low_80=rank.low_80,
                        high_80=rank.high_80,
                        line=_line(known, rank.r),
                        truncated=None,
                    )


def _line(runs: Sequence[MeasuredRank], r: int) -> float:
    """Straight in log r between the measured neighbours."""
    low = max((run for run in runs if run.r <= r), key=lambda run: run.r)
    high = min((run for run in runs if run.r >= r), key=lambda run: run.r)
    return low.loss + (high.loss - low.loss) * math.log(r / low.r) / math.log(high.r / low.r)


def bent_summary(points: Sequence[BentPoint]) -> Mapping[str, Any]:
    """Absolute errors, nats, and the share inside the 80 % band."""
    errors = {
        "bent": [abs(point.bent - point.loss) for point in points],
        "line": [abs(point.line - point.loss) for point in points],
        "truncated": [abs(point.truncated - point.loss) for point in points if point.truncated is not None],
    }
    return {
        "runs": len(points),
        "cases": len({point.case for point in points}),
        "inside_80": round(fmean(point.inside for point in points), 3),
        "mean_width_80": round(fmean(point.high_80 - point.low_80 for point in points), 4),
        **{
            f"{name}_{kind}_error": round(how(values), 4)
            for name, values in errors.items()
            for kind, how in (("median", median), ("mean", fmean))
            if values
        },
    }


def setting_left_out(
    cases: Sequence[Case], gain_percent: float, noise_nats: float, shapes: Sequence[Shape] = SHAPES
) -> list[BentPoint]:
    """The runs of each setting (base, data, rate), with the shape that has the lowest interval score on the others."""
    by_shape = [bent_points(cases, gain_percent, noise_nats, shape=shape) for shape in shapes]
    held = []
    for setting in dict.fromkeys(point.setting for point in by_shape[0]):
        best = min(by_shape, key=lambda points: _mean_by_setting([p for p in points if p.setting != setting]))
        held.extend(point for point in best if point.setting == setting)
    return held


def _mean_by_setting(points: Sequence[BentPoint]) -> float:
    settings = {point.setting for point in points}
    return fmean(fmean(p.interval_score for p in points if p.setting == setting) for setting in settings)
