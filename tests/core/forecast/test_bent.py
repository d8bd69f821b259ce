"""A forecast bent by two own runs: where it lies, what widens it, and what it refuses."""

import math
import random

import pytest

from rankviz.core.forecast.bent import bent_forecast, third_run
from rankviz.core.forecast.mixture import MeasuredRank, Shape, conditioned
from rankviz.errors import InvalidSettingError
from tests.support.runs.forecasts import bands, measured

ENDS = {4: 1.4, 64: 1.0}


def at(r, runs=ENDS, *, gain_nats=0.05, noise_nats=0.02, **more):
    (rank,) = conditioned(measured(runs), gain_nats=gain_nats, noise_nats=noise_nats, ranks=[r], **more)
    return rank


def test_the_median_lies_near_the_straight_line_in_log_r():
    assert [1.3, 1.2, 1.1] == pytest.approx([at(r).median for r in (8, 16, 32)], abs=0.02)


def test_ranks_are_the_powers_of_two_between_the_ends_and_the_measured_ones():
    ranks = conditioned(measured({4: 1.4, 24: 1.2, 64: 1.0}), gain_nats=0.05, noise_nats=0.02)

    assert [4, 8, 16, 24, 32, 64] == [rank.r for rank in ranks]
    assert [1.4, None, None, 1.2, None, 1.0] == [rank.measured for rank in ranks]


def test_the_quantiles_are_in_order():
    for rank in conditioned(measured(ENDS), gain_nats=0.05, noise_nats=0.02):
        assert rank.low_80 < rank.low_50 < rank.median < rank.high_50 < rank.high_80


def test_more_noise_makes_a_wider_band():
    assert width(at(16, noise_nats=0.04)) > width(at(16, noise_nats=0.02)) > width(at(16, noise_nats=0.01))


def width(rank):
    return rank.high_80 - rank.low_80


def test_known_noise_makes_a_narrower_band_than_the_same_noise_borrowed():
    assert width(at(16, noise_known=True)) < width(at(16))


def test_a_gain_twenty_times_the_published_one_is_still_inside():
    hard = at(16, {4: 3.0, 64: 1.0}, gain_nats=0.1)

    assert hard.low_80 < 2.0 < hard.high_80


def test_the_shape_decides_how_far_a_curve_may_bend():
    straight, bent_too = Shape(bends=((0.01, 1.0),)), Shape(bends=((-0.8, 0.25), (0.01, 0.5), (0.8, 0.25)))

    assert width(at(16, shape=bent_too)) > width(at(16, shape=straight))


def test_a_curve_that_saturates_early_lies_inside_the_band_in_proportion_to_the_gap():
    # 2.347 at r = 2 and 0.805 at r = 32, as in a recorded sweep: r^-1.5 between them has 0.976 at r = 8.
    for scale in (1, 0.5, 0.2):
        rank = at(8, {2: 2.347 * scale, 32: 0.805 * scale})
        assert rank.low_80 < 0.98 * scale < rank.median < rank.high_80


def test_the_straight_line_is_the_median_and_the_band_reaches_farther_down_than_up():
    rank = at(8, {4: 3.0, 64: 1.0})

    assert 2.5 == pytest.approx(rank.median, abs=0.05)
    assert rank.median - rank.low_80 > rank.high_80 - rank.median + 0.1


@pytest.mark.parametrize("middle", [0.95, 1.05, 1.088, 1.2, 1.5])
def test_a_band_at_a_measured_rank_lies_about_the_mean_of_its_runs(middle):
    runs = [MeasuredRank(2, 1.6, 0.05, 3), MeasuredRank(8, middle, 0.05, 3), MeasuredRank(32, 1.0, 0.05, 3)]

    rank = conditioned(runs, gain_nats=0.05, noise_nats=0.05, noise_known=True)[2]

    assert (8, middle) == (rank.r, rank.measured)
    assert rank.low_80 < middle < rank.high_80
    assert middle == pytest.approx(rank.median, abs=0.05)


