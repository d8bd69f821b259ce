"""What Unsloth makes of LoRA targets on fused experts, counted on the meta device. Its own process: Unsloth patches
PEFT, transformers and TRL as it is imported.

    python tests/support/unsloth_counts.py < [{"config": path, "target_modules": [...], "r": 4}, ...]

Prints a list of trainable parameter counts, or null where PEFT refuses.
"""

import json
import os
import sys

answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import unsloth  # noqa: E402, F401, I001
import peft.utils.transformers_weight_conversion as conversion  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from unsloth.import_fixes import _patch_peft_moe_target_conversion  # noqa: E402
from unsloth.models._utils import get_moe_target_parameters  # noqa: E402
from unsloth_zoo.peft_utils import get_peft_regex  # noqa: E402

from tests.support.meta_models import build, many_models  # noqa: E402

OWN_FAMILIES = ("llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3")

# Unsloth applies this as it starts on a GPU (_gpu_init.py); its CPU backend doesn't get that far.
_patch_peft_moe_target_conversion(conversion)


def count(config: str, target_modules: list[str] | str, r: int) -> int | None:
    """As get_peft_model of FastLlamaModel (its own families) and FastBaseModel (the rest): "all-linear" made a pattern,
    the experts' parameters looked up, then PEFT."""
    model = build(config)
    if target_modules == "all-linear" and model.config.model_type not in OWN_FAMILIES:
        try:
            target_modules = get_peft_regex(model, finetune_audio_layers=True)
        except RuntimeError:
            return None
    peft_config = LoraConfig(
        r=r,
        target_modules=target_modules,
        target_parameters=get_moe_target_parameters(model, target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, peft_config, low_cpu_mem_usage=True)
    except ValueError:
        return None
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)


with many_models():
    counts = [count(**case) for case in json.load(sys.stdin)]
with answer:
    json.dump(counts, answer)
