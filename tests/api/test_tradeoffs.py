"""The trade-off of one model: for every model of the catalogue."""

from rankviz.api import Api
from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingSetup
from rankviz.core.lora.config import LoraConfig

API = Api()


def usual(model: str) -> Question:
    """With a framework and targets that can train it."""
    framework, preset = API.models.usual_setting(API.models.get(model))
    return Question(model_id=model, lora=LoraConfig(target_modules=preset), training=TrainingSetup(framework=framework))


def test_costs_and_forecast_have_every_rank():
    tradeoff = API.tradeoffs.of(usual("Qwen/Qwen3-8B"))

    assert list(range(1, 257)) == [rank.r for rank in tradeoff.estimate.ranks]
    assert list(range(1, 257)) == [rank.r for rank in tradeoff.forecast.ranks]


def test_the_chart_is_in_points_like_the_recommendation_unless_the_model_has_runs():
    assert "score" == API.tradeoffs.of(Question(model_id="Qwen/Qwen3-8B")).quality
    assert "percent" == API.tradeoffs.of(Question(model_id="embedded")).quality


def test_scores_come_from_studies_of_the_kind_of_the_use_case():
    lines = API.tradeoffs.of(Question(model_id="Qwen/Qwen3-8B"), "complex", "score").published

    assert {each.line.kind for each in lines} <= {"math-code", "shift"}
    simple = API.tradeoffs.of(Question(model_id="Qwen/Qwen3-8B"), "simple", "score").published
    assert {"simple"} == {each.line.kind for each in simple}
