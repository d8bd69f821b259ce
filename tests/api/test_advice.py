"""Headline, reasons and forecast agree, for every catalogue model and use case."""

import functools
import re

import pytest

from rankviz.api import Api
from rankviz.core.advice.forecast_words import at_recommended, forecast_sentence
from rankviz.core.advice.lead_words import UNITS
from rankviz.core.advice.reasons import reasons
from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.advice.words import because, confidence_in_words, main_sentences, rate_in_words, rate_text
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.studies.findings import TOLERANCE

PLAIN = TrainingSetup(framework="trl", gradient_checkpointing="hf")
"""Every model of the catalogue takes it."""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


@functools.cache
def advised(api, use_case, examples=None):
    """The advice for every model of the catalogue. examples: of one token each."""
    goal = Goal(use_case=use_case, examples=examples, example_tokens=1 if examples else None)
    return [(row.id, api.advice.advise(Question(model_id=row.id, training=PLAIN), goal)) for row in api.models.all()]


@pytest.mark.parametrize("use_case", NAMES)
def test_the_rate_lies_in_the_range_that_the_reasons_give(api, use_case):
    given = 0
    for model, answer in advised(api, use_case):
        advice = answer.advice
        (text,) = [reason.text for reason in reasons(advice) if reason.name == "rate"]
        stated = re.search(r"the best (?:were|was) (\S+?)(?: to (\S+))?\.$", text)
        assert (stated is None) == (advice.rates is None), model
        if stated:
            given += 1
            low, high = float(stated[1]), float(stated[2] or stated[1])
            assert low <= advice.learning_rate <= high, model
            assert rate_in_words(advice).startswith(rate_text(advice.learning_rate)), model
    assert given or use_case in ("pretraining", "rl")


@pytest.mark.parametrize("use_case", NAMES)
def test_the_shortfall_in_the_headline_is_that_of_its_rank_in_the_study(api, use_case):
    """Worked out from the study's values, not by the function that writes the sentence."""
    led = 0
    for model, answer in advised(api, use_case):
        advice, lead = answer.advice, answer.advice.findings.lead
        sentence = because(advice)
        if lead is None:
            assert "nearest study" not in sentence, model
            continue
        led += 1
        values = {point.rank: point.value for point in lead.line.points}
        if advice.r not in values:
            assert f"did not run r = {advice.r}:" in sentence, model
            continue
        short = abs(values[advice.r] - lead.line.best.value)
        amount = 100 * short / lead.line.best.value if lead.metric == "loss" else short
        stated = re.search(rf"r = {advice.r} ended ([\d.]+) (% of the loss|points) short", sentence)
        if stated is None:
            assert f"r = {advice.r} was the best rank" in sentence or "came within 0.1" in sentence, model
        else:
            scales = (1, 100, 10) if lead.metric == "score" else (1,)
            assert any(abs(float(stated[1]) - scale * amount) <= 0.0501 for scale in scales), model
            assert UNITS[lead.metric] == stated[2], model
    assert led > 40


@pytest.mark.parametrize("use_case", NAMES)
def test_a_rank_that_fell_short_is_raised_or_the_sentence_names_the_rank_that_did_not(api, use_case):
    for many in (None, 10**6):
        for model, answer in advised(api, use_case, many):
            advice, lead = answer.advice, answer.advice.findings.lead
            if lead is None or not lead.speaks_for_rank:
                continue
            needed = lead.line.smallest_within(TOLERANCE).rank
            if needed > advice.r:
                assert f"r = {needed} came within 0.5 % there" in " ".join(main_sentences(advice)), model
            assert many is None or lead.line.study.examples is None or advice.r >= needed, model


@pytest.mark.parametrize("use_case", NAMES)
def test_no_sentence_calls_a_rank_well_supported_that_missed_the_mark_of_the_study(api, use_case):
    """Whether a rank missed it is worked out from the study's values."""
    missed = 0
    for many in (None, 10**6):
        for model, answer in advised(api, use_case, many):
            advice, lead = answer.advice, answer.advice.findings.lead
            if lead is None or not lead.is_tuned_loss:
                continue
            values = {point.rank: point.value for point in lead.line.points}
            needed = min(rank for rank, value in values.items() if value <= (1 + TOLERANCE) * min(values.values()))
            card, sure = " ".join(main_sentences(advice)), confidence_in_words(advice)
            if needed <= advice.r:
                assert "How sure:" not in card, model
                continue
            missed += 1
            assert "Well supported" not in card + sure, model
            assert f"the study needed r = {needed} for 0.5 %" in card, model
            assert f"it needed r = {needed}." in sure, model
            stated = [reason.text for reason in reasons(advice) if "it needed r =" in reason.text]
            assert all(f"it needed r = {needed}." in text for text in stated), model
    assert missed or use_case != "instruction"


@pytest.mark.parametrize("use_case", NAMES)
def test_the_forecast_speaks_in_the_unit_of_the_study_and_says_where_they_differ(api, use_case):
    compared = 0
    for model, answer in advised(api, use_case):
        lead, text = answer.advice.findings.lead, forecast_sentence(answer.advice, answer.forecast)
        assert ("percent_of_loss" if lead and lead.metric == "loss" else "points") == answer.forecast.unit, model
        if lead is None or lead.metric != "loss":
            continue
        values = {point.rank: point.value for point in lead.line.points}
        if {answer.advice.r, 128} <= values.keys():
            compared += 1
            row = at_recommended(answer.advice, answer.forecast)
            short = 100 * (values[answer.advice.r] - values[128]) / lead.line.best.value
            where = "inside" if row.low_80 <= short <= row.high_80 else "outside"
            assert f"lies {where} this band." in text, model
    assert compared


@pytest.mark.parametrize("use_case", NAMES)
def test_at_most_three_sentences_stand_before_the_details(api, use_case):
    assert all(len(main_sentences(answer.advice)) <= 3 for _, answer in advised(api, use_case))


def test_a_small_qwen_gets_the_figures_of_its_own_sweep(api):
    """Tinker's Qwen3-4B-Instruct-2507: 0.5631 at r = 16, 0.5588 at r = 128, best rates 3e-4 (r = 4) and 1e-3."""
    answer = api.advice.advise(Question(model_id="Qwen/Qwen3-4B"), Goal())

    assert (16, 3e-4) == (answer.advice.r, answer.advice.learning_rate)
    assert "3e-4 (3e-4 to 1e-3 did best)" == rate_in_words(answer.advice)
    assert because(answer.advice).startswith("r = 16 ended 0.8 % of the loss short of the best rank, r = 128,")
    assert "r = 16 is 0.8 % of the loss short of r = 128" in forecast_sentence(answer.advice, answer.forecast)


@pytest.mark.parametrize(
    ("model", "use_case"),
    [("Qwen/Qwen3-0.6B", "instruction"), ("meta-llama/Llama-3.1-8B", "complex"), ("google/gemma-3-4b-it", "simple")],
)
def test_the_trade_off_chart_opens_in_the_unit_of_the_sentence(api, model, use_case):
    question = Question(model_id=model)

    lead = api.advice.advise(question, Goal(use_case=use_case)).advice.findings.lead

    in_losses = lead is not None and lead.metric == "loss"
    assert ("percent" if in_losses else "score") == api.tradeoffs.of(question, use_case).quality


def test_the_exported_rate_is_the_recommended_one(api):
    question, goal = Question(model_id="Qwen/Qwen3-4B"), Goal()

    advised = api.advice.advise(question, goal).advice.learning_rate

    assert f"learning_rate={advised:g}," in api.exports.write(question, 16, goal=goal).text
