"""How stacks of blocks repeat, the text model inside a multimodal one, and which names are of chat models."""

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.model.spec import block_signatures, periods
from rankviz.core.model.towers import as_loaded, is_chat, text_model
from rankviz.errors import InvalidSettingError
from tests.support.runs.toy import ASSETS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen3-4B", True),
        ("HuggingFaceH4/zephyr-7b-beta", True),
        ("Qwen/Qwen3-8B-Base", False),
        ("google/gemma-4-26B-A4B:whole", False),
        ("GPT-2 Medium", False),
        ("someone/Llama-3.1-8B-poems", None),
    ],
)
def test_a_name_says_chat_or_base_or_nothing(name, expected):
    assert expected is is_chat(name)


@pytest.mark.parametrize(
    ("name", "blocks", "prefix", "period", "depths"),
    [
        # one full attention block in four; 4 + 2 · 4
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 48, 0, 4, (4, 12)),
        # one in six, and 26 = 4 · 6 + 2: depths keep the last two
        ("google/gemma-3-1b-it", 26, 0, 6, (8, 20)),
        # a dense first block, then experts
        ("deepseek-ai/DeepSeek-V2-Lite", 27, 1, 1, (4, 12)),
        # its last twenty blocks share keys and values, so nothing repeats before block 15
        ("google/gemma-4-E2B", 35, 15, 5, (20, 25)),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 52, 43, 2, (46, 48)),
    ],
)
def test_the_pattern_of_real_stacks(name, blocks, prefix, period, depths):
    pattern = periods(load_model(ASSETS, name))

    assert (blocks, prefix, period, depths) == (pattern.blocks, pattern.prefix, pattern.period, pattern.depths())


def test_every_catalogue_model_has_two_depths_whole_periods_apart_that_end_as_the_whole_does():
    for row in load_index(ASSETS):
        spec = load_model(ASSETS, row.id)
        kinds, pattern = block_signatures(spec), periods(spec)
        low, high = pattern.depths()
        assert pattern.prefix + pattern.period <= low < high < pattern.blocks, row.id
        for depth in (low, high):
            # the blocks that are cut out are whole periods of those that stay
            rest = kinds[depth - pattern.period : depth]
            missing = kinds[depth:]
            assert 0 == len(missing) % pattern.period, row.id
            assert missing == rest * (len(missing) // pattern.period), row.id


PAIRS = [load_model(ASSETS, row.id) for row in load_index(ASSETS) if row.tower == "text tower"]


@pytest.mark.parametrize("model", PAIRS, ids=lambda model: model.id)
def test_the_text_model_of_a_whole_is_its_row_of_the_catalogue(model):
    made = text_model(model.whole)

    assert not [
        name
        for name in ("total_parameters", "unquantized_parameters", "layers", "plain_modules", "other_modules")
        if getattr(model, name) != getattr(made, name)
    ]


def test_unsloth_loads_the_whole_of_a_multimodal_name_unless_it_is_told_otherwise():
    gemma, qwen, ministral = (
        load_model(ASSETS, name)
        for name in ("google/gemma-4-E2B", "Qwen/Qwen3.5-0.8B", "mistralai/Ministral-3-3B-Instruct-2512")
    )

    def loaded(model, **how):
        return as_loaded(model, **{"text_only": False, "unsloth_on_gpu": True, **how})

    assert [model.whole.layers for model in (gemma, qwen, ministral)] == [
        loaded(model).layers for model in (gemma, qwen, ministral)
    ]
    assert gemma is loaded(gemma, text_only=True)
    assert text_model(gemma.whole) == loaded(gemma.whole, text_only=True)
    with pytest.raises(InvalidSettingError, match="with or without text_only"):
        loaded(ministral, text_only=True)
    # TRL and PEFT: the whole where transformers finds no text model in the file, and no adapter on its towers.
    assert (qwen, gemma.whole.total_parameters) == (
        loaded(qwen, unsloth_on_gpu=False),
        loaded(gemma, unsloth_on_gpu=False).total_parameters,
    )
    assert {"vision"}.isdisjoint(layer.part for layer in loaded(gemma, unsloth_on_gpu=False).layers)
