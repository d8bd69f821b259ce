"""How long an exported file trains: steps, epochs, held-out rows, and rows that are truncated."""

import pytest
import yaml

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.exports import FORMATS


@pytest.mark.parametrize(
    ("name", "epochs", "length"),
    [("axolotl", "num_epochs", "sequence_len"), ("llamafactory", "num_train_epochs", "cutoff_len")],
)
def test_data_set_epochs_of_a_configuration_file_and_leave_its_length(api, name, epochs, length):
    """5,000 examples on 8 a step are 625 steps an epoch, and 5 % of 1,250 steps are warmup. The length is as asked."""
    data = TrainingData(examples=5000, longest_tokens=1000, epochs=2)
    question = Question(model_id="Qwen/Qwen3-4B", training=TrainingSetup(data=data))
    config = yaml.safe_load(api.exports.write(question, 8, name).text)

    assert (2, 2048, 62) == (config[epochs], config[length], config["warmup_steps"])
    assert "max_steps" not in config


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "adapter-config"])
def test_a_file_says_how_many_steps_its_held_out_rows_leave(api, name):
    """5 % of 5,000 examples are 250; 4,750 are 594 steps of 8, and all 5,000 are 625."""
    data = TrainingData(examples=5000, mean_tokens=300, longest_tokens=1000, epochs=1)
    written = api.exports.write(Question(model_id="Qwen/Qwen3-4B", training=TrainingSetup(data=data)), 8, name)

    held_out = (
        "This file holds out 250 of 5,000 examples and trains about 594 steps. The estimate is for all examples, 625"
    )
    assert 1 == sum(note.startswith(held_out) for note in written.notes)
    assert "holds out 250 of 5,000 examples" in written.text
