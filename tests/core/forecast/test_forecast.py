"""Forecasts and own runs, worked out by hand: bands, losses between runs, and what to train next and to ship."""

import math
from dataclasses import asdict, replace

import pytest

from rankviz.core.forecast.bands import GRID, LEVELS, BandRecord, at_rank, forecast
from rankviz.core.forecast.decision import decide
from rankviz.core.forecast.quick_look import (
    BentForecast,
    BentRank,
    MeasuredRank,
    Noise,
    between,
    pick_of,
    rate_look,
    score_pick,
)
from rankviz.core.runs.events import AdapterCut
from rankviz.core.runs.record import RunRecord
from rankviz.errors import InvalidSettingError
from tests.support.runs.finished_runs import plain_sweep

MEDIAN = (4.0, 3.5, 3.0, 2.5, 2.0, 1.0, 0.5, 0.0, -0.5)


def band(*, lines_at_rank=None) -> dict:
    """A band of ±1 (50 %) and ±2 (80 %) around a median."""
    quantiles = {
        level: tuple(value + shift for value in MEDIAN)
        for level, shift in zip(LEVELS, (-2.0, -1.0, 0.0, 1.0, 2.0), strict=True)
    }
    counts = dict.fromkeys(GRID, 1) if lines_at_rank is None else lines_at_rank
    counts = {str(r): lines for r, lines in counts.items()}
    return {"studies": 2, "lines": 5, "lines_at_rank": counts, "quantiles": quantiles}


def bands(*, left_out=()) -> dict:
    """A table with this band for scores and for losses."""
    statements = ("low_within_point", "low_within_noise", "high_worse", "high_worse_loss")
    return {
        "reference_rank": 128,
        "rate": None,
        "bands": dict.fromkeys(("score", "loss"), band()),
        "left_out": [asdict(row) for row in left_out],
        "holds": {name: [] for name in statements},
    }


def left_out(**values) -> BandRecord:
    """A record that is just enough to be called validated."""
    enough = {"inside_80": 0.75, "inside_80_by_publication": 0.75, "publications": 5, "points": 20}
    errors = dict.fromkeys(("crps", "crps_no_difference", "crps_no_difference_band", "crps_rule"), 1.0)
    return BandRecord(**{"kind": "simple", "inside_50": 0.5} | enough | errors | values)


def measured(losses: dict[int, float]) -> list[MeasuredRank]:
    """One run a rank."""
    return [MeasuredRank(r, loss) for r, loss in losses.items()]


def between_forecast(medians: dict[int, float]) -> BentForecast:
    """Bands of 80 % around these medians."""
    ranks = tuple(
        BentRank(r=r, median=x, low_50=x - 0.015, high_50=x + 0.015, low_80=x - 0.03, high_80=x + 0.03, measured=None)
        for r, x in medians.items()
    )
    return BentForecast(
        sweep_id="s1",
        runs=(MeasuredRank(min(medians), medians[min(medians)]), MeasuredRank(max(medians), medians[max(medians)])),
        ranks=ranks,
        coverage_80=None,
        validated=False,
        repeat_at=None,
        noise_nats=0.01,
        pick=pick_of(ranks),
        sentences=("The band rests on two runs.",),
    )


def quick_look_runs(
    low: float, high: float, cuts: dict[int, float] | None = None, *, saved: tuple[int, ...] = ()
) -> tuple[RunRecord, RunRecord]:
    """Finished runs at r = 4 and 64, the higher one truncated; 1 MB a rank. saved: cuts that were trained on and
    kept."""
    first, last = plain_sweep({4: low, 64: high}).runs
    usual, events = {"time": 9.0, "tokens": 1, "examples": 1, "seconds": 1.0, "example_losses": ()}, []
    for r, loss in (cuts or {}).items():
        path = f"cuts/r{r}" if r in saved else ""
        events.append(AdapterCut(r=r, loss=loss, recovery_steps=0 if r >= 8 else 2, path=path, **usual))
    return first, replace(last, cuts=tuple(events))


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
    [({}, True), ({"inside_80": 0.74}, False), ({"publications": 4}, False), ({"crps": 1.01}, False)],
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


