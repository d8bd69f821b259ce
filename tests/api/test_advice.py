"""The advice over the catalogue and for models that cannot be read, with what trains and exports it."""

import pytest

from rankviz.core.advice.use_case import NAMES, Goal
from rankviz.core.advice.words import main_sentences, reasons
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig

PLAIN = TrainingSetup(framework="trl", gradient_checkpointing="hf")
"""Every model of the catalogue takes it."""
RANKS = {"simple": 16, "instruction": 32, "complex": 64, "near-full": 64, "pretraining": 64, "rl": 16}


@pytest.mark.parametrize("use_case", NAMES)
def test_every_model_gets_the_rank_of_the_use_case_and_a_rate_in_the_range_of_its_sentence(api, use_case):
    for row in [*api.models.all()][::6]:
        advice = api.advice.advise(Question(model_id=row.id, training=PLAIN), Goal(use_case=use_case)).advice

        assert RANKS[use_case] == advice.r, row.id
        assert advice.rates is None or advice.rates.low <= advice.learning_rate <= advice.rates.high, row.id
        assert 3 == len(main_sentences(advice)), row.id
        assert all(reason.source for reason in reasons(advice)), row.id


def test_a_study_of_the_same_moe_scheme_is_not_converted(api):
    """Scicom's experts of gpt-oss-20b have r / active."""

    def scicom(expert_rank: str) -> str:
        question = Question(model_id="openai/gpt-oss-20b", lora=LoraConfig(expert_rank=expert_rank))
        (text,) = [each.text for each in reasons(api.advice.advise(question, Goal()).advice) if "Scicom" in each.text]
        return text

    assert "another MoE scheme" in scicom("r") and "By parameters, r = 32 here is r = 113 in that" in scicom("r")
    assert "another MoE scheme" not in scicom("r/active") and "By parameters" not in scicom("r/active")
