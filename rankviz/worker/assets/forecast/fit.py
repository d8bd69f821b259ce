"""The most probable parameters, and draws around them: quasi-Newton steps with numeric slopes, then Laplace.

Each fit, also each one with a publication left out, has a covariance of its own.
"""

from collections.abc import Callable

import numpy as np

from rankviz.worker.assets.forecast.draws import Parameters
from rankviz.worker.assets.forecast.model import EFFECT_PRIOR, PRIORS, Data, log_posterior, unpacked

STEPS = 60
SLOPE = 1e-4
CURVATURE = 0.05
PARAMETER_DRAWS = 400
CLOSE = 1e-3
"""A step that gains less than this in log posterior is the last."""


def fit(data: Data, rng: np.random.Generator, start: np.ndarray | None = None) -> tuple[Parameters, np.ndarray]:
    """Draws of the parameters, and the most probable ones (a start for the next fit)."""
    priors = [*EFFECT_PRIOR[data.metric][: data.descriptions.shape[1]], *PRIORS[data.metric]]
    centre = np.array(priors)[:, 0]

    def cost(theta: np.ndarray) -> float:
        return -log_posterior(theta, data)

    best = _lowest(cost, centre if start is None else start)
    covariance = _covariance(cost, best)
    draws = rng.multivariate_normal(best, covariance, PARAMETER_DRAWS, method="eigh")
    return unpacked(draws), best


def _lowest(cost: Callable[[np.ndarray], float], start: np.ndarray) -> np.ndarray:
    """BFGS with halved steps."""
    at, value = start.astype(float), cost(start)
    slope = _slope(cost, at)
    inverse = np.eye(len(at)) * 0.05
    for _ in range(STEPS):
        step = -inverse @ slope
        step *= min(1.0, 1.0 / np.abs(step).max())
        length = 1.0
        while (new := cost(at + length * step)) > value + 1e-4 * length * (slope @ step) and length > 1e-3:
            length /= 2
        if new >= value:
            break
        gained, at, value = value - new, at + length * step, new
        new_slope = _slope(cost, at)
        moved, turned = length * step, new_slope - slope
        slope = new_slope
        if (along := moved @ turned) > 1e-10:
            shift = np.eye(len(at)) - np.outer(moved, turned) / along
            inverse = shift @ inverse @ shift.T + np.outer(moved, moved) / along
        if gained < CLOSE:
            break
    return at


def _slope(cost: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    steps = np.eye(len(at)) * SLOPE
    return np.array([(cost(at + step) - cost(at - step)) / (2 * SLOPE) for step in steps])


def _covariance(cost: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """Inverse of the curvature; directions without any keep a standard deviation of 1."""
    size = len(at)
    steps = np.eye(size) * CURVATURE
    middle = cost(at)
    up, down = np.array([cost(at + step) for step in steps]), np.array([cost(at - step) for step in steps])
    curvature = np.diag((up - 2 * middle + down) / CURVATURE**2)
    for row in range(size):
        for column in range(row):
            both = cost(at + steps[row] + steps[column])
            curvature[row, column] = (both - up[row] - up[column] + middle) / CURVATURE**2
            curvature[column, row] = curvature[row, column]
    values, vectors = np.linalg.eigh(curvature)
    return (vectors / np.maximum(values, 1.0)) @ vectors.T
