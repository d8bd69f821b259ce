"""Noise of a sweep, intervals of differences between ranks, and the seeds or examples that would decide a difference.

The distributions are computed here, since scipy takes as long to load as a verdict takes, and its studentized_range is
about ten times slower; tests/verdict/test_losses.py compares the two.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

import numpy as np

from rankviz.verdict.losses import Comparison

CONFIDENCE = 0.95
FEW_FREEDOM = 4
"""Degrees of freedom of paired runs below which an interval of unpaired runs is considered too."""
FEW_DIFFER = 5
"""Differing examples from which their share is about normally distributed, so that variances describe it."""
ALL_POINTS = 100.0
"""Points by which a right and a wrong example differ."""
NOTHING = 1e-9
"""Eigenvalue, per run of a seed, below which it counts as 0."""
MANY = 1e4
"""Degrees of freedom from which quantiles no longer change in their first three digits."""


@dataclass(frozen=True, kw_only=True)
class RunNoise:
    """Noise between runs in a run's mean over examples."""

    ranks: int
    paired_variance: float
    """Variance of one run, without the effect that its seed has on all ranks alike."""
    paired_freedom: int
    variance: float
    """Variance of one run, with the effect of its seed."""
    freedom: int
    rest_variance: float
    """Variance of one example's loss that neither its run nor the example explains; it averages out over examples."""

    @property
    def ways(self) -> tuple[tuple[float, int, float], ...]:
        """(variance of one run, degrees of freedom, risk) of candidate intervals, of which the narrowest is used."""
        risk = 1 - CONFIDENCE
        if self.paired_freedom >= FEW_FREEDOM:
            return ((self.paired_variance, self.paired_freedom, risk),)
        return (self.paired_variance, self.paired_freedom, risk / 2), (self.variance, self.freedom, risk / 2)


@dataclass(frozen=True, kw_only=True)
class PairNoise:
    """Noise of the difference between two ranks."""

    seeds: int
    weight: float
    """Variance of the difference over that of one run: 2 / n with n seeds and no missing run."""
    examples_variance: float
    """Variance of the difference due to the choice of examples."""
    unit: float = 0.0
    """Points by which one example changes an accuracy of which fewer than FEW_DIFFER examples differ between the ranks,
    too few for a variance; 0 otherwise, and for losses."""


class LossFit(NamedTuple):
    """Losses of ranks, adjusted for missing seeds, with their noise."""

    losses: Mapping[int, float]
    runs: RunNoise | None
    """Noise between runs; None with one run per rank, and where all seeds of each rank have the same values."""
    pairs: Mapping[tuple[int, int], PairNoise]
    """Noise of each pair of ranks that share at least two seeds."""


