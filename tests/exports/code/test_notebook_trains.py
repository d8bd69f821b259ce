"""The notebook for Colab, cell after cell on this machine's CPU by Unsloth's CUDA branch, as far as that runs without a
GPU. Scripts of every form by its CPU backend are run in test_scripts_train.py."""

import re

import pytest

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.exports import recipe
from rankviz.exports.script import notebook
from tests.support.models.tiny_models import SHAPES, make_tiny, write_rows
from tests.support.processes.exports import run_exports, trained_steps


@pytest.mark.torch
@pytest.mark.emulated_cuda
def test_the_notebook_trains_for_its_epochs_and_says_the_size_that_was_counted(tmp_path):
    """38 of 40 rows are trained on, 8 a step: 5 steps an epoch."""
    from rankviz.worker.introspect.layers import layers_of

    base, place = make_tiny("llama", tmp_path / "llama"), tmp_path / "notebook"
    steps = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_length": 512}
    data = TrainingData(examples=40, longest_tokens=90, num_train_epochs=4)
    setup = TrainingSetup(precision="fp32", optim="adamw_torch", data=data, **steps)
    question = Question(model_id=str(base), training=setup)
    made = recipe(layers_of(SHAPES["llama"]), question, 8, framework="unsloth", learning_rate=1e-2)
    place.mkdir()
    write_rows(place / "train.jsonl", "messages", 40)
    (place / "train.ipynb").write_text(notebook(made, colab=True), encoding="utf-8")

    result = run_exports("cuda", [str(place)])[str(place)]

    assert "error" not in result, result["error"]
    assert (20, 20) == (result["steps"], trained_steps(made))
    assert result["losses"][-1] < 0.9 * result["losses"][0]
    assert result["learned"].replace("\n", "").endswith("<|im_end|>")
    answers = re.findall(r"BEFORE   (.*)\nAFTER    (.*)", result["printed"])
    assert 2 == len(answers) and all(before != after for before, after in answers)
    size = result["files"]["adapter_model.safetensors"]
    assert (size,) == made.adapter_bytes
    assert f"The adapter has {size:,} bytes. RankViz counts {size:,}." in result["printed"]
