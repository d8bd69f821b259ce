"""Small pieces of HTML."""

from rankviz import units
from rankviz.core.quantity import Range
from rankviz.ui.parts.html import Cell, rounded, rounded_span


def test_a_rounded_number_has_the_exact_one_on_hover():
    assert Cell("1.53 GiB", title="1,644,167,168 bytes") == rounded(units.memory_size, 1_644_167_168, "bytes")
    assert Cell("1.3367", title="1.33671875 nats") == rounded("{:.4f}".format, 1.33671875, "nats")
    assert Cell("–", sub="est. 3") == rounded("{:.4f}".format, None, "nats", sub="est. 3")


def test_a_rounded_range_has_both_exact_ends_on_hover():
    cell = rounded_span(units.memory_span, Range(2**30, 2**30, 2**31), "bytes")

    assert "1,073,741,824 to 2,147,483,648 bytes" == cell.title
    assert Cell(units.memory_span(None)) == rounded_span(units.memory_span, None, "bytes")
