"""Predicted against measured, of the report that ships."""

from dataclasses import replace

from rankviz.api import Api
from rankviz.figures import accuracy_info

REPORT = Api().accuracy.shipped()


def test_every_row_that_can_be_compared_is_a_point_and_every_row_is_in_the_table():
    memory = accuracy_info(REPORT)

    assert 200 == len(memory.points)
    assert len(REPORT.rows) == len(memory.rows)


def test_a_row_is_drawn_as_predicted_without_its_source():
    row = next(row for row in REPORT.rows if row.left_out_bytes and row.left_out_bytes != row.predicted_bytes)

    (point,) = accuracy_info(replace(REPORT, rows=(row,))).points
    assert row.left_out_bytes / 2**30 == point.predicted
    assert (row.left_out_low / 2**30, row.left_out_high / 2**30) == (point.low, point.high)
