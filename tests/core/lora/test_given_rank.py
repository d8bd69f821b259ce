"""A rank and alpha that are given in the LoraConfig, as PEFT has them, are those of the question and of the sweep."""

from dataclasses import replace

import pytest

from rankviz.core.cost.question import Question
from rankviz.core.lora.config import LoraConfig
from rankviz.core.runs.request import SweepRequest
from rankviz.errors import InvalidSettingError

KINDS = [lambda **given: Question(model_id="toy", **given), SweepRequest]


@pytest.mark.parametrize("asking", KINDS)
@pytest.mark.parametrize(
    ("given", "rank", "alpha"),
    [
        ({"r": 8, "lora_alpha": 32}, 8, 32),
        ({"r": 8}, 8, 16),
        ({"r": 64, "lora_alpha": 64}, 64, 64),
        ({"r": 16, "lora_alpha": 4}, 16, 4),
        ({"r": 16, "lora_alpha": 16}, 16, 16),
        ({"r": 16}, 16, 16),
        ({"lora_alpha": 16}, 16, 16),
    ],
)
def test_a_lora_config_with_a_rank_asks_for_that_rank_and_its_alpha(asking, given, rank, alpha):
    asked = asking(lora=LoraConfig(**given, use_dora=True))

    assert (rank,) == asked.ranks
    assert LoraConfig(r=rank, lora_alpha=alpha, use_dora=True) == asked.lora_at(rank)


def test_alpha_follows_the_rank_where_the_lora_config_has_both_alike():
    assert "r" == Question(model_id="toy", lora=LoraConfig(r=8, lora_alpha=8)).alpha


@pytest.mark.parametrize("asking", KINDS)
@pytest.mark.parametrize("given", [{"lora_alpha": 16}, {"r": 16, "lora_alpha": 16}])
def test_an_alpha_that_is_given_holds_also_where_it_is_the_default(asking, given):
    asked = asking(lora=LoraConfig(**given), ranks=(8, 16))

    assert [16, 16] == [asked.lora_at(r).lora_alpha for r in asked.ranks]
    assert [16] == [replace(asked, ranks=(8,)).lora_at(8).lora_alpha]


@pytest.mark.parametrize("asking", KINDS)
def test_a_rank_that_is_given_is_not_dropped_where_it_is_the_default(asking):
    with pytest.raises(InvalidSettingError, match="The rank is given twice: r = 16 in LoraConfig"):
        asking(lora=LoraConfig(r=16), ranks=(4, 8))


@pytest.mark.parametrize("asking", KINDS)
def test_ranks_beside_a_lora_config_keep_its_alpha(asking):
    asked = asking(lora=LoraConfig(r=8, lora_alpha=32), ranks=(8, 64))

    assert [32, 32] == [asked.lora_at(r).lora_alpha for r in asked.ranks]


@pytest.mark.parametrize("asking", KINDS)
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"ranks": (4, 16)},
            r"The rank is given twice: r = 8 in LoraConfig, and 4, 16 as ranks. Leave one of them out.",
        ),
        (
            {"alpha": "2r"},
            r"Alpha is given twice: 32 in LoraConfig, and 2r as alpha. Leave one of them out.",
        ),
    ],
)
def test_what_is_given_twice_and_differs_is_refused(asking, given, sentence):
    with pytest.raises(InvalidSettingError, match=f"^{sentence}$"):
        asking(lora=LoraConfig(r=8, lora_alpha=32), **given)


def test_without_a_rank_the_usual_ones_are_asked_for():
    assert ((32,), "r") == ((asked := Question(model_id="toy")).ranks, asked.alpha)
    assert ((4, 16, 64), "32") == ((asked := SweepRequest(lora=LoraConfig(use_dora=True))).ranks, asked.alpha)
