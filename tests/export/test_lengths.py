"""How long an exported file trains: steps, epochs, held-out rows, and rows that are truncated."""

import pytest
import yaml

from rankviz.core.cost.question import Question
from rankviz.core.cost.setup import TrainingData, TrainingSetup
from rankviz.export import FORMATS


def test_steps_are_as_asked_or_what_the_tokens_come_to(api):
    tokens = TrainingSetup(tokens=1_000_000, per_device_train_batch_size=2, max_length=1000)

    # 2 · 4 · 1000 tokens a step.
    assert "max_steps=125," in api.exports.write(Question(model_id="Qwen/Qwen3-4B", training=tokens), 8).text


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


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "adapter-config"])
def test_a_file_that_truncates_says_so_in_the_words_of_the_estimate(api, name):
    data = TrainingData(examples=5000, longest_tokens=6683, epochs=1, longest_is_upper=True)
    question = Question(model_id="Qwen/Qwen3-4B", training=TrainingSetup(data=data))
    written = api.exports.write(question, 8, name)

    sentence = "Examples above the maximum length of 2,048 tokens are truncated: the longest may have up to 6,683."
    (note,) = [note for note in written.notes if note.startswith(sentence)]
    assert note in api.estimates.estimate(question).estimate.notes
    assert sentence in written.text.replace("\n# ", " ")


def test_a_file_that_truncates_nothing_says_nothing_of_it(api):
    data = TrainingData(examples=5000, longest_tokens=2048, epochs=1)
    question = Question(model_id="Qwen/Qwen3-4B", training=TrainingSetup(data=data))

    assert "Examples above" not in api.exports.write(question, 8, "script").text
