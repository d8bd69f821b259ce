"""The notebook for Colab, cell after cell on this machine's CPU by Unsloth's CUDA branch, as far as that runs without a
GPU. Scripts of every form by its CPU backend are run in test_scripts_train.py."""

import csv
import json
import re

import pytest

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.exports import recipe
from rankviz.exports.script import colab
from tests.support.models.tiny_models import SHAPES, make_tiny, write_rows
from tests.support.processes.exports import run_exports

pytestmark = [pytest.mark.torch, pytest.mark.emulated_cuda]

FORMS = {"messages": "messages", "instruction": "instruction"}
"""Kinds of rows, and the form that each is."""
ROWS = 40


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """By kind of rows: the recipe, and what the notebook did."""
    from rankviz.worker.introspect.layers import layers_of

    folder = tmp_path_factory.mktemp("notebooks")
    base, layers = make_tiny("llama", folder / "llama"), layers_of(SHAPES["llama"])
    made = {}
    for kind, form in FORMS.items():
        (folder / kind).mkdir()
        made[kind] = written(folder / kind, base, layers, kind, form)
    results = run_exports("cuda", [str(folder / kind) for kind in FORMS])
    return {kind: (recipe_, results[str(folder / kind)]) for kind, recipe_ in made.items()}


def written(place, base, layers, kind, form):
    """The recipe of a notebook, which is written into `place` with its data."""
    # Half of the files are of a known form; the notebook finds the others by their columns.
    known = form if kind == "messages" else None
    setup = TrainingSetup(
        precision="fp32",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_length=512,
        optim="adamw_torch",
        data=TrainingData(examples=ROWS, longest_tokens=90, epochs=4, form=known),
    )
    made = recipe(layers, Question(model_id=str(base), training=setup), 8, framework="unsloth", learning_rate=1e-2)
    write_rows(place / "train.jsonl", kind, ROWS)
    text = colab(made)
    if kind == "instruction":
        text = text.replace("train.jsonl", "train.csv")
        as_csv(place)
    (place / "train.ipynb").write_text(text, encoding="utf-8")
    return made


def as_csv(place):
    rows = [json.loads(line) for line in (place / "train.jsonl").read_text().splitlines()]
    with (place / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (place / "train.jsonl").unlink()


@pytest.mark.parametrize("kind", FORMS)
def test_the_notebook_trains_each_form_for_its_epochs(ran, kind):
    """38 of 40 rows are trained on, 8 a step: 5 steps an epoch."""
    made, result = ran[kind]

    assert "error" not in result, result["error"]
    assert (20, 20, 512) == (result["steps"], made.trained_steps, made.max_length)
    assert result["losses"][-1] < 0.9 * result["losses"][0]
    assert result["learned"].replace("\n", "").endswith("<|im_end|>")


@pytest.mark.parametrize("kind", FORMS)
def test_it_ends_with_the_answers_before_and_after_and_the_size_that_was_counted(ran, kind):
    made, result = ran[kind]

    assert 2 == len(re.findall("^BEFORE", result["printed"], re.MULTILINE))
    assert 2 == len(re.findall("^AFTER", result["printed"], re.MULTILINE))
    size = result["files"]["adapter_model.safetensors"]
    assert (size,) == made.adapter_bytes
    assert f"The adapter has {size:,} bytes. RankViz counts {size:,}." in result["printed"]


def test_the_training_changes_what_is_answered(ran):
    answers = re.findall(r"EXPECTED (.*)\nBEFORE   (.*)\nAFTER    (.*)", ran["instruction"][1]["printed"])

    assert 2 == len(answers)
    assert all(before != after for _, before, after in answers)
