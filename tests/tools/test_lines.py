"""Which published lines a forecast takes, and in which unit."""

import pytest

from tests.support.runs.studies_toy import evidence, point, study
from tools.forecast.lines import items_of_test, kind_of, rank_lines


def score(r, value, **more):
    return point(r, value, **{"metric": "accuracy", "higher_is_better": True, **more})


def lines(points, *studies):
    return rank_lines(evidence(points, studies))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "dora"},
        {"role": "forgetting"},
        {"metric": "train_loss_last_interval"},
        {"metric": "classification_loss"},
        {"metric": "average_x100"},
    ],
)
def test_what_is_no_quality_of_plain_lora_is_left_out(change):
    assert () == lines([point(4, 1.1, **change), point(64, 1.0, **change)])


def test_of_several_rates_at_each_rank_the_best_counts():
    rates = [
        score(r, value, learning_rate=rate, learning_rates_tried=1, table=f"rate {rate}")
        for rate, values in ((1e-4, (0.5, 0.8)), (1e-3, (0.6, 0.7)))
        for r, value in zip((4, 64), values, strict=True)
    ]

    assert [(60.0, 80.0)] == [line.values for line in lines(rates)]


@pytest.mark.parametrize(
    ("task", "items"),
    [("SFT -> GSM8K test (n=1200)", 1200), ("SFT -> MMLU", 14042), ("SFT -> IFEval (limit 100)", 100), ("poems", None)],
)
def test_a_task_names_its_test_set(task, items):
    assert items == items_of_test(task)


@pytest.mark.parametrize(
    ("task_kind", "task", "kind"),
    [
        ("simple", "SST-2", "simple"),
        ("simple", "Commonsense-170k -> Average", "instruct"),
        ("instruction", "Tulu -> GSM8K", "instruct"),
        ("complex", "MetaMathQA -> GSM8K", "math-code"),
        ("complex", "child speech", "shift"),
        ("pretraining", "OpenWebMath -> GSM8K", "shift"),
        ("rl", "GSM8K GRPO -> GSM8K test", "rl"),
    ],
)
def test_the_kind_comes_from_the_study_and_the_words_of_its_test(task_kind, task, kind):
    assert kind == kind_of(study(task_kind=task_kind), task)
