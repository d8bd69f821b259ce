"""The curve and the tabulated bands, worked out by hand."""

import pytest

from rankviz.core.forecast.bands import GRID, Band, LeftOut, band_for, rank_forecasts
from rankviz.core.forecast.curve import left
from rankviz.core.forecast.words import coverage_words, forecast
from rankviz.errors import InvalidSettingError
from tests.support.runs.forecasts import band, bands


@pytest.mark.parametrize("bend", [-0.2, 0.01, 0.4, 1.0])
def test_all_of_the_gain_is_left_at_r_4_and_nothing_at_r_64(bend):
    assert (1.0, 0.0) == pytest.approx((left(4, bend), left(64, bend)))


def test_a_curve_that_hardly_bends_is_straight_in_log_r():
    assert 0.5 == pytest.approx(left(16, 1e-6))


def test_a_curve_that_bends_more_has_less_left_in_the_middle():
    # (1/16 - 1/64) / (1/4 - 1/64) = 3/64 : 15/64
    assert 0.2 == pytest.approx(left(16, 1.0))


def test_a_rank_between_two_of_the_table_is_straight_in_log_r():
    (row,) = rank_forecasts(band(median=(8, 7, 6, 4, 3, 2, 1, 0, -1)), [6])

    assert 6 - 2 * 0.5849625 == pytest.approx(row.median)


def test_a_rank_without_a_published_line_is_extrapolated_beyond_the_lines_and_between_them():
    rows = rank_forecasts(band(lines_at_rank={8: 3, 16: 0, 32: 1, 64: 2}))

    assert [r for r in GRID if r not in (8, 32, 64)] == [row.r for row in rows if row.extrapolated]
    assert {8: 3, 16: 0, 64: 2} == {row.r: row.lines_at_rank for row in rows if row.r in (8, 16, 64)}


@pytest.mark.parametrize(("r", "extrapolated"), [(12, True), (24, True), (48, False)])
def test_between_two_ranks_of_the_table_a_band_is_extrapolated_where_one_of_them_is(r, extrapolated):
    (row,) = rank_forecasts(band(lines_at_rank={8: 3, 16: 0, 32: 1, 64: 2}), [r])

    assert extrapolated is row.extrapolated


def test_a_forecast_says_at_which_ranks_it_is_extrapolated_and_whether_the_reference_is_one_of_them():
    def words_for(*untested):
        rows = band(lines_at_rank={r: int(r not in untested) for r in GRID})
        return " ".join(forecast(bands(rows), rows, "points").sentences)

    assert "extrapolated" not in words_for()
    assert "has a point at r = 2 and 4: the band is extrapolated there." in words_for(2, 4)
    assert "The reference rank" not in words_for(2, 4)
    assert "The reference rank r = 128 is extrapolated too" in words_for(2, 128)


def test_a_base_model_that_is_assumed_is_named_an_assumption_where_it_matters():
    def words_for(row):
        return any("give --instruct" in text for text in forecast(bands(), row, "points", base_assumed=True).sentences)

    assert words_for(loss_band(1e9, 2.0))
    assert not words_for(band())


@pytest.mark.parametrize("r", [0, 257, 2.5, True, "8"])
def test_a_rank_outside_the_table_is_refused(r):
    with pytest.raises(InvalidSettingError, match="ranks from 1 to 256"):
        rank_forecasts(band(), [r])


def test_a_loss_is_read_between_the_two_nearest_sizes_in_log_size():
    sizes = [loss_band(1e9, 2.0), loss_band(1e11, 1.0)]

    assert 1.5 == pytest.approx(between(sizes, 10**10).quantiles["50"][0])
    assert 2.0 == between(sizes, 10**6).quantiles["50"][0]
    assert 1.0 == between(sizes, 10**13).quantiles["50"][0]


def loss_band(parameters, value) -> Band:
    return band(metric="loss", kind="loss", base=True, parameters=parameters, median=(value,) * len(GRID))


def between(sizes, parameters):
    return band_for(bands(*sizes), use_case="simple", parameters=parameters, base=True, metric="loss")


def test_an_unknown_metric_is_refused():
    with pytest.raises(InvalidSettingError, match="Metric must be one of score, loss"):
        band_for(bands(band()), use_case="simple", parameters=10**9, base=True, metric="accuracy")


@pytest.mark.parametrize(
    ("change", "validated"),
    [
        ({}, True),
        ({"inside_80": 0.74}, False),
        ({"inside_80_by_publication": 0.74}, False),
        ({"publications": 4}, False),
        ({"points": 19}, False),
        ({"crps": 1.01}, False),
    ],
)
def test_a_kind_is_validated_by_enough_points_inside_of_enough_publications_and_a_small_enough_error(change, validated):
    checked = {"inside_80": 0.75, "inside_80_by_publication": 0.75, "publications": 5, "points": 20}

    assert validated is left_out(**checked | change).validated


def left_out(**values) -> LeftOut:
    errors = dict.fromkeys(("crps", "crps_no_difference", "crps_rule", "crps_curve", "median_error"), 1.0)
    return LeftOut(**{"kind": "simple", "inside_50": 0.5} | errors | values)


def test_a_forecast_quotes_the_coverage_of_its_own_kind():
    checked = left_out(inside_80=0.75, inside_80_by_publication=0.8, publications=6, points=40)

    answer = forecast(bands(band(), left_out=[checked]), band(), "points")

    assert answer.validated and 0.75 == answer.coverage_80_left_out
    assert any("held 75 % of 40 points (6 publications; 80 %" in text for text in answer.sentences)


@pytest.mark.parametrize(
    ("crps_rule", "words"),
    [(0.94, "the rule of thumb with a band did better."), (0.96, "did as well."), (1.06, "weighing the same).")],
)
def test_the_sentence_with_the_coverage_says_where_the_rule_of_thumb_did_as_well_or_better(crps_rule, words):
    checked = left_out(inside_80=0.75, inside_80_by_publication=0.8, publications=6, points=40, crps_rule=crps_rule)

    assert coverage_words(bands(band(), left_out=[checked]), band()).endswith(words)


def test_a_forecast_says_how_simpler_ones_did():
    checked = left_out(inside_80=0.75, inside_80_by_publication=0.8, publications=6, points=40, crps_rule=0.8)

    answer = forecast(bands(band(), left_out=[checked]), band(), "points")

    assert any("was 1.00" in text and "the rule of thumb with a band 0.80" in text for text in answer.sentences)
    assert not any("CRPS" in text for text in forecast(bands(band()), band(), "points").sentences)


def test_a_forecast_that_was_not_validated_says_so_and_what_it_would_take():
    checked = left_out(inside_80=0.47, inside_80_by_publication=0.5, publications=4, points=32)

    answer = forecast(bands(band(), left_out=[checked]), band(), "points")

    assert not answer.validated
    (text,) = [text for text in answer.sentences if text.startswith("Not validated")]
    assert "held 47 % of 32 points" in text and "at least 20 points and 5 publications" in text


def test_no_forecast_claims_to_choose_a_rank():
    assert "It has not been shown to choose a better rank" in forecast(bands(band()), band(), "points").sentences[-1]
