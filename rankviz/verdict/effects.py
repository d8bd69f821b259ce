"""What each rank and each seed adds to the mean of a run: ranks + seeds, fitted by least squares, so that runs may be
missing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rankviz.verdict.choosing import Comparison

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
