"""Checkpoints that are published quantized: the scripts load them as transformers can, and say so."""

import json

import pytest

from rankviz.catalog.models import load_model
from rankviz.exports import write
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

IDS = {
    "openai/gpt-oss-20b": "Mxfp4Config",
    "deepseek-ai/DeepSeek-V3": "FineGrainedFP8Config",
    "mistralai/Ministral-3-3B-Instruct-2512": "FineGrainedFP8Config",
    "Qwen/Qwen3-4B-FP8": "FineGrainedFP8Config",
}
TINY = {
    "vocab_size": 64,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
}


def written(model_id, name="trl", **settings):
    return write(load_model(ASSETS, model_id), questions.question(model_id, framework="trl", **settings), 8, name)


@pytest.mark.parametrize("model_id", IDS)
@pytest.mark.parametrize(("name", "precision"), [("trl", "nf4"), ("peft", "bf16")])
def test_the_script_dequantizes_with_the_class_of_the_checkpoint(model_id, name, precision):
    export = written(model_id, name, precision=precision)

    assert f"quantization_config={IDS[model_id]}(dequantize=True)," in export.text
    assert f", {IDS[model_id]}" in export.text.split("model =")[0]
    assert "BitsAndBytesConfig" not in export.text
    (note,) = (note for note in export.notes if "is published in" in note)
    assert ("bit, so the estimate of memory does not apply" in note) is (precision != "bf16")


def small_gpt_oss(folder):
    """In MXFP4, as OpenAI stores it: 32 values as 16 bytes, with an exponent beside them."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(**TINY, num_local_experts=2, num_experts_per_tok=1, layer_types=["full_attention"])
    GptOssForCausalLM(config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.randint(0, 255, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.full((experts, outputs, inputs // 32), 120, dtype=torch.uint8)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    stored = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": stored}), encoding="utf-8")


@pytest.mark.torch
def test_transformers_loads_a_small_one_as_the_script_does_in_16_bit(tmp_path):
    import torch
    import transformers

    from rankviz.worker.introspect.layers import layers_of

    small_gpt_oss(tmp_path)
    model = layers_of(json.loads((tmp_path / "config.json").read_text(encoding="utf-8")))
    question = questions.question(str(tmp_path), framework="trl", target_modules="attention")
    text = write(model, question, 8, "trl").text
    loading = text[text.index("model = Auto") : text.index("\n)\n", text.index("model = Auto")) + 3]

    names = {"torch": torch, "dtype": torch.bfloat16} | {
        name: getattr(transformers, name) for name in ("AutoModelForCausalLM", *IDS.values())
    }
    exec(loading, names)
    assert {torch.bfloat16} == {each.dtype for each in names["model"].parameters()}
    with pytest.raises(ValueError, match="BitsAndBytesConfig"):
        transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, quantization_config=transformers.BitsAndBytesConfig(load_in_4bit=True)
        )
