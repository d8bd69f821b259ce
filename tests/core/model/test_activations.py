"""What blocks hold in training: by hand for a Llama, against whole training steps for other architectures."""

import re
from functools import cache
from pathlib import Path

import pytest

from rankviz.catalog.models import load_index, load_model
from rankviz.core.cost.memory import MemoryTerms
from rankviz.core.cost.shapes import model_shape
from rankviz.core.model.spec import ActivationBytes, model_from_json
from tests.support.models.small_llama_step import ATTENTION, PROGRAMS, SEVEN, adapted, train_once
from tests.support.runs.toy import ASSETS

MAMBA = {"nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"}
"""Models of the catalogue whose blocks nobody trains as transformers runs them without kernels."""
SMALL = {
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 192,
    "use_cache": False,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
"""A CPU's masks are wider than a GPU's."""
CONFIGS = {
    "llama": SMALL | {"model_type": "llama"},
    "gemma3": SMALL | {"model_type": "gemma3_text", "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gpt2": {"model_type": "gpt2", "vocab_size": 64, "n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 64}
    | NO_DROPOUT,
    "experts": SMALL | EXPERTS | {"model_type": "qwen3_moe"},
}


@cache
def spec_of(name):
    """The small model of this name in CONFIGS, laid out once for all tests."""
    from rankviz.worker.introspect.layers import introspect

    return model_from_json({"id": "", "name": "", **introspect(CONFIGS[name])})


@pytest.mark.torch
def test_a_small_llamas_blocks_hold_what_the_formulas_say():
    (row,) = spec_of("llama").activation_bytes_per_token

    hidden, queries, keys, mlp = 64, 128, 128, 192
    elements = 2 * queries + 2 * keys + 3 * mlp
    besides = 2 * 4 + 4 * 4  # the reciprocal roots of two norms and the log-sum-exps of four heads, in fp32
    assert (0, 1, 2, 3) == row.blocks
    assert row.autocast is None
    assert ActivationBytes(kept=8 * hidden + 2 * elements + besides, gradients=6 * mlp + 2 * hidden) == row.bf16
    own = 4 * hidden
    assert (
        ActivationBytes(kept=4 * hidden + 4 * elements + besides, gradients=12 * mlp + 4 * hidden, own_input=own)
        == row.fp32
    )


def measured_working_bytes(config, *, precision, **settings):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from rankviz.worker.introspect.activations import LiveBytes

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    live = LiveBytes()
    train_once(live, AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype), **settings)
    return live.peak


def estimated_working_bytes(name, **settings):
    spec = spec_of(name)
    plan, stack = adapted(spec, **settings)
    return MemoryTerms(spec, model_shape(spec, plan.adapted), stack).at(2, plan.parameters(2)).working


TARGETS = {"llama": SEVEN, "gemma3": SEVEN, "gpt2": ("c_attn",), "experts": ATTENTION}


@pytest.mark.torch
@pytest.mark.parametrize("name", CONFIGS)
def test_an_architectures_working_set_is_what_autograd_holds(name):
    settings = {**PROGRAMS["no autocast, fp32 adapter"], "checkpointing": "hf", "targets": TARGETS[name]}

    assert estimated_working_bytes(name, **settings) == pytest.approx(
        measured_working_bytes(CONFIGS[name], **settings), rel=0.08
    )


def test_every_model_of_the_catalogue_says_what_its_blocks_hold():
    without = {row.id for row in load_index(ASSETS) if not load_model(ASSETS, row.id).activation_bytes_per_token}

    assert MAMBA == without


@pytest.mark.torch
def test_what_autocast_changes_is_what_torch_says():
    import torch

    from rankviz.worker.introspect.activations import IN_16_BIT, IN_FP32

    header = (Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h").read_text()
    low, fp32 = header.index("AT_FORALL_LOWER_PRECISION_FP"), header.index("AT_FORALL_FP32(")

    def named(text):
        return set(re.findall(r"\((?:ADD_NS\()?(\w+)[,)]", text))

    operators = {"__pow__", "__rpow__", "__rdiv__", "__rtruediv__", "__matmul__", "__rmatmul__"}
    assert set() == IN_16_BIT - operators - named(header[low:fp32])
    assert set() == IN_FP32 - operators - named(header[fp32:])