def fit(compared: Comparison, *, counted: bool = False) -> LossFit:
    """Fit rank and seed effects to the means of runs, and the noise around them. counted: True for right or wrong."""
    shared = {pair: compared.shared_seeds(*pair) for pair in combinations(compared.ranks, 2)}
    shared = {pair: seeds for pair, seeds in shared.items() if len(seeds) > 1}
    of_rank = {r: np.array([compared.means[r, seed] for seed in seeds]) for r, seeds in compared.seeds_of.items()}
    ranks, seeds, residual, freedom, weights = _effects(compared)
    losses = {r: float(means.mean()) for r, means in of_rank.items()}
    everywhere = set.intersection(*map(set, compared.seeds_of.values()))
    if everywhere and len(compared.losses) < len(compared.ranks) * len(compared.seeds):
        losses = {r: float(effect + seeds.mean()) for r, effect in zip(compared.ranks, ranks, strict=True)}
    copies = all(
        np.array_equal(values, compared.losses[r, compared.seeds_of[r][0]])
        for (r, _), values in compared.losses.items()
    )
    # Seeds whose values are nearly all right, or all wrong, agree without being copies.
    uniform = counted and all(_count_differing(values) < FEW_DIFFER for values in compared.losses.values())
    if not shared or (copies and not uniform):
        return LossFit(losses, None, {})
    counted_many = counted and compared.examples > 1
    stack = cache(lambda r, seeds: np.array([compared.losses[r, seed] for seed in seeds]))
    examples, rest, odd, largest = {}, {}, {}, 0.0
    for (r, s), common in shared.items():
        differences = stack(r, common) - stack(s, common)
        examples[r, s], rest[r, s] = _two_way(differences)
        if counted_many:
            largest, odd[r, s] = max(largest, float(np.abs(differences).max())), _count_differing(differences)
    unit = (largest or ALL_POINTS) if counted_many else 0.0
    # Two losses make a difference, hence half of its variance.
    rest_variance = max(fmean(rest.values()) / 2, unit**2 / (4 * (compared.examples + 1)))
    least = rest_variance / compared.examples if counted else 0.0
    repeats = sum(len(means) - 1 for means in of_rank.values())
    variance = sum(float(((means - means.mean()) ** 2).sum()) for means in of_rank.values()) / repeats
    place = {r: number for number, r in enumerate(compared.ranks)}
    runs = RunNoise(
        ranks=len({r for pair in shared for r in pair}),
        paired_variance=max(least, residual / freedom),
        paired_freedom=freedom,
        variance=max(least, variance),
        freedom=repeats,
        rest_variance=rest_variance,
    )
    pairs = {
        (r, s): PairNoise(
            seeds=len(common),
            weight=float(weights[place[r], place[s]]),
            examples_variance=examples[r, s],
            unit=unit if unit and odd[r, s] < FEW_DIFFER else 0.0,
        )
        for (r, s), common in shared.items()
    }
    return LossFit(losses, runs, pairs)


def _effects(compared: Comparison) -> tuple[np.ndarray, np.ndarray, float, int, np.ndarray]:
    """Fit rank + seed to the means of runs by least squares. Ranks are eliminated from the normal equations, which
    leaves one equation per seed.

    Returns effects of ranks, effects of seeds, residual sum of squares, degrees of freedom, and for each two ranks the
    variance of their difference over that of one run.
    """
    cells = [[(r, seed) for seed in compared.seeds] for r in compared.ranks]
    ran = np.array([[float(cell in compared.means) for cell in row] for row in cells])
    means = np.array([[compared.means.get(cell, 0.0) for cell in row] for row in cells])
    runs = ran.sum(axis=1, keepdims=True)
    shares, of_ranks = ran / runs, means.sum(axis=1, keepdims=True) / runs
    values, vectors = np.linalg.eigh(np.diag(ran.sum(axis=0)) - ran.T @ shares)
    known = values > NOTHING * ran.sum(axis=0).max()
    inverse = (vectors[:, known] / values[known]) @ vectors[:, known].T
    seeds = inverse @ (means - of_ranks * ran).sum(axis=0)
    ranks = of_ranks.ravel() - shares @ seeds
    residual = float((((means - ranks[:, None] - seeds) * ran) ** 2).sum())
    covariance = np.diag(1 / runs.ravel()) + shares @ inverse @ shares.T
    each = np.diag(covariance)
    freedom = len(compared.losses) - len(ranks) - int(known.sum())
    return ranks, seeds, residual, freedom, each[:, None] + each - 2 * covariance


def _count_differing(values: np.ndarray) -> int:
    """Return the number of examples that differ from the median. values: By example, or seeds × examples."""
    return int(np.count_nonzero((np.atleast_2d(values) != np.median(values)).any(axis=0)))


def _two_way(differences: np.ndarray) -> tuple[float, float]:
    """Return (MS_example - MS_rest) / (n m) or 0, and MS_rest; (0, 0) if m is 1. differences: n seeds × m examples."""
    n, m = differences.shape
    if m == 1:
        return 0.0, 0.0
    centred = differences - differences.mean()
    by_example = centred.mean(axis=0)
    rest = centred - by_example - centred.mean(axis=1, keepdims=True)
    ms_example = n * float((by_example**2).sum()) / (m - 1)
    ms_rest = float((rest**2).sum()) / ((m - 1) * (n - 1))
    return max(0.0, ms_example - ms_rest) / (n * m), ms_rest


