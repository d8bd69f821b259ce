"""Left-out validation: each publication forecast from the others, beside simpler forecasts and the curve alone.

Compared is the signed gap of each rank to the highest rank of its line, so that no best value is selected. All
parameters, their covariance and the errors of the rule of thumb are fitted anew for each publication that is left out.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rankviz.core.forecast.lines import RankLine
from rankviz.worker.assets.forecast.draws import curves
from rankviz.worker.assets.forecast.families import Family
from rankviz.worker.assets.forecast.fit import fit
from rankviz.worker.assets.forecast.model import data_of
from rankviz.worker.assets.forecast.rule import fitted_rule, gaps
from rankviz.worker.assets.forecast.scoring import Scored, crps, place_of
from rankviz.worker.assets.forecast.tables import typical_error

DRAWS = 4000


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
        rule = fitted_rule(others, part)
        for line in own:
            noise = known_error(line, others)
            new = curves(rng, parameters, np.array(family.describe(line)), noise, DRAWS)
            short = new.shortfall(rng, np.array(line.ranks[:-1], dtype=float), float(line.ranks[-1]))
            for place, (rank, gap) in enumerate(gaps(line)):
                by_curve, by_rule = short[:, place], rule.shortfall(rank, line.ranks[-1], DRAWS)
                draws = np.concatenate([by_curve, by_rule])
                yield Scored(
                    publication=name,
                    kind=line.kind,
                    study_id=line.study_id,
                    rank=rank,
                    gap=gap,
                    place=place_of(draws, gap),
                    crps=crps(draws, gap),
                    median_error=abs(float(np.median(draws)) - gap),
                    crps_rule=crps(by_rule, gap),
                    crps_curve=crps(by_curve, gap),
                )


def known_error(line: RankLine, others: Sequence[RankLine]) -> float:
    """Standard error of one value of a left-out line, from nothing that its results say.

    The size of its test set is known beforehand. An error between seeds is not, and neither is that of an unnamed test:
    then the typical error of its kind counts.
    """
    own = [] if line.errors_published else [error for error in line.standard_errors if error]
    return float(np.median(own)) if own else typical_error([other for other in others if other.kind == line.kind])
