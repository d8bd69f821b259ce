"""How many more seeds or held-out examples would settle a verdict, from the noise measured here or in other sweeps."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from rankviz.verdict.noise import (
    PairNoise,
    RunNoise,
    least_half_width,
    quantile,
)

POWER = 0.8
NOISE_TAIL = 0.1
"""Of the noise's own interval, on each side."""
SEEDS = (*range(2, 11), 12, 15, 20, 25, 30, 40, 50)
"""The numbers tried."""
DOUBLINGS = 12
"""Of the held-out examples, at most."""


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What would decide an undecided pair. None: more than was tried."""

    seeds_low: int | None
    seeds: int | None
    seeds_high: int | None
    """Of each rank in all, those that have run among them."""
    examples: int | None
    """Held-out examples in all, with the seeds as they are; None: more examples alone would not be enough."""
    runs_share: float
    """Of the variance of the difference: the part between runs, which more examples do not reduce."""


def needed(runs: RunNoise, pair: PairNoise, examples: int, difference: float, tolerance: float) -> Needed:
    from scipy import special

    between, freedom = _between(runs, examples), runs.paired_freedom

    def decides(n: int, m: int, scale: float = 1.0) -> bool:
        return chance_to_tell(runs, pair, n, m, examples, difference, tolerance, scale) >= POWER

    def seeds(scale: float) -> int | None:
        return _first(SEEDS[sum(n <= pair.seeds for n in SEEDS) :], lambda n: decides(n, examples, scale))

    low, high = (freedom / float(special.chdtri(freedom, tail)) for tail in (NOISE_TAIL, 1 - NOISE_TAIL))
    total = runs.paired_variance * pair.weight + pair.examples_variance
    return Needed(
        seeds_low=seeds(low),
        seeds=seeds(1.0),
        seeds_high=seeds(high),
        examples=_first([examples << n for n in range(1, DOUBLINGS + 1)], lambda m: decides(pair.seeds, m)),
        runs_share=between * pair.weight / total if total else 0.0,
    )


def chance_to_tell(
    runs: RunNoise,
    pair: PairNoise,
    seeds: int,
    examples: int,
    measured_examples: int,
    difference: float,
    tolerance: float,
    scale: float = 1.0,
) -> float:
    """The chance that a sweep of so many seeds and examples decides the pair. scale: of the variance between runs."""
    between = _between(runs, measured_examples) * scale
    by_seed = max(0.0, runs.variance - runs.paired_variance) * scale
    paired = between + runs.rest_variance / examples
    of_examples = pair.examples_variance * measured_examples / examples
    error = math.sqrt(2 * paired / seeds + of_examples)
    if not error:
        return 1.0
    planned = replace(
        runs,
        paired_variance=paired,
        paired_freedom=(runs.ranks - 1) * (seeds - 1),
        variance=paired + by_seed,
        freedom=runs.ranks * (seeds - 1),
    )
    least, chances = least_half_width(runs, pair, examples), []
    for variance, freedom, risk in planned.ways:
        q_runs, q_examples = quantile(runs.ranks, freedom, risk), quantile(runs.ranks, max(1, examples - 1), risk)
        half = max(least, math.sqrt(q_runs**2 * variance * 2 / seeds + q_examples**2 * of_examples))
        chances += [_different(abs(difference), half, error, freedom), _equal(difference, half, error, tolerance)]
    return max(chances)


def _between(runs: RunNoise, examples: int) -> float:
    """Variance of one run beside what its finite number of examples explains."""
    return max(0.0, runs.paired_variance - runs.rest_variance / examples)


def _different(difference: float, half: float, error: float, freedom: int) -> float:
    """Noncentral t: the interval's own width varies too."""
    from scipy import special

    return 1 - float(special.nctdtr(freedom, difference / error, half / error))


def _equal(difference: float, half: float, error: float, tolerance: float) -> float:
    from scipy import special

    room = tolerance - half
    if room <= 0:
        return 0.0
    return float(special.ndtr((room - difference) / error) - special.ndtr((-room - difference) / error))


def _first(candidates: list[int] | tuple[int, ...], enough: Callable[[int], bool]) -> int | None:
    """The first that is enough, where each after it is too."""
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if enough(candidates[middle]):
            high = middle
        else:
            low = middle + 1
    return candidates[low] if low < len(candidates) else None
