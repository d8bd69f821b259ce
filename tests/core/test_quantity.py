"""Ranges rise, whatever floats do to their ends."""

import math

from rankviz.core.quantity import Range


def test_ends_that_rounding_put_out_of_order_are_put_in_order():
    above, below = 309.0, math.nextafter(309.0, 0)

    assert Range(above, above, above) == Range(above, above, below)
    assert Range(below, below, above) == Range(above, below, above)
    assert Range(-above, -above, -above) == Range(-below, -above, -above)
