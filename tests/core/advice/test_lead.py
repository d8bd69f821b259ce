"""The nearest published line leads the advice: which line that is, what it says of a rank, and the rate it moves."""

from dataclasses import replace

import pytest

from rankviz.core.advice.advice import advise
from rankviz.core.advice.lead import leading
from rankviz.core.advice.lead_words import lead_sentences, needed_sentence, result_words, sure_sentence
from rankviz.core.advice.use_case import Goal, data_of, use_case
from rankviz.core.advice.words import main_sentences, rate_in_words
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.studies.lines import FACETS
from rankviz.core.studies.nearest import drawn_lines, nearest
from tests.support.runs.studies_toy import assumptions, base, evidence, point, study, subject

SWEEP = [point(4, 1.02, learning_rate=1e-3), point(16, 1.008), point(64, 1.0, learning_rate=1e-3)]


def given(goal=None, points=SWEEP, about=None, **more):
    goal = goal or Goal()
    who = about or replace(subject(), task_kinds=use_case(goal.use_case).task_kinds)
    data = data_of(goal, TrainingSetup())
    return advise(evidence(points, **more), who, goal, data, lambda r: 1000 * r, assumptions())


def lead_of(points, about=None, **more):
    return leading(nearest(drawn_lines(evidence(points, **more), ("lora",), FACETS), about or subject()))


def test_the_rate_moves_into_the_range_of_the_nearest_tuned_sweep():
    """2e-4 lies below 3e-4 to 1e-3, the best at r = 4, 16 and 64."""
    advice = given()

    assert 3e-4 == advice.learning_rate
    assert "3e-4 (3e-4 to 1e-3 did best)" == rate_in_words(advice)
    assert ((4, 16, 64), "toy/Small-1B") == (advice.rates.ranks, advice.rates_of)


def test_a_rate_inside_the_range_stays_and_one_above_it_comes_down():
    inside = given(points=[point(4, 1.0, learning_rate=1e-4), point(16, 1.0), point(64, 1.0)])
    above = given(points=[point(r, 1.0, learning_rate=1e-4) for r in (4, 16, 64)])

    assert (2e-4, 1e-4) == (inside.learning_rate, above.learning_rate)


def test_continued_pretraining_keeps_its_own_rate():
    advice = given(Goal(use_case="pretraining"))

    assert (5e-5, None) == (advice.learning_rate, advice.rates)


def test_ranks_more_than_four_times_away_have_no_say_in_the_rate():
    advice = given(points=[point(1, 1.02, learning_rate=3e-3), *SWEEP])

    assert (4, 16, 64) == advice.rates.ranks
    assert 1e-3 == advice.rates.high


def test_the_sentence_gives_the_shortfall_at_the_recommended_rank():
    first, second, third = main_sentences(given())

    assert first == (
        "r = 16 ended 0.8 % of the loss short of the best rank, r = 64, in the nearest study: Tuned on Small-1B (the "
        "same model), 1,000 examples, learning rate tuned at each rank."
    )
    assert "r = 64 came within 0.5 % there: choose it if you have as much data." == second
    assert (
        "How sure: the same model and kind of task, but other data, one run per rank, and the study needed r = 64 for "
        "0.5 %." == third
    )


def test_with_less_data_than_the_study_the_higher_rank_is_not_proposed():
    assert "r = 64 came within 0.5 % there, with more examples than your 900." == needed_sentence(
        given(Goal(examples=900, example_tokens=1))
    )


def test_a_rank_that_was_not_run_is_placed_between_its_neighbours():
    lead = lead_of(SWEEP)

    assert "r = 4 ended 2.0 % of the loss and r = 16 ended 0.8 % of the loss short of the best rank, r = 64," == (
        result_words(lead, 8)
    )
    assert "r = 16 ended 0.8 % of the loss short of the best rank, r = 64," == result_words(lead, 32)
    assert "r = 64 was the best rank of 4, 16 and 64, the highest that it ran," == result_words(lead, 64)
    inner = lead_of([point(4, 1.02), point(16, 1.0), point(64, 1.01)])
    assert "r = 16 was the best rank of 4, 16 and 64" == result_words(inner, 16)


