"""What someone does today, one rank a script: load, evaluate, train, evaluate, save. Timed by main.py and runs.py.

python unsloth_script.py BASE_FOLDER RANK STEPS
"""

import sys
import tempfile
from pathlib import Path

from unsloth import FastLanguageModel  # isort: skip  (Unsloth wants to come first)
import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

BASE, R, STEPS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
DATA = Path(__file__).parents[1] / "assets" / "data" / "phonemes.jsonl"

model, tokenizer = FastLanguageModel.from_pretrained(
    model_name=BASE,
    max_seq_length=256,
    load_in_4bit=False,
    dtype=torch.float32,  # as the sweep trains; left out, Unsloth takes bf16 on a CPU that has it
)
model = FastLanguageModel.get_peft_model(model, r=R, lora_alpha=32, lora_dropout=0, bias="none", random_state=0)
rows = load_dataset("json", data_files=str(DATA), split="train")
split = rows.train_test_split(test_size=64, seed=0)
with tempfile.TemporaryDirectory() as output:
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=split["train"],
        eval_dataset=split["test"],
        args=SFTConfig(
            output_dir=output,
            max_length=256,
            per_device_train_batch_size=8,
            max_steps=STEPS,
            learning_rate=1e-3,
            optim="adamw_torch",
            bf16=False,  # TRL's default is bf16 autocast; the sweep's fp32 is fp32 throughout
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            seed=0,
        ),
    )
    print(trainer.evaluate())
    trainer.train()
    print(trainer.evaluate())
    model.save_pretrained(output)
