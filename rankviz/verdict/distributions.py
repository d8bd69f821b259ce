"""The distributions that a verdict needs, by numerical integration with numpy.

All but the normal's rest on one density: of s, an estimated standard deviation over the true one, with v degrees of
freedom (v s² is chi-squared), in u = ln s,

    g(u) = 2 (v/2)^(v/2) / Γ(v/2) · exp(v u - v e^(2u) / 2)

- the range of k means over s (Tukey): P(Q < q) = ∫ g(u) R_k(q e^u) du, where
  R_k(w) = k ∫ φ(z) (Φ(z) - Φ(z - w))^(k-1) dz;
  of two means, Q / √2 is Student's |t|;
- noncentral t: P(T < t) = ∫ g(u) Φ(t e^u - δ) du;
- chi-squared over its freedom: P(s² < x) = ∫ g(u) du up to u = ln(x) / 2.

scipy has them all, at 140 MB. tests/verdict/test_distributions.py compares with it.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np

PIECES, NODES = 16, 60
"""Of Gauss and Legendre's rule: pieces of an interval, and nodes in each. The integrands are smooth, and so many give
nine digits."""
DEGREE = 120
"""Of the polynomial for R_k."""
NEGLIGIBLE = 32.0
"""e^-32: the density is cut where it has fallen by this much from its peak."""
REACH = 9.0
"""Standard deviations of a normal beyond which nothing is left."""
DIGITS = 1e-12
"""Relative width at which a quantile is found."""

normal_cdf = NormalDist().cdf


def studentized_range_quantile(p: float, k: int, freedom: float) -> float:
    """q with P(Q < q) = p, Q the range of k equal means over their estimated standard deviation."""
    u, weights = _sd_rule(freedom)
    return _solve(lambda q: float(weights @ _range_cdf(k, q * np.exp(u))), p)


def noncentral_t_cdf(t: float, freedom: float, shift: float) -> float:
    """P(T < t), T with this noncentrality."""
    u, weights = _sd_rule(freedom)
    return float(weights @ _phi(t * np.exp(u) - shift))


def student_t_quantile(p: float, freedom: float) -> float:
    """t with P(T < t) = p, p at least 1/2."""
    return studentized_range_quantile(2 * p - 1, 2, freedom) / math.sqrt(2)


def chi_squared_quantile(p: float, freedom: float) -> float:
    """x with P(X < x) = p."""

    def cdf(s: float) -> float:
        _, weights = _sd_rule(freedom, math.log(s))
        return float(weights.sum())

    return freedom * _solve(cdf, p) ** 2


def expected_maximum(n: int) -> float:
    """E max of n standard normals, ∫ z n φ(z) Φ(z)^(n-1) dz."""
    z, weights = _legendre(-REACH, REACH)
    return float(weights @ (z * n * _density(z) * _phi(z) ** (n - 1)))


def _solve(cdf: Callable[[float], float], p: float) -> float:
    """Where a rising function of a positive number reaches p, by halving the logarithm's interval."""
    low, high = 1e-12, 1.0
    while cdf(high) < p:
        low, high = high, 4 * high
    while high / low - 1 > DIGITS:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if cdf(middle) < p else (low, middle)
    return math.sqrt(low * high)


@lru_cache(maxsize=64)
def _sd_rule(freedom: float, upto: float = math.inf) -> tuple[np.ndarray, np.ndarray]:
    """Nodes u and weights of ∫ g(u) ... du, up to this u."""
    v = freedom

    def fall(u: float) -> float:
        """By how many powers of e the density lies below its peak, at u = 0."""
        return v * (math.exp(2 * u) - 1) / 2 - v * u

    low, high = -1.0, 1.0
    while fall(low) < NEGLIGIBLE:
        low *= 2
    while fall(high) < NEGLIGIBLE:
        high *= 2
    low, high = _edge(fall, low), min(_edge(fall, high), upto)
    if high <= low:
        return np.zeros(1), np.zeros(1)
    u, weights = _legendre(low, high)
    constant = math.log(2) + v / 2 * math.log(v / 2) - math.lgamma(v / 2)
    return u, weights * np.exp(constant + v * u - v * np.exp(2 * u) / 2)


def _edge(fall: Callable[[float], float], outside: float) -> float:
    """Where the density has become negligible, between 0 and a point outside."""
    inside = 0.0
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if fall(middle) < NEGLIGIBLE else (inside, middle)
    return outside


def _range_cdf(k: int, w: np.ndarray) -> np.ndarray:
    """R_k at many widths, from a polynomial that is made once per k."""
    if k == 2:
        return 2 * _phi(w / math.sqrt(2)) - 1
    widest = 2 * REACH
    inside = np.minimum(w, widest)
    return np.where(w < widest, np.polynomial.chebyshev.chebval(2 * inside / widest - 1, _range_polynomial(k)), 1.0)


@lru_cache(maxsize=32)
def _range_polynomial(k: int) -> np.ndarray:
    z, weights = _legendre(-REACH, REACH)
    below = _phi(z)

    def values(x: np.ndarray) -> np.ndarray:
        w = (x + 1) * REACH
        between = below - _phi(z - w[:, None])
        return k * (between ** (k - 1)) @ (weights * _density(z))

    return np.polynomial.chebyshev.chebinterpolate(values, DEGREE)


@lru_cache(maxsize=1)
def _unit_rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(NODES)


def _legendre(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    x, weights = _unit_rule()
    half = (high - low) / 2 / PIECES
    starts = low + 2 * half * np.arange(PIECES)[:, None]
    return (starts + half * (x + 1)).ravel(), np.tile(half * weights, PIECES)


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _phi(z: np.ndarray) -> np.ndarray:
    """The normal's cumulative distribution."""
    scaled = -z / math.sqrt(2)
    return np.fromiter(map(math.erfc, scaled.flat), dtype=float, count=scaled.size).reshape(scaled.shape) / 2
