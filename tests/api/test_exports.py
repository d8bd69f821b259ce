"""Exports with what the estimates say of them."""

import pytest

from rankviz.api import Api
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
