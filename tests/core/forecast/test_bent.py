"""Losses between own runs and the pick, worked out by hand; the rule for scores."""

import math

import pytest

from rankviz.core.forecast.quick_look import (
    BentRank,
    MeasuredRank,
    Noise,
    bent_forecast,
    between,
    noise_of,
    pick_of,
    score_pick,
    share_left,
    t_quantile,
)
from rankviz.errors import InvalidSettingError
from tests.support.runs.forecasts import HELD, look, measured

ENDS = {4: 1.4, 64: 1.0}


ONE_REPEAT = Noise(0.01, 1)


def at(r: int, runs, noise=ONE_REPEAT) -> BentRank:
    return next(rank for rank in between(runs, noise) if rank.r == r)


def test_the_loss_between_falls_by_a_power_of_the_rank_below_the_straight_line():
    # (16^-0.3 - 64^-0.3) / (4^-0.3 - 64^-0.3) = (0.4353 - 0.2872) / (0.6598 - 0.2872) = 0.3975
    assert pytest.approx(1.0 + 0.4 * 0.3975, abs=1e-4) == at(16, measured(ENDS)).median
    assert [4, 8, 16, 32, 64] == [rank.r for rank in between(measured(ENDS), None)]
    assert (1.4, 1.0) == (at(4, measured(ENDS)).median, at(64, measured(ENDS)).median)


def test_several_ranks_are_joined_between_neighbours():
    runs = measured({4: 1.4, 16: 1.3, 64: 1.0})

    assert 1.3 == at(16, runs).median == at(16, runs).measured
    assert pytest.approx(1.0 + 0.3 * share_left(32, 0.3, 16, 64)) == at(32, runs).median


def test_the_band_of_a_measured_rank_is_that_of_one_more_run():
    # Two runs, one degree of freedom: t = tan(0.4 π) = 3.0777.
    low = at(4, [MeasuredRank(4, 1.4, 0.01, 2), MeasuredRank(64, 1.0)])

    assert (
        pytest.approx(3.0777 * 0.01 * math.sqrt(1.5), rel=1e-4) == low.high_80 - low.median == low.median - low.low_80
    )


def test_without_noise_the_band_is_from_a_straight_line_to_an_early_bend():
    rank = at(16, measured(ENDS), Noise(0.0, 1))

    assert (pytest.approx(1.0 + 0.4 * 0.5), pytest.approx(1.0 + 0.4 * 0.2)) == (rank.high_80, rank.low_80)


def test_a_loss_that_rises_with_rank_may_rise_late():
    rank = at(16, measured({4: 1.0, 64: 1.4}), Noise(0.0, 1))

    # Straight in r it has risen by (16 - 4) / (64 - 4) = 0.2 of the gap; a curve that bends early by 0.8.
    assert (pytest.approx(1.0 + 0.4 * 0.2), pytest.approx(1.0 + 0.4 * 0.8)) == (rank.low_80, rank.high_80)


def test_more_repeats_make_a_narrower_band():
    widths = [rank.high_80 - rank.low_80 for n in (1, 2, 4, 8) if (rank := at(16, measured(ENDS), Noise(0.05, n)))]

    assert widths == sorted(widths, reverse=True)
    assert [1.8856, 1.5332, 1.3722] == pytest.approx([t_quantile(0.9, n) for n in (2, 4, 10)], abs=2e-3)


def test_noise_is_pooled_over_ranks_and_unknown_without_a_repeat():
    assert noise_of([(None, 1), (None, 1)]) is None
    assert (0.3, 1) == noise_of([(0.3, 2), (None, 1)])
    assert (pytest.approx(math.sqrt((2 * 0.09 + 0.01) / 3)), 3) == noise_of([(0.3, 3), (0.1, 2)])


def test_where_no_rank_was_trained_twice_there_is_no_band_and_a_repeat_is_offered():
    own = look(ENDS)

    assert {None} == {rank.low_80 for rank in own.ranks} | {own.noise_nats, own.coverage_80, own.third_run}
    assert 4 == own.repeat_at
    assert any(
        "The noise of one run is not known" in text and "r = 4 with another seed" in text for text in own.sentences
    )
    assert not own.validated


def test_a_quick_look_says_how_far_apart_its_ranks_are_in_noise_and_how_such_bands_have_held():
    own = look(ENDS, repeat_sd=0.02)

    assert (None, 0.02, 0.86) == (own.repeat_at, own.noise_nats, own.coverage_80)
    assert any(
        "differ by 0.4 nats, 20.0 times the noise of one run (0.02 nats, from 1 repeat)." in t for t in own.sentences
    )
    assert any("held 86 % of the runs" in text and "in 98 %" in text for text in own.sentences)
    assert own.validated


@pytest.mark.parametrize(
    "more", [{"fixed_alpha": False}, {"one_rate": False}], ids=["alpha by rank", "several learning rates"]
)
def test_runs_unlike_those_that_were_checked_are_not_validated(more):
    own = look(ENDS, repeat_sd=0.02, **more)

    assert own.coverage_80 is None and not own.validated
    assert any(text.startswith("Not validated:") for text in own.sentences)
    assert not look({8: 1.4, 64: 1.0}, repeat_sd=0.02).validated


def test_the_pick_is_the_lowest_rank_within_a_quarter_percent():
    def picked(losses):
        return pick_of(between(measured(losses), None))

    assert [4, 4, 64] == [picked(each) for each in ({4: 1.0, 64: 1.2}, {4: 1.0024, 64: 1.0}, {4: 2.0, 64: 1.0})]
    # r = 16 is 0.3975 of the gap above r = 64: 0.24 % of 1.0
    assert 16 == picked({4: 1.006, 64: 1.0})


@pytest.mark.parametrize(
    ("low", "high", "noise", "expected"),
    [
        ((4, 80.0), (64, 86.0), 2.0, 64),  # 5.6 points is 2.8 noise
        ((4, 80.0), (64, 85.0), 2.0, 16),
        ((4, 90.0), (64, 80.0), 2.0, 16),
        ((4, 80.0), (64, 99.0), None, 16),
        ((32, 80.0), (64, 81.0), 2.0, 32),
        ((1, 80.0), (8, 81.0), 2.0, 8),
    ],
)
def test_by_a_score_the_higher_rank_must_be_better_by_more_than_noise(low, high, noise, expected):
    assert expected == score_pick(low, high, noise)


def test_one_rank_is_refused():
    with pytest.raises(InvalidSettingError, match="finished runs at two ranks"):
        bent_forecast("s1", measured({4: 1.0}), HELD)


def test_a_rank_without_a_finite_loss_is_named():
    assert any("r = 64 ended without a finite loss" in text for text in look(ENDS, without=(64,)).sentences)
