"""The singular values of updates B·A, and the best update of a lower rank, computed from the factors alone."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from rankviz.errors import BadAdapterError

Pair = tuple[np.ndarray, np.ndarray]  # (A, B) as PEFT stores them: A (r × in) and B (out × r), in fp32 or fp64
Result = TypeVar("Result")

ROUNDING = 3e-8  # share of ‖A‖·‖B‖ below which singular values are rounding errors
MAX_THREADS = 8


class Decomposition(NamedTuple):
    """SVD of B·A as small matrices, from which `truncate` computes a lower rank together with A and B."""

    singular_values: np.ndarray  # r singular values, the largest first
    left: np.ndarray  # r × r matrix: B @ left is U·Σ
    right: np.ndarray  # r × r matrix: A.T @ right is V. Columns of a singular value of 0 are 0, here and in `left`.


def singular_values(name: str, pair: Pair) -> np.ndarray:
    """Return the r singular values of B·A, the largest first; raise BadAdapterError, which names a diverged module."""
    root, gram_b, rounding = _factored(name, *pair)
    return _values(np.linalg.eigvalsh(root.T @ gram_b @ root), rounding)


def decompose(name: str, pair: Pair) -> Decomposition:
    """Return the SVD of B·A as r × r matrices for `truncate`; BadAdapterError names a diverged module."""
    root, gram_b, rounding = _factored(name, *pair)
    squares, vectors = np.linalg.eigh(root.T @ gram_b @ root)
    values = _values(squares, rounding)
    left = root @ vectors[:, ::-1] * (values > 0)
    return Decomposition(values, left, gram_b @ left * _inverse(values) ** 2)


def truncate(pair: Pair, decomposition: Decomposition, k: int) -> Pair:
    """Return the best rank-k approximation of B·A as a pair of rank k; each factor gets the square root of Σ. A pair
    whose update is 0 keeps the first k rows of A and columns of B, so that it can still be trained."""
    a, b = pair
    values = decomposition.singular_values[:k]
    if not values.any():
        return a[:k].copy(), b[:, :k].copy()
    root = np.sqrt(values)
    right, left = decomposition.right[:, :k] * root, decomposition.left[:, :k] * _inverse(root)
    return right.T.astype(a.dtype) @ a, b @ left.astype(b.dtype)


def _factored(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return L with L·Lᵀ = A·Aᵀ; Bᵀ·B; and the singular value below which values are rounding errors."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    gram_a, gram_b = a @ a.T, b.T @ b
    if not (np.isfinite(gram_a).all() and np.isfinite(gram_b).all()):
        raise BadAdapterError(f"{name} holds values that are infinite or not a number: its training diverged.")
    rounding = ROUNDING * float(np.sqrt(np.linalg.norm(gram_a) * np.linalg.norm(gram_b)))
    try:
        return np.linalg.cholesky(gram_a), gram_b, rounding
    except np.linalg.LinAlgError:  # A without full rank
        squares, vectors = np.linalg.eigh(gram_a)
        return vectors * np.sqrt(squares.clip(0.0)), gram_b, rounding


def _values(rising_squares: np.ndarray, rounding: float) -> np.ndarray:
    values = np.sqrt(rising_squares[::-1].clip(0.0))
    return np.where(values > rounding, values, 0.0)


def _inverse(values: np.ndarray) -> np.ndarray:
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


def of_each(names: Iterable[str], function: Callable[[str], Result]) -> dict[str, Result]:
    """Return the function's result for each name. Names are computed in threads, because numpy releases the
    interpreter. Each product uses one BLAS thread: for such small matrices BLAS's own threads cost more than they gain,
    and ten to fifty times more where another program uses the other core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(min(cores, MAX_THREADS)) as pool:
        return dict(pool.map(lambda name: (name, function(name)), names))
