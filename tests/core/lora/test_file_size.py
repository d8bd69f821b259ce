"""Small models adapted by PEFT and saved; the files have the sizes that RankViz says, to the byte."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from rankviz.core.lora.config import LoraConfig, adapter_dtype, saved_dtype
from rankviz.core.lora.resolve import resolve
from rankviz.core.model.spec import model_from_json
from rankviz.exports.script import templates

pytestmark = pytest.mark.torch
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
SMALL = {"vocab_size": 203, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, **ATTENTION}
CONFIGS = {
    "llama": {**SMALL, "num_hidden_layers": 11},
    "gemma3_text": SMALL,
    "gpt2": {"vocab_size": 203, "n_embd": 32, "n_head": 4, "n_layer": 12, "n_positions": 64},
    "gpt_neox": {"vocab_size": 203, "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 3}
    | {"num_attention_heads": 4},
    "phi3": {**SMALL, "pad_token_id": 0},
    "qwen3_moe": {**SMALL, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
    | {"mlp_only_layers": [0]},
    "mixtral": {**SMALL, "num_hidden_layers": 2, "num_local_experts": 4},
    "gpt_oss": {**SMALL, "intermediate_size": 24, "num_hidden_layers": 2, "num_local_experts": 4},
}
BOTH_ENDS = ("lm_head", "embed_tokens")


@pytest.mark.parametrize("dtype", ("fp32", "bf16"))
@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_saved_adapter_has_the_size_that_rankviz_says(model_type, dtype, tmp_path):
    """bf16: a 16-bit base, whose adapter PEFT keeps in fp32 and whose modules_to_save stay as they are."""
    model = _spec(model_type)
    for place, (r, lora) in enumerate(_configurations(model_type)):
        plan = resolve(model, lora, "peft")

        count, size = _save(model_type, plan, lora, r, tmp_path / str(place), dtype=dtype)

        assert count == plan.parameters(r), (lora, r)
        assert size == plan.adapter_bytes(r, 4, saved_dtype=dtype), (lora, r)


@pytest.mark.parametrize("model_type", ("llama", "gpt2"))
def test_an_adapter_saved_by_trl_qlora_is_bf16_but_for_doras_magnitudes(model_type, tmp_path):
    model = _spec(model_type)
    for use_dora in (False, True):
        lora = LoraConfig(target_modules="attention", use_dora=use_dora, modules_to_save=("lm_head",))
        plan = resolve(model, lora, "trl")

        count, size = _save(model_type, plan, lora, 6, tmp_path / str(use_dora), dtype="bf16", cast_as_trl=True)

        assert count == plan.parameters(6)
        assert size == plan.trained_adapter_bytes(6, "trl", "nf4")


@pytest.mark.parametrize("compute", ("fp16", "fp32"))
@pytest.mark.parametrize("targets", ("attention", ("embed_tokens", "q_proj")))
def test_on_a_card_without_bf16_the_exported_script_raises_that_adapter_to_fp32(targets, compute, tmp_path):
    """All that trains. PEFT saves the frozen embed_tokens in the base's own dtype."""
    lora = LoraConfig(target_modules=targets, modules_to_save=("norm",))
    plan = resolve(_spec("llama"), lora, "trl")

    count, size = _save("llama", plan, lora, 6, tmp_path, dtype=compute, cast_as_trl=True, raised=True)

    assert count == plan.parameters(6)
    assert size == plan.trained_adapter_bytes(6, "trl", "nf4", compute=compute)


def test_unsloths_tied_pair_is_trained_once_and_saved_twice(tmp_path):
    model = _spec("llama", tie_word_embeddings=True)
    lora = LoraConfig(target_modules=("q_proj", "embed_tokens", "lm_head"))
    plan = resolve(model, lora, "unsloth")

    count, size = _save("llama", plan, lora, 4, tmp_path, dtype="fp32", tied=True)

    # 11 blocks · 4 · (32 + 32) of LoRA, and one table of 203 · 32.
    assert 11 * 4 * 64 + 203 * 32 == count == plan.parameters(4)
    assert size == plan.adapter_bytes(4, 4, saved_dtype="fp32")


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (adapter_dtype("unsloth", "nf4-dq"), "fp32"),
        (adapter_dtype("trl", "nf4-dq"), "bf16"),
        (adapter_dtype("trl", "nf4-dq", compute="fp16"), "fp32"),
        (saved_dtype("unsloth", "nf4-dq"), "bf16"),
        (saved_dtype("peft", "fp16", trained=False), "fp16"),
        (saved_dtype("peft", "nf4-dq"), "fp32"),
    ],
)
def test_dtypes_are_those_of_the_frameworks(dtype, expected):
    assert expected == dtype


def _configurations(model_type: str):
    def lora(targets="all-linear", **settings):
        return LoraConfig(target_modules=targets, **settings)

    yield 9, lora()
    yield 10, lora()
    yield 100, lora()
    yield 3, lora("attention", use_dora=True)
    yield 7, lora("attention", modules_to_save=("lm_head",))
    yield 5, lora("attention", modules_to_save=("norm", "layers.1.mlp", "ln_f"))
    if model_type in ("llama", "gemma3_text"):
        yield 16, lora("unsloth", use_dora=True, modules_to_save=BOTH_ENDS)
        yield 5, lora((*BOTH_ENDS, "down_proj"))
        yield 5, lora((*BOTH_ENDS, "down_proj"), use_dora=True)
        yield 5, lora(("model.embed_tokens", "layers.1.mlp.up_proj", "layers.10.mlp.up_proj", "q_proj"))
    if model_type == "gpt2":
        yield 12, lora(("wte", "c_fc"), use_dora=True)
    if model_type in ("qwen3_moe", "mixtral", "gpt_oss"):
        yield 11, lora("attention", moe_scheme="target-parameters")
        yield 40, lora("all-linear", moe_scheme="target-parameters")
        yield 12, lora("all-linear", expert_rank=5)
        yield 3, lora("attention", moe_scheme="target-parameters", expert_rank=40)
        yield 2, lora("attention", modules_to_save=("gate", "router", "experts"))


def _model(model_type: str, **settings):
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **CONFIGS[model_type], **settings))


@cache
def _spec(model_type: str, **settings):
    from rankviz.worker.introspect.layers import facts

    layers = facts({"model_type": model_type, **CONFIGS[model_type], **settings})
    return model_from_json(layers | {"id": model_type, "name": model_type})


def _save(model_type, plan, lora, r, folder: Path, *, dtype, cast_as_trl=False, raised=False, tied=False):
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    base = _model(model_type, **({"tie_word_embeddings": True} if tied else {}))
    adapted = get_peft_model(
        base.to({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]),
        PeftConfig(
            r=r,
            target_modules=plan.target_modules if isinstance(plan.target_modules, str) else list(plan.target_modules),
            target_parameters=list(plan.target_parameters) or None,
            modules_to_save=["embed_tokens"] if tied else list(plan.modules_to_save) or None,
            ensure_weight_tying=tied,
            use_dora=lora.use_dora,
            **plan.patterns(replace(lora, r=r)),
            task_type="CAUSAL_LM",
        ),
    )
    if cast_as_trl:
        # trl 1.15, sft_trainer.py, where the base is quantized.
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)
    if raised:
        code = templates().get_template("raised.py.jinja").render(raised="", model="model")
        exec(code, {"torch": torch, "dtype": getattr(torch, f"float{dtype[2:]}"), "model": adapted})
    adapted.save_pretrained(folder)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return trained, (folder / "adapter_model.safetensors").stat().st_size
