"""The verdict's distributions against scipy's."""

import pytest
from scipy import integrate, special, stats

from rankviz.verdict import noise

FREEDOMS = (1, 2, 3, 5, 8, 14, 40, 127, 1000, 1e4)
CLOSE = 1e-8


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize("k", [3, 4, 7, 12, 20])
@pytest.mark.parametrize("p", [0.95, 0.975])
def test_the_quantile_of_the_range(p, k, freedom):
    quantile = noise.studentized_range_quantile(p, k, freedom)

    # scipy integrates to about 1e-8 of a probability, and at one degree of freedom q is steep in it
    assert float(stats.studentized_range.cdf(quantile, k, freedom)) == pytest.approx(p, abs=CLOSE)


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.9875])
def test_students_quantile(p, freedom):
    assert noise.student_t_quantile(p, freedom) == pytest.approx(special.stdtrit(freedom, p), rel=CLOSE)


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_quantile_of_chi_squared(p, freedom):
    assert noise.chi_squared_quantile(p, freedom) == pytest.approx(special.chdtri(freedom, 1 - p), rel=CLOSE)


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0, 12.0])
@pytest.mark.parametrize("t", [0.3, 2.0, 4.3, 15.0])
def test_noncentral_t(t, shift, freedom):
    assert noise.noncentral_t_cdf(t, freedom, shift) == pytest.approx(stats.nct.cdf(t, freedom, shift), abs=CLOSE)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_the_expected_maximum(n):
    def term(z):
        return z * n * stats.norm.pdf(z) * special.ndtr(z) ** (n - 1)

    assert noise.expected_maximum(n) == pytest.approx(integrate.quad(term, -9, 9)[0], abs=CLOSE)
