"""Which published lines a forecast takes, and in which unit."""

import pytest

from tests.support.runs.studies_toy import evidence, point, study
from tools.forecast.lines import items_of_test, kind_of, rank_lines


def score(r, value, **more):
    return point(r, value, **{"metric": "accuracy", "higher_is_better": True, **more})


def lines(points, *studies):
    return rank_lines(evidence(points, studies))


def test_a_loss_becomes_percent_with_higher_better():
    (line,) = lines([point(4, 1.01), point(64, 1.0)])

    assert "loss" == line.metric
    assert -0.995 == pytest.approx(line.values[0] - line.values[1], abs=1e-3)


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


def test_single_tasks_of_an_average_over_the_same_runs_are_left_out():
    average = [score(r, value, task="set -> Average") for r, value in ((4, 0.5), (8, 0.6))]
    single = [score(r, value, task="set -> BoolQ", role="detail") for r, value in ((4, 0.4), (8, 0.7))]

    assert ["set -> Average"] == [line.task for line in lines(average + single)]


def test_a_second_metric_of_a_task_is_left_out():
    main = [score(r, value, metric="f1_pct") for r, value in ((4, 50.0), (8, 60.0))]
    second = [score(r, value, metric="exact_match_pct", role="detail") for r, value in ((4, 40.0), (8, 45.0))]

    assert [(50.0, 60.0)] == [line.values for line in lines(second + main)]


def test_of_several_rates_at_each_rank_the_best_counts():
    rates = [
        score(r, value, learning_rate=rate, learning_rates_tried=1, table=f"rate {rate}")
        for rate, values in ((1e-4, (0.5, 0.8)), (1e-3, (0.6, 0.7)))
        for r, value in zip((4, 64), values, strict=True)
    ]

    assert [(60.0, 80.0)] == [line.values for line in lines(rates)]


def test_reinforcement_learning_is_in_no_forecast():
    points, of_rl = [score(4, 0.5), score(64, 0.6)], study(task_kind="rl")

    assert () == lines(points, of_rl)
    (line,) = rank_lines(evidence(points, [of_rl]), rl=True)
    assert ("rl", (50.0, 60.0)) == (line.kind, line.values)


def test_a_published_standard_error_comes_before_the_size_of_the_test_set():
    (line,) = lines([score(4, 0.5, standard_error=0.01, task="x -> GSM8K"), score(64, 0.5, task="x -> GSM8K")])

    assert 1.0 == pytest.approx(line.standard_errors[0])
    assert 100 * (0.25 / 1319) ** 0.5 == pytest.approx(line.standard_errors[1])


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
