"""Holds the Python templates of the scripts for Unsloth, TRL and plain PEFT; script.py fills them in."""

UNSLOTH_IMPORTS = """\
{torch}from unsloth import FastLanguageModel  # before trl, which it patches
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
"""

UNSLOTH_MODEL = """\
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name={model_id!r},
    max_seq_length={max_length},
    load_in_4bit={load_in_4bit},
    load_in_8bit={load_in_8bit},{dtype}
)
"""

UNSLOTH_ADAPTER = """\
model = FastLanguageModel.get_peft_model(
    model,
    r={r},
    lora_alpha={lora_alpha},
    target_modules={target_modules},
    lora_dropout=0,  # 0 and "none" keep Unsloth's fast path
    bias="none",
    use_gradient_checkpointing={use_gradient_checkpointing},
    use_rslora={use_rslora},
    modules_to_save={modules_to_save},
    random_state=3407,{extra}
)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
"""

TRL_IMPORTS = """\
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer
"""

PEFT_IMPORTS = """\
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
"""

PEFT_WRAP = """\
model = get_peft_model(model, lora)
model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
"""

PEFT_SAVE = """\
# Train it with transformers.Trainer or a loop of your own: TRL's SFTTrainer would cast the adapter of a quantized base
# to bf16, and the file would be half of what RankViz says.

model.save_pretrained("adapter")
"""

MODEL = """\
model = AutoModelForCausalLM.from_pretrained(
    {model_id!r},
    dtype={dtype},
    quantization_config={quantization_config},{attention}
)
"""

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
# {data}
trainer = SFTTrainer(
    model=model,
    {with_model},
    train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
    args=SFTConfig(
        output_dir="outputs",
        max_length={max_length},
        per_device_train_batch_size={per_device_train_batch_size},
        gradient_accumulation_steps={gradient_accumulation_steps},
{more}        max_steps={max_steps},
        learning_rate={learning_rate!r},
        optim={optim!r},
        report_to="none",
    ),
)
"""

TRL_TRAIN = """\
trainer.model.print_trainable_parameters()  # RankViz counts {adapter_parameters:,}
trainer.train()
trainer.save_model("adapter")
"""
