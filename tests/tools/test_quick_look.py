"""The quick look held against the shipped published lines, and against small lines by hand."""

import pytest

from rankviz.catalog.forecast import read_forecast
from rankviz.catalog.studies import load_evidence
from rankviz.paths import ASSETS
from tools.forecast.quick_look import (
    quick_look_check,
)


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
