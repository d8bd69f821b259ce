"""Predicted against measured, of the report that ships."""

from rankviz.api import Api
from rankviz.figures import accuracy_info

REPORT = Api().accuracy.shipped()


def test_every_row_that_can_be_compared_is_a_point_and_every_row_is_in_the_table():
    memory = accuracy_info(REPORT)

    assert 200 == len(memory.points)
    assert len(REPORT.rows) == len(memory.rows)
