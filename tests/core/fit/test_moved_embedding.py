"""Where Unsloth moves the input embedding to host memory at some rank, memory takes a step down there."""

import pytest

from rankviz.api import Api
from tests.support.runs.questions import question

API = Api()
RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32, 48, 64, 128, 256)
MODELS = ("openai/gpt-oss-20b", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-14B", "meta-llama/Llama-3.1-8B")
CARDS = ("T4", "V100", "L4", "RTX 4090")


def question_of(model_id, gpu, ranks, **training):
    return question(
        model_id, ranks=ranks, gpu=gpu, target_modules="unsloth", framework="unsloth", precision="nf4-dq", **training
    )


@pytest.mark.parametrize("gpu", CARDS)
@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize("batch, length", [(1, 1024), (2, 2048)])
def test_the_high_end_never_falls_as_rank_grows(model_id, gpu, batch, length):
    setup = {"per_device_train_batch_size": batch, "max_length": length, "max_steps": 10}
    ranks = API.estimates.estimate(question_of(model_id, gpu, RANKS, **setup)).estimate.ranks

    high = [rank.memory.high for rank in ranks]
    assert sorted(high) == high


@pytest.mark.parametrize("gpu", CARDS)
@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize("batch, length", [(1, 1024), (2, 2048)])
def test_the_largest_rank_is_no_smaller_than_any_that_an_estimate_lets_fit(model_id, gpu, batch, length):
    setup = {"per_device_train_batch_size": batch, "max_length": length, "max_steps": 10}
    ranks = API.estimates.estimate(question_of(model_id, gpu, RANKS, **setup)).estimate.ranks
    limits = {each.option: each for each in API.estimates.fit(question_of(model_id, gpu, (2,), **setup), 2).limits}

    surely = [rank.r for rank in ranks if rank.fit in ("fits", "tight")]
    expected = [rank.r for rank in ranks if rank.margin_bytes >= 0]
    assert max(surely, default=0) <= (limits["r"].surely or 0)
    assert max(expected, default=0) <= (limits["r"].expected or 0)


def test_a_rank_that_needs_less_than_a_lower_one_says_why():
    """gpt-oss-20b on a V100: at r = 1 the embedding stays on the card, from r = 2 on it is moved."""
    answer = API.estimates.fit(question_of("openai/gpt-oss-20b", "V100", (2,), max_steps=10), 2)
    limit = answer.limits[0]

    assert limit.surely is None
    assert 2 <= limit.expected
    assert "from r = 2 on Unsloth moves the input embedding to host memory" in limit.note


def test_the_table_that_is_moved_has_one_name():
    """Gemma 4 E2B ties its input embedding to the head: the embeddings of its layers are moved."""
    setup = {"per_device_train_batch_size": 4, "max_length": 8192, "max_steps": 10}
    asked = question(
        "google/gemma-4-E2B", ranks=(16,), gpu="T4", target_modules="all-linear", framework="unsloth", **setup
    )
    answer = API.estimates.fit(asked, 16)

    texts = [*(limit.note for limit in answer.limits), *answer.setting.answer.notes]
    assert {"per-layer embeddings"} == {
        name for text in texts for name in ("per-layer embeddings", "input embedding") if f"moves the {name}" in text
    }


def test_a_larger_card_of_the_same_kind_has_no_worse_verdict():
    """gpt-oss-20b, r = 8, 1 x 1,024 tokens: the V100 has at least what a T4 has."""
    setup = {"per_device_train_batch_size": 1, "max_length": 1024, "max_steps": 10}
    verdicts = {
        gpu: API.estimates.estimate(question_of("openai/gpt-oss-20b", gpu, (8,), **setup)).estimate.ranks[0].fit
        for gpu in ("T4", "V100")
    }

    assert {"T4": "tight", "V100": "tight"} == verdicts