def half_width(runs: RunNoise, pair: PairNoise, examples: int) -> float:
    """Return half the width of the interval of a difference."""
    halves = (
        _half(runs.ranks, freedom, risk, variance * pair.weight, pair.examples_variance, examples)
        for variance, freedom, risk in runs.ways
    )
    return max(min(halves), least_half_width(runs, pair, examples))


def _half(ranks: int, freedom: int, risk: float, of_runs: float, of_examples: float, examples: int) -> float:
    """Return half the width of one candidate interval. of_runs, of_examples: Variance of the difference due to each."""
    by_runs, by_examples = quantile(ranks, freedom, risk), quantile(ranks, max(1, examples - 1), risk)
    return math.sqrt(by_runs**2 * of_runs + by_examples**2 * of_examples)


def least_half_width(runs: RunNoise, pair: PairNoise, examples: int) -> float:
    """Return the largest difference that so many examples cannot exclude, even where hardly any example differs."""
    return pair.unit * (1 - ((1 - CONFIDENCE) / math.comb(runs.ranks, 2)) ** (1 / examples))


@lru_cache(maxsize=1024)
def quantile(ranks: int, freedom: float, risk: float) -> float:
    """Return the number of standard errors within which all pairs of ranks lie together, with probability 1 - risk."""
    return studentized_range_quantile(1 - risk, ranks, min(freedom, MANY)) / math.sqrt(2)


POWER = 0.8
SEEDS = (*range(2, 11), 12, 15, 20, 25, 30, 40, 50)
"""Numbers of seeds per rank that `needed` tries."""
DOUBLINGS = 12
"""How often, at most, `needed` doubles the number of held-out examples."""


@dataclass(frozen=True, kw_only=True)
class Needed:
    """Seeds or examples that would decide an undecided pair. None means more than was tried."""

    seeds: int | None
    """Number of seeds per rank, those that have run included."""
    examples: int | None
    """Number of held-out examples with the present seeds; None where more examples alone would not be enough."""


def needed(runs: RunNoise, pair: PairNoise, examples: int, difference: float, tolerance: float) -> Needed:
    """Return the seeds or examples with which a sweep decides a difference of this size with probability POWER."""
    known = {"measured_examples": examples, "difference": difference, "tolerance": tolerance}
    more_seeds = [seeds for seeds in SEEDS if seeds > pair.seeds]
    more_examples = [examples << n for n in range(1, DOUBLINGS + 1)]
    return Needed(
        seeds=_first(more_seeds, lambda seeds: chance_to_tell(runs, pair, seeds, examples, **known)),
        examples=_first(more_examples, lambda many: chance_to_tell(runs, pair, pair.seeds, many, **known)),
    )


def chance_to_tell(
    runs: RunNoise,
    pair: PairNoise,
    seeds: int,
    examples: int,
    measured_examples: int,
    difference: float,
    tolerance: float,
) -> float:
    """Return the probability that a sweep with this number of seeds and examples decides the pair."""
    # More examples average out the rest variance, not the variance between runs.
    between = max(0.0, runs.paired_variance - runs.rest_variance / measured_examples)
    paired = between + runs.rest_variance / examples
    of_examples = pair.examples_variance * measured_examples / examples
    error = math.sqrt(2 * paired / seeds + of_examples)
    planned = replace(
        runs,
        paired_variance=paired,
        paired_freedom=(runs.ranks - 1) * (seeds - 1),
        variance=paired + max(0.0, runs.variance - runs.paired_variance),
        freedom=runs.ranks * (seeds - 1),
    )
    least, chances = least_half_width(runs, pair, examples), []
    for variance, freedom, risk in planned.ways:
        half = max(least, _half(runs.ranks, freedom, risk, variance * 2 / seeds, of_examples, examples))
        # Noncentral t, because the interval's own width varies too.
        deviations, weights = _deviations(freedom)
        chances.append(1 - float(weights @ normal(half / error * deviations - abs(difference) / error)))
        if (room := tolerance - half) > 0:
            ends = normal(np.array([room - difference, -room - difference]) / error)
            chances.append(float(ends[0] - ends[1]))
    return max(chances)


