"""The distributions that intervals need, beyond those of scipy: loaded with the first verdict, as scipy is."""

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, special

PIECES, NODES = 16, 60
"""Of Gauss and Legendre's rule: pieces of an interval, and nodes in each. The integrands are smooth, and so many give
nine digits."""
DEGREE = 120
"""Of the polynomial for R_k."""
NEGLIGIBLE = 1e-15
"""Of a distribution, in each of its tails."""
REACH = 9.0
"""Standard deviations of a normal beyond which nothing is left."""


def studentized_range_quantile(p: float, k: int, freedom: float) -> float:
    """q with P(Q < q) = p, Q the range of k equal means over their estimated standard deviation.

    scipy.stats.studentized_range has the same a thousand times slower: compared in tests/verdict/test_distributions.py.
    """
    deviations, weights = _deviation_rule(freedom)
    low, high = 0.0, 1.0
    while weights @ _range_cdf(k, high * deviations) < p:
        low, high = high, 4 * high
    return float(optimize.brentq(lambda q: weights @ _range_cdf(k, q * deviations) - p, low, high, xtol=1e-14))


def expected_maximum(n: int) -> float:
    """E max of n standard normals, ∫ z n φ(z) Φ(z)^(n-1) dz."""
    z, weights = _legendre(-REACH, REACH)
    return float(weights @ (z * n * _density(z) * special.ndtr(z) ** (n - 1)))


@lru_cache(maxsize=64)
def _deviation_rule(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes s and weights of E g(s), s² a chi-squared over its degrees of freedom; the integral is over ln s."""
    half = freedom / 2
    tails = special.gammaincinv(half, NEGLIGIBLE), special.gammainccinv(half, NEGLIGIBLE)
    u, weights = _legendre(*(math.log(max(tail, 1e-300) / half) / 2 for tail in tails))
    chi = half * np.exp(2 * u)
    return np.exp(u), weights * 2 * np.exp(half * np.log(chi) - chi - special.gammaln(half))


def _range_cdf(k: int, w: np.ndarray) -> np.ndarray:
    """R_k at many widths, from a polynomial that is made once per k."""
    if k == 2:
        return 2 * special.ndtr(w / math.sqrt(2)) - 1
    widest = 2 * REACH
    inside = np.minimum(w, widest)
    return np.where(w < widest, np.polynomial.chebyshev.chebval(2 * inside / widest - 1, _range_polynomial(k)), 1.0)


@lru_cache(maxsize=32)
def _range_polynomial(k: int) -> np.ndarray:
    z, weights = _legendre(-REACH, REACH)
    below = special.ndtr(z)

    def values(x: np.ndarray) -> np.ndarray:
        between = below - special.ndtr(z - ((x + 1) * REACH)[:, None])
        return k * (between ** (k - 1)) @ (weights * _density(z))

    return np.polynomial.chebyshev.chebinterpolate(values, DEGREE)


def _legendre(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    x, weights = special.roots_legendre(NODES)
    half = (high - low) / 2 / PIECES
    starts = low + 2 * half * np.arange(PIECES)[:, None]
    return (starts + half * (x + 1)).ravel(), np.tile(half * weights, PIECES)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
