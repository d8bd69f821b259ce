"""Draws of what a new study's curve may be, given fitted parameters, and the quantiles of its shortfall."""

from dataclasses import dataclass

import numpy as np

from rankviz.core.forecast.bands import LEVELS
from rankviz.core.forecast.curve import GRID, HIGH_RANK, LOW_RANK, REFERENCE_RANK
from rankviz.worker.assets.forecast.rule import Rule

DRAWS = 20_000
BENDS = (0.05, 0.8)
"""A larger bend would put nearly all of a curve below r = 4."""
GAINS = (0.004, 80.0)
"""Least and most gain, points or % of the loss."""
STUDY_REACH = 3.0
"""Differences between studies end at so many times their spread."""
SEED = 20_26


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Draws of the fitted parameters, one row a draw. Logarithms are natural."""

    effects: np.ndarray
    """Of the columns of a line's description on the logarithm of its gain."""
    log_study: np.ndarray
    """Spread of that logarithm between studies (scores) or data sets (losses)."""
    log_line: np.ndarray
    """The same between lines of one study."""
    log_bend: np.ndarray
    log_bend_spread: np.ndarray
    flat: np.ndarray
    """Logit of the share of lines on which rank has no effect."""
    log_noise: np.ndarray
    """Noise of one value beyond its standard error."""
    log_share: np.ndarray
    """Share of the published standard error that is noise between two ranks, which share the test set."""
    log_tilt: np.ndarray
    """Spread of a trend with rank in either direction, as a share of the typical gain."""


@dataclass(frozen=True)
class Curves:
    """Draws of one new line: its gain from r = 4 to r = 64, its bend, a trend, and the noise of one value."""

    gain: np.ndarray
    bend: np.ndarray
    trend: np.ndarray
    noise: np.ndarray

    def quality(self, ranks: np.ndarray) -> np.ndarray:
        """Without noise, up to a constant: draws by ranks."""
        return -self.gain[:, None] * left(ranks[None, :], self.bend[:, None]) + self.trend[:, None] * octaves(ranks)

    def shortfall(self, rng: np.random.Generator, ranks: np.ndarray, reference: float = REFERENCE_RANK) -> np.ndarray:
        """From the reference rank, with the noise of both values: draws by ranks."""
        noise = self.noise[:, None] * rng.standard_normal((len(self.gain), len(ranks) + 1))
        quality = self.quality(np.append(ranks, reference)) + noise
        short = quality[:, -1:] - quality[:, :-1]
        return np.where(ranks == reference, 0.0, short)


def left(ranks: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """core.forecast.curve.left for arrays."""
    top = HIGH_RANK**-bend
    return (ranks**-bend - top) / (LOW_RANK**-bend - top)


def octaves(ranks: np.ndarray) -> np.ndarray:
    """0 at r = 64 and -1 at r = 4, straight in log r."""
    return np.log2(ranks / HIGH_RANK) / np.log2(HIGH_RANK / LOW_RANK)


def curves(
    rng: np.random.Generator, parameters: Parameters, description: np.ndarray, standard_error: float, draws: int = DRAWS
) -> Curves:
    """Draws of a new line of a new study with this description.

    Args:
        rng: Where the draws come from.
        parameters: Of a fit.
        description: One value for each column of `effects`.
        standard_error: Of one value of such a line, as published.
        draws: How many.
    """
    pick = rng.integers(0, len(parameters.flat), draws)
    typical = parameters.effects[pick] @ description
    apart = np.clip(rng.standard_normal(draws), -STUDY_REACH, STUDY_REACH)
    study = np.exp(parameters.log_study[pick]) * apart
    line = np.exp(parameters.log_line[pick]) * rng.standard_normal(draws)
    bend = parameters.log_bend[pick] + np.exp(parameters.log_bend_spread[pick]) * rng.standard_normal(draws)
    flat = rng.random(draws) < 1 / (1 + np.exp(-parameters.flat[pick]))
    own = np.exp(parameters.log_share[pick]) * standard_error
    return Curves(
        gain=np.where(flat, 0.0, np.exp(np.clip(typical + study + line, *np.log(GAINS)))),
        bend=np.exp(np.clip(bend, *np.log(BENDS))),
        trend=np.exp(np.clip(typical + parameters.log_tilt[pick], None, np.log(GAINS[1]))) * rng.standard_normal(draws),
        noise=np.hypot(np.exp(parameters.log_noise[pick]), own),
    )


def quantiles(rng: np.random.Generator, new: Curves, rule: Rule) -> dict[str, list[float]]:
    """Of the shortfall at each rank of GRID, by level: half of the draws from the curve, half from the rule of thumb.

    The median never rises with rank and is 0 at the reference rank.
    """
    draws = len(new.gain)
    by_rule = np.stack([rule.shortfall(r, REFERENCE_RANK, draws) for r in GRID], axis=1)
    mixed = np.concatenate([new.shortfall(rng, np.array(GRID, dtype=float)), by_rule])
    table = {level: np.percentile(mixed, float(level), axis=0) for level in LEVELS}
    below = np.array(GRID) < REFERENCE_RANK
    median = np.minimum.accumulate(np.where(below, np.maximum(table["50"], 0.0), np.minimum(table["50"], 0.0)))
    table["50"] = np.clip(median, table["25"], table["75"])
    return {level: [round(float(value), 4) for value in values] for level, values in table.items()}
