"""Estimates that many ask for are made once, and follow whatever they depend on."""

from dataclasses import replace

from rankviz.api import Api
from rankviz.core.cost.question import Question
from rankviz.core.forecast.tradeoff import RANKS

QUESTION = Question(model_id="Qwen/Qwen3-4B", gpu="t4", ranks=RANKS)


def test_an_estimate_of_all_ranks_is_made_once_for_all_visitors():
    one, other = Api().estimates.estimate(QUESTION), Api().estimates.estimate(QUESTION)

    assert one.estimate.ranks is other.estimate.ranks


def test_another_setting_is_another_estimate():
    api = Api()
    own_price = replace(QUESTION, usd_per_hour=1000.0)

    assert api.estimates.estimate(QUESTION).rank(16).cost != api.estimates.estimate(own_price).rank(16).cost


def test_what_fits_follows_ones_own_prices():
    api = Api()

    before = api.estimates.fit(QUESTION, 16).cards
    after = api.estimates.fit(QUESTION, 16, {"t4": 1000.0}).cards

    assert before is api.estimates.fit(QUESTION, 16).cards
    assert before != after