def test_a_score_is_in_points_not_in_percent():
    scores = {"metric": "accuracy", "higher_is_better": True}

    lead = lead_of([point(4, 0.40, **scores), point(16, 0.42, **scores)])

    assert ("score", "r = 4 ended 2.0 points short of the best rank, r = 16,") == (lead.metric, result_words(lead, 4))


def test_the_same_kind_of_task_goes_before_the_same_model():
    studies = [study("own", task_kind="complex"), study("relative")]
    models = [base(), base("toy/Big-2B", model_id="toy/Big-2B", parameters=2 * 10**9)]
    points = [replace(p, study_id="own") for p in SWEEP]
    points += [replace(p, study_id="relative", base_model="toy/Big-2B") for p in SWEEP]

    lead = lead_of(points, studies=studies, models=models)

    assert ("relative", False, True) == (lead.line.study.study_id, lead.near.same_model, lead.speaks_for_rank)


@pytest.mark.parametrize(
    ("own", "points", "why"),
    [
        ({}, SWEEP[:2], "the nearest study with 3 ranks or more (that of the same model ran r = 4 and 16 only)"),
        (
            {"task_kind": "complex"},
            SWEEP,
            "the nearest study of this kind of task (that of the same model is on another kind)",
        ),
    ],
)
def test_where_the_study_of_the_same_model_does_not_lead_it_is_shown_and_the_reason_is_given(own, points, why):
    published = [replace(p, study_id="own") for p in points]
    published += [replace(p, study_id="relative", base_model="toy/Big-2B") for p in SWEEP]
    models = [base(), base("toy/Big-2B", model_id="toy/Big-2B", parameters=2 * 10**9)]

    advice = given(points=published, studies=[study("own", **own), study("relative")], models=models)

    assert f"in {why}: Relative on Big-2B" in main_sentences(advice)[0]
    assert ["relative", "own"] == [near.line.study.study_id for near in advice.findings.shown]


def test_the_study_of_the_same_model_is_shown_beside_a_lead_of_the_same_study():
    points = [*SWEEP[:2], *(replace(p, base_model="toy/Big-2B") for p in SWEEP)]
    models = [base(), base("toy/Big-2B", model_id="toy/Big-2B", parameters=2 * 10**9)]

    shown = given(points=points, models=models).findings.shown

    assert ["toy/Big-2B", "toy/Small-1B"] == [near.line.model.base_model for near in shown]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"task_kind": "complex", "tuned": False}, "another kind of task at one learning rate"),
        ({"own": True}, "added here"),
    ],
)
def test_some_studies_never_lead(more, why):
    assert lead_of(SWEEP, studies=[study(**more)]) is None, why


def test_a_study_of_another_family_never_leads():
    assert lead_of(SWEEP, subject(model_id="x/y", family="X")) is None


def test_without_a_lead_the_general_rule_is_the_reason():
    far = subject(model_id="x/y", family="X", parameters=10**12)

    first, second = main_sentences(given(about=far))

    assert first.startswith("In 0 of 1 models tuned at each rank, r ≤ 16 came within 0.5 %")
    assert "A rule of thumb: no published sweep is similar in both model and kind of task." == second


def test_how_sure_it_is_names_what_is_not_the_same():
    relative = subject(model_id="toy/Mid-3B", parameters=3 * 10**9)
    short = [point(1, 1.1), point(2, 1.05), point(4, 1.0)]
    reached = [point(4, 1.02), point(16, 1.0), point(64, 1.0)]

    assert "Supported, but: another model, other data, one run per rank." == (
        sure_sentence(given(about=relative, points=reached))
    )
    assert "How sure: another model, other data, one run per rank, and the study needed r = 64 for 0.5 %." == (
        sure_sentence(given(about=relative))
    )
    assert "Supported, but: no rank above 4, other data, one run per rank." == sure_sentence(given(points=short))


def test_an_untuned_lead_says_that_ranks_differ_by_their_step_size():
    advice = given(studies=[study(tuned=False)])

    assert ("Supported, but with one learning rate a difference between ranks is partly their step size.",) == (
        lead_sentences(advice)
    )
