"""The band of loss by rank given the losses of measured ranks: a mixture of normals, in nats.

The curve of core.forecast.curve in closed form: for each bend and each noise of a run that come into question, the
limit and the gain given the measured losses are normal; the band is that mixture, weighted by how well each explains
the losses. The gain's prior is the published gain and many times wider than that. A saturating curve lies well below
the straight line between two runs, and the band reaches down to it in proportion to their gap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from rankviz.core.forecast.curve import GRID, HIGH_RANK, LOW_RANK, left
from rankviz.errors import InvalidSettingError

NEGLIGIBLE = 0.004
"""Parts of the mixture below this weight are left out."""
SQRT_2 = math.sqrt(2)
LEAST_NATS = 1e-4
"""Noise and gain are at least this much, so that equal losses and losses of 0 have a band too."""
TOO_FEW = "A forecast from your runs needs finished runs at two ranks at least, such as r = 4 and r = 64"


class Shape(NamedTuple):
    """What is assumed of the curve and of the noise before a run is seen."""

    bends: tuple[tuple[float, float], ...] = ((-1.2, 0.25), (0.01, 0.5), (1.5, 0.25))
    """Bends with weights: straight in log r, above that, and farther below it, a curve that saturates early. What is
    above and what is below weigh the same, so the straight line stays about the median of two runs."""
    gain_spread: float = 16.0
    """Standard deviation of the gain's prior, in published gains. Drawing the gain of short runs nearer to published
    ones made the forecasts of independent runs worse (docs/forecast.md)."""
    noise_factors: tuple[tuple[float, float], ...] = ((1.0, 0.5), (2.0, 0.3), (4.0, 0.2))
    """What the noise of a run may be, as a multiple of the assumed one where no repeats were measured, with weights."""
    misfit: float = 0.05
    """Standard deviation of a rank's own distance from the curve, as a share of the gap between the measured ranks."""


SHAPE = Shape()


class MeasuredRank(NamedTuple):
    """Mean held-out loss of the runs of one rank, nats. sd: spread between its runs; None of one run."""

    r: int
    loss: float
    sd: float | None = None
    runs: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BentRank:
    """Where a run at this rank would land, nats."""

    r: int
    median: float
    """The estimate: the median of the mixture, and of its straight part where only two ranks were measured."""
    low_50: float
    high_50: float
    low_80: float
    high_80: float
    measured: float | None


class _Part(NamedTuple):
    """One normal of the mixture: the loss is start + gain * (way - middle), misfit and noise."""

    weight: float
    bend: float
    ends: tuple[int, int]
    start: float
    start_variance: float
    gain: float
    gain_variance: float
    middle: float
    misfit_variance: float
    noise_variance: float

    def at(self, r: float, own: MeasuredRank | None = None) -> tuple[float, float]:
        """Mean and standard deviation of one more run's loss. own: the runs of this rank, which say how far it is from
        the curve."""
        way = _missing(r, self.bend, self.ends) - self.middle
        mean = self.start + self.gain * way
        curve = self.start_variance + way * way * self.gain_variance
        misfit = self.misfit_variance
        known = misfit / (misfit + self.noise_variance / own.runs) if own else 0.0
        mean += known * ((own.loss if own else mean) - mean)
        variance = (1 - known) ** 2 * curve + (1 - known) * misfit + self.noise_variance
        return mean, math.sqrt(variance)


def conditioned(
    runs: Sequence[MeasuredRank],
    *,
    gain_nats: float,
    noise_nats: float,
    noise_known: bool = False,
    ranks: Sequence[int] | None = None,
    shape: Shape = SHAPE,
) -> tuple[BentRank, ...]:
    """The band at each rank between the lowest and the highest measured one.

    Args:
        runs: Measured ranks, two at least.
        gain_nats: The published median of the gain from r = 4 to r = 64, as nats of this loss.
        noise_nats: Standard deviation of one run.
        noise_known: It was measured in this sweep, and is not borrowed.
        ranks: Ranks to forecast; by default those of GRID in between, and the measured ones.
        shape: Another one is for the check of how it was chosen.
    """
    runs = sorted(runs)
    if len({run.r for run in runs}) < 2:
        raise InvalidSettingError(f"{TOO_FEW}.")
    measured = {run.r: run for run in runs}
    low, high = runs[0].r, runs[-1].r
    wanted = sorted({r for r in GRID if low <= r <= high} | measured.keys()) if ranks is None else ranks
    if outside := [r for r in wanted if not low <= r <= high]:
        raise InvalidSettingError(
            f"Your runs say nothing of r = {outside[0]}: choose ranks from {low} to {high}, or measure that rank too."
        )
    parts = _mixture(runs, gain_nats, max(noise_nats, LEAST_NATS), noise_known, shape)
    likeliest = _straight(parts, shape) if len(measured) == 2 else parts
    return tuple(_bent_rank(parts, likeliest, r, measured.get(r)) for r in wanted)


