"""Adapters that PEFT saved, resized, and loaded by PEFT again: outputs are those of the truncated product.

The truncated product is made apart, by dense SVD of what PEFT itself calls the adapter's delta weight.
"""

import pytest

from rankviz.trained.plan import plan
from rankviz.trained.read import read_adapter, resize, spectrum

pytestmark = pytest.mark.torch

ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
SMALL = {"vocab_size": 203, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, **ATTENTION}
MODELS = {
    "llama": SMALL,
    "gpt2": {"vocab_size": 203, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64},
    "qwen3_moe": SMALL | {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": SMALL | {"intermediate_size": 24, "num_local_experts": 4},
    "mixtral": SMALL | {"intermediate_size": 24, "num_local_experts": 4},
}
TOKENS = list(range(3, 19))


def base(kind: str):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **MODELS[kind])).eval()


def trained(kind: str, **lora):
    """An adapter with factors as training leaves them: no zeros in B, singular values that fall."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(base(kind), LoraConfig(**{"r": 8, "lora_alpha": 16} | lora)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, factor in model.named_parameters():
            if name.endswith("bias") and "lora_B" in name:
                factor.normal_(std=0.02)
            elif "lora_B" in name or "lora_embedding_B" in name:
                columns = torch.arange(factor.shape[1]) / factor.shape[1] * 8
                factor.copy_(torch.randn_like(factor) * 0.2 * 0.6**columns)
    return model


def logits(model):
    import torch

    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits


def wrapped(model):
    """PEFT's LoRA layers by the name of the module in the base, or of its parameter."""
    from peft.tuners.lora import LoraLayer

    return {
        _name(name.removeprefix("base_model.model."), module): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def _name(name: str, module) -> str:
    parameter = getattr(module, "parameter_name", None)
    while parameter and name.endswith(".base_layer"):
        name = name.removesuffix(".base_layer")
    return f"{name}.{parameter}" if parameter else name


def truncated(delta, k: int):
    import torch

    u, s, vt = torch.linalg.svd(delta.double(), full_matrices=False)
    return ((u[..., :k] * s[..., None, :k]) @ vt[..., :k, :]).to(delta)


def resized(model, folder, **options):
    """(the model that PEFT makes of the resized adapter, the plan)"""
    from peft import PeftModel

    model.save_pretrained(folder / "old")
    adapter = read_adapter([folder / "old"])
    what = plan(adapter.outline, spectrum(adapter), **options)
    return PeftModel.from_pretrained(base(model.config.model_type), resize(adapter, what, folder / "new")).eval(), what


CASES = {
    "llama": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
    "rslora": {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    "patterns": {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 3}},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head saved in full": {"target_modules": ["v_proj", "down_proj"], "modules_to_save": ["lm_head"]},
    "biases": {"target_modules": ["v_proj", "down_proj"], "lora_bias": True},
    "gpt2": {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
    "qwen3_moe": {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "gpt_oss": {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    # PEFT rewrites these to parameters with patterns, gate_up_proj at twice the rank: what the exported script saves.
    "qwen3_moe remapped": {"target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"], "r": 4, "lora_alpha": 4},
    "mixtral remapped": {"target_modules": ["q_proj", "gate", "w1", "w2", "w3"], "r": 4},
    "qwen3_moe patterns": {
        "target_modules": ["q_proj"],
        "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
        "rank_pattern": {"experts.down_proj": 4},
        "alpha_pattern": {"experts.gate_up_proj": 5},
    },
}


@pytest.mark.parametrize(
    ("case", "options"),
    [*((case, {"r": 3}) for case in CASES), *((case, {"energy": 0.9}) for case in ("patterns", "gpt2", "gpt_oss"))],
)
def test_peft_loads_the_truncated_product_and_gives_its_outputs(case, options, tmp_path):
    import torch

    kind = case.split()[0]
    model = trained(kind if kind in MODELS else "llama", **CASES[case])
    before = logits(model)

    loaded, what = resized(model, tmp_path, **options)

    layers, cut = wrapped(model), wrapped(loaded)
    assert layers.keys() == cut.keys() == what.rank_by_module.keys()
    for name, layer in layers.items():
        assert what.rank_by_module[name] == cut[name].r["default"] <= layer.r["default"]
        # A convolution of GPT-2's kind is transposed, and so are experts in some models: the SVD is the same.
        expected = truncated(layer.get_delta_weight("default"), what.rank_by_module[name])
        torch.testing.assert_close(cut[name].get_delta_weight("default"), expected, atol=2e-6, rtol=1e-4)
    after = logits(loaded)
    assert not torch.allclose(before, after, atol=1e-3), "the cut changed nothing: it proves nothing"
    torch.testing.assert_close(after, outputs_of_truncated(model, what), atol=2e-5, rtol=1e-4)


def outputs_of_truncated(model, what):
    """The base with the truncated deltas added to its weights, and everything else of the adapter as it was."""
    import torch

    deltas = {
        name: truncated(layer.get_delta_weight("default"), what.rank_by_module[name])
        for name, layer in wrapped(model).items()
    }
    with torch.no_grad():
        for name, layer in wrapped(model).items():
            weight = layer.get_param() if hasattr(layer, "get_param") else layer.get_base_layer().weight
            weight += deltas[name]
            for table in (layer.lora_A, layer.lora_B, layer.lora_embedding_A, layer.lora_embedding_B):
                for factor in table.values():
                    (factor if isinstance(factor, torch.nn.Parameter) else factor.weight).zero_()
    return logits(model)


def test_a_dora_adapter_loads_with_its_magnitudes(tmp_path):
    """Approximate by nature: PEFT rescales W + B·A to the magnitudes, and B·A has changed. r = 7 is closer than 1."""
    model = trained("llama", target_modules=["q_proj", "v_proj"], use_dora=True)
    before = logits(model)

    far = {r: (logits(resized(model, tmp_path / str(r), r=r)[0]) - before).abs().max().item() for r in (1, 7)}

    assert 0 < far[7] < 0.1 * far[1]
