"""The tabulated band of published lines and its sentences, worked out by hand."""

import pytest

from rankviz.core.forecast.bands import at_rank, forecast
from rankviz.errors import InvalidSettingError
from tests.support.runs.forecasts import band, bands, left_out


@pytest.mark.parametrize(("r", "extrapolated"), [(8, False), (12, True), (16, True), (24, True), (48, False)])
def test_a_rank_is_extrapolated_where_no_line_has_it_or_one_of_its_neighbours_in_the_table(r, extrapolated):
    row = at_rank(band(lines_at_rank={8: 3, 16: 0, 32: 1, 64: 2}), r)

    assert extrapolated is row.extrapolated


@pytest.mark.parametrize("r", [0, 257, 2.5, True, "8"])
def test_a_rank_outside_the_table_is_refused(r):
    with pytest.raises(InvalidSettingError, match="ranks from 1 to 256"):
        at_rank(band(), r)


@pytest.mark.parametrize(
    ("change", "validated"),
    [
        ({}, True),
        ({"inside_80": 0.74}, False),
        ({"publications": 4}, False),
        ({"crps": 1.01}, False),
    ],
)
def test_a_kind_is_validated_by_enough_points_inside_of_enough_publications_and_a_small_enough_error(change, validated):
    assert validated is left_out(**change).validated


def test_a_forecast_quotes_the_coverage_and_the_errors_of_its_own_kind():
    table = bands(left_out=[left_out(inside_80_by_publication=0.8, publications=6, points=40, crps_rule=0.8)])

    answer = forecast(table, "score", "simple")
    other = " ".join(forecast(table, "score", "shift").sentences)
    missed = forecast(bands(left_out=[left_out(inside_80=0.47)]), "score", "simple").sentences

    assert answer.validated and 0.75 == answer.coverage_80_left_out
    (words,) = [text for text in answer.sentences if text.startswith("Validated: ")]
    assert "held 75 % of 40 points of simple tasks (6 publications; 80 %" in words
    assert "was 1.00" in words
    assert "Not validated: no publication of this kind" in other and "CRPS" not in other
    assert any(text.startswith("Not validated: ") and "held 47 % of 20 points" in text for text in missed)
