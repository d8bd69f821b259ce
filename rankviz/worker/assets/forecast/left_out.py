"""Left-out validation: each publication forecast from the others, beside "no difference" and the rule of thumb.

Compared is the signed gap of each rank to the highest rank of its line, so that no best value is selected. All
parameters and their covariance are fitted anew for each publication that is left out.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rankviz.core.forecast.lines import RankLine
from rankviz.worker.assets.forecast.draws import curves
from rankviz.worker.assets.forecast.families import Family
from rankviz.worker.assets.forecast.fit import fit
from rankviz.worker.assets.forecast.model import data_of
from rankviz.worker.assets.forecast.scoring import Scored, crps, place_of

DRAWS = 4000
RULE_PER_OCTAVE, RULE_RANK = 0.5, 32
"""The rule of thumb as a number: so many points an octave below this rank, nothing above."""


def left_out(
    family: Family,
    lines: Sequence[RankLine],
    seed: int,
    part: Callable[[RankLine], str] = lambda line: line.publication,
) -> Iterator[Scored]:
    """Every point of every part, forecast from the other parts."""
    start = None
    for number, name in enumerate(sorted({part(line) for line in lines})):
        rng = np.random.default_rng([seed, number])
        others = [line for line in lines if part(line) != name]
        own = [line for line in lines if part(line) == name]
        if not others:
            return
        parameters, start = fit(data_of(others, family.descriptions(others)), rng, start)
        for line in own:
            noise = _typical_error(line, others)
            new = curves(rng, parameters, np.array(family.describe(line)), noise, DRAWS)
            short = new.shortfall(rng, np.array(line.ranks[:-1], dtype=float), float(line.ranks[-1]))
            for place, (rank, gap) in enumerate(gaps(line)):
                draws = short[:, place]
                rule = _rule_draws(line, rank, others, part)
                yield Scored(
                    publication=name,
                    kind=line.kind,
                    study_id=line.study_id,
                    rank=rank,
                    gap=gap,
                    place=place_of(draws, gap),
                    crps=crps(draws, gap),
                    median_error=abs(float(np.median(draws)) - gap),
                    crps_rule=crps(rule, gap),
                )


def gaps(line: RankLine) -> list[tuple[int, float]]:
    """How far each rank below the highest falls short of it."""
    return [(rank, line.values[-1] - value) for rank, value in zip(line.ranks[:-1], line.values[:-1], strict=True)]


def _typical_error(line: RankLine, others: Sequence[RankLine]) -> float:
    """The line's own standard error, which its test set gives before anything is measured; or that of its kind."""
    own = [error for error in line.standard_errors if error]
    kind = [error for other in others if other.kind == line.kind for error in other.standard_errors if error]
    return float(np.median(own or kind or [0.0]))


def rule_gap(rank: int, highest: int) -> float:
    """What the rule of thumb says of this gap, in its own unit."""
    return RULE_PER_OCTAVE * (np.log2(min(highest, RULE_RANK)) - np.log2(min(rank, RULE_RANK)))


def _rule_draws(
    line: RankLine, rank: int, others: Sequence[RankLine], part: Callable[[RankLine], str], draws: int = 500
) -> np.ndarray:
    """The rule with the residuals of the other parts, each part with the same weight, as a band.

    Losses are in another unit than the rule, so its slope is fitted to the others there.
    """
    said, seen, weight = [], [], []
    counts: dict[str, int] = {}
    for other in others:
        for low, gap in gaps(other):
            said.append(rule_gap(low, other.ranks[-1]))
            seen.append(gap)
            weight.append(part(other))
            counts[part(other)] = counts.get(part(other), 0) + 1
    said, seen = np.array(said), np.array(seen)
    weights = np.array([1 / counts[name] for name in weight])
    scale = 1.0 if line.metric == "score" else _median_slope(said, seen, weights)
    residuals = seen - scale * said
    order = np.argsort(residuals)
    levels = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    band = np.interp((np.arange(draws) + 0.5) / draws, levels, residuals[order])
    return scale * rule_gap(rank, line.ranks[-1]) + band


def _median_slope(said: np.ndarray, seen: np.ndarray, weights: np.ndarray) -> float:
    """The slope with the least absolute error, through the origin."""
    some = said > 0
    if not some.any():
        return 0.0
    slopes, pull = seen[some] / said[some], weights[some] * said[some]
    order = np.argsort(slopes)
    return float(slopes[order][np.searchsorted(np.cumsum(pull[order]), pull.sum() / 2)])
