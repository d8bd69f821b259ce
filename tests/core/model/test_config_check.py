"""Every number, list and text of a config.json has a limit, whatever its key; every shipped config passes."""

import json

import pytest

from rankviz.core.model.config_check import parse_config
from rankviz.errors import BadConfigError
from rankviz.paths import ASSETS

LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 32}


@pytest.mark.parametrize("path", sorted((ASSETS / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_config_is_read(path):
    assert parse_config(path.read_bytes())["model_type"]


@pytest.mark.parametrize(
    "change",
    [
        {"num_labels": 10**8},
        {"attention_types": [[["global"], 10**9]]},
        {"vision_config": {"num_hidden_layers": 10**5}},
        {"text_config": {"sub": [{"num_local_experts": 10**6}]}},
        {"num_hidden_layers": 900, "num_experts": 4000},
        {"num_attention_blocks": 10**9},
        {"whatever": 10**9},
        {"whatever": -(10**12)},
        {"whatever": 10**400},
        {"rope_theta": 10**30},
        {"max_position_embeddings": 10**15},
        {"hidden_size": "8"},
        {"hidden_size": {"a": 1}},
        {"num_hidden_layers": True},
        {"num_hidden_layers": 2.5},
        {"depths": [2, 10**6]},
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


def test_a_deep_config_is_refused():
    deep = json.dumps(LLAMA)[:-1] + ', "x": ' + '{"a":' * 100 + "1" + "}" * 101

    with pytest.raises(BadConfigError, match="deeper"):
        parse_config(deep.encode())


def test_what_real_configs_have_is_read():
    """Infinite limits of Mamba, large bases of RoPE, token ids of -1, floats of layers, and nothing given."""
    change = {"time_step_limit": [0.0, float("inf")], "rope_theta": 5_000_000_000, "pad_token_id": -1}
    change |= {"scale_layers": 0.5, "num_experts": None, "max_position_embeddings": 10_485_760}

    assert 10_485_760 == parse_config(json.dumps(LLAMA | change).encode())["max_position_embeddings"]
