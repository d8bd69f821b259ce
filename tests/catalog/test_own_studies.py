"""Results that someone adds: read, averaged, stored as a study of their own, and refused with a sentence."""

import json
from datetime import date

import pytest

from rankviz.api import Api
from rankviz.catalog.own_studies import read_points
from rankviz.core.cost.question import Question
from rankviz.errors import BadDataError

TODAY = date(2026, 11, 30)
HEADER = "model,task,metric,rank,value,seed,learning_rate"
ROWS = [
    "Qwen/Qwen3-4B,law -> exam,accuracy,4,0.5,0,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,4,0.6,1,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,16,0.7,0,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,full,0.8,0,1e-5",
]


def table(*rows, header=HEADER):
    return "\n".join([header, *rows]).encode()


def result() -> str:
    """A small table, as others add it."""
    return table(*ROWS).decode()


def test_runs_that_differ_in_their_seed_are_a_mean_with_its_error():
    small, large, full = read_points(table(*ROWS), "mine.csv", TODAY)

    assert (4, 0.55, 0.05) == pytest.approx((small.rank, small.value, small.standard_error))
    assert (16, 0.7, None) == (large.rank, large.value, large.standard_error)
    assert (None, "full", "all weights") == (full.rank, full.method, full.facet)
    assert ({"results"}, {"2026-11-30"}, True) == (
        {point.table for point in (small, large)},
        {point.run_date for point in (small, large)},
        small.higher_is_better,
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            table(ROWS[0], ROWS[1].replace(",4,", ",four,")),
            "mine.csv, row 3, rank: 'four' is not a whole number from 1",
        ),
        (table(ROWS[0].replace("0.5", "")), "mine.csv, row 2, value: '' is not a number: correct it."),
        (table("m,t,f1,4,1,maybe", header="model,task,metric,rank,value,higher_is_better"), "'maybe' is not yes or no"),
        (table("4,0.5", header="rank,value"), "mine.csv has no model, task, metric, or no row: its first line must"),
        (table(*[f"m,t,f1,{r},1,0,1e-4" for r in range(1, 502)]), "has 501 settings, at most 500 are read"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_what_to_do(content, sentence):
    with pytest.raises(BadDataError) as raised:
        read_points(content, "mine.csv", TODAY)

    assert sentence in str(raised.value)


def of_peft(**more):
    """As method_comparison/MetaMathQA/results/lora--llama-3.2-3B-rank64-rslora.json has it, shortened."""
    lora = {"peft_type": "LORA", "r": 64, "target_modules": ["v_proj", "q_proj"], "lora_alpha": 64, "use_rslora": True}
    setup = {"model_id": "meta-llama/Llama-3.2-3B", "max_steps": 5000, "batch_size": 4, "query_template": "{query}"}
    first = {"step": 250, "valid accuracy": 0.36, "train loss": 0.87}
    last = {"step": 5000, "test accuracy": 0.53, "train loss": 0.57, "train samples": 20000, "train total tokens": 4}
    trained = {"cuda_memory_max": 22538092544, "train_time": 1871.4, "file_size": 73415408, "status": "success"}
    run = {
        "created_at": "2025-06-19T18:02:52+00:00",
        "experiment_name": "lora/llama-3.2-3B-rank64-rslora",
        "train_config": setup | {"optimizer_kwargs": {"lr": more.pop("lr", 1e-4)}} | more.pop("setup", {}),
        "peft_config": lora | more.pop("lora", {}),
    }
    trained |= {"num_trainable_params": 18350080, "metrics": [first, last]} | more
    return json.dumps({"run_info": run, "train_info": trained}).encode()


def test_a_file_of_pefts_method_comparison_becomes_its_last_metrics(tmp_path):
    accuracy, loss = read_points(of_peft(), "a.json", TODAY)

    assert ("test accuracy", True, "main", 0.53) == (
        accuracy.metric, accuracy.higher_is_better, accuracy.role, accuracy.value
    )  # fmt: skip
    assert ("train loss", False, "detail", 0.57) == (loss.metric, loss.higher_is_better, loss.role, loss.value)
    assert ("rslora", 64, 64.0, "q_proj,v_proj", "attention", 1e-4) == (
        accuracy.method, accuracy.rank, accuracy.lora_alpha, accuracy.target_modules, accuracy.facet,
        accuracy.learning_rate,
    )  # fmt: skip
    assert (18_350_080, 73_415_408, 22_538_092_544) == (
        accuracy.trainable_parameters, accuracy.adapter_bytes, accuracy.peak_memory_bytes
    )  # fmt: skip
    assert ("MetaMathQA", "5000 steps x batch 4", "2025-06-19") == (accuracy.task, accuracy.duration, accuracy.run_date)
    api, files = Api(home=tmp_path / "home"), [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_bytes(of_peft())
    files[1].write_bytes(of_peft(lora={"r": 32}))
    assert 4 == api.studies.add(files).points
    (line,) = [each for each in api.studies.all().lines if each.study.own and each.first.role == "main"]
    assert (32, 64) == line.ranks


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "a.json is not a result file as PEFT's method comparison writes it: give one of a run"),
        (b"[" * 100_000, "a.json is not a result file"),
        (of_peft(status="failed"), "the run's status is 'failed'"),
        (of_peft(metrics=[{"step": 1, "train samples": 5, "test accuracy": "much"}]), "a quality metric such as"),
        (of_peft(metrics=[{"test accuracy": float("inf")}]), "value: 'inf' is not a number"),
        (of_peft(metrics=[{f"test {i}": 1 for i in range(501)}]), "has 501 settings, at most 500 are read"),
        (of_peft(lora={"r": -4}), "rank: '-4' is not a whole number from 1"),
        (of_peft(setup={"model_id": "x" * 201}), "is not a text of 1 to 200 characters"),
        (of_peft(lr=10**400), "a.json is not a result file"),
        (of_peft(train_time=-1.0, file_size=10**30), "a.json is not a result file"),
    ],
)
def test_a_file_that_is_none_of_pefts_is_refused_with_its_name_and_why(content, sentence):
    with pytest.raises(BadDataError) as raised:
        read_points(content, "a.json", TODAY)

    assert sentence in str(raised.value)


def test_an_added_table_is_a_study_of_its_own_and_can_be_removed(tmp_path):
    api = Api(home=tmp_path / "home")
    file, bad = tmp_path / "mine.csv", tmp_path / "bad.csv"
    file.write_bytes(table(*ROWS))
    bad.write_bytes(table(ROWS[0].replace(",4,", ",four,")))

    added = api.studies.add([file, bad])

    assert (["mine.csv"], 3) == (list(added.files), added.points)
    assert "bad.csv, row 2, rank: 'four'" in added.refused[0]
    (line,) = [line for line in api.studies.all().lines if line.study.own]
    assert ((4, 16), 0.8, "Qwen/Qwen3-4B") == (line.ranks, line.full.value, line.model.model_id)
    assert line not in api.studies.all().published
    assert api.studies.tradeoff(Question(model_id="Qwen/Qwen3-4B")).estimate
    assert list(added.names) == list(api.studies.added())
    api.studies.remove(added.names[0])
    assert [] == list(api.studies.added())
