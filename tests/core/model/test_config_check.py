"""Every number, list and text of a config.json has a limit, whatever its key; every shipped config passes."""

import contextlib
import json

import pytest

from rankviz.core.model.config_check import parse_config, without_code
from rankviz.errors import BadConfigError
from rankviz.paths import ASSETS

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
