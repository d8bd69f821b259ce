"""Predicted against measured, of the report that ships."""

from dataclasses import replace

import pytest

from rankviz.api import Api
from rankviz.figures import AccuracyInfo, accuracy_figure, accuracy_info
from rankviz.figures.accuracy import ComparedPoint

REPORT = Api().accuracy.shipped()


def test_every_row_that_can_be_compared_is_a_point_and_every_row_is_in_the_table():
    memory, time = accuracy_info(REPORT, "memory"), accuracy_info(REPORT, "time")

    assert (200, 120) == (len(memory.points), len(time.points))
    assert len(REPORT.rows) == len(memory.rows)
    assert ("GiB", "seconds per step") == (memory.unit, time.unit)


def test_the_ends_hold_every_point_and_its_range():
    info = accuracy_info(REPORT, "memory")

    assert info.ends[0] == pytest.approx(0.8 * min(min(p.low, p.measured) for p in info.points))
    assert info.ends[1] == pytest.approx(1.25 * max(max(p.high, p.measured) for p in info.points))


def test_a_row_that_counts_is_filled_and_one_that_does_not_is_open():
    points = [ComparedPoint("a", True, 2.0, 3.0, 2.5, 4.0, "x"), ComparedPoint("b", False, 1.0, 1.0, 0.5, 2.0, "y")]

    equal, counted, shown = accuracy_figure(AccuracyInfo(points, "GiB", (0.4, 5.0))).data

    assert equal.x == equal.y == (0.4, 5.0)
    assert ("circle", "a") == (counted.marker.symbol, counted.name)
    assert ("square-open", "b, not counted") == (shown.marker.symbol, shown.name)
    assert ((1.0,), (0.5,)) == (counted.error_y.array, counted.error_y.arrayminus)


def test_a_row_is_drawn_as_predicted_without_its_source():
    row = next(row for row in REPORT.rows if row.left_out_bytes and row.left_out_bytes != row.predicted_bytes)

    (point,) = accuracy_info(replace(REPORT, rows=(row,)), "memory").points
    assert row.left_out_bytes / 2**30 == point.predicted
    assert (row.left_out_low / 2**30, row.left_out_high / 2**30) == (point.low, point.high)


def test_a_row_whose_length_is_only_a_cap_is_a_triangle_that_says_at_most():
    points = [
        ComparedPoint("a", False, 2.0, 3.0, 2.5, 4.0, "x", True),
        ComparedPoint("a", False, 2.0, 3.0, 2.5, 4.0, "y"),
    ]

    _, shown, bound = accuracy_figure(AccuracyInfo(points, "GiB", (0.4, 5.0))).data
    assert ("triangle-up-open", "a, measured at most") == (bound.marker.symbol, bound.name)
    assert "a, not counted" == shown.name
    hover = next(p.text for p in accuracy_info(REPORT, "memory").points if p.bound)
    assert "at most as predicted: the length is only a cap" in hover
