"""Exports with what the estimates say of them."""

import pytest

from rankviz import units
from rankviz.api import Api
from rankviz.core.cost.setup import TrainingData
from tests.support.runs import questions


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(home=tmp_path_factory.mktemp("home"))


def test_a_notebook_for_colab_says_what_it_takes_on_a_t4(api):
    question = questions.question("Qwen/Qwen3-4B", max_steps=100)
    (rank,) = api.estimates.estimate(questions.question("Qwen/Qwen3-4B", max_steps=100, gpu="t4")).estimate.ranks

    written = api.exports.write(question, 16, "colab")

    gib = rank.memory.device / 2**30
    assert written.notes[0].startswith(f"Estimate for Colab's free T4: {gib:.2f} GiB of 14.56 GiB, ")
    assert written.notes[0] in written.text


def test_it_says_what_to_change_where_a_t4_is_too_small(api):
    bf16 = api.exports.write(questions.question("Qwen/Qwen3-8B", precision="bf16"), 16, "colab").notes[0]
    large = api.exports.write(questions.question("meta-llama/Llama-3.3-70B-Instruct"), 16, "colab").notes[0]

    assert " r = 16 does not fit T4: 15.57 GiB expected, 14.56 GiB usable. Smallest change that makes it fit: " in bf16
    assert "makes it fit: 4-bit base (NF4) (" in bf16
    assert " No single change makes it fit: " in large


def test_its_time_is_that_of_the_data(api):
    data = TrainingData(examples=5000, mean_tokens=310, longest_tokens=1020, epochs=2)
    (rank,) = api.estimates.estimate(questions.question("Qwen/Qwen3-4B", data=data, gpu="t4")).estimate.ranks

    written = api.exports.write(questions.question("Qwen/Qwen3-4B", data=data), 16, "colab")

    assert units.time_span(rank.duration.total) in written.notes[0]
    assert "num_train_epochs=2," in written.text
