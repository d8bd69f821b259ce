"""The SVD of an update B·A (out × in) from its factors A (r × in) and B (out × r); the update itself is never formed.

With the r × r matrices A·Aᵀ = L·Lᵀ and G = Bᵀ·B, the eigenvalues of Lᵀ·G·L are the squared singular values of B·A.
With the eigenvectors X, U·Σ = B·L·X and V = Aᵀ·G·L·X·Σ⁻²: nothing but the singular values that are kept is inverted,
so factors without full rank do no harm. All of it is in fp64, where squaring loses only what fp32 factors could not
tell: a value below NOTHING is called 0. QR of both factors and an SVD of the core give the same digits in several times
the time. Compared with numpy's dense SVD in tests/trained/test_adapter_svd.py.

Scaling (alpha / r) is left to the caller: it multiplies singular values, and the energy kept doesn't depend on it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from rankviz.errors import BadAdapterError

Pair = tuple[np.ndarray, np.ndarray]
"""A (r × in) and B (out × r), as PEFT keeps them; fp32 or fp64."""

NOTHING = 3e-8
"""Of the norms of A and B together: smaller singular values are the rounding of the factors."""
MAX_THREADS = 8
_LOCK = Lock()


class Decomposition(NamedTuple):
    """What cutting needs beside the pair itself."""

    singular_values: np.ndarray
    """r of them, falling."""
    left: np.ndarray
    """r × r: B @ left is U·Σ."""
    right: np.ndarray
    """r × r: A.T @ right is V. Where a singular value is 0, the columns here and in left are 0."""


def singular_values(pairs: Mapping[str, Pair]) -> dict[str, np.ndarray]:
    """The singular values of every B·A, falling, r of each; in half the time of decompose."""
    with _one_thread_a_product():
        return _stacked(pairs, lambda root, gram_b, nothing: _values(np.linalg.eigvalsh(_core(root, gram_b)), nothing))


def decompose(pairs: Mapping[str, Pair]) -> dict[str, Decomposition]:
    """The SVD of every B·A as r × r pieces, from which `cut` makes any lower rank."""
    with _one_thread_a_product():
        return _stacked(pairs, _decompose)


def cut(pair: Pair, found: Decomposition, k: int) -> Pair:
    """The best rank-k approximation of B·A as a pair of rank k, each factor with the square root of Σ.

    A pair whose update is 0 keeps the first k rows of A and columns of B, so that it could still be trained.
    """
    a, b = pair
    values = found.singular_values[:k]
    if not values.any():
        return a[:k].copy(), b[:, :k].copy()
    root = np.sqrt(values)
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    right, left = found.right[:, :k] * root, found.left[:, :k] * inverse
    return right.T.astype(a.dtype) @ a, b @ left.astype(b.dtype)


def cut_all(
    pairs: Mapping[str, Pair], found: Mapping[str, Decomposition], ranks: int | Mapping[str, int]
) -> dict[str, Pair]:
    """Every pair cut: to one rank, or each to its own. No rank may exceed the pair's."""
    wanted = dict.fromkeys(pairs, ranks) if isinstance(ranks, int) else ranks
    with _one_thread_a_product():
        done = _map(lambda name: cut(pairs[name], found[name], wanted[name]), pairs)
    return dict(zip(pairs, done, strict=True))


def _decompose(root: np.ndarray, gram_b: np.ndarray, nothing: np.ndarray) -> list[Decomposition]:
    squares, vectors = np.linalg.eigh(_core(root, gram_b))
    values = _values(squares, nothing)
    left = root @ vectors[:, :, ::-1] * (values > 0)[:, None, :]
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)[:, None, :]
    return [Decomposition(*pieces) for pieces in zip(values, left, gram_b @ left * inverse**2, strict=True)]


def _core(root: np.ndarray, gram_b: np.ndarray) -> np.ndarray:
    return root.swapaxes(-1, -2) @ gram_b @ root


def _values(rising_squares: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    values = np.sqrt(rising_squares[:, ::-1].clip(0.0))
    return np.where(values > nothing[:, None], values, 0.0)


def _stacked(pairs: Mapping[str, Pair], solve: Callable[..., Iterable[Any]]) -> dict[str, Any]:
    """Solve the small problems of all pairs of one rank at once, in as many stacks as there are threads."""
    names = list(pairs)
    grams = _map(lambda name: _grams(name, *pairs[name]), names)
    by_rank: dict[int, list[int]] = {}
    for i, (gram_a, _) in enumerate(grams):
        by_rank.setdefault(len(gram_a), []).append(i)
    stacks = [stack for group in by_rank.values() for stack in _split(group)]

    def solved(stack: list[int]) -> Iterable[Any]:
        gram_a, gram_b = (np.stack([grams[i][side] for i in stack]) for side in (0, 1))
        norms = np.sqrt(np.linalg.norm(gram_a, axis=(1, 2)) * np.linalg.norm(gram_b, axis=(1, 2)))
        return solve(_root(gram_a), gram_b, NOTHING * norms)

    results = {
        names[i]: one
        for stack, found in zip(stacks, _map(solved, stacks), strict=True)
        for i, one in zip(stack, found, strict=True)
    }
    return {name: results[name] for name in names}


def _grams(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    grams = a @ a.T, b.T @ b
    if not all(np.isfinite(gram).all() for gram in grams):
        raise BadAdapterError(f"{name} holds values that are infinite or not a number: its training diverged.")
    return grams


def _root(gram: np.ndarray) -> np.ndarray:
    """L with L·Lᵀ = gram, for each of a stack."""
    try:
        return np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:  # A without full rank
        squares, vectors = np.linalg.eigh(gram)
        return vectors * np.sqrt(squares.clip(0.0))[:, None, :]


@contextmanager
def _one_thread_a_product() -> Iterator[None]:
    """The matrices are small: BLAS' own threads would cost more than they bring, and ten to fifty times more where
    another program has the other core. The limit holds for the whole process, so one at a time."""
    with _LOCK, _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)


def _split(items: list[int]) -> list[list[int]]:
    ends = [round(i * len(items) / _threads()) for i in range(_threads() + 1)]
    return [items[start:end] for start, end in pairwise(ends) if end > start]


def _map(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """In threads: numpy lets go of the interpreter while it computes."""
    with ThreadPoolExecutor(_threads()) as pool:
        return list(pool.map(function, items))
