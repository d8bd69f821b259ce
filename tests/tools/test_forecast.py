"""The published forecast, the quick look and the regret of a choice, on shipped lines and on small lines by hand."""

import pytest

from rankviz.catalog.studies import load_evidence, load_rank_lines, read_forecast
from rankviz.paths import ASSETS
from tools.forecast.lines import rank_lines
from tools.forecast.quick_look import quick_look_check


def test_the_shipped_forecast_is_of_the_shipped_evidence():
    evidence = load_evidence(ASSETS)

    assert (*rank_lines(evidence), *rank_lines(evidence, rl=True)) == load_rank_lines(ASSETS), "run `make forecast`"


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
