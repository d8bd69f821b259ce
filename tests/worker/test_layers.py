"""Layers of small models that transformers builds from a config.json."""

import json

import pytest

pytestmark = pytest.mark.torch

TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "vocab_size": 100,
}


def test_a_number_that_ends_a_layers_path_is_its_name():
    from rankviz.worker.introspect.layers import layers_of

    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2}
    model = layers_of({"model_type": "qwen2_vl", "text_config": TEXT, "vision_config": vision})

    merger = [(layer.path, layer.name, layer.blocks) for layer in model.layers if "merger" in layer.path]
    assert [("model.visual.merger.mlp.0", "0", ()), ("model.visual.merger.mlp.2", "2", ())] == merger
    assert {"model.language_model.layers.{}", "model.visual.merger.mlp.1"} < set(model.other_modules)
    assert "model.visual.merger.mlp.{}" not in model.other_modules


def test_a_config_that_transformers_5_wrote_is_read_with_its_infinite_numbers():
    from rankviz.worker.introspect.layers import layers_of

    config = TEXT | {"model_type": "bamba", "attn_layer_indices": [1], "mamba_n_heads": 2, "mamba_d_head": 16}
    written = json.loads('{"time_step_limit": [0.0, {"__float__": "Infinity"}]}')

    assert layers_of(config).layers == layers_of(config | written).layers
