"""Predicted against measured, of the report that ships."""

from dataclasses import replace

from rankviz.api import Api
from rankviz.figures import accuracy_figure, accuracy_info
from rankviz.figures.accuracy import AccuracyInfo, ComparedPoint

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


def test_a_row_whose_length_is_only_a_cap_is_a_triangle_that_says_at_most():
    points = [
        ComparedPoint("a", False, True, 2.0, 3.0, 2.5, 4.0, "x"),
        ComparedPoint("a", False, False, 2.0, 3.0, 2.5, 4.0, "y"),
    ]

    _, shown, bound = accuracy_figure(AccuracyInfo(points, (0.4, 5.0))).data
    assert ("triangle-up-open", "a, measured at most") == (bound.marker.symbol, bound.name)
    assert "a, not counted" == shown.name
    hover = next(p.text for p in accuracy_info(REPORT).points if p.bound)
    assert "at most as predicted: the length is only a cap" in hover
