"""The SVD of an update from its factors, beside numpy's dense SVD of the update itself."""

import numpy as np
import pytest

from rankviz.errors import BadAdapterError
from rankviz.trained.svd import decompose, singular_values, truncate


def pair(out_features: int, r: int, in_features: int, *, seed: int = 0, decay: float = 0.8) -> tuple:
    """Factors as fp32, B's columns ever smaller, as training leaves them."""
    draw = np.random.default_rng(seed)
    a = draw.standard_normal((r, in_features)) / np.sqrt(in_features)
    b = draw.standard_normal((out_features, r)) * decay ** np.arange(r)
    return a.astype(np.float32), b.astype(np.float32)


def dense(a: np.ndarray, b: np.ndarray) -> tuple:
    return np.linalg.svd(b.astype(np.float64) @ a.astype(np.float64), full_matrices=False)


@pytest.mark.parametrize("shape", [(48, 8, 32), (32, 8, 48), (6, 8, 40), (40, 8, 5), (24, 1, 24)])
def test_singular_values_equal_dense_svd(shape):
    a, b = pair(*shape)
    expected = np.zeros(shape[1])
    decomposition = dense(a, b)[1][: shape[1]]
    expected[: len(decomposition)] = decomposition

    for values in (singular_values({"q": (a, b)})["q"], decompose({"q": (a, b)})["q"].singular_values):
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-7 * expected[0])


@pytest.mark.parametrize("k", [1, 3, 8])
def test_a_cut_pair_is_the_truncated_product(k):
    a, b = pair(48, 8, 32)
    u, s, vt = dense(a, b)

    low_a, low_b = truncate((a, b), decompose({"q": (a, b)})["q"], k)

    assert ((k, 32), (48, k)) == (low_a.shape, low_b.shape)
    assert (np.float32, np.float32) == (low_a.dtype, low_b.dtype)
    np.testing.assert_allclose(low_b @ low_a, u[:, :k] * s[:k] @ vt[:k], atol=2e-6 * s[0])


def test_a_module_that_was_never_trained_has_no_update_and_can_still_be_trained_after_a_cut():
    a, b = pair(20, 4, 16)
    b[:] = 0.0
    decomposition = decompose({"q": (a, b)})["q"]

    low_a, low_b = truncate((a, b), decomposition, 2)

    assert [0.0] * 4 == list(decomposition.singular_values)
    np.testing.assert_array_equal(a[:2], low_a)
    assert not low_b.any()


def test_a_diverged_module_is_named():
    a, b = pair(20, 4, 16)
    b[0, 0] = np.nan

    with pytest.raises(BadAdapterError, match=r"layers\.3\.q_proj holds values that are infinite or not a number"):
        decompose({"layers.3.q_proj": (a, b)})
