"""Ranges rise, whatever floats do to their ends."""

import math

import pytest

from rankviz.core.quantity import Range


def test_ends_that_rounding_put_out_of_order_are_put_in_order():
    above, below = 309.0, math.nextafter(309.0, 0)

    assert Range(above, above, above) == Range(above, above, below)
    assert Range(below, below, above) == Range(above, below, above)
    assert Range(-above, -above, -above) == Range(-below, -above, -above)


@pytest.mark.parametrize("ends", [(1.0, 0.9, 2.0), (1.0, 1.1, 1.0), (1e9, 1e9 - 10, 1e9), (0.0, 0.0, -1e-12)])
def test_ends_that_do_not_rise_are_an_error(ends):
    with pytest.raises(ValueError, match="must rise"):
        Range(*ends)
