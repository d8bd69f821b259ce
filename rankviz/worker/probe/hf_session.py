"""Loads the base and attaches the adapter with transformers and PEFT only, without Unsloth.

Only probes come here; Unsloth must not be imported in the same process, since it patches all three.
"""

from typing import Any

import torch
from peft import prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from rankviz.core.lora.config import LoraConfig
from rankviz.core.lora.plan import AdapterPlan
from rankviz.worker.finetune.adapter import with_peft_adapter
from rankviz.worker.settings import Settings


def load_base(folder: str, settings: Settings) -> tuple[Any, Any]:
    """The model in the precision asked, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, settings.dtype_name or settings.compute_dtype),
        quantization_config=_quantization(settings),
        **settings.placement,
    )
    return model, AutoTokenizer.from_pretrained(folder)


def attach(model: Any, lora: LoraConfig, plan: AdapterPlan, settings: Settings) -> Any:
    """The adapter of the plan. Plain PEFT scripts prepare a quantized base first; TRL's trainer doesn't."""
    if settings.training.framework == "peft" and settings.training.quantized:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=settings.gradient_checkpointing is True
        )
    return with_peft_adapter(model, lora, plan)


def raise_trained(model: Any, settings: Settings) -> None:
    """What trains becomes fp32 where nothing computes in bf16, as in the exported scripts: TRL makes the adapter of a
    quantized base bf16, and fp16's gradient scaler refuses all but fp32."""
    if (settings.dtype_name or settings.compute_dtype) != "bfloat16":
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def _quantization(settings: Settings) -> BitsAndBytesConfig | None:
    precision = settings.training.precision
    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if precision not in ("nf4", "nf4-dq"):
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=precision == "nf4-dq",
        bnb_4bit_compute_dtype=getattr(torch, settings.compute_dtype),
    )
