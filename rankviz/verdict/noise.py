"""The noise of a sweep, and the interval of each difference between two ranks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

import numpy as np

from rankviz.verdict.losses import Comparison

NOTHING = 1e-9
"""Of the runs of a seed: an eigenvalue that is 0 but for the last digits."""


class Effects(NamedTuple):
    """Ranks + seeds, fitted to the means of runs by least squares."""

    ranks: np.ndarray
    seeds: np.ndarray
    residual: float
    """Sum of squares."""
    freedom: int
    weights: Sequence[Sequence[float]]
    """Variance of the difference of two ranks over that of one run; of ranks that no seeds lead to one another, of no
    use."""


def effects_of(compared: Comparison) -> Effects:
    """The ranks are taken out of the normal equations, which leaves one for each seed, however many ranks there are."""
    cells = [[(r, seed) for seed in compared.seeds] for r in compared.ranks]
    ran = np.array([[float(cell in compared.means) for cell in row] for row in cells])
    means = np.array([[compared.means.get(cell, 0.0) for cell in row] for row in cells])
    runs = ran.sum(axis=1, keepdims=True)
    shares, of_ranks = ran / runs, means.sum(axis=1, keepdims=True) / runs
    values, vectors = np.linalg.eigh(np.diag(ran.sum(axis=0)) - ran.T @ shares)
    kept = values > NOTHING * ran.sum(axis=0).max()
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    seeds = inverse @ (means - of_ranks * ran).sum(axis=0)
    ranks = of_ranks.ravel() - shares @ seeds
    residual = (means - ranks[:, None] - seeds) * ran
    covariance = np.diag(1 / runs.ravel()) + shares @ inverse @ shares.T
    of_each = np.diag(covariance)
    return Effects(
        ranks=ranks,
        seeds=seeds,
        residual=float((residual**2).sum()),
        freedom=len(compared.losses) - len(ranks) - int(kept.sum()),
        weights=(of_each[:, None] + of_each - 2 * covariance).tolist(),
    )


CONFIDENCE = 0.95
FEW_FREEDOM = 4
FEW_DIFFER = 5
"""Examples: with so many or more, a share is about normal, and the variances are enough."""
ALL_POINTS = 100.0
"""Between a right and a wrong example."""
AT_ONCE = 1_000_000
"""Differences of single losses that are held together."""
MANY = 1e4
"""Degrees of freedom from which on a quantile no longer changes in its third digit."""


@dataclass(frozen=True, kw_only=True)
class RunNoise:
    """Between runs, of a run's mean over examples."""

    ranks: int
    paired_variance: float
    """Of one run beside what its seed does to every rank alike."""
    paired_freedom: int
    variance: float
    """Of one run, its seed's share in it."""
    freedom: int
    rest_variance: float
    """Of a single loss, beside runs and examples: what more examples average out."""

    @property
    def sd(self) -> float:
        """Standard deviation of one run's loss over seeds."""
        return math.sqrt(self.variance)

    @cached_property
    def ways(self) -> tuple[tuple[float, float, int], ...]:
        """The intervals to choose the narrowest of: variance of one run, its freedom as a count, its risk."""
        risk = 1 - CONFIDENCE
        if self.paired_freedom >= FEW_FREEDOM:
            return ((self.paired_variance, self.paired_freedom, risk),)
        return (self.paired_variance, self.paired_freedom, risk / 2), (self.variance, self.freedom, risk / 2)


@dataclass(frozen=True, kw_only=True)
class PairNoise:
    """Noise of the difference between two ranks."""

    seeds: int
    """That both ran with."""
    weight: float
    """Variance of the difference over that of one run: 2 / n where no run is missing."""
    examples_variance: float
    """What the choice of examples adds to the variance of the difference."""
    unit: float = 0.0
    """What one example may differ by that has not shown itself; 0 where enough examples differ, or of losses."""


