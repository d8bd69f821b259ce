"""How stacks of blocks repeat, and which small depths stand for the whole."""

from dataclasses import replace

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.model.spec import block_signatures, periods
from tests.support.runs.toy import ASSETS, TOY, layer
from tests.support.runs.toy import model as toy_model


def pattern_of(name):
    pattern = periods(load_model(ASSETS, name))
    return pattern.blocks, pattern.prefix, pattern.period, pattern.depths()


@pytest.mark.parametrize(
    ("name", "blocks", "prefix", "period", "depths"),
    [
        ("HuggingFaceTB/SmolLM2-135M", 30, 0, 1, (4, 12)),
        ("HuggingFaceTB/SmolLM2-360M", 32, 0, 1, (4, 12)),
        # one full attention block in four; 4 + 2 · 4
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 48, 0, 4, (4, 12)),
        # alternating
        ("google/gemma-2-9b", 42, 0, 2, (4, 12)),
        # one in six, and 26 = 4 · 6 + 2: depths keep the last two
        ("google/gemma-3-1b-it", 26, 0, 6, (8, 20)),
        # a dense first block, then experts
        ("deepseek-ai/DeepSeek-V2-Lite", 27, 1, 1, (4, 12)),
        # its last twenty blocks share keys and values, so nothing repeats before block 15
        ("google/gemma-4-E2B", 35, 15, 5, (20, 25)),
        ("LiquidAI/LFM2-1.2B", 16, 7, 2, (10, 12)),
        # almost no repetition: nearly the whole model is needed
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 52, 43, 2, (46, 48)),
    ],
)
def test_the_pattern_of_real_stacks(name, blocks, prefix, period, depths):
    assert (blocks, prefix, period, depths) == pattern_of(name)


def test_every_catalogue_model_has_two_depths_whole_periods_apart_that_end_as_the_whole_does():
    for row in load_index(ASSETS):
        model = load_model(ASSETS, row.id)
        kinds, pattern = block_signatures(model), periods(model)
        low, high = pattern.depths()
        assert pattern.prefix + pattern.period <= low < high < pattern.blocks, row.id
        for depth in (low, high):
            # the blocks that are cut out are whole periods of those that stay
            rest = kinds[depth - pattern.period : depth]
            missing = kinds[depth:]
            assert 0 == len(missing) % pattern.period, row.id
            assert missing == rest * (len(missing) // pattern.period), row.id


def test_a_stack_of_two_blocks_is_too_short_for_two_depths_below_it():
    assert (2, 0, 1) == (periods(TOY).blocks, periods(TOY).prefix, periods(TOY).period)
    assert periods(TOY).depths() is None


def test_blocks_that_attend_otherwise_are_told_apart():
    layers = (layer("self_attn.q_proj", 16, 16, blocks=tuple(range(8))),)
    plain = toy_model(layers, num_hidden_layers=8)

    assert 1 == periods(plain).period
    assert 2 == periods(replace(plain, layer_types=("sliding_attention", "full_attention") * 4)).period
