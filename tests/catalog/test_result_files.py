"""Result files of PEFT's method comparison and tables of results: read, stored, and refused with a sentence."""

import json
from datetime import date

import pytest

from rankviz.api import Api
from rankviz.catalog.result_files import MAX_FILE_BYTES, read_points
from rankviz.core.cost.question import Question
from rankviz.errors import BadDataError

TODAY = date(2026, 11, 30)


def read_result(text, file):
    return read_points(text.encode(), file, TODAY)


def result(**more):
    """As method_comparison/MetaMathQA/results/lora--llama-3.2-3B-rank64-rslora.json has it, shortened."""
    content = {
        "run_info": {
            "created_at": "2025-06-19T18:02:52+00:00",
            "experiment_name": "lora/llama-3.2-3B-rank64-rslora",
            "train_config": {
                "model_id": "meta-llama/Llama-3.2-3B",
                "max_steps": 5000,
                "batch_size": 4,
                "query_template": "Question: {query}",
                "optimizer_kwargs": {"lr": 0.0001, "weight_decay": 0.1},
            },
            "peft_config": {
                "peft_type": "LORA",
                "r": 64,
                "target_modules": ["v_proj", "q_proj"],
                "lora_alpha": 64,
                "use_rslora": True,
                "use_dora": False,
            },
            "error_msg": "",
        },
        "train_info": {
            "cuda_memory_max": 22538092544,
            "train_time": 1871.457509397991,
            "file_size": 73415408,
            "num_trainable_params": 18350080,
            "status": "success",
            "metrics": [
                {"step": 250, "valid accuracy": 0.36, "train loss": 0.87},
                {
                    "step": 5000,
                    "test accuracy": 0.5299469294920395,
                    "train loss": 0.5657225311994553,
                    "train samples": 20000,
                    "train total tokens": 4198051,
                },
            ],
        },
        "meta_info": {"package_info": {"peft-version": "0.15.2.dev0"}},
    }
    for path, value in more.items():
        *parents, last = path.split("__")
        at = content
        for name in parents:
            at = at[name]
        at[last] = value
    return json.dumps(content)


def test_a_result_file_becomes_its_last_metrics():
    accuracy, loss = read_result(result(), "a.json")

    assert ("test accuracy", True, "main", 0.5299469294920395) == (
        accuracy.metric, accuracy.higher_is_better, accuracy.role, accuracy.value
    )  # fmt: skip
    assert ("train loss", False, "detail", 0.5657225311994553) == (
        loss.metric, loss.higher_is_better, loss.role, loss.value
    )  # fmt: skip
    assert ("rslora", 64, 64.0, "q_proj,v_proj", "attention", 1e-4) == (
        accuracy.method, accuracy.rank, accuracy.lora_alpha, accuracy.target_modules, accuracy.facet,
        accuracy.learning_rate,
    )  # fmt: skip
    assert (18_350_080, 73_415_408, 22_538_092_544) == (
        accuracy.trainable_parameters, accuracy.adapter_bytes, accuracy.peak_memory_bytes
    )  # fmt: skip
    assert ("5000 steps x batch 4", "2025-06-19") == (accuracy.duration, accuracy.run_date)
    assert accuracy.standard_error is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "a.json is not a result file as PEFT's method comparison writes it (JSONDecodeError"),
        ("[]", "a.json is not a result file"),
        ("[" * 100_000, "a.json is not a result file"),
        (result(train_info__status="failed"), "the run's status is 'failed'"),
        (result(train_info__metrics=[]), "a quality metric such as 'test accuracy'"),
        (result(train_info__metrics=[{"step": 1, "train samples": 5}]), "no quality metric"),
        (result(train_info__metrics=[{"test accuracy": "much"}]), "no quality metric"),
        (result(run_info__peft_config={"peft_type": "IA3"}), "rank: '' is not a whole number from 1"),
        (result(run_info__peft_config__r=-4), "rank: '-4' is not a whole number from 1"),
        (result(run_info__peft_config__r=True), "rank: 'True' is not a whole number"),
        (result(run_info__train_config__model_id="x" * 201), "is not a text of 1 to 200 characters"),
        (result(run_info__train_config__optimizer_kwargs={"lr": 10**400}), "OverflowError"),
        (" " * (MAX_FILE_BYTES + 1), "more than the 2,000,000"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_name_and_why(text, sentence):
    with pytest.raises(BadDataError) as raised:
        read_result(text, "a.json")

    assert sentence in str(raised.value)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.json").write_text(result())
    (tmp_path / "b.json").write_text(result(run_info__peft_config__r=32))
    (tmp_path / "bad.json").write_text("{}")
    return [tmp_path / name for name in ("a.json", "b.json", "bad.json", "gone.json")]


def test_added_files_are_a_study_of_their_own_with_their_model_looked_up(tmp_path, files):
    api = Api(home=tmp_path / "home")
    before = len(api.studies.all().points)

    added = api.studies.add(files)

    assert (["a.json", "b.json"], 4, 2) == (added.files, added.points, len(added.refused))
    evidence = api.studies.all()
    assert before + 4 == len(evidence.points)
    assert evidence.studies["added_metamathqa"].own
    model = evidence.models["meta-llama/Llama-3.2-3B"]
    assert ("Llama", 3_212_749_824) == (model.family, model.parameters)
    (line,) = [x for x in evidence.lines if x.study.own and x.first.role == "main"]
    assert (32, 64) == line.ranks


HEADER = "model,task,metric,rank,value,seed,learning_rate"
ROWS = [
    "Qwen/Qwen3-4B,law -> exam,accuracy,4,0.5,0,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,4,0.6,1,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,16,0.7,0,1e-4",
    "Qwen/Qwen3-4B,law -> exam,accuracy,full,0.8,0,1e-5",
]


def table(*rows, header=HEADER):
    return "\n".join([header, *rows]).encode()


def read(*rows, **more):
    return read_points(table(*rows, **more), "mine.csv", TODAY)


def test_runs_that_differ_in_their_seed_are_a_mean_with_its_error():
    small, large, full = read(*ROWS)

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
        (table(ROWS[0].replace(",4,", ",0,")), "row 2, rank: '0' is not a whole number from 1 to 65,536, or full"),
        (table("toy,law"), "row 2, metric: '' is not a text of 1 to 200 characters"),
        (table("m,t,f1,4,1,maybe", header="model,task,metric,rank,value,higher_is_better"), "'maybe' is not yes or no"),
        (table("4,0.5", header="rank,value"), "mine.csv has no model, task, metric, or no row: its first line must"),
        (b"\xff\xfe", "mine.csv is no CSV in UTF-8"),
        (table(*[f"m,t,f1,{r},1,0,1e-4" for r in range(1, 502)]), "has 501 settings, at most 500 are read"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_what_to_do(content, sentence):
    with pytest.raises(BadDataError) as raised:
        read_points(content, "mine.csv", TODAY)

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
    assert api.tradeoffs.of(Question(model_id="Qwen/Qwen3-4B")).estimate
    assert list(added.names) == list(api.studies.added())
    api.studies.remove(added.names[0])
    assert [] == list(api.studies.added())
