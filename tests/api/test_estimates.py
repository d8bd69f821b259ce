"""Estimates that many ask for are made once, and follow whatever they depend on."""

import pytest

from rankviz.api import Api
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.forecast.tradeoff import RANKS

QUESTION = Question(model_id="Qwen/Qwen3-4B", gpu="t4", ranks=RANKS)


def test_an_estimate_of_all_ranks_is_made_once_for_all_visitors():
    one, other = Api().estimates.estimate(QUESTION), Api().estimates.estimate(QUESTION)

    assert one.estimate.ranks is other.estimate.ranks


def test_what_fits_follows_ones_own_prices():
    api = Api()

    before = api.estimates.fit(QUESTION, 16).cards
    after = api.estimates.fit(QUESTION, 16, {"t4": 1000.0}).cards

    assert before is api.estimates.fit(QUESTION, 16).cards
    assert before != after


@pytest.mark.parametrize(
    ("model_id", "gpu", "framework", "settings"),
    [
        ("openai/gpt-oss-20b", "A100-80GB", "trl", 23),  # eager, whatever is asked
        ("meta-llama/Llama-3.1-8B", "T4", "trl", 23),  # the math kernel
        ("meta-llama/Llama-3.1-8B", "L4", "trl", 69),
        ("google/gemma-2-9b", "L4", "unsloth", None),
    ],
)
def test_an_estimate_rests_on_rows_whose_attention_holds_the_matrix_where_its_own_does(
    model_id, gpu, framework, settings
):
    training = TrainingSetup(framework=framework, gradient_checkpointing="auto")
    question = Question(model_id=model_id, gpu=gpu, training=training, ranks=(16,))
    answer, similar = Api().estimates.estimate(question), Api().estimates.rests_on(question, 16)

    assert settings == (answer.basis.memory and answer.basis.memory.settings)
    assert similar.basis == answer.basis
