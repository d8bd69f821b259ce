"""How stacks of blocks repeat, the text model inside a multimodal one, and what of a config.json is taken."""

import contextlib
import json

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.model.config_check import parse_config, without_code
from rankviz.core.model.spec import block_signatures, periods
from rankviz.core.model.towers import as_loaded, is_chat, text_model
from rankviz.errors import BadConfigError, InvalidSettingError
from rankviz.paths import ASSETS


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


LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 32}


def test_every_shipped_config_is_read():
    texts = [path.read_bytes() for path in (ASSETS / "configs").glob("*.json")]

    assert all(parse_config(text)["model_type"] for text in texts)
    assert 100 < len(texts)


@pytest.mark.parametrize(
    "change",
    [
        {"num_labels": 10**8},
        {"vision_config": {"num_hidden_layers": 10**5}},
        {"text_config": {"sub": [{"num_local_experts": 10**6}]}},
        {"num_hidden_layers": 390, "num_experts": 4000},
        {"num_hidden_layers": 401},
        {"num_hidden_layers": 300, "text_config": {"num_layers": 300}, "vision_config": {"depths": [100, 101]}},
        {"whatever": 10**9},
        {"whatever": 10**400},
        {"rope_theta": 10**30},
        {"hidden_size": "8"},
        {"hidden_size": {"a": 1}},
        {"num_hidden_layers": 2.5},
        {"layer_types": ["full_attention"] * 20_000},
        {"id2label": {str(i): "x" for i in range(60_000)}},
        {"x": "y" * 30_000},
        {"x": "\ud800"},
        {"\ud800": 1},
        {"eps": float("nan")},
    ],
    ids=lambda change: f"{list(change)[-1]!a}"[:40],
)
def test_what_no_model_has_is_refused_in_a_sentence(change):
    with pytest.raises(BadConfigError) as refused:
        parse_config(json.dumps(LLAMA | change).encode())
    assert len(str(refused.value)) < 250
    assert str(refused.value).isprintable()


NOT_TAKEN = {"doge", "lxmert", "musicflamingo"}
"""16,384 experts; an object, or 1200.0, where others have a whole number."""


@pytest.mark.torch
def test_what_transformers_itself_writes_of_every_kind_of_model_is_taken(monkeypatch):
    from huggingface_hub import constants
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    configs = {}
    for kind in CONFIG_MAPPING:
        with contextlib.suppress(Exception):  # some cannot be made without arguments
            configs[kind] = json.dumps(CONFIG_MAPPING[kind]().to_dict())

    refused = {kind for kind, text in configs.items() if not is_taken(text)}

    assert len(configs) > 300
    assert refused == NOT_TAKEN


def is_taken(text):
    try:
        parse_config(text.encode())
    except BadConfigError:
        return False
    return True


def test_a_deep_config_is_refused():
    deep = json.dumps(LLAMA)[:-1] + ', "x": ' + '{"a":' * 100 + "1" + "}" * 101

    with pytest.raises(BadConfigError, match="deeper"):
        parse_config(deep.encode())


def test_what_real_configs_have_is_read():
    """Infinite limits of Mamba, large bases of RoPE, token ids of -1, floats of layers, and nothing given."""
    change = {"time_step_limit": [0.0, float("inf")], "rope_theta": 5_000_000_000, "pad_token_id": -1}
    change |= {"dtype": "torch.bfloat16", "torch_dtype": None, "rope_scaling": {"type": "su"}, "hidden_act": "silu"}
    change |= {"quantization_config": {"dtype": "int4", "groups": {"type": "int", "dtype": "int4"}}}
    change |= {"num_experts": 0, "num_shared_heads": None, "intermediate_size": 0}
    change |= {"scale_layers": 0.5, "num_experts": None, "max_position_embeddings": 10_485_760}

    assert 10_485_760 == parse_config(json.dumps(LLAMA | change).encode())["max_position_embeddings"]


def test_what_names_code_is_dropped_on_every_floor_and_shapes_stay():
    code = {
        "auto_map": {"AutoModel": "x.Y"},
        "quantization_config": {"quant_method": "q"},
        "attn_implementation": "a/b",
    }
    code |= {"_attn_implementation": "a/b", "experts_implementation": "a/b", "_attn_implementation_internal": "a/b"}
    shapes = {"conv_kernel_size": 4, "use_mamba_kernels": True, "linear_conv_kernel_dim": 4}

    labels = {"id2label": {0: "LABEL_0"}}  # numbers as keys, as transformers has them once it has read a config
    hostile = LLAMA | shapes | code | labels | {"text_config": LLAMA | code, "towers": [shapes | code]}

    assert LLAMA | shapes | labels | {"text_config": LLAMA, "towers": [shapes]} == without_code(hostile)
