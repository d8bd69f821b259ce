"""Holds the Python templates of the scripts for Unsloth, TRL and plain PEFT; script.py fills them in. The loop of the
PEFT script is in peft_loop.py."""

UNSLOTH_IMPORTS = """\
import json
from pathlib import Path

{torch}from unsloth import {loader}  # before trl, which it patches
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
"""

UNSLOTH_MODEL = """\
model, tokenizer = {loader}.from_pretrained(
    model_name={model_id!r},
    max_seq_length={max_length},
    load_in_4bit={load_in_4bit},
    load_in_8bit={load_in_8bit},{dtype}
)
"""

UNSLOTH_ADAPTER = """\
model = {loader}.get_peft_model(
    model,
    r={r},
    lora_alpha={lora_alpha},
    target_modules={target_modules},
    lora_dropout=0,  # 0 and "none" keep Unsloth's fast path
    bias="none",
    use_gradient_checkpointing={use_gradient_checkpointing},
    use_rslora={use_rslora},
    modules_to_save={modules_to_save},
    random_state={seed},{extra}
)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
"""

UNSLOTH_TRAIN = """\
trainer.train()
model.save_pretrained("adapter")
tokenizer.save_pretrained("adapter")
"""

UNSLOTH_AFTERWARDS = """\
# Base and adapter as one 16-bit model, a GGUF file for llama.cpp and Ollama, the adapter on the Hub:
# model.save_pretrained_merged("merged", tokenizer, save_method="merged_16bit")
# model.save_pretrained_gguf("gguf", tokenizer, quantization_method="q4_k_m")
# model.push_to_hub("your-name/your-adapter")
"""

UNSLOTH_EXPERTS = """\
# Plain PEFT {peft} takes names in this adapter's configuration for those of experts at rank 2r, and stops or trains
# something else. It loads the adapter as it was trained with this, after the base model and before the adapter:
# from peft.utils import transformers_weight_conversion as conversion
# conversion._convert_peft_config_moe = lambda config, model: None
# PeftModel.from_pretrained(base, "adapter")
"""

TRL_IMPORTS = """\
import json
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import {auto_class}, AutoTokenizer{quantization}, set_seed
from trl import SFTConfig, SFTTrainer
"""

TOKENIZER = """\
tokenizer = AutoTokenizer.from_pretrained({model_id!r})
"""

MODEL = """\
{dtype}model = {auto_class}.from_pretrained(
    {model_id!r},
    dtype=dtype,{more}
)
"""

FOUR_BIT = """
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant={double_quantization},
        bnb_4bit_compute_dtype=dtype,
    ),"""

LORA = """\
lora = LoraConfig(
    r={r},
    lora_alpha={lora_alpha},
    target_modules={target_modules},
    lora_dropout=0,
    bias="none",
    use_rslora={use_rslora},
    use_dora={use_dora},
    modules_to_save={modules_to_save},
    task_type="CAUSAL_LM",{extra}
)
"""

TRAINER = """\
trainer = SFTTrainer(
    model=model,
    {with_model},
    train_dataset=data["train"],
    eval_dataset=data["test"],
    args=SFTConfig(
        output_dir="outputs",
        max_length={max_length},
        completion_only_loss=True,  # by completion_mask
        per_device_train_batch_size={per_device_train_batch_size},
        per_device_eval_batch_size={per_device_train_batch_size},
        gradient_accumulation_steps={gradient_accumulation_steps},
{more}        {length}
        learning_rate={learning_rate!r},
        lr_scheduler_type="{scheduler}",
        warmup_steps={warmup_steps},
        weight_decay={weight_decay},
        optim={optim!r},
        seed={seed},
        eval_strategy="steps",
        eval_steps={eval_steps},  # of all steps
        logging_steps={logging_steps},
        report_to="none",
    ),
)
"""

RAISED = """\
if dtype != torch.bfloat16:  # {now}, and fp16's gradient scaler takes fp32 alone
    for parameter in {model}.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
"""

TRL_TRAIN = """\
trainer.model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
trainer.train()
trainer.save_model("adapter")  # with the tokenizer
"""

AFTERWARDS = """\
# Base and adapter as one model, the adapter as a GGUF file for llama.cpp (in a shell), the adapter on the Hub:
# from peft import PeftModel
# base = {auto_class}.from_pretrained({model_id!r}, dtype={dtype}{more})
# PeftModel.from_pretrained(base, "adapter").merge_and_unload().save_pretrained("merged")
# python llama.cpp/convert_lora_to_gguf.py adapter
# {model}.push_to_hub("your-name/your-adapter")
"""
