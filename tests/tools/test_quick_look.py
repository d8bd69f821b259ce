"""The quick look held against the shipped published lines, and against small lines by hand."""

import pytest

from rankviz.catalog.forecast import read_forecast
from rankviz.catalog.studies import load_evidence
from rankviz.paths import ASSETS
from tools.forecast.quick_look import (
    LANGUAGE,
    SCORE,
    PublishedLine,
    look_at_loss,
    look_at_score,
    quick_look_check,
)

FALLING = PublishedLine(LANGUAGE, "a", {1: 1.2, 4: 1.0, 16: 0.97, 64: 0.95, 128: 0.94}, 0.001)


def test_a_look_sees_the_two_runs_and_is_compared_with_the_ranks_between_and_with_all():
    look = look_at_loss(FALLING, 0.001)

    assert (4, 64) == FALLING.ends and [4, 16, 64] == list(FALLING.between)
    assert (64, 0.0, True) == (look.pick, look.regret, look.inside[0])
    assert pytest.approx(100 * (0.95 / 0.94 - 1)) == look.regret_of_all


def test_a_score_is_picked_by_the_rule_among_the_ranks_of_the_line():
    line = PublishedLine(SCORE, "b", {1: 60.0, 2: 61.0, 4: 70.0, 8: 71.0, 64: 80.0}, 1.0)

    assert [64, 8] == [look_at_score(line, difference).pick for difference in (1.0, 9.0)]


@pytest.fixture(scope="module")
def check():
    return quick_look_check(load_evidence(ASSETS))


def test_the_shipped_record_is_of_the_shipped_evidence(check):
    assert read_forecast(ASSETS)["quick_look"] == check, "run `make forecast`"


def test_it_holds_on_the_shipped_lines(check):
    loss, score = check["loss"], check["score"]

    assert 0.95 <= loss["within"]
    assert 0.80 <= loss["inside_80"] <= 0.97
    assert loss["width_in_ranges"] <= 1.2
    assert 0.78 <= min(score["within"], score["within_of_all_ranks"])
    assert score["within_always_16"] < score["within"]
