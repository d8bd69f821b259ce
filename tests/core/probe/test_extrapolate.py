"""Lines through measured depths, worked by hand."""

import pytest

from rankviz.core.probe import DepthLine, extrapolate, fit
from rankviz.core.quantity import median_error, middle
from tests.support.runs.probes import MIB, measured


def test_two_depths_make_a_line_that_goes_through_both():
    # 300 + 10 d MiB and 0.5 + 0.1 d seconds; at 30 blocks 600 MiB, 3.5 s
    extrapolation = extrapolate(
        [measured(4, forward=340, backward=200, steps=(0.9,)), measured(8, forward=380, backward=240, steps=(1.3,))], 30
    )

    assert 600 * MIB == pytest.approx(extrapolation.peak_bytes)
    assert (300 * MIB, 10 * MIB) == pytest.approx((extrapolation.peak.intercept, extrapolation.peak.slope))
    assert 3.5 == pytest.approx(extrapolation.step_seconds)
    assert (0.5, 0.1) == pytest.approx((extrapolation.step.intercept, extrapolation.step.slope))
    assert (100 + 20 * 30) * MIB == pytest.approx(extrapolation.load_peak_bytes)
    assert 30_000 == extrapolation.trainable_parameters
    assert 8_000 == extrapolation.total_parameters


def test_more_than_two_depths_are_fitted_by_least_squares():
    # mean depth 2, mean value 5; slope ((-1)(-2) + 0 + (1)(3)) / 2 = 2.5
    assert DepthLine(0.0, 2.5) == fit([1, 2, 3], [3, 4, 8])


def test_where_the_counter_is_exact_the_moment_that_rules_the_deep_model_may_not_rule_the_shallow_one():
    # forward 400 + 10 d, optimizer 100 + 30 d: they cross at 15 blocks
    shallow = [
        measured(4, kind="allocated", forward=440, optimizer=220),
        measured(8, kind="allocated", forward=480, optimizer=340),
    ]

    assert ("optimizer", 1000 * MIB) == (extrapolate(shallow, 30).moment, extrapolate(shallow, 30).peak_bytes)
    assert ("forward", 500 * MIB) == (extrapolate(shallow, 10).moment, extrapolate(shallow, 10).peak_bytes)


def test_of_a_resident_set_the_step_as_a_whole_is_one_line():
    shallow = [measured(4, forward=440, optimizer=220), measured(8, forward=480, optimizer=340)]

    assert ("step", 700 * MIB) == (extrapolate(shallow, 30).moment, extrapolate(shallow, 30).peak_bytes)


def test_noise_weighs_as_far_as_the_line_is_stretched():
    # At 12 from 4 and 8 the value is -1 · first + 2 · second.
    first, second = measured(4, forward=1, steps=(1.0, 1.0, 4.0)), measured(8, forward=1, steps=(2.0, 3.0, 4.0))

    # distances to the median of the second: 1, 0, 1, so 1.25 · 1.48 · 1 / √3; of the first 0, 0, 3, so 0
    assert 2 * 1.25 * 1.48 / 3**0.5 == pytest.approx(extrapolate([first, second], 12).step_noise_seconds)


def test_one_depth_makes_no_line():
    assert extrapolate([measured(4, forward=1)], 30) is None
    assert extrapolate([measured(4, forward=1), measured(4, forward=2)], 30) is None


def test_the_middle_of_steps_does_not_mind_one_that_was_disturbed():
    assert 1.0 == middle([1.0, 1.0, 20.0])
    assert 1.5 == middle([1.0, 2.0])
    assert 0.0 == median_error([1.0])