@dataclass(frozen=True, kw_only=True)
class LossFit:
    """Losses of ranks adjusted for missing seeds, and all noise."""

    losses: Mapping[int, float]
    runs: RunNoise | None
    """None of one run a rank."""
    pairs: Mapping[tuple[int, int], PairNoise]
    """Of ranks that share two seeds or more."""
    copies: bool = False
    """All seeds of each rank gave the same values, as if one run was written down several times."""
    assumed: bool = False
    """No value differed between seeds: the noise is a floor."""


def fit(compared: Comparison, *, counted: bool = False) -> LossFit:
    """counted: values are counts of right and wrong."""
    common = cache(lambda mine, others: tuple(seed for seed in mine if seed in others))
    shared = {(r, s): common(compared.seeds_of(r), compared.seeds_of(s)) for r, s in combinations(compared.ranks, 2)}
    shared = {pair: seeds for pair, seeds in shared.items() if len(seeds) > 1}
    effects, within = effects_of(compared), _within(compared)
    losses = _adjusted(compared, effects, within)
    copies = bool(shared) and _copies(compared)
    if not shared or (copies and not (counted and _nearly_uniform(compared))):
        return LossFit(losses=losses, runs=None, pairs={}, copies=copies)
    tables = _tables(compared, shared, counted=counted and compared.examples > 1)
    unit = max(table.largest for table in tables.values())
    unit = (unit or ALL_POINTS) if counted and compared.examples > 1 else 0.0
    rest_variance = max(
        fmean(table.rest / 2 for table in tables.values()),  # two losses make a difference
        unit**2 / (4 * (compared.examples + 1)),
    )
    least = rest_variance / compared.examples if counted else 0.0
    variance, repeats = _variance(within)
    places = {r: place for place, r in enumerate(compared.ranks)}
    return LossFit(
        losses=losses,
        runs=RunNoise(
            ranks=len({r for pair in shared for r in pair}),
            paired_variance=max(least, effects.residual / effects.freedom),
            paired_freedom=effects.freedom,
            variance=max(least, variance),
            freedom=repeats,
            rest_variance=rest_variance,
        ),
        pairs={
            (r, s): PairNoise(
                seeds=len(shared[r, s]),
                weight=effects.weights[places[r]][places[s]],
                examples_variance=table.examples,
                unit=unit if unit and table.odd < FEW_DIFFER else 0.0,
            )
            for (r, s), table in tables.items()
        },
        assumed=copies,
    )


def _within(compared: Comparison) -> dict[int, np.ndarray]:
    """Mean loss of each run, by rank."""
    return {r: np.array([compared.means[r, seed] for seed in sorted(compared.seeds_of(r))]) for r in compared.ranks}


def _variance(within: Mapping[int, np.ndarray]) -> tuple[float, int]:
    """Between the runs of a rank, pooled over ranks, and its degrees of freedom."""
    repeats = sum(len(mine) - 1 for mine in within.values())
    return sum(float(((mine - mine.mean()) ** 2).sum()) for mine in within.values()) / repeats, repeats


def _adjusted(compared: Comparison, effects: Effects, within: Mapping[int, np.ndarray]) -> dict[int, float]:
    """Plain means where no run is missing, or where ranks share no seed to be adjusted by."""
    plain = {r: float(mine.mean()) for r, mine in within.items()}
    common = set.intersection(*(set(compared.seeds_of(r)) for r in compared.ranks))
    if compared.balanced or not common:
        return plain
    return {r: float(each + effects.seeds.mean()) for r, each in zip(compared.ranks, effects.ranks, strict=True)}


def _copies(compared: Comparison) -> bool:
    """Tell whether all seeds of each rank gave the same losses to the last digit: one run written down several
    times."""
    return all(
        np.array_equal(compared.losses[r, seed], compared.losses[r, compared.seeds_of(r)[0]])
        for r, seed in compared.losses
    )


def _nearly_uniform(compared: Comparison) -> bool:
    """Tell whether each run has one value for all its examples but a few, such as all right: seeds then agree without
    being copies."""
    return all(_odd(values) < FEW_DIFFER for values in compared.losses.values())


