"""How quantities read."""

import pytest

from rankviz.units import GIB, Size, spare


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (13.19, 15.16, "13.2 to 15.2 GiB to spare"),
        (2, 2, "2.0 GiB to spare"),
        (-5.1, -3.4, "3.4 to 5.1 GiB short"),
        (-1.9, 0.1, "1.9 GiB short to 0.1 GiB to spare"),
    ],
)
def test_a_margin_reads_as_a_range_of_what_is_left_or_lacks(low, high, words):
    assert words == spare(Size(low * GIB, high * GIB))