ENDS = {4: 1.4, 64: 1.0}
ONE_REPEAT = Noise(0.01, 1)


def at(r: int, runs, noise=ONE_REPEAT) -> BentRank:
    return next(rank for rank in between(runs, noise) if rank.r == r)


def test_the_loss_between_falls_by_a_power_of_the_rank_below_the_straight_line():
    # (16^-0.3 - 64^-0.3) / (4^-0.3 - 64^-0.3) = (0.4353 - 0.2872) / (0.6598 - 0.2872) = 0.3975
    assert pytest.approx(1.0 + 0.4 * 0.3975, abs=1e-4) == at(16, measured(ENDS)).median
    assert [4, 8, 16, 32, 64] == [rank.r for rank in between(measured(ENDS), None)]
    assert (1.4, 1.0) == (at(4, measured(ENDS)).median, at(64, measured(ENDS)).median)


def test_the_band_of_a_measured_rank_is_that_of_one_more_run():
    # Two runs, one degree of freedom: t = tan(0.4 π) = 3.0777.
    low = at(4, [MeasuredRank(4, 1.4, 0.01, 2), MeasuredRank(64, 1.0)])

    assert (
        pytest.approx(3.0777 * 0.01 * math.sqrt(1.5), rel=1e-4) == low.high_80 - low.median == low.median - low.low_80
    )


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
        ((4, 80.0), (64, 99.0), None, 16),
        ((1, 80.0), (8, 81.0), 2.0, 8),
    ],
)
def test_by_a_score_the_higher_rank_must_be_better_by_more_than_noise(low, high, noise, expected):
    assert expected == score_pick(low, high, noise)


def at_rates(losses: dict[float, float], seeds=(0,)):
    return [
        replace(run, request=replace(run.request, learning_rate=rate))
        for rate, loss in losses.items()
        for run in plain_sweep({16: loss}, seeds=seeds).runs
    ]


@pytest.mark.parametrize(("second", "differs"), [(1.9, True), (1.71, False)])
def test_with_repeats_the_difference_is_told_in_noise(second, differs):
    # Each further seed is worse by 0.1: a standard deviation of 0.1 / sqrt(2), times 2.8 0.198.
    own = rate_look(at_rates({1e-3: 1.6, 3e-3: second}, seeds=(0, 1)))

    assert (differs, differs) == (own.differs, own.goes_on)
    assert any("times the noise of one run (0.071 nats, from 2 repeats)" in text for text in own.sentences)


FALLING = {4: 1.90, 8: 1.85, 16: 1.815, 32: 1.805, 64: 1.80}


def test_the_rank_to_train_is_the_lowest_within_the_tolerance_of_the_lowest_estimate():
    runs = quick_look_runs(1.9, 1.8)

    assert [16, 8, 64] == [decide(runs, between_forecast(FALLING), within).train.r for within in (0.02, 0.05, 0.001)]
    # A quarter of a percent of 1.8 is 0.0045.
    assert [64, 32] == [decide(runs, between_forecast({**FALLING, 32: loss})).train.r for loss in (1.805, 1.804)]


@pytest.mark.parametrize(
    ("low", "cuts", "saved", "shipped"),
    [
        (1.81, {8: 1.801}, (), (4, "trained")),  # 4 MB, 0.01 above the best
        (1.90, {8: 1.801, 2: 1.802}, (), (8, "truncated")),  # r = 2 was trained on and not kept
        (1.90, {8: 1.801, 2: 1.802}, (2,), (2, "truncated")),
        (1.81, {4: 1.805}, (4,), (4, "truncated")),  # of two adapters of one rank the better
    ],
)
def test_the_adapter_to_ship_is_one_that_can_be_had_of_the_lowest_rank_within_the_tolerance(low, cuts, saved, shipped):
    decision = decide(quick_look_runs(low, 1.8, cuts, saved=saved), between_forecast(FALLING))

    assert shipped == (decision.ship.r, decision.ship.made)
