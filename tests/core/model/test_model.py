"""How stacks of blocks repeat, the text model inside a multimodal one, and which names are of chat models."""

from dataclasses import replace

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.model.spec import LinearLayer, block_signatures, periods
from rankviz.core.model.towers import as_loaded, is_chat, text_model, text_part
from rankviz.errors import InvalidSettingError
from tests.support.runs.toy import ASSETS, ATTENTION, MLP, TOY, layer, model

CHAT = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen3-4B",
    "openai/gpt-oss-20b",
    "unsloth/phi-4",
    "HuggingFaceTB/SmolLM3-3B",
    "HuggingFaceH4/zephyr-7b-beta",
)

BASE = (
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-8B-Base",
    "google/gemma-4-26B-A4B:whole",
    "mistralai/Mixtral-8x7B-v0.1",
    "openai-community/gpt2-medium",
    "unsloth/llama-2-7b-bnb-4bit",
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
    "GPT-2 Medium",
)

UNKNOWN = ("someone/Llama-3.1-8B-poems", "models/my-model", "Dolphin-2.9-Llama-3-8B")


@pytest.mark.parametrize(
    ("name", "expected"),
    [*((name, True) for name in CHAT), *((name, False) for name in BASE), *((name, None) for name in UNKNOWN)],
)
def test_a_name_says_chat_or_base_or_nothing(name, expected):
    assert expected is is_chat(name)


def pattern_of(name):
    pattern = periods(load_model(ASSETS, name))
    return pattern.blocks, pattern.prefix, pattern.period, pattern.depths()


@pytest.mark.parametrize(
    ("name", "blocks", "prefix", "period", "depths"),
    [
        ("HuggingFaceTB/SmolLM2-135M", 30, 0, 1, (4, 12)),
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


def test_a_stack_of_two_blocks_is_too_short_for_two_depths_below_it():
    assert (2, 0, 1) == (periods(TOY).blocks, periods(TOY).prefix, periods(TOY).period)
    assert periods(TOY).depths() is None


def whole():
    """The toy with a vision tower beside it and a projector, in paths that begin as the text model's do."""
    projector = LinearLayer(path="model.projector.linear", in_features=8, out_features=16, part="vision")
    text = tuple(replace(each, path=each.path.replace("model.", "model.language.", 1)) for each in (*ATTENTION, *MLP))
    eye = replace(layer("q_proj", 8, 8, part="vision"), path="model.vision.blocks.{}.q_proj")
    other = ("model", "model.vision", "model.vision.blocks.{}.act", "model.visionary", "model.language.norm")
    return model((*text, eye, projector), tower="whole model", other_modules=other)


def test_the_text_part_has_no_path_of_a_second_tower():
    part = text_part(whole())

    assert "text tower" == part.tower
    assert {"vision"}.isdisjoint(layer.part for layer in part.layers)
    # The embedding, four projections of attention and three of the MLP.
    assert 8 == len(part.layers)
    assert ("model", "model.visionary", "model.language.norm") == part.other_modules


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
