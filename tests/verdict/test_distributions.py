"""The verdict's distributions against scipy's."""

import itertools

import pytest
from scipy import integrate, special, stats

from rankviz.verdict import noise

FREEDOMS = (1, 2, 5, 14, 127, 1e4)
CLOSE = 1e-8


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize(("p", "k"), [(0.95, 3), (0.975, 7), (0.95, 20)])
def test_the_quantile_of_the_range(p, k, freedom):
    quantile = noise.studentized_range_quantile(p, k, freedom)

    # scipy integrates to about 1e-8 of a probability, and at one degree of freedom q is steep in it
    assert float(stats.studentized_range.cdf(quantile, k, freedom)) == pytest.approx(p, abs=CLOSE)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_students_quantile(freedom):
    for p in (0.6, 0.9, 0.975, 0.9875):
        assert noise.student_t_quantile(p, freedom) == pytest.approx(special.stdtrit(freedom, p), rel=CLOSE)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_the_quantile_of_chi_squared(freedom):
    for p in (0.1, 0.5, 0.9):
        assert noise.chi_squared_quantile(p, freedom) == pytest.approx(special.chdtri(freedom, 1 - p), rel=CLOSE)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_noncentral_t(freedom):
    for t, shift in itertools.product((0.3, 2.0, 4.3, 15.0), (0.0, 0.7, 3.0, 12.0)):
        theirs = stats.nct.cdf(t, freedom, shift)
        assert noise.noncentral_t_cdf(t, freedom, shift) == pytest.approx(theirs, abs=CLOSE)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_the_expected_maximum(n):
    def term(z):
        return z * n * stats.norm.pdf(z) * special.ndtr(z) ** (n - 1)

    assert noise.expected_maximum(n) == pytest.approx(integrate.quad(term, -9, 9)[0], abs=CLOSE)
