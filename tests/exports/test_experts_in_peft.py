"""An adapter of Unsloth's MoE scheme in plain PEFT: refused as it is, loaded by the lines at the end of the script."""

import pytest

from rankviz.catalog.models import load_model
from rankviz.exports import recipe, script
from tests.support.models.tiny_models import make_tiny
from tests.support.runs import questions
from tests.support.runs.toy import ASSETS

pytestmark = pytest.mark.torch

MOE = "Qwen/Qwen3-30B-A3B"
NAMES = ["q_proj", "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def test_these_lines_load_the_adapter_as_it_was_trained(tmp_path):
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import PeftModel, get_peft_model
    from peft.utils import transformers_weight_conversion as conversion
    from transformers import AutoModelForCausalLM

    made = recipe(load_model(ASSETS, MOE), questions.question(MOE), 8, framework="unsloth")
    # the commented lines between the import and the load, as code
    lines = [line.removeprefix("# ") for line in script(made).splitlines() if "conversion" in line]
    assert 2 == len(lines)
    base, own = make_tiny("qwen3_moe", tmp_path / "base"), conversion._convert_peft_config_moe
    tokens = torch.tensor([[5, 6, 7, 8]])

    def loaded():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")

    def counted(model):
        return sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)

    try:
        conversion._convert_peft_config_moe = lambda config, model: None  # as Unsloth keeps PEFT from it
        config = PeftConfig(r=4, target_modules=NAMES, target_parameters=EXPERTS, init_lora_weights=False)
        trained = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        trained.save_pretrained(tmp_path / "adapter")
        conversion._convert_peft_config_moe = own
        with pytest.raises(RuntimeError, match="size mismatch"):
            loaded()

        exec("\n".join(lines), {})
        model = loaded()
    finally:
        conversion._convert_peft_config_moe = own

    assert counted(trained) == counted(model)
    assert torch.equal(trained(input_ids=tokens).logits, model(input_ids=tokens).logits)