def _straight(parts: Sequence[_Part], shape: Shape) -> Sequence[_Part]:
    """Two losses say nothing of a bend, and independent runs lay about the straight line (docs/accuracy.md)."""
    bend = min((bend for bend, _ in shape.bends), key=abs)
    return [part for part in parts if part.bend == bend] or parts


def _missing(r: float, bend: float, ends: tuple[int, int]) -> float:
    """The share of the gain from the lowest to the highest measured rank that is missing at r: 1 and 0 there."""
    low, high = (left(end, bend) for end in ends)
    return (left(r, bend) - high) / (low - high)


def _mixture(
    runs: Sequence[MeasuredRank], gain_nats: float, noise_nats: float, noise_known: bool, shape: Shape
) -> tuple[_Part, ...]:
    losses = [run.loss for run in runs]
    ends = runs[0].r, runs[-1].r
    stretch = math.log(ends[1] / ends[0]) / math.log(HIGH_RANK / LOW_RANK)
    gain = max(gain_nats * stretch, LEAST_NATS)
    misfit = (shape.misfit * (max(losses) - min(losses))) ** 2
    return _weighed(
        _part(
            runs, bend, ends, gain, shape.gain_spread * gain, misfit, (noise_nats * factor) ** 2, math.log(each * share)
        )
        for bend, each in shape.bends
        for factor, share in ([(1.0, 1.0)] if noise_known else shape.noise_factors)
    )


def _weighed(parts: Iterable[_Part]) -> tuple[_Part, ...]:
    """Log weights as shares of 1."""
    parts = tuple(parts)
    top = max(part.weight for part in parts)
    kept = [part._replace(weight=math.exp(part.weight - top)) for part in parts]
    total = sum(part.weight for part in kept)
    kept = [part for part in kept if part.weight >= NEGLIGIBLE * total]
    total = sum(part.weight for part in kept)
    return tuple(part._replace(weight=part.weight / total) for part in kept)


def _part(
    runs: Sequence[MeasuredRank],
    bend: float,
    ends: tuple[int, int],
    gain: float,
    spread: float,
    misfit: float,
    noise: float,
    log_prior: float,
) -> _Part:
    """Least squares with a flat prior for the limit and a normal one for the gain. misfit and noise: variances.
    weight: still a logarithm."""
    weights = [1 / (noise / run.runs + misfit) for run in runs]
    ways = [_missing(run.r, bend, ends) for run in runs]
    total = sum(weights)
    middle = sum(w * way for w, way in zip(weights, ways, strict=True)) / total
    mean = sum(w * run.loss for w, run in zip(weights, runs, strict=True)) / total
    by_way = sum(w * (way - middle) ** 2 for w, way in zip(weights, ways, strict=True))
    together = sum(w * (way - middle) * (run.loss - mean) for w, way, run in zip(weights, ways, runs, strict=True))
    by_loss = sum(w * (run.loss - mean) ** 2 for w, run in zip(weights, runs, strict=True))
    prior = 1 / spread**2
    precision = by_way + prior
    posterior = (together + prior * gain) / precision
    fit = (
        sum(math.log(w) for w in weights) / 2
        - math.log(total) / 2
        - math.log(precision / prior) / 2
        - (by_loss + prior * gain * gain - precision * posterior * posterior) / 2
    )
    return _Part(log_prior + fit, bend, ends, mean, 1 / total, posterior, 1 / precision, middle, misfit, noise)


def _bent_rank(parts: Sequence[_Part], likeliest: Sequence[_Part], r: int, own: MeasuredRank | None) -> BentRank:
    """A loss is never below 0. likeliest: the parts whose median is the estimate."""
    normals, estimating = ([(part.weight, *part.at(r, own)) for part in each] for each in (parts, likeliest))
    low_80, low_50, high_50, high_80 = (max(0.0, _quantile(normals, level)) for level in (0.1, 0.25, 0.75, 0.9))
    share = sum(weight for weight, _, _ in estimating)
    estimate = _quantile([(weight / share, mean, sd) for weight, mean, sd in estimating], 0.5)
    return BentRank(
        r=r,
        median=min(max(low_50, estimate), high_50),
        low_50=low_50,
        high_50=high_50,
        low_80=low_80,
        high_80=high_80,
        measured=own.loss if own else None,
    )


def _quantile(normals: Sequence[tuple[float, float, float]], level: float) -> float:
    """Of a mixture of normals (weight, mean, sd), by halving."""
    each = NormalDist().inv_cdf(level)
    low = min(mean + each * sd for _, mean, sd in normals)
    high = max(mean + each * sd for _, mean, sd in normals)
    for _ in range(22):
        middle = (low + high) / 2
        below = sum(weight * math.erf((middle - mean) / (sd * SQRT_2)) for weight, mean, sd in normals)
        low, high = (middle, high) if (1 + below) / 2 < level else (low, middle)
    return (low + high) / 2
