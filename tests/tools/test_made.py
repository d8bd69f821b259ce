"""What `make assets` and `make forecast` write: names as Unsloth loads them, samples, models, and the forecast."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from rankviz.catalog.models import CHECKPOINTS, load_model
from rankviz.catalog.studies import load_evidence, load_rank_lines, read_forecast
from rankviz.core.model.spec import WHOLE
from rankviz.core.runs.request import SweepRequest
from rankviz.dataset import read
from rankviz.paths import ASSETS, IMPORT_ROOT
from rankviz.worker.finetune.data import split
from tests.support.models.families import one_a_family
from tests.support.quick import first_quick
from tools.forecast.lines import rank_lines
from tools.forecast.quick_look import quick_look_check
from tools.names import every_name
from tools.samples import pair_rows

ASKED_TO_LOAD = ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "Qwen/Qwen3-0.6B")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for file in (CHECKPOINTS, "index.json"):
        shutil.copy(ASSETS / "models" / file, folder)
    return folder


@pytest.fixture(scope="module")
def unsloth(folder):
    question = {"names": every_name(folder), "asked_to_load": ASKED_TO_LOAD, "models": str(folder)}
    program = subprocess.run(
        [sys.executable, "-m", "tests.support.models.unsloth_names"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(IMPORT_ROOT), "UNSLOTH_ALLOW_CPU": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert program.returncode == 0, program.stderr[-3000:]
    return json.loads(program.stdout.splitlines()[-1])


@pytest.mark.torch
@pytest.mark.parametrize("unsloth_class", ("FastLanguageModel", "FastModel"))
def test_every_name_of_the_catalogue_stands_for_what_unsloth_loads(unsloth, unsloth_class):
    """Ids and aliases alike."""
    theirs = unsloth["in_4_bit"][unsloth_class]
    ours = {}
    for name in theirs:
        checkpoint = load_model(ASSETS, name).unsloth_checkpoint
        ours[name] = checkpoint.repository if checkpoint else name

    assert theirs == ours
    assert 561 == len(ours)


@pytest.mark.torch
def test_the_table_is_what_the_script_writes(unsloth, folder):
    shipped, made = (json.loads((each / CHECKPOINTS).read_text()) for each in (ASSETS / "models", folder))

    assert shipped == made | {"checked": shipped["checked"]}


def test_the_shipped_pairs_are_those_that_are_made():
    shipped = [json.loads(line) for line in (ASSETS / "data" / "pairs.jsonl").read_text().splitlines()]

    assert pair_rows() == shipped


def test_a_held_out_row_asks_for_a_trained_pair_in_a_wording_that_was_not_trained():
    examples = read("pairs").examples

    training, held_out = split(examples, SweepRequest().held_out_examples)

    trained = [examples[i] for i in training]
    for row in (examples[i] for i in held_out):
        word = row.prompt.split()[-1]
        assert any(word == other.prompt.split()[-1] and row.completion == other.completion for other in trained)
        assert row.prompt not in {other.prompt for other in trained}


@pytest.mark.torch
@pytest.mark.parametrize("every", first_quick([False, True]))
def test_the_assets_are_what_the_configs_make_of_them(tmp_path, every):
    """Of all, or of the smallest of each architecture."""
    from tests.support.models.meta_models import many_models
    from tools.models import build_models

    configs, models = tmp_path / "configs", tmp_path / "models"
    shutil.copytree(ASSETS / "configs", configs)
    models.mkdir()
    shutil.copy(ASSETS / "models" / CHECKPOINTS, models)  # read from Unsloth, not built
    chosen = {name.removesuffix(WHOLE) for name in one_a_family(with_every_moe=False)}
    with (configs / "INDEX.csv").open(newline="") as index:
        rows = [row for row in csv.DictReader(index) if every or row["model_id"] in chosen]
    with (configs / "INDEX.csv").open("w", newline="") as index:
        writer = csv.DictWriter(index, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with many_models():
        assert len(rows) == build_models(configs, models, activation_seconds=0)

    shipped, made = ({p.name: json.loads(p.read_text()) for p in d.glob("*.json")} for d in (ASSETS / "models", models))
    of_index = [row for row in shipped["index.json"]["models"] if row["file"] in made]
    assert len(rows) == len(of_index) and of_index == made["index.json"]["models"]
    for name in made.keys() - {"index.json", CHECKPOINTS}:
        assert shipped[name] | {"activation_bytes_per_token": []} == made[name], name


@pytest.mark.torch
@pytest.mark.parametrize(
    "file", ("Qwen__Qwen3-0.6B.json", "deepseek-ai__DeepSeek-V2-Lite.json", "openai__gpt-oss-20b.json")
)
def test_the_activations_are_what_the_classes_hold(file):
    from rankviz.worker.introspect.layers import introspect

    shipped = json.loads((ASSETS / "models" / file).read_text())

    assert (
        shipped["activation_bytes_per_token"]
        == (introspect(json.loads((ASSETS / "configs" / file).read_text()))["activation_bytes_per_token"])
    )


def test_the_shipped_forecast_is_of_the_shipped_evidence():
    evidence = load_evidence(ASSETS)

    assert (*rank_lines(evidence), *rank_lines(evidence, rl=True)) == load_rank_lines(ASSETS), "run `make forecast`"


@pytest.fixture(scope="module")
def check():
    return quick_look_check(load_evidence(ASSETS))


def test_the_shipped_record_is_of_the_shipped_evidence(check):
    assert read_forecast(ASSETS)["quick_look"] == check, "run `make forecast`"


def test_it_holds_on_the_shipped_lines(check):
    loss, score = check["loss"], check["score"]

    assert 0.95 <= loss["within"]
    assert 0.80 <= loss["inside_80"] <= 0.97
    assert loss["width_in_ranges"] <= 1.2
    assert 0.78 <= min(score["within"], score["within_of_all_ranks"])
    assert score["within_always_16"] < score["within"]
