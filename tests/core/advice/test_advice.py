"""The advice: which rank a use case gets, what moves it, and what it says."""

from dataclasses import replace

import pytest

from rankviz.core.advice import words
from rankviz.core.advice.advice import advise, capacity, record_of
from rankviz.core.advice.use_case import Goal, data_of, use_case
from rankviz.core.cost.setup import TrainingSetup
from tests.support.runs.studies_toy import assumptions, base, evidence, point, study, subject

STEPS = TrainingSetup(max_steps=1000, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_length=2048)
SWEEP = [point(4, 1.02, learning_rate=1e-3), point(16, 1.008), point(64, 1.0, learning_rate=1e-3)]


def gain(mean, low, high):
    return {"gain": [mean, low, high], "publications": 6, "lines": 20}


def measured(rule, score, more, publications=18):
    row = {"publications": publications, "lines": 9 * publications, "mean_rank": 32.0, "over_one": 0.1}
    return {"rule": rule, "score": {"regret": score, "more": more, **row}, "loss": {"regret": score, **row}}


RECORD = record_of(
    {
        "alternatives": [
            measured("advice", [0.6, 0.34, 0.88], [0, 0, 0]),
            measured("32", [0.9, 0.4, 1.5], [0.3, 0, 0.7]),
            measured("64", [0.57, 0.3, 0.8], [-0.03, -0.1, 0.02]),
            measured("128", [0.4, 0.3, 0.8], [-0.2, -0.3, 0.1], 8),
        ],
        "gains": {
            "simple": {"8": gain(0.31, 0.07, 0.58), "16": gain(0.15, -0.05, 0.37)},
            "instruction": {"16": gain(0.44, 0.17, 0.75), "32": gain(-0.16, -0.3, 0.01)},
        },
    }
)


def given(
    goal=None, data=None, points=SWEEP, about=None, parameters=lambda r: 1000 * r, record=RECORD, equal=None, **more
):
    goal = goal or Goal()
    who = about or subject(task_kinds=use_case(goal.use_case).task_kinds)
    data = data or data_of(goal, TrainingSetup())
    converted = [equal] if equal else []
    return advise(evidence(points, **more), record, who, goal, data, parameters, assumptions(), *converted)


@pytest.mark.parametrize(
    ("name", "r"), [("simple", 16), ("instruction", 32), ("complex", 64), ("near-full", 64), ("pretraining", 64)]
)
@pytest.mark.parametrize("examples", [None, 10, 10**9])
def test_the_use_case_gives_the_rank_whatever_the_data(name, r, examples):
    advice = given(Goal(use_case=name, examples=examples, example_tokens=1))

    assert (r, r, ()) == (advice.r, advice.lora_alpha, advice.steps)


def test_concern_about_forgetting_halves_the_rank_only_where_published_trainings_say_so():
    def kept(small, large):
        more = {"role": "forgetting", "metric": "kept", "higher_is_better": True}
        return [*SWEEP, point(16, small, **more), point(256, large, **more)]

    goal = Goal(forgetting=True)

    assert 16 == given(goal, points=kept(0.6, 0.5)).r
    assert 32 == given(goal, points=kept(0.5, 0.6)).r == given(goal).r
    assert 16 == given(Goal(use_case="simple", forgetting=True), points=kept(0.6, 0.5)).r
    assert words.because(given(goal, points=kept(0.6, 0.5))).startswith(
        "r is halved from 32 to keep more of the base; "
    )


def test_the_rate_moves_into_the_range_of_the_nearest_tuned_sweep():
    """2e-4 lies below 3e-4 to 1e-3, the best at r = 4, 16 and 64."""
    advice = given()

    assert (3e-4, (3e-4, 9e-4)) == (advice.learning_rate, advice.learning_rates)
    assert ([4, 16, 64], "toy/Small-1B") == (advice.rates.ranks, advice.rates.of)
    assert "Recommended: r = 32, alpha = 32, learning rate 3e-4 (3e-4 to 1e-3 did best), all linear layers" == (
        words.take(advice)
    )


def test_capacity_is_an_information_that_moves_nothing():
    """1,000 parameters a rank hold 2,000 tokens a rank."""
    full = given(Goal(examples=10**6, example_tokens=1))

    assert (32, False) == (full.r, full.capacity.enough)
    assert "1.00 M tokens, 1562 % of that." in words.capacity_in_words(full)
    held = capacity(16, 1000, 500, False, assumptions())
    assert (2000, True, 0.25) == (held.holds_tokens, held.enough, held.filled)
    assert "1.00 k tokens, under 1 % of that." in words.capacity_in_words(
        replace(full, capacity=capacity(16, 100_000, 1000, False, assumptions()))
    )
    assert "not known" in words.capacity_in_words(given())
    assumed = given(data=data_of(Goal(), STEPS))
    assert "No data is given: the assumed training has at most 16.38 M tokens" in words.capacity_in_words(assumed)


def test_a_rank_of_another_moe_scheme_is_converted_by_parameters():
    """r = 64 there has the parameters of r = 16 here, so r = 32 here is r = 128 there."""
    mixture = replace(base(), has_experts=True)
    who = study(expert_scheme="shared-outer")
    points = [replace(p, facet="attention and mlp") for p in SWEEP]

    advice = given(points=points, studies=[who], models=[mixture], equal=lambda line: {r: r / 4 for r in line.ranks})

    (text,) = [reason.text for reason in words.reasons(advice) if reason.name == "nearest"]
    assert "another MoE scheme" in text and "r = 64 was the best rank of 4, 16 and 64; r = 128 was not run" in text
    assert text.endswith("By parameters, r = 32 here is r = 128 in that study.")


@pytest.mark.parametrize(
    ("goal", "training", "data"),
    [
        (Goal(), STEPS, (16_384_000, True, None, None)),
        (Goal(), TrainingSetup(), (None, True, None, None)),
        (Goal(examples=500, example_tokens=100), STEPS, (50_000, False, 16.0, 500)),
        (Goal(examples=500), STEPS, (1_024_000, True, 16.0, 500)),
        (Goal(examples=80_000, example_tokens=100), STEPS, (800_000, False, 0.1, 8000)),
        (Goal(examples=500, example_tokens=100), TrainingSetup(), (50_000, False, None, 500)),
    ],
)
def test_only_different_tokens_that_the_training_sees_count(goal, training, data):
    assert data == data_of(goal, training)
