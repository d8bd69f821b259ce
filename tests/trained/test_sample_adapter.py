"""The adapter that ships: its bytes, where it comes from, and that PEFT loads it."""

import json

import numpy as np
import pytest

from rankviz.api import Api
from rankviz.trained.read import read_adapter
from tests.support.runs.toy import ASSETS

FOLDER = ASSETS / "sample_adapter"
LIMIT_BYTES = 2_000_000


@pytest.fixture
def api(tmp_path):
    return Api(home=tmp_path / "home", assets=ASSETS, shared=False)


def adapter_folder():
    (adapter,) = FOLDER.glob("runs/*/adapter")
    return adapter


def test_it_has_two_bytes_a_parameter_and_stays_small():
    """30 blocks of r · (in + out): q_proj 576 → 576, v_proj 576 → 192."""
    parameters = 30 * 16 * ((576 + 576) + (576 + 192))
    file = adapter_folder() / "adapter_model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")

    assert 2 * parameters + header == file.stat().st_size < LIMIT_BYTES
    assert "bf16" == read_adapter([adapter_folder()]).dtype


def test_the_loss_after_truncation_was_measured_at_its_own_rank_too(api):
    losses, run = api.adapters.truncated_losses("sample"), api.adapters.sample()

    assert sorted(losses) == [1, 2, 3, 8, 16]
    assert run.loss_after.loss == pytest.approx(losses[16], abs=1e-3)  # fp32 there, bf16 here
    assert sorted(losses.values(), reverse=True) == [losses[r] for r in sorted(losses)]
    measured = json.loads((FOLDER / "truncated.json").read_text())
    assert (run.loss_after.examples, run.loss_after.tokens) == (measured["examples"], measured["tokens"])


@pytest.mark.torch
def test_peft_loads_it_and_it_changes_the_projections_alone():
    import torch
    from peft import PeftModel
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=576, intermediate_size=8, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=16,
    )  # fmt: skip
    model = PeftModel.from_pretrained(LlamaForCausalLM(config), adapter_folder())

    loaded = {name: value for name, value in model.named_parameters() if "lora_" in name}
    assert 921_600 == sum(value.numel() for value in loaded.values())
    pair = read_adapter([adapter_folder()]).pairs["model.layers.3.self_attn.v_proj"]
    name = "base_model.model.model.layers.3.self_attn.v_proj.lora_{}.default.weight"
    for side, ours in zip("AB", pair, strict=True):
        np.testing.assert_array_equal(loaded[name.format(side)].detach().to(torch.float32).numpy(), ours)