def test_any_finite_losses_have_a_band_in_order():
    draw = random.Random(1)
    for _ in range(150):
        ranks = draw.sample((1, 2, 3, 4, 8, 16, 24, 64, 256), draw.randint(2, 4))
        size = draw.choice((0.0, 1e-12, 1e-3, 1.0, 1e4))
        losses = {r: draw.choice((0.0, size, size * draw.random())) for r in ranks}
        repeats = {"sd": draw.choice((0.0, 1e-200, size)), "runs": 4} if draw.random() < 0.5 else {}

        answer = bent(measured(losses, **repeats))

        for rank in answer.ranks:
            quantiles = [rank.low_80, rank.low_50, rank.median, rank.high_50, rank.high_80]
            assert all(math.isfinite(value) and value >= 0 for value in quantiles)
            assert quantiles == sorted(quantiles)


def test_a_third_run_draws_the_curve_to_itself():
    assert at(8, {4: 1.4, 16: 1.05, 64: 1.0}).median < at(8).median - 0.02


@pytest.mark.parametrize("r", [2, 128])
def test_nothing_is_forecast_outside_the_measured_ranks(r):
    with pytest.raises(InvalidSettingError, match="ranks from 4 to 64"):
        at(r)


def test_one_rank_is_refused():
    with pytest.raises(InvalidSettingError, match="two ranks at least"):
        conditioned(measured({16: 1.0}), gain_nats=0.05, noise_nats=0.02)


def test_a_third_run_is_offered_where_two_differ_by_more_than_their_noise():
    assert 16 == third_run(measured(ENDS), 0.02)
    assert None is third_run(measured({4: 1.05, 64: 1.0}), 0.02)
    assert None is third_run(measured({4: 1.4, 16: 1.2, 64: 1.0}), 0.02)
    assert None is third_run(measured({4: 1.4, 8: 1.0}), 0.02)


def bent(runs, **more):
    return bent_forecast("s1", runs, 4.0, bands(), **more)


def test_a_bent_band_is_validated_only_if_it_held_with_its_settings_chosen_on_other_sweeps():
    own = bent_forecast("s1", measured(ENDS), 4.0, bands(bent_inside_80_left_out=0.74))

    assert not own.validated
    assert any(text.startswith("Not validated") and "74 % with the settings" in text for text in own.sentences)


def test_the_noise_of_a_run_is_the_sweeps_own_where_it_has_repeats():
    own = bent(measured(ENDS, sd=0.05, runs=3))

    assert "0.050 nats) is measured by the repeats of this sweep" in own.sentences[0]
    basis = bent(measured(ENDS)).sentences[0]
    assert "This sweep has too few repeats to measure the noise of one run." in basis
    assert basis.endswith("The band assumes 0.02 nats, the value with which such bands were checked.")


def test_a_bent_forecast_quotes_its_coverage():
    own = bent(measured(ENDS))

    assert own.validated and 0.8 == own.coverage_80
    assert any("held 80 % of 20 independent runs between them, and 76 % with" in text for text in own.sentences)


@pytest.mark.parametrize(
    "runs",
    [
        measured({8: 1.4, 64: 1.0}),
        measured({4: 1.4, 16: 1.0}),
        measured({4: 1.4, 16: 1.2, 64: 1.0}),
        measured(ENDS, sd=0.05, runs=3),
    ],
)
def test_the_record_is_quoted_only_for_runs_like_those_that_were_checked(runs):
    own = bent(runs)

    assert (False, None) == (own.validated, own.coverage_80)
    assert any("was not checked for such runs" in text for text in own.sentences)
    assert not any("Such 80 % bands from two runs held" in text for text in own.sentences)


def test_ranks_at_different_learning_rates_are_not_validated():
    assert not bent(measured(ENDS), one_rate=False).validated


def test_a_rank_without_a_finite_loss_is_named():
    assert any("r = 64 ended without a finite loss" in text for text in bent(measured(ENDS), without=(64,)).sentences)


def test_no_third_run_is_offered_at_a_rank_that_ended_without_a_finite_loss():
    assert (16, None) == (bent(measured(ENDS)).third_run, bent(measured(ENDS), without=(16,)).third_run)


def test_what_a_third_run_did_is_told_whole():
    (sentence,) = [text for text in bent(measured(ENDS)).sentences if "third run moved" in text]

    assert "at 7 points" in sentence
    assert "from 0.016 to 0.006 nats" in sentence and "mean error from 0.031 to 0.028" in sentence
    assert "width of the 80 % band from 0.116 to 0.126; the band held 6 points, then 5." in sentence


def test_a_sweep_at_alpha_r_is_not_validated():
    own = bent(measured(ENDS), fixed_alpha=False)

    assert not own.validated
    assert any("alpha differs between your ranks" in text for text in own.sentences)