def _first(candidates: Sequence[int], chance: Callable[[int], float]) -> int | None:
    """Return the first candidate whose chance is at least POWER, or None. Chances rise with the candidates."""
    place = bisect_left(candidates, POWER, key=chance)
    return candidates[place] if place < len(candidates) else None


NODES = 160
"""Number of nodes of a Gauss-Legendre rule. The integrands are smooth, so quantiles have nine correct digits."""
NEGLIGIBLE = 1e-15
"""Probability in each tail of a distribution that is neglected."""
REACH = 9.0
"""Standard deviations beyond which the normal density is neglected."""


def studentized_range_quantile(p: float, k: int, freedom: float) -> float:
    """Return q with P(Q < q) = p, where Q is the range of k equal means over their estimated standard deviation s.

    P(Q < q) = E R_k(q s), with R_k(w) = k ∫ φ(z) (Φ(z) - Φ(z - w))^(k-1) dz and s² a chi-squared over its degrees of
    freedom; the integral over s is in ln s.
    """
    s, weights = _deviations(freedom)
    z, dz = _legendre(-REACH, REACH)
    below, density = normal(z), k * dz * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def risk(q: float) -> float:
        between = below - normal(z - (q * s)[:, None])
        return float(weights @ (between ** (k - 1) @ density)) - p

    # Regula falsi, where an end that stays counts half (the Illinois rule).
    (a, below_p), (b, above_p) = (0.0, -p), (1.0, risk(1.0))
    while above_p < 0:
        (a, below_p), (b, above_p) = (b, above_p), (4 * b, risk(4 * b))
    step = math.inf
    while abs(step) > 1e-12 * b:
        step = above_p * (b - a) / (above_p - below_p)
        value = risk(b - step)
        (a, below_p) = (b, above_p) if value * above_p < 0 else (a, below_p / 2)
        b, above_p = b - step, value
    return b


@lru_cache(maxsize=64)
def _deviations(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Return estimated standard deviations s and their weights: s² is a chi-squared over its degrees of freedom. Beyond
    the ends of ln s there is less than NEGLIGIBLE, by Chernoff's bound, whose root Newton's rule finds."""
    half = freedom / 2
    enough = -math.log(NEGLIGIBLE) / half
    ends = [-(1 + enough) / 2, math.log(2 + enough)]
    for _ in range(40):
        ends = [u - (math.exp(2 * u) - 1 - 2 * u - enough) / (2 * math.exp(2 * u) - 2) for u in ends]
    u, weights = _legendre(*ends)
    chi = half * np.exp(2 * u)
    return np.exp(u), weights * 2 * np.exp(half * np.log(chi) - chi - math.lgamma(half))


def _legendre(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    x, weights = _nodes(NODES)
    half = (high - low) / 2
    return low + half * (x + 1), half * weights


_nodes = cache(np.polynomial.legendre.leggauss)


ABOVE = (0.0352624965998911, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871, 221.213596169931)
UNDER = (0.0883883476483184, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674, 637.333633378831)
TAIL = (*ABOVE, 220.206867912376), (*UNDER, 793.826512519948, 440.413735824752)
"""Coefficients of the ratio of polynomials that is the normal tail over exp(-x² / 2) (Hart and others, Computer
Approximations, 1968, number 5666); off by 2e-16 at most."""


def normal(x: np.ndarray) -> np.ndarray:
    """Return Φ(x), the probability that a normal deviate is below x."""
    size = np.abs(x)
    tail = np.exp(-x * x / 2) * np.polyval(TAIL[0], size) / np.polyval(TAIL[1], size)
    return np.where(x < 0, tail, 1 - tail)
