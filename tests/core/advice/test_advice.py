"""The advice: which rank a use case gets, what moves it, and what it says."""

from dataclasses import replace

from rankviz.api import Api
from rankviz.core.advice import words
from rankviz.core.advice.advice import advise, capacity
from rankviz.core.advice.use_case import Goal, data_of, use_case
from rankviz.core.cost.setup import Grpo, TrainingData, TrainingSetup
from tests.support.runs.studies_toy import evidence, point, subject
from tests.support.runs.toy import ASSUMPTIONS

STEPS = TrainingSetup(max_steps=1000, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_length=2048)
SWEEP = [point(4, 1.02, learning_rate=1e-3), point(16, 1.008), point(64, 1.0, learning_rate=1e-3)]
RECORD = Api().advice.record()


def given(goal=None, data=None, points=SWEEP):
    goal = goal or Goal()
    who = subject(task_kinds=use_case(goal.use_case).task_kinds)
    data = data or data_of(TrainingSetup())
    return advise(evidence(points), RECORD, who, goal, data, lambda r: 1000 * r, ASSUMPTIONS)


def test_concern_about_forgetting_halves_the_rank_only_where_published_trainings_say_so():
    def kept(small, large):
        more = {"role": "forgetting", "metric": "kept", "higher_is_better": True}
        return [*SWEEP, point(16, small, **more), point(256, large, **more)]

    goal = Goal(forgetting=True)

    assert 16 == given(goal, points=kept(0.6, 0.5)).r
    assert 32 == given(goal, points=kept(0.5, 0.6)).r == given(goal).r
    assert 16 == given(Goal(use_case="simple", forgetting=True), points=kept(0.6, 0.5)).r
    assert words.because(given(goal, points=kept(0.6, 0.5))).startswith("halved from 32 to forget less: ")


def test_the_rate_moves_into_the_range_of_the_nearest_tuned_sweep():
    """2e-4 lies below 3e-4 to 1e-3, the best at r = 4, 16 and 64."""
    advice = given()

    assert (3e-4, (3e-4, 9e-4)) == (advice.learning_rate, advice.learning_rates)
    assert ((4, 16, 64), "toy/Small-1B") == (advice.rates.ranks, advice.rates.of)
    assert "Recommended: r = 32, alpha = 32, learning rate 3e-4 (3e-4 to 1e-3 did best), all linear layers" == (
        words.take(advice)
    )


def test_the_data_of_a_training_counts_the_examples_of_all_gpus_and_prompts_with_grpo():
    """10 steps × 2 × 4 × 2 GPUs are 160 rows; with GRPO 20 groups of 8 completions, each of at most 300 tokens."""
    data = TrainingData(examples=1000, mean_tokens=100)
    several = replace(STEPS, max_steps=10, gpus=2, data=data)
    grpo = replace(several, grpo=Grpo(num_generations=8, max_prompt_length=100, max_completion_length=200))

    assert (16_000, False, 0.16, 160) == data_of(several)
    assert (48_000, True, 0.02, 20) == data_of(grpo)
    assert (48_000, True, None, None) == data_of(replace(grpo, data=None))


def test_capacity_is_an_information_that_moves_nothing():
    """1,000 parameters a rank hold 2,000 tokens a rank."""
    full = given(data=data_of(TrainingSetup(data=TrainingData(examples=10**6, mean_tokens=1))))

    assert (32, False) == (full.r, full.capacity.enough)
    assert "1.00 M tokens, 1562 % of that." in words.capacity_in_words(full)
    held = capacity(16, 1000, 500, False, ASSUMPTIONS)
    assert (2000, True, 0.25) == (held.holds_tokens, held.enough, held.filled)
    assert "1.00 k tokens, under 1 % of that." in words.capacity_in_words(
        replace(full, capacity=capacity(16, 100_000, 1000, False, ASSUMPTIONS))
    )
    assumed = given(data=data_of(STEPS))
    assert "No data is given: the assumed training has at most 16.38 M tokens" in words.capacity_in_words(assumed)
