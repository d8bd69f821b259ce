"""The distribution of the range, and the expected maximum, against scipy's own."""

import pytest
from scipy import integrate, special, stats

from rankviz.verdict import distributions

FREEDOMS = (1, 2, 5, 14, 127, 1e4)
CLOSE = 1e-8


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize(("p", "k"), [(0.95, 3), (0.975, 7), (0.95, 20)])
def test_the_quantile_of_the_range(p, k, freedom):
    quantile = distributions.studentized_range_quantile(p, k, freedom)

    # scipy integrates to about 1e-8 of a probability, and at one degree of freedom q is steep in it
    assert float(stats.studentized_range.cdf(quantile, k, freedom)) == pytest.approx(p, abs=CLOSE)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_the_expected_maximum(n):
    def term(z):
        return z * n * stats.norm.pdf(z) * special.ndtr(z) ** (n - 1)

    assert distributions.expected_maximum(n) == pytest.approx(integrate.quad(term, -9, 9)[0], abs=CLOSE)
