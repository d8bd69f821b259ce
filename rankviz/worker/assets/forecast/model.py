"""The posterior of the hierarchical curve given published lines.

    quality(r) = limit - gain * left(r, bend) + trend * octaves(r) + noise
    gain = 0 with a small probability, or else log gain = effects . description + study + line
    log bend = common + line

The limit is integrated out with a flat prior, the trend in closed form, the gain, the bend and the study's effect on
grids. What remains are the parameters of draws.Parameters; their priors stand in PRIORS.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankviz.core.forecast.lines import RankLine
from rankviz.worker.assets.forecast.draws import BENDS, GAINS, STUDY_REACH, Parameters, left, octaves

LOG_GAINS = np.linspace(*np.log(GAINS), 45)
STUDY_NODES = np.linspace(-STUDY_REACH, STUDY_REACH, 15)
BEND_NODES = np.array([-1.5, -0.5, 0.5, 1.5])
BEND_WEIGHTS = np.array([0.13, 0.37, 0.37, 0.13])
NAMES = ("log_study", "log_line", "log_bend", "log_bend_spread", "flat", "log_noise", "log_share", "log_tilt")
PRIORS = {
    "score": ((-0.4, 0.5), (-0.9, 0.5), (-1.5, 0.4), (-1.2, 0.3), (-2.2, 1.0), (-0.9, 0.5), (-0.5, 0.4), (-2.0, 0.3)),
    "loss": ((-0.5, 0.6), (-1.0, 0.5), (-0.8, 0.7), (-0.7, 0.5), (-2.9, 1.0), (-1.6, 0.8), (-0.5, 0.4), (-2.0, 0.3)),
}
"""Mean and standard deviation for NAMES."""
LINES_OF_A_STUDY = 16
"""The lines of a study share its recipe: more of them together count as so many."""
EFFECT_PRIOR = {
    "score": ((0.3, 1.2), (0.0, 0.8), (0.0, 0.8), (0.0, 0.8), (0.0, 0.8)),
    "loss": ((0.0, 1.0), (-0.2, 0.2), (0.2, 0.4)),
}
"""The same for the columns of a description (families.py): what all lines share, and how far kinds, size and base move
it."""


@dataclass(frozen=True)
class Data:
    """Lines as arrays, padded to the longest; padded values have no weight."""

    metric: str
    ranks: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    present: np.ndarray
    descriptions: np.ndarray
    groups: np.ndarray
    """Which study or data set a line belongs to, as a number."""

    @property
    def parameters(self) -> int:
        return self.descriptions.shape[1] + len(NAMES)


def data_of(lines: Sequence[RankLine], descriptions: np.ndarray) -> Data:
    """Arrays of these lines, all of one metric, with one description a line."""
    longest = max(len(line.ranks) for line in lines)
    shape = (len(lines), longest)
    ranks, values, errors, present = np.full(shape, 64.0), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row, line in enumerate(lines):
        length = len(line.ranks)
        ranks[row, :length], present[row, :length] = line.ranks, 1.0
        values[row, :length] = np.array(line.values) - line.values[-1]
        errors[row, :length] = [error or 0.0 for error in line.standard_errors]
    names = sorted({line.group for line in lines})
    groups = np.array([names.index(line.group) for line in lines])
    return Data(lines[0].metric, ranks, values, errors, present, descriptions, groups)


def unpacked(theta: np.ndarray) -> Parameters:
    """Draws of theta, one a row, with their names."""
    effects = theta[:, : -len(NAMES)]
    rest = dict(zip(NAMES, theta[:, -len(NAMES) :].T, strict=True))
    return Parameters(effects=effects, **rest)


def log_posterior(theta: np.ndarray, data: Data) -> float:
    """Up to a constant."""
    effects, rest = theta[: -len(NAMES)], theta[-len(NAMES) :]
    centre, spread = np.array(EFFECT_PRIOR[data.metric][: len(effects)]).T
    means, sds = np.array(PRIORS[data.metric]).T
    prior = -0.5 * (((effects - centre) / spread) ** 2).sum() - 0.5 * (((rest - means) / sds) ** 2).sum()
    return prior + _log_likelihood(effects, dict(zip(NAMES, np.clip(rest, -6, 4), strict=True)), data)


def _log_likelihood(effects: np.ndarray, rest: dict[str, float], data: Data) -> float:
    typical = data.descriptions @ effects
    curved, flat = _by_gain(typical, rest, data)
    share = 1 / (1 + np.exp(-rest["flat"]))
    # A line's own gain around that of its study: lines by nodes of the study's effect.
    nodes = typical[:, None] + np.exp(rest["log_study"]) * STUDY_NODES[None, :]
    step = LOG_GAINS[1] - LOG_GAINS[0]
    width = max(np.exp(rest["log_line"]), 0.6 * step)
    weights = np.exp(-0.5 * ((LOG_GAINS[None, None, :] - np.clip(nodes, *LOG_GAINS[[0, -1]])[:, :, None]) / width) ** 2)
    weights /= weights.sum(axis=2, keepdims=True)
    top = np.maximum(curved.max(axis=1), flat)
    inside = np.einsum("lng,lg->ln", weights, np.exp(curved - top[:, None]))
    line = np.log((1 - share) * inside + share * np.exp(flat - top)[:, None] + 1e-300) + top[:, None]
    study = np.zeros((data.groups.max() + 1, len(STUDY_NODES)))
    np.add.at(
        study, data.groups, line * np.minimum(1.0, LINES_OF_A_STUDY / np.bincount(data.groups))[data.groups, None]
    )
    normal = -0.5 * STUDY_NODES**2
    normal -= np.log(np.exp(normal).sum())
    return float(np.logaddexp.reduce(study + normal, axis=1).sum())


def _by_gain(typical: np.ndarray, rest: dict[str, float], data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood of each line at each gain of the grid (bend integrated), and where rank has no effect."""
    noise = np.exp(2 * rest["log_noise"]) + (np.exp(rest["log_share"]) * data.errors) ** 2
    weight = data.present / noise
    trend = octaves(data.ranks)
    tilt = np.exp(2 * (typical + rest["log_tilt"]))
    by_trend = (weight * trend * trend).sum(axis=1)
    damp = tilt / (1 + tilt * by_trend)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a_trend, b_trend = (weight * a * trend).sum(axis=-1), (weight * b * trend).sum(axis=-1)
        return (weight * a * b).sum(axis=-1) - damp * a_trend * b_trend

    ones = np.ones_like(data.values)
    total = product(ones, ones)
    y_one = product(data.values, ones)
    y_y = product(data.values, data.values) - y_one**2 / total
    constant = 0.5 * (np.where(data.present > 0, -np.log(noise), 0.0)).sum(axis=1)
    constant -= 0.5 * np.log1p(tilt * by_trend) + 0.5 * np.log(total)
    flat = constant - 0.5 * y_y
    gains = np.exp(LOG_GAINS)
    at_bends = []
    for node in BEND_NODES:
        bend = np.exp(np.clip(rest["log_bend"] + np.exp(rest["log_bend_spread"]) * node, *np.log(BENDS)))
        way = left(data.ranks, bend)
        way_one = product(way, ones)
        y_way = product(data.values, way) - y_one * way_one / total
        way_way = product(way, way) - way_one**2 / total
        quad = y_y[:, None] + 2 * gains[None, :] * y_way[:, None] + gains[None, :] ** 2 * way_way[:, None]
        at_bends.append(constant[:, None] - 0.5 * quad)
    curved = np.logaddexp.reduce(np.array(at_bends) + np.log(BEND_WEIGHTS)[:, None, None], axis=0)
    return curved, flat