def _odd(values: np.ndarray) -> int:
    """Examples that are not as most are. values: of examples, or of seeds × examples."""
    return int(np.count_nonzero((np.atleast_2d(values) != np.median(values)).any(axis=0)))


class _Table(NamedTuple):
    """Variance of the differences between two ranks, seeds × examples."""

    examples: float
    """(MS_example - MS_rest) / (n m), not below 0; 0 of one example."""
    rest: float
    """MS_rest; 0 of one example."""
    largest: float = 0.0
    odd: int = 0
    """Examples that do not differ as most do."""


def _tables(
    compared: Comparison, shared: Mapping[tuple[int, int], tuple[str, ...]], *, counted: bool
) -> dict[tuple[int, int], _Table]:
    """Make the table of each pair from the seeds that it shares. counted: `largest` and `odd` too."""
    alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for (r, s), seeds in shared.items():
        alike.setdefault((r, seeds), []).append(s)
    of_rank = cache(lambda r, seeds: np.array([compared.losses[r, seed] for seed in seeds]))
    tables = {}
    for (r, seeds), every in alike.items():
        some = max(1, AT_ONCE // of_rank(r, seeds).size)
        for others in (every[place : place + some] for place in range(0, len(every), some)):
            differences = of_rank(r, seeds) - np.array([of_rank(s, seeds) for s in others])
            columns = [*_two_way(differences), *(_counts(differences) if counted else ())]
            tables |= {(r, s): _Table(*row) for s, *row in zip(others, *columns, strict=True)}
    return dict(sorted(tables.items()))


def _two_way(differences: np.ndarray) -> tuple[Sequence[float], Sequence[float]]:
    """differences: pairs × seeds × examples."""
    pairs, n, m = differences.shape
    if m == 1:
        return [0.0] * pairs, [0.0] * pairs
    centred = differences - differences.mean(axis=(1, 2), keepdims=True)
    by_example = centred.mean(axis=1, keepdims=True)
    rest = centred - by_example - centred.mean(axis=2, keepdims=True)
    ms_example = n * (by_example**2).sum(axis=(1, 2)) / (m - 1)
    ms_rest = (rest**2).sum(axis=(1, 2)) / ((m - 1) * (n - 1))
    return (np.maximum(0.0, ms_example - ms_rest) / (n * m)).tolist(), ms_rest.tolist()


def _counts(differences: np.ndarray) -> tuple[Sequence[float], Sequence[int]]:
    return np.abs(differences).max(axis=(1, 2)).tolist(), [_odd(each) for each in differences]


def half_width(runs: RunNoise, pair: PairNoise, examples: int) -> float:
    """Half of the interval of a difference."""
    half = min(
        math.sqrt(
            quantile(runs.ranks, freedom, risk) ** 2 * variance * pair.weight
            + quantile(runs.ranks, max(1, examples - 1), risk) ** 2 * pair.examples_variance
        )
        for variance, freedom, risk in runs.ways
    )
    return max(half, least_half_width(runs, pair, examples))


def least_half_width(runs: RunNoise, pair: PairNoise, examples: int) -> float:
    """What so many examples cannot rule out, although next to none differed."""
    return pair.unit * (1 - ((1 - CONFIDENCE) / math.comb(runs.ranks, 2)) ** (1 / examples))


def standard_error(runs: RunNoise, pair: PairNoise) -> float:
    """Standard error of a difference, as a mixed model has it."""
    return math.sqrt(runs.paired_variance * pair.weight + pair.examples_variance)


@lru_cache(maxsize=1024)
def quantile(ranks: int, freedom: float, risk: float) -> float:
    """So many standard errors hold all pairs of so many ranks at once, but for the risk."""
    from rankviz.verdict.distributions import studentized_range_quantile

    return studentized_range_quantile(1 - risk, ranks, min(freedom, MANY)) / math.sqrt(2)
